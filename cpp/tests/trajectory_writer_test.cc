#include "writers/trajectory_writer.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <map>
#include <thread>

#include "saved.h"
#include "trajectory_scene.h"

namespace reverie_test {
namespace {

// Random items over the kept cells, checked when they are sampled, long after the
// cells have expired. Returns nothing: failures are counted.
void RandomItems(std::uint64_t seed, bool wrong) {
  Rng rng(seed);
  Table::Config config = TableConfig(15, SelectorKind::kFifo);
  config.max_times_sampled = 1;
  Scene scene(config);
  std::vector<std::vector<Bytes>> model;  // oldest first
  for (int round = 0; round < 400; ++round) {
    REQUIRE(scene.Append(1 + rng.Below(15)).ok());
    if (rng.Below(60) == 0) scene.writer->EndEpisode(rng.Below(2) == 0);
    for (std::uint32_t c = 0; c < 4; ++c) CHECK_EQ(scene.writer->next(c), scene.next[c]);
    std::vector<Run> runs;
    std::vector<Output> columns;
    for (std::uint32_t j = 0; j <= rng.Below(3); ++j) {
      const std::uint32_t c = rng.Below(4);
      const std::uint64_t first = scene.writer->first_kept(c);
      const auto kept = static_cast<std::uint32_t>(scene.next[c] - first);
      CHECK(kept <= 20);
      if (kept == 0) continue;
      std::uint32_t cells = 0;
      const std::uint32_t num_runs = 1 + rng.Below(3);
      for (std::uint32_t r = 0; r < num_runs; ++r) {
        const std::uint32_t at = rng.Below(kept);
        runs.push_back({c, first + at, 1 + rng.Below(kept - at)});
        cells += runs.back().length;
      }
      columns.push_back({num_runs, cells == 1 && rng.Below(2) == 0});
    }
    if (!columns.empty()) {
      REQUIRE(scene.Item(runs, columns).ok());
      model.push_back(Expected(runs, columns));
      if (wrong) model.back()[0].push_back(0);
      if (model.size() > 15) model.erase(model.begin());
    }
    if (rng.Below(4) == 0 && !model.empty()) {
      Store::ItemReader reader(scene.store);
      REQUIRE(reader.Sample(scene.table.get(), 3).ok());
      CHECK_EQ(reader.items().size(), std::min<std::size_t>(3, model.size()));
      for (const SampledItem& item : reader.items()) {
        CHECK(Columns(*item.trajectory) == model.front());
        CHECK_EQ(item.table_size, static_cast<std::int64_t>(model.size()));
        model.erase(model.begin());
      }
    }
  }
  CHECK_EQ(scene.table->size(), model.size());
  scene.store->Clear(scene.table.get());
  scene.writer->Close();
  CHECK_EQ(scene.store->info().num_chunks, 0u);
  CHECK_EQ(scene.store->info().allocated_nbytes, 0u);
}

TEST(ManyCellsOfAColumnAreTheCellsOneByOne) {
  Scene scene;
  Bytes cells;
  for (std::uint64_t number = 0; number < 300; ++number) {
    const Bytes value = Value(1, number, kNbytes[1]);
    cells.insert(cells.end(), value.begin(), value.end());
  }
  std::uint64_t first = 9;
  for (const std::size_t n : {0, 1, 299}) {
    const std::uint64_t before = scene.next[1];
    REQUIRE(scene.writer->AppendCells(1, cells.data() + before * kNbytes[1], n, &first).ok());
    CHECK_EQ(first, before);
    scene.next[1] += n;
  }
  CHECK_EQ(scene.writer->first_kept(1), 280u);
  CHECK_EQ(scene.writer->next(0), 0u);
  const std::vector<Run> runs = {{1, 280, 20}};
  REQUIRE(scene.Item(runs, {{1, false}}).ok());
  scene.writer->DropBefore(1, 299);
  CHECK(scene.Item(runs, {{1, false}}).code == Code::kInvalid);
  REQUIRE(scene.Item({{1, 299, 1}}, {{1, false}}).ok());
  scene.writer->DropBefore(1, 5);
  CHECK_EQ(scene.writer->first_kept(1), 299u);
  Store::ItemReader reader(scene.store);
  REQUIRE(reader.Sample(scene.table.get(), 1).ok());
  const auto got = Columns(*reader.items()[0].trajectory);
  CHECK(got == Expected(runs, {{1, false}}) || got == Expected({{1, 299, 1}}, {{1, false}}));
  scene.store->Close();
  CHECK(scene.writer->AppendCells(1, cells.data(), 1, &first).code == Code::kClosed);
}

TEST(ItemsHoldTheCellsTheyWereMadeOf) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) RandomItems(seed, false);
}

