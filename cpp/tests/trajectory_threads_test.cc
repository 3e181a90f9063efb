// Trajectories, with everything at once and a close in the middle of it: for the
// sanitizers, for torn items, and for threads that nobody wakes.

#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "check.h"
#include "snapshot.h"
#include "writers/trajectory_writer.h"

namespace reverie_test {
namespace {

using Cell = TrajectoryWriter::Cell;
using Run = TrajectoryWriter::Run;
using Output = TrajectoryWriter::OutputColumn;

// Of a cell of any size: 0 to 8 numbers.
std::size_t NumWords(std::uint64_t number) { return number % 9; }

struct World {
  std::shared_ptr<Store> store = std::make_shared<Store>(Store::Options{96, 1});
  std::shared_ptr<Table> tables[2];
  std::atomic<std::int64_t> sampled{0};
  std::atomic<std::int64_t> flushed{0};

  World() {
    Table::Config config = TableConfig(20, SelectorKind::kPrioritized, SelectorKind::kMinHeap);
    config.limiter = {2, 2.0, 0.0, 30.0};
    config.max_times_sampled = 3;
    tables[0] = store->CreateTable(config);
    tables[1] = store->CreateTable(TableConfig(50, SelectorKind::kUniform));
  }

  // Items over the latest three numbers, and over the two texts before the last.
  void Write(std::uint64_t index) {
    TrajectoryWriter writer(store);
    writer.AddColumn(std::make_shared<RecordLayout>(std::vector<std::size_t>{8}, std::vector{1u}),
                     4);
    writer.AddColumn(nullptr, 4);
    for (std::uint64_t i = 0;; ++i) {
      const std::uint64_t number = index << 32 | i;
      const std::vector<std::uint64_t> text(8, number);
      const Cell cells[] = {{&number, 8}, {text.data(), 8 * NumWords(i)}};
      if (writer.Append(cells, 2).code == Code::kClosed) return;
      if (i % 64 == 0) writer.EndEpisode(i % 128 == 0);
      if (i < writer.first_kept(0) + 2) continue;
      const Run runs[] = {{0, i - 2, 3}, {1, i - 2, 1}, {1, i - 1, 1}};
      const Output columns[] = {{1, false}, {2, false}};
      bool inserted;
      const Status status = writer.CreateItem(tables[i % 2].get(), static_cast<double>(1 + i % 7),
                                              runs, 3, columns, 2, &inserted);
      if (status.code == Code::kClosed) return;
      CHECK(status.ok());
      if (writer.pending() < 5) continue;
      // An hour, as far as this test goes: who is not woken hangs it.
      const Code code = store->WaitForInserts(writer.progress(), 2, 3600).code;
      if (code == Code::kClosed) return;
      CHECK_EQ(code, Code::kOk);
      ++flushed;
    }
  }

  static bool Whole(const Trajectory& trajectory) {
    std::uint64_t numbers[3];
    const std::uint32_t first = trajectory.columns()[0].num_pieces;
    GatherPieces(trajectory.pieces(), first, 0, numbers);
    bool whole = numbers[1] == numbers[0] + 1 && numbers[2] == numbers[0] + 2;
    for (std::size_t t = 0; t < 2; ++t) {
      const Piece& piece = trajectory.pieces()[first + t];
      const std::size_t words = NumWords(numbers[t] & 0xffffffffu);
      whole = whole && piece.chunk->layout->record_nbytes() == 8 * words;
      for (std::size_t i = 0; whole && i < words; ++i) {
        std::uint64_t word;
        std::memcpy(&word, piece.chunk->record(0) + 8 * i, 8);
        whole = word == numbers[t];
      }
    }
    return whole;
  }

  void Sample(int which) {
    for (;;) {
      const Code waited = store->WaitToSample(tables[which].get(), 1, 3600).code;
      if (waited == Code::kClosed) return;
      CHECK_EQ(waited, Code::kOk);
      Store::ItemReader reader(store);
      const Code code = reader.Sample(tables[which].get(), 4).code;
      if (code == Code::kClosed) return;
      for (const SampledItem& item : reader.items()) {
        CHECK(Whole(*item.trajectory));
        const double priority = 1.5;
        store->UpdatePriorities(tables[which].get(), &item.key, &priority, 1);
        if (sampled++ % 11 == 0) store->Delete(tables[which].get(), &item.key, 1);
      }
    }
  }

