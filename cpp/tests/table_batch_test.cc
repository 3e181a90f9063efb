// Batches of runs and of trajectories that hold the same, whatever the selector.

#include <algorithm>
#include <map>

#include "check.h"
#include "saved.h"
#include "starve.h"
#include "writers/trajectory_writer.h"
#include "writers/writer.h"

namespace reverie_test {
namespace {

using Cell = TrajectoryWriter::Cell;
using Run = TrajectoryWriter::Run;
using Output = TrajectoryWriter::OutputColumn;

constexpr std::uint32_t kSteps = 3;
const std::shared_ptr<const RecordLayout> kLayout = StepLayout();

// A table with a writer of runs of three steps and one of trajectories.
struct Scene {
  std::shared_ptr<Store> store = std::make_shared<Store>(Store::Options{2 * kStepNbytes, 1});
  std::shared_ptr<Table> table;
  std::unique_ptr<Writer> runs;
  std::unique_ptr<TrajectoryWriter> trajectories = std::make_unique<TrajectoryWriter>(store);
  std::uint64_t next = 0;
  std::map<std::uint64_t, std::uint64_t> first_step;  // by key

  explicit Scene(const Table::Config& config = TableConfig(1000))
      : table(store->CreateTable(config)) {
    runs = std::make_unique<Writer>(
        store, kLayout, std::vector<std::shared_ptr<Table>>{table},
        Writer::Config{kSteps, kSteps, 1.0, false, false, PadRecord(*kLayout), -1, 0});
    for (const RecordLayout::Column& column : kLayout->columns()) {
      trajectories->AddColumn(
          std::make_shared<RecordLayout>(std::vector{column.nbytes}, std::vector{column.type}),
          100);
    }
  }
  void Remember(std::uint64_t first) {
    first_step[store->table_state(table).items.key.back()] = first;
  }
  void AddRun() {
    for (std::uint32_t t = 0; t < kSteps; ++t) {
      const Step step(next + t);
      REQUIRE(runs->Append(step.columns().data(), How::kGoesOn).ok());
    }
    Remember(next);
    next += kSteps;
  }
  // A trajectory whose columns, of kSteps cells, are as those `lengths` say.
  void AddTrajectory(std::vector<std::int64_t> lengths = {kSteps, kSteps, kSteps, kSteps},
                     std::vector<std::uint32_t> order = {0, 1, 2, 3}) {
    const std::uint64_t first = trajectories->next(0);
    std::vector<Run> cells;
    std::vector<Output> columns;
    for (std::size_t c = 0; c < lengths.size(); ++c) {
      const auto length = static_cast<std::uint32_t>(std::max<std::int64_t>(1, lengths[c]));
      cells.push_back({order[c], first, length});
      columns.push_back({1, lengths[c] < 0});
    }
    for (std::uint32_t t = 0; t < 5; ++t) {
      const Step step(next + t);
      Cell of_step[4];
      for (std::size_t c = 0; c < 4; ++c) of_step[c] = {step.columns()[c], 0};
      REQUIRE(trajectories->Append(of_step, 4).ok());
    }
    bool inserted;
    REQUIRE(trajectories
                ->CreateItem(table.get(), 1.0, cells.data(), cells.size(), columns.data(),
                             columns.size(), &inserted)
                .ok());
    Remember(next);
    next += 5;
  }
  Status Sample(Batch* batch, std::uint32_t piece = kSteps) {
    return store->Sample(table.get(), {kLayout.get(), kSteps}, batch->key.size(), piece,
                         batch->outputs.data(), batch->info);
  }
  // Whether each item's steps are those that it was made of.
  bool IsRight(const Batch& batch) const {
    bool right = batch.Intact();
    for (std::size_t i = 0; i < batch.counter.size(); ++i) {
      const std::uint64_t first = first_step.at(batch.key[i / kSteps]);
      right = right && batch.counter[i] == first + i % kSteps && batch.type[i] == 1;
    }
    return right;
  }
};

Scene Mixed(const Table::Config& config, int items) {
  Scene scene(config);
  for (int i = 0; i < items; ++i) {
    if (i % 3 == 0) {
      scene.AddRun();
    } else {
      scene.AddTrajectory();
    }
  }
  return scene;
}

TEST(ABatchMayMixRunsAndTrajectoriesWhateverTheSelector) {
  for (int kind = 0; kind < 6; ++kind) {
    for (const std::int32_t times : {0, 2}) {
      Table::Config config = TableConfig(1000, static_cast<SelectorKind>(kind));
      config.max_times_sampled = times;
      Scene scene = Mixed(config, 60);
      std::map<std::uint64_t, std::int32_t> sampled;
      for (int i = 0; i < 10; ++i) {
        Batch batch(12, kSteps);
        REQUIRE(scene.Sample(&batch).ok());
        CHECK(scene.IsRight(batch));
        for (const std::uint64_t key : batch.key) ++sampled[key];
      }
      CHECK_EQ(scene.store->table_info(*scene.table).counters.samples, 120);
      for (const auto& [key, count] : sampled) CHECK(times == 0 || count <= times);
      if (times != 0) CHECK_EQ(scene.table->size(), 0u);
    }
  }
}

TEST(TheCheckSeesAnotherItemsSteps) {
  Scene scene = Mixed(TableConfig(1000), 9);
  Batch batch(20, kSteps);
  REQUIRE(scene.Sample(&batch).ok());
  CHECK(scene.IsRight(batch));
  batch.counter[4] += 1;
  CHECK(!scene.IsRight(batch));
  REQUIRE(scene.Sample(&batch).ok());
  ++scene.first_step[batch.key[3]];
  CHECK(!scene.IsRight(batch));
}

TEST(PiecesAreTakenFromBoth) {
  Scene scene = Mixed(TableConfig(1000), 9);
  std::map<std::uint64_t, std::uint64_t> times;  // by key and place
  Batch batch(9000, 1);
  REQUIRE(scene.Sample(&batch, 1).ok());
  CHECK(batch.Intact());
  for (std::size_t i = 0; i < batch.key.size(); ++i) {
    const std::uint64_t place = batch.counter[i] - scene.first_step[batch.key[i]];
    REQUIRE(place < kSteps);
    ++times[batch.counter[i]];
  }
  std::vector<std::uint64_t> counts;
  for (const auto& entry : times) counts.push_back(entry.second);
  CHECK_EQ(counts.size(), 9 * kSteps);
  CHECK(LooksUniform(counts));
}

TEST(SelectionByKeyTakesBothAndCountsNothing) {
  Scene scene = Mixed(TableConfig(1000), 9);
  for (const std::uint32_t steps : {kSteps, 0u}) {
    Store::Reader reader(scene.store, {kLayout.get(), steps});
    REQUIRE(reader.Select(scene.table.get(), nullptr, 0).ok());
    CHECK_EQ(reader.spec().steps, kSteps);
    Batch batch(9, kSteps);
    scene.store->Clear(scene.table.get());  // which the reader outlives
    reader.Gather(batch.outputs.data());
    batch.key = reader.keys();
    CHECK(scene.IsRight(batch));
    scene = Mixed(TableConfig(1000), 9);
  }
  Scene first;
  first.AddTrajectory({2, 2, 2, 2});
  Store::Reader two(first.store, {kLayout.get(), 0});
  REQUIRE(two.Select(first.table.get(), nullptr, 0).ok());
  CHECK_EQ(two.spec().steps, 2u);
  CHECK_EQ(first.store->table_info(*first.table).counters.samples, 0);
}

// What a batch of this spec says of the only item of a table.
Status Refusal(Scene* scene, const BatchSpec& spec) {
  const TableState before = scene->store->table_state(scene->table);
  std::vector<std::vector<std::uint8_t>> columns(spec.layout->columns().size());
  std::vector<void*> outputs;
  for (auto& column : columns) {
    column.resize(8 * 16);
    outputs.push_back(column.data());
  }
  Batch batch(2, 1);
  const Status status =
      scene->store->Sample(scene->table.get(), spec, 2, 0, outputs.data(), batch.info);
  const TableState after = scene->store->table_state(scene->table);
  if (status.ok()) return status;
  CHECK_EQ(status.key, before.items.key[0]);
  CHECK(after.rng == before.rng);  // nothing was drawn, nothing counted
  CHECK_EQ(after.counters.samples, before.counters.samples);
  CHECK_EQ(after.items.times_sampled[0], before.items.times_sampled[0]);
  Store::Reader reader(scene->store, spec);
  CHECK_EQ(reader.Select(scene->table.get(), nullptr, 0).code, status.code);
  return status;
}

TEST(WhatDoesNotFitIsRefusedWithItsKeyAndColumn) {
  const std::vector<std::int64_t> uneven{3, 2, 3, 3};
  const BatchSpec steps(kLayout.get(), kSteps);
  const auto expect = [](Scene* scene, const BatchSpec& spec, Code code, std::int64_t column,
                         std::int64_t found, std::int64_t wanted) {
    const Status status = Refusal(scene, spec);
    CHECK_EQ(status.code, code);
    CHECK_EQ(status.column, column);
    if (code != Code::kLengthMismatch) return;
    CHECK_EQ(status.found, found);
    CHECK_EQ(status.wanted, wanted);
  };
  // Of other types, and other numbers of columns.
  const RecordLayout swapped({8, 8, 4, 1}, {1, 1, 3, 2});
  const RecordLayout fewer({8, 8, 1}, {1, 1, 2});
  const RecordLayout unknown({8, 8, 1, 4});
  for (const bool run : {true, false}) {
    Scene scene;
    if (run) {
      scene.AddRun();
    } else {
      scene.AddTrajectory();
    }
    expect(&scene, {&swapped, kSteps}, Code::kLayoutMismatch, 2, 0, 0);
    expect(&scene, {&fewer, kSteps}, Code::kLayoutMismatch, -1, 0, 0);
    expect(&scene, {&unknown, kSteps}, Code::kLayoutMismatch, 0, 0, 0);
    expect(&scene, {kLayout.get(), 2}, Code::kLengthMismatch, run ? -1 : 0, 3, 2);
    expect(&scene, {kLayout.get(), kSteps, uneven.data()}, Code::kLengthMismatch, 1, 3, 2);
    CHECK(Refusal(&scene, steps).ok());
  }
  Scene scene;  // a run of an equal layout that is not the same one: bindings intern them
  scene.AddRun();
  const auto equal = StepLayout();
  expect(&scene, {equal.get(), kSteps}, Code::kLayoutMismatch, -1, 0, 0);
  Scene other;
  other.AddTrajectory({3, 2, 3, -1});
  expect(&other, steps, Code::kLengthMismatch, 1, 2, 3);
  expect(&other, {kLayout.get(), 1, uneven.data()}, Code::kLengthMismatch, 3, -1, 3);
  Scene squeezed;
  squeezed.AddTrajectory({-1, 3, 3, 3});
  expect(&squeezed, {kLayout.get(), 1}, Code::kLengthMismatch, 0, -1, 1);
  Scene mixed;
  mixed.AddTrajectory({3, 3, 3, 3}, {0, 1, 3, 2});
  expect(&mixed, steps, Code::kLayoutMismatch, 2, 0, 0);
}

TEST(CellsOfAnySizeAreInNoBatch) {
  Scene scene;
  TrajectoryWriter texts(scene.store);
  texts.AddColumn(nullptr, 9);
  const Cell text{"12345678", 8};
  REQUIRE(texts.Append(&text, 1).ok());
  const Run run{0, 0, 1};
  const Output column{1, false};
  bool inserted;
  REQUIRE(texts.CreateItem(scene.table.get(), 1.0, &run, 1, &column, 1, &inserted).ok());
  const RecordLayout unknown({8});
  const Status status = Refusal(&scene, {&unknown, 1});
  CHECK_EQ(status.code, Code::kLayoutMismatch);
  CHECK_EQ(status.column, 0);
}

TEST(ColumnsMayHaveLengthsOfTheirOwn) {
  const std::vector<std::int64_t> lengths{1, 4, 2, -1};
  const BatchSpec spec(kLayout.get(), 1, lengths.data());
  Scene scene;
  for (int i = 0; i < 10; ++i) scene.AddTrajectory(lengths);
  std::vector<std::uint64_t> counter(6), check(6 * 4);
  std::vector<std::uint8_t> small(6 * 2);
  std::vector<std::int32_t> type(6);
  void* const outputs[] = {counter.data(), check.data(), small.data(), type.data()};
  Batch batch(6, 1);
  REQUIRE(scene.store->Sample(scene.table.get(), spec, 6, 0, outputs, batch.info).ok());
  for (std::size_t i = 0; i < 6; ++i) {
    const std::uint64_t first = scene.first_step[batch.key[i]];
    CHECK_EQ(counter[i], first);
    for (std::size_t t = 0; t < 4; ++t) CHECK_EQ(check[4 * i + t], Hash(first + t));
    for (std::size_t t = 0; t < 2; ++t) {
      CHECK_EQ(small[2 * i + t], static_cast<std::uint8_t>(first + t));
    }
    CHECK_EQ(type[i], 1);
  }
}

// A trajectory's columns may be any fields of chunks of whole records.
TEST(FieldsOfRecordsAreBatchedWithRuns) {
  Scene scene;
  for (int i = 0; i < 4; ++i) scene.AddRun();
  const auto arranged = Arranged(scene.store);
  const Snapshot& snapshot = *arranged;
  TableState state = snapshot.tables[0];
  // The last two items again, but as trajectories; the very last one swaps like columns.
  state.items.key.clear();
  for (const std::size_t row : {2u, 3u}) {
    state.items.traj_item.push_back(row);
    state.items.traj_episode.push_back(1);
    for (const std::uint32_t field : {row == 3 ? 1u : 0u, row == 3 ? 0u : 1u, 2u, 3u}) {
      state.items.column_item.push_back(row);
      state.items.column_field.push_back(field);
      state.items.column_squeeze.push_back(0);
      state.items.column_pieces.push_back(kSteps);
      for (std::uint64_t step = row * kSteps; step < (row + 1) * kSteps; ++step) {
        state.items.piece_chunk.push_back(snapshot.chunks.id[step / 2]);  // chunks of two
        state.items.piece_offset.push_back(step % 2);
        state.items.piece_length.push_back(1);
      }
    }
    state.items.chunk_id[row] = 0;
    state.items.offset[row] = state.items.length[row] = 0;
  }
  const auto restore = [&](const TableState& from, Scene* to) {
    Load(Save(snapshot), to->store.get());
    return to->store->RestoreTable(to->table.get(), from);
  };
  Scene loaded;
  REQUIRE(restore(state, &loaded).ok());
  loaded.store->SealRestore();
  CHECK(loaded.store->table_state(loaded.table).items.column_field == state.items.column_field);
  Store::Reader reader(loaded.store, {kLayout.get(), kSteps});
  REQUIRE(reader.Select(loaded.table.get(), nullptr, 0).ok());
  Batch batch(4, kSteps);
  reader.Gather(batch.outputs.data());
  for (std::uint64_t i = 0; i < 4 * kSteps; ++i) {
    CHECK_EQ(batch.counter[i], i < 9 ? i : Hash(i));
    CHECK_EQ(batch.check[i], i < 9 ? Hash(i) : i);
    CHECK_EQ(batch.small[i], static_cast<std::uint8_t>(i));
  }
  // What no layout has, and what is not like the pieces before it.
  const std::pair<const char*, void (*)(TableState*)> damages[] = {
      {"column of no field", [](TableState* s) { s->items.column_field[7] = 4; }},
      {"column of no field", [](TableState* s) { s->items.column_field[0] = ~0u; }},
  };
  for (const auto& [what, damage] : damages) {
    TableState bad = state;
    damage(&bad);
    Scene refusing;
    CHECK_EQ(std::string(restore(bad, &refusing).what), std::string(what));
    CHECK_EQ(refusing.table->size(), 0u);
  }
}

TEST(ABatchThatFailsForWantOfMemoryIsAsIfItHadNotBeen) {
  int failed = 0;
  for (const std::int32_t times : {0, 1}) {
    for (long k = 0;; ++k) {
      Table::Config config = TableConfig(1000);
      config.max_times_sampled = times;
      Scene scene = Mixed(config, 30);
      const TableState before = scene.store->table_state(scene.table);
      Batch batch(10, kSteps);
      const bool starved = Starved(k, 1, [&] { CHECK(scene.Sample(&batch).ok()); });
      const TableState after = scene.store->table_state(scene.table);
      failed += starved;
      if (starved && times == 0 && after.counters.samples == 0) CHECK(after.rng == before.rng);
      // Or it was counted, but could not be copied; or, one by one, in part.
      if (times == 0) CHECK(after.counters.samples == 0 || after.counters.samples == 10);
      scene.runs->Close();
      scene.trajectories->Close();
      scene.store->Clear(scene.table.get());
      CHECK_EQ(scene.store->info().num_chunks, 0u);
      if (!starved) break;
    }
  }
  CHECK(failed > 6);
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