TEST(TheCheckOfItemsRejectsAWrongModel) {
  CHECK(Fails([] { RandomItems(3, true); }) > 0);
}

TEST(WhatAnItemMayNotBeMadeOfIsRefusedAndNothingIsInserted) {
  Scene scene(TableConfig(1000), 5);
  for (int i = 0; i < 30; ++i) REQUIRE(scene.Append().ok());
  const auto refused = [&](const std::vector<Run>& runs, const std::vector<Output>& columns,
                           std::int64_t index) {
    const Status status = scene.Item(runs, columns);
    CHECK_EQ(status.code, Code::kInvalid);
    CHECK_EQ(status.found, index);
  };
  refused({}, {}, -1);
  refused({{0, 29, 1}}, {}, -1);
  refused({}, {{0, false}}, 0);
  refused({{0, 29, 1}}, {{2, false}}, 0);
  refused({{0, 29, 1}, {0, 29, 1}}, {{1, false}}, 1);
  refused({{4, 29, 1}}, {{1, false}}, 0);
  refused({{0, 24, 1}}, {{1, false}}, 0);                          // expired
  refused({{0, 29, 1}, {0, 24, 2}}, {{1, false}, {1, false}}, 1);  // half expired
  refused({{0, 30, 1}}, {{1, false}}, 0);                          // not there yet
  refused({{0, 29, 2}}, {{1, false}}, 0);                          // reaches past the end
  refused({{0, 29, 0}}, {{1, false}}, 0);                          // empty
  refused({{0, ~std::uint64_t{0}, 2}}, {{1, false}}, 0);           // wraps
  refused({{0, 29, 1}, {1, 29, 1}}, {{2, false}}, 1);              // unlike columns
  refused({{0, 28, 2}}, {{1, true}}, 1);                           // squeezed, two cells
  CHECK_EQ(scene.table->size(), 0u);
  CHECK(scene.Item({{0, 25, 5}}, {{1, false}}).ok());
  scene.writer->Close();
  CHECK_EQ(scene.Latest().code, Code::kClosed);
  CHECK_EQ(scene.Append().code, Code::kClosed);
}

TEST(KeepingFewerExpiresTheOthersAtOnceAndKeepingMoreBringsNoneBack) {
  Scene scene(TableConfig(1000), 10);
  for (int i = 0; i < 10; ++i) REQUIRE(scene.Append().ok());
  scene.writer->SetKeep(0, 3);
  CHECK_EQ(scene.writer->first_kept(0), 7u);
  CHECK_EQ(scene.writer->first_kept(1), 0u);
  CHECK_EQ(scene.Item({{0, 6, 1}}, {{1, false}}).code, Code::kInvalid);
  scene.writer->SetKeep(0, ~std::uint64_t{0});
  CHECK_EQ(scene.writer->first_kept(0), 7u);
}