  void Disturb(const std::atomic<bool>* done) {
    std::unique_ptr<Snapshot> last;
    for (int i = 0; !*done; ++i) {
      last = store->TakeSnapshot();
      if (i % 3 != 0) continue;  // most of them are never looked at
      last->Arrange();
      for (const TableState& state : last->tables) {
        CHECK_EQ(state.counters.inserts - state.counters.deletes, state.items.key.size());
        CHECK_EQ(state.items.traj_item.size(), state.items.key.size());
      }
      if (i % 20 == 0) store->Clear(tables[i / 20 % 2].get());
    }
  }
};

TEST(ItemsAreWholeAndAllAreWokenWhenTheStoreCloses) {
  for (int round = 0; round < 4; ++round) {
    World world;
    std::atomic<bool> done{false};
    std::vector<std::thread> threads;
    for (std::uint64_t w = 1; w <= 2; ++w) threads.emplace_back(&World::Write, &world, w);
    for (int t : {0, 0, 1}) threads.emplace_back(&World::Sample, &world, t);
    std::thread disturber(&World::Disturb, &world, &done);
    std::this_thread::sleep_for(std::chrono::milliseconds(250));
    world.store->Close();
    for (auto& thread : threads) thread.join();
    done = true;
    disturber.join();
    CHECK(world.sampled > 100);
    CHECK(world.flushed > 0);
    for (const auto& table : world.tables) world.store->Clear(table.get());
    CHECK_EQ(world.store->info().num_chunks, 0u);
  }
}

// Trajectories of a batch are copied after the lock is let go, and may be gone by then.
TEST(BatchesOfEvictedTrajectoriesAreWhole) {
  const auto store = std::make_shared<Store>(Store::Options{96, 2});
  const auto table = store->CreateTable(TableConfig(5));
  const auto layout = std::make_shared<RecordLayout>(std::vector<std::size_t>{8}, std::vector{1u});
  std::atomic<bool> done{false};
  std::atomic<int> batches{0};
  std::vector<std::thread> samplers;
  for (int s = 0; s < 2; ++s) {
    samplers.emplace_back([&] {
      while (!done) {
        std::vector<std::uint64_t> numbers(8 * 3);
        Batch batch(8, 1);
        void* const output = numbers.data();
        const Status status =
            store->Sample(table.get(), {layout.get(), 3}, 8, 0, &output, batch.info);
        if (!status.ok()) continue;
        ++batches;
        for (std::size_t i = 0; i < numbers.size(); i += 3) {
          CHECK_EQ(numbers[i + 1], numbers[i] + 1);
          CHECK_EQ(numbers[i + 2], numbers[i] + 2);
        }
      }
    });
  }
  TrajectoryWriter writer(store);
  writer.AddColumn(layout, 4);
  for (std::uint64_t i = 0; i < 4000 || batches < 100; ++i) {
    const Cell cell{&i, 8};
    REQUIRE(writer.Append(&cell, 1).ok());
    if (i < 2) continue;
    const Run run{0, i - 2, 3};
    const Output column{1, false};
    bool inserted;
    REQUIRE(writer.CreateItem(table.get(), 1.0, &run, 1, &column, 1, &inserted).ok());
  }
  done = true;
  for (auto& sampler : samplers) sampler.join();
}

// As a table's settings may have changed between saving and loading.
TEST(AnItemRestoredWithMoreSamplesThanAllowedLeavesWithItsNext) {
  World world;
  const std::uint64_t number = 5;
  const Cell cell{&number, 8};
  {
    TrajectoryWriter writer(world.store);
    writer.AddColumn(std::make_shared<RecordLayout>(std::vector<std::size_t>{8}, std::vector{1u}),
                     9);
    REQUIRE(writer.Append(&cell, 1).ok());
    const Run run{0, 0, 1};
    const Output column{1, true};
    bool inserted;
    for (int i = 0; i < 4; ++i) {
      REQUIRE(writer.CreateItem(world.tables[1].get(), 1.0, &run, 1, &column, 1, &inserted).ok());
    }
  }
  TableState state = world.store->table_state(world.tables[1]);
  state.items.times_sampled = {7, 0, 2, 1};
  auto store = std::make_shared<Store>(Store::Options{96, 1});
  Table::Config config = TableConfig(10, SelectorKind::kFifo);
  config.max_times_sampled = 2;
  const auto table = store->CreateTable(config);
  REQUIRE(store->RestoreChunk(
              std::make_shared<RecordLayout>(std::vector<std::size_t>{8}, std::vector{1u}),
              state.items.piece_chunk[0], 1) != nullptr);
  REQUIRE(store->RestoreTable(table.get(), state).ok());
  std::vector<std::int32_t> counts;
  for (int i = 0; i < 9; ++i) {
    Store::ItemReader reader(store);
    if (!reader.Sample(table.get(), 1).ok()) break;
    counts.push_back(reader.items()[0].times_sampled);
  }
  CHECK_EQ(counts, (std::vector<std::int32_t>{8, 1, 2, 3, 2}));
  CHECK_EQ(table->size(), 0u);
}

// The check of items can fail: cells of another step.
TEST(TheCheckSeesAnItemOfUnlikeSteps) {
  World world;
  TrajectoryWriter writer(world.store);
  writer.AddColumn(std::make_shared<RecordLayout>(std::vector<std::size_t>{8}, std::vector{1u}), 9);
  writer.AddColumn(nullptr, 9);
  for (std::uint64_t i = 0; i < 6; ++i) {
    const std::vector<std::uint64_t> text(8, i);
    const Cell cells[] = {{&i, 8}, {text.data(), 8 * NumWords(i)}};
    REQUIRE(writer.Append(cells, 2).ok());
  }
  for (const std::uint64_t start : {1, 2}) {
    const Run runs[] = {{0, 1, 3}, {1, start, 2}};
    const Output columns[] = {{1, false}, {1, false}};
    bool inserted;
    REQUIRE(writer.CreateItem(world.tables[1].get(), 1.0, runs, 2, columns, 2, &inserted).ok());
    Store::ItemReader reader(world.store);
    REQUIRE(reader.Sample(world.tables[1].get(), 1).ok());
    CHECK_EQ(World::Whole(*reader.items()[0].trajectory), start == 1);
    world.store->Clear(world.tables[1].get());
  }
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