TEST(ItemsThatTheLimiterForbidsGoInByThemselvesInOrder) {
  Scene scene(QueueConfig(3));
  REQUIRE(scene.Append().ok());
  std::vector<double> order;
  for (int i = 0; i < 10; ++i) {
    bool inserted = false;
    REQUIRE(scene.Latest(&inserted, i).ok());
    CHECK_EQ(inserted, i < 3);
  }
  CHECK_EQ(scene.writer->pending(), 7u);
  CHECK_EQ(scene.store->table_info(*scene.table).stats.pending, 7u);
  while (true) {
    Store::ItemReader reader(scene.store);
    if (reader.Sample(scene.table.get(), 1).code == Code::kWouldBlock) break;
    order.push_back(reader.items()[0].priority);
    const std::size_t left = 10 - order.size();
    CHECK_EQ(scene.table->size(), static_cast<std::uint32_t>(std::min<std::size_t>(3, left)));
    CHECK_EQ(scene.writer->pending(), left > 3 ? left - 3 : 0);
  }
  CHECK_EQ(order, (std::vector<double>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
}

TEST(AResetAndADeletionLetWaitingItemsIn) {
  Scene scene(QueueConfig(2));
  REQUIRE(scene.Append().ok());
  for (int i = 0; i < 5; ++i) REQUIRE(scene.Latest(nullptr, i).ok());
  const std::uint64_t key = scene.store->table_state(scene.table).items.key[0];
  CHECK_EQ(scene.store->Delete(scene.table.get(), &key, 1), 0u);  // the limiter counts no sample
  CHECK_EQ(scene.table->size(), 1u);
  scene.store->Clear(scene.table.get());
  CHECK_EQ(scene.table->size(), 2u);
  CHECK_EQ(scene.writer->pending(), 1u);
  CHECK_EQ(scene.store->table_state(scene.table).items.priority, (std::vector<double>{2, 3}));
}

TEST(AFlushWaitsForASamplerAndEndsWhenTheStoreCloses) {
  Scene scene(QueueConfig(1));
  REQUIRE(scene.Append().ok());
  for (int i = 0; i < 3; ++i) REQUIRE(scene.Latest().ok());
  CHECK_EQ(scene.store->WaitForInserts(scene.writer->progress(), 1, 0.01).code, Code::kWouldBlock);
  std::thread sampler([&] {
    for (int i = 0; i < 2; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      Store::ItemReader reader(scene.store);
      CHECK(reader.Sample(scene.table.get(), 1).ok());
    }
  });
  CHECK(scene.store->WaitForInserts(scene.writer->progress(), 0, 60).ok());
  sampler.join();
  for (int i = 0; i < 3; ++i) REQUIRE(scene.Latest().ok());
  std::thread closer([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    scene.store->Close();
  });
  // What waited is dropped, and who waited for it is told that the store is closed.
  const Code code = scene.store->WaitForInserts(scene.writer->progress(), 0, 60).code;
  CHECK_EQ(code, Code::kClosed);
  closer.join();
  CHECK_EQ(scene.writer->pending(), 0u);
  CHECK_EQ(scene.store->WaitForInserts(scene.writer->progress(), 0, 0.01).code, Code::kClosed);
  CHECK_EQ(scene.Latest().code, Code::kClosed);
}

TEST(AnItemLeavesWithItsLastPermittedSample) {
  Table::Config config = TableConfig(10, SelectorKind::kUniform);
  config.max_times_sampled = 3;
  Scene scene(config);
  REQUIRE(scene.Append().ok());
  for (int i = 0; i < 5; ++i) REQUIRE(scene.Latest(nullptr, i).ok());
  std::map<double, int> times;
  for (int i = 0; i < 15; ++i) {
    CHECK(scene.table->CanSample(15 - i));
    CHECK(!scene.table->CanSample(16 - i));
    Store::ItemReader reader(scene.store);
    REQUIRE(reader.Sample(scene.table.get(), 1).ok());
    CHECK_EQ(reader.items()[0].times_sampled, ++times[reader.items()[0].priority]);
  }
  for (const auto& [priority, count] : times) CHECK_EQ(count, 3);
  CHECK_EQ(scene.table->size(), 0u);
  CHECK_EQ(scene.table->stats().num_unique_samples, 5);
}

TEST(EpisodesAreCountedByTheirLiveItems) {
  Scene scene(TableConfig(3));
  REQUIRE(scene.Append().ok());
  REQUIRE(scene.Latest().ok());
  scene.writer->EndEpisode(false);
  for (int i = 0; i < 2; ++i) REQUIRE(scene.Latest().ok());
  CHECK_EQ(scene.table->stats().num_episodes, 2);
  REQUIRE(scene.Latest().ok());  // evicts the first episode's only item
  CHECK_EQ(scene.table->stats().num_episodes, 1);
  CHECK_EQ(scene.table->stats().num_deleted_episodes, 1);
}

// A copy of a scene's table, by way of a snapshot, as a checkpoint would make it.
Scene Copy(const Scene& scene, const Table::Config& config) {
  const auto snapshot = Arranged(scene.store);
  Scene copy(config);
  Load(Save(*snapshot), copy.store.get());
  REQUIRE(copy.store->RestoreTable(copy.table.get(), snapshot->tables[0]).ok());
  copy.store->SealRestore();
  return copy;
}

TEST(ACopyOfATableGoesOnWithTheVerySameSamples) {
  for (int kind = 0; kind < 6; ++kind) {
    Table::Config config = TableConfig(30, static_cast<SelectorKind>(kind));
    config.max_times_sampled = 4;
    Scene scene(config);
    Rng rng(5);
    for (int i = 0; i < 60; ++i) {
      REQUIRE(scene.Append().ok());
      const std::uint32_t n = 1 + rng.Below(std::min(i + 1, 6));
      REQUIRE(scene
                  .Item({{0, scene.next[0] - n, n}, {3, scene.next[3] - 1, 1}},
                        {{1, false}, {1, true}}, nullptr, rng.Below(4))
                  .ok());
    }
    const auto state = scene.store->table_state(scene.table);
    for (int i = 0; i < 10; ++i) {
      const double priority = rng.Below(4);
      scene.store->UpdatePriorities(scene.table.get(), &state.items.key[rng.Below(30)], &priority,
                                    1);
    }
    Scene copy = Copy(scene, config);
    for (int i = 0; i < 80; ++i) {
      Store::ItemReader one(scene.store);
      Store::ItemReader other(copy.store);
      const Status status = one.Sample(scene.table.get(), 1);
      CHECK_EQ(other.Sample(copy.table.get(), 1).code, status.code);
      REQUIRE(status.ok());
      CHECK_EQ(one.items()[0].key, other.items()[0].key);
      CHECK_EQ(one.items()[0].probability, other.items()[0].probability);
      CHECK(Columns(*one.items()[0].trajectory) == Columns(*other.items()[0].trajectory));
    }
  }
}

TEST(ADamagedStateIsRefused) {
  Scene scene;
  for (int i = 0; i < 4; ++i) REQUIRE(scene.Append().ok());
  REQUIRE(scene.Item({{0, 1, 3}, {1, 0, 1}}, {{1, false}, {1, true}}).ok());
  REQUIRE(scene.Item({{3, 0, 2}}, {{1, false}}).ok());
  // Whose items name the chunks that are in it, which are not those of the store.
  const auto snapshot = Arranged(scene.store);
  const auto refused = [&](void (*damage)(TableState*)) {
    TableState state = snapshot->tables[0];
    damage(&state);
    Scene copy;
    Load(Save(*snapshot), copy.store.get());
    const Status status = copy.store->RestoreTable(copy.table.get(), state);
    // A table that refuses holds nothing, not even the chunks it had come across.
    if (!status.ok()) CHECK_EQ(copy.table->size(), 0u);
    if (!status.ok()) CHECK(!copy.table->CanSample(1));
    copy.store->SealRestore();
    CHECK_EQ(copy.store->info().num_chunks != 0, status.ok());
    return status.code == Code::kInvalid;
  };
  CHECK(!refused([](TableState*) {}));
  CHECK(refused([](TableState* s) { s->items.traj_item[1] = 0; }));
  CHECK(refused([](TableState* s) { s->items.traj_item[1] = 2; }));
  CHECK(refused([](TableState* s) { s->items.traj_item.pop_back(); }));
  CHECK(refused([](TableState* s) { s->items.traj_episode[0] = ~std::uint64_t{0}; }));
  CHECK(refused([](TableState* s) { s->items.chunk_id[0] = s->items.piece_chunk[0]; }));
  CHECK(refused([](TableState* s) { s->items.length[0] = 1; }));
  CHECK(refused([](TableState* s) { s->items.column_item[0] = 1; }));
  CHECK(refused([](TableState* s) { s->items.column_pieces[0] = 0; }));
  CHECK(refused([](TableState* s) { s->items.column_pieces[0] = 9; }));
  CHECK(refused([](TableState* s) { s->items.column_pieces.back() = 1; }));
  CHECK(refused([](TableState* s) { s->items.column_squeeze[0] = 1; }));
  CHECK(refused([](TableState* s) { s->items.column_field[0] = 1; }));
  CHECK(refused([](TableState* s) { s->items.column_field.back() = ~0u; }));
  CHECK(refused([](TableState* s) { s->items.piece_chunk[0] = 999; }));
  CHECK(refused([](TableState* s) { s->items.piece_chunk[0] = s->items.piece_chunk.back(); }));
  CHECK(refused([](TableState* s) { s->items.piece_offset[0] = 1000; }));
  CHECK(refused([](TableState* s) { s->items.piece_length[0] = 1000; }));
  CHECK(refused([](TableState* s) { s->items.piece_length[0] = 0; }));
  CHECK(refused([](TableState* s) { s->items.piece_length[0] = ~0u; }));
  CHECK(refused([](TableState* s) { s->num_unique_samples = -1; }));
}

TEST(AnAppendMayKnowFewerColumnsThanThereAreByNow) {
  Scene scene;
  const auto cell = std::make_unique<Cell[]>(1);  // and not one more, as the sanitizer knows
  const std::uint32_t value = 7;
  cell[0] = {&value, sizeof(value)};
  REQUIRE(scene.writer->Append(cell.get(), 1).ok());
  CHECK_EQ(scene.writer->next(0), 1u);
  for (std::uint32_t column = 1; column < 4; ++column) CHECK_EQ(scene.writer->next(column), 0u);
}

TEST(AnExpiredCellOfItsOwnChunkIsFreedAtOnce) {
  Scene scene;
  const std::vector<std::uint8_t> large(1 << 20);
  const Cell cells[4] = {{}, {}, {}, {large.data(), large.size()}};
  for (int i = 0; i < 3; ++i) {
    REQUIRE(scene.writer->Append(cells, 4).ok());
    CHECK(scene.store->info().allocated_nbytes >= large.size());
    scene.writer->EndEpisode(/*clear=*/true);
    CHECK_EQ(scene.store->info().num_chunks, 0u);
  }
  CHECK_EQ(scene.writer->next(3), 3u);
  CHECK_EQ(scene.writer->first_kept(3), 3u);
  REQUIRE(scene.writer->Append(cells, 4).ok());
  REQUIRE(scene.Item({{3, 3, 1}}, {{1, true}}).ok());
}

TEST(AnyNumberOfItemsMayBeAskedFor) {
  Scene scene(QueueConfig(3));
  REQUIRE(scene.Append().ok());
  for (int i = 0; i < 3; ++i) REQUIRE(scene.Latest().ok());
  Store::ItemReader reader(scene.store);
  REQUIRE(reader.Sample(scene.table.get(), std::numeric_limits<std::size_t>::max()).ok());
  CHECK_EQ(reader.items().size(), 3u);
}

TEST(WritersAndSamplersOfManyThreadsShareAQueueWithoutLoss) {
  auto store = std::make_shared<Store>(Store::Options{256, 1});
  const auto table = store->CreateTable(QueueConfig(4));
  constexpr int kWriters = 3, kItems = 400;
  std::vector<std::thread> threads;
  for (int w = 0; w < kWriters; ++w) {
    threads.emplace_back([&, w] {
      TrajectoryWriter writer(store);
      const auto layout =
          std::make_shared<RecordLayout>(std::vector<std::size_t>{8}, std::vector{1u});
      writer.AddColumn(layout, 2);
      for (std::uint64_t i = 0; i < kItems; ++i) {
        const std::uint64_t value = static_cast<std::uint64_t>(w) << 32 | i;
        const Cell cell{&value, 8};
        CHECK(writer.Append(&cell, 1).ok());
        const Run run{0, i, 1};
        const Output column{1, true};
        bool inserted;
        CHECK(writer.CreateItem(table.get(), 1.0, &run, 1, &column, 1, &inserted).ok());
        if (i % 50 == 0) CHECK(store->WaitForInserts(writer.progress(), 0, 60).ok());
      }
      CHECK(store->WaitForInserts(writer.progress(), 0, 60).ok());
    });
  }
  std::mutex mutex;
  std::map<std::uint64_t, std::vector<std::uint64_t>> seen;
  std::atomic<int> left{kWriters * kItems};
  for (int s = 0; s < 2; ++s) {
    threads.emplace_back([&] {
      while (left > 0) {
        if (!store->WaitToSample(table.get(), 1, 0.01).ok()) continue;
        Store::ItemReader reader(store);
        if (!reader.Sample(table.get(), 1).ok()) continue;
        std::uint64_t value;
        const Trajectory& trajectory = *reader.items()[0].trajectory;
        GatherPieces(trajectory.pieces(), trajectory.num_pieces, 0, &value);
        std::lock_guard<std::mutex> lock(mutex);
        seen[value >> 32].push_back(value & 0xffffffffu);
        --left;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (std::uint64_t w = 0; w < kWriters; ++w) {
    std::sort(seen[w].begin(), seen[w].end());
    REQUIRE(seen[w].size() == kItems);
    for (std::uint64_t i = 0; i < kItems; ++i) CHECK_EQ(seen[w][i], i);
  }
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
