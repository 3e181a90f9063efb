// Everything at once, for the thread sanitizer and for torn steps.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <map>
#include <set>
#include <thread>

#include "check.h"
#include "saved.h"
#include "writers/writer.h"

namespace reverie_test {
namespace {

constexpr std::uint32_t kLength = 3;
constexpr std::uint64_t kStepsEach = 30000;

// Counters of a writer's steps: which of the writers, and which step.
std::uint64_t First(std::uint64_t writer) { return writer << 32; }

// Whether each row is consecutive steps of one writer, none of them torn.
bool AreWindows(const Batch& batch) {
  if (!batch.Intact()) return false;
  for (std::size_t i = 0; i < batch.counter.size(); ++i) {
    if (i % kLength != 0 && batch.counter[i] != batch.counter[i - 1] + 1) return false;
  }
  return true;
}

struct World {
  std::shared_ptr<const RecordLayout> layout = StepLayout();
  std::shared_ptr<Store> store = std::make_shared<Store>(Store::Options{40 * kStepNbytes, 2});
  std::shared_ptr<Table> evicting = store->CreateTable(TableConfig(50));
  std::shared_ptr<Table> large =
      store->CreateTable(TableConfig(3000, SelectorKind::kUniform, SelectorKind::kUniform));
  std::atomic<bool> done{false};
  std::atomic<std::int64_t> sampled[2] = {{0}, {0}};

  std::unique_ptr<Writer> NewWriter() {
    // Of the stream: the episodes that end in it are only marked.
    return std::make_unique<Writer>(
        store, layout, std::vector<std::shared_ptr<Table>>{evicting, large},
        Writer::Config{kLength, 1, 1.0, false, false, PadRecord(*layout), -1, 0,
                       Writer::Items::kStream});
  }

  void Write(std::uint64_t index) {
    const auto writer = NewWriter();
    for (std::uint64_t i = 0; i < kStepsEach; ++i) {
      const Step step(First(index) + i);
      const How how = i % 10 == 9 ? How::kTruncated : How::kGoesOn;
      CHECK(writer->Append(step.columns().data(), how).ok());
    }
  }

  void Sample(int which) {
    Table* const table = which == 0 ? evicting.get() : large.get();
    while (!done) {
      Batch batch(16, kLength);
      const Status status = store->Sample(table, {layout.get(), kLength}, 16, kLength,
                                          batch.outputs.data(), batch.info);
      if (status.code == Code::kWouldBlock) {
        store->WaitToSample(table, 1, 0.05);
        continue;
      }
      CHECK(status.ok());
      CHECK(AreWindows(batch));
      sampled[which] += 16;
    }
  }

  void Read() {
    while (!done) {
      Store::Reader reader(store, {layout.get(), kLength});
      CHECK(reader.Select(evicting.get(), nullptr, 0).ok());
      Batch batch(reader.keys().size(), kLength);
      reader.Gather(batch.outputs.data());
      CHECK(AreWindows(batch));
      if (reader.keys().empty()) continue;
      const double priority = 2.0;  // stale by now, or not: both must do
      store->UpdatePriorities(large.get(), reader.keys().data(), &priority, 1);
      store->Delete(evicting.get(), reader.keys().data(), 1);
    }
  }

  void TakeSnapshots() {
    while (!done) {
      const auto arranged = Arranged(store);
      const Snapshot& snapshot = *arranged;
      CHECK_EQ(snapshot.tables[0].counters.inserts, snapshot.tables[1].counters.inserts);
      std::map<std::uint64_t, std::size_t> rows;
      for (std::size_t row = 0; row < snapshot.num_chunks(); ++row) {
        rows[snapshot.chunks.id[row]] = row;
        const std::vector<std::uint8_t> bytes = BytesOf(snapshot, row);
        for (std::uint32_t i = 0; i < snapshot.chunks.count[row]; ++i) {
          std::uint64_t counter, check;
          std::memcpy(&counter, &bytes[i * kStepNbytes], sizeof(counter));
          std::memcpy(&check, &bytes[i * kStepNbytes + 8], sizeof(check));
          CHECK_EQ(check, Hash(counter));
        }
      }
      for (std::size_t i = 0; i < snapshot.ends.chunk.size(); ++i) {
        CHECK(snapshot.ends.step[i] < snapshot.chunks.count[rows.at(snapshot.ends.chunk[i])]);
      }
      for (const TableState& table : snapshot.tables) {
        CHECK_EQ(table.counters.inserts - table.counters.deletes, table.items.key.size());
        for (std::size_t i = 0; i < table.items.key.size(); ++i) {
          const auto found = rows.find(table.items.chunk_id[i]);
          if (!CHECK(found != rows.end())) continue;
          const std::uint32_t end = table.items.offset[i] + table.items.length[i];
          const std::uint64_t next = snapshot.chunks.next[found->second];
          if (end > snapshot.chunks.count[found->second]) CHECK(rows.count(next) == 1);
        }
      }
    }
  }
};

TEST(NoStepIsTornAndCountersAgree) {
  World world;
  std::vector<std::thread> others;
  others.emplace_back(&World::Sample, &world, 0);
  others.emplace_back(&World::Sample, &world, 1);
  others.emplace_back(&World::TakeSnapshots, &world);
  others.emplace_back(&World::Read, &world);
  std::thread first(&World::Write, &world, 1), second(&World::Write, &world, 2);
  first.join();
  second.join();
  world.done = true;
  for (auto& thread : others) thread.join();

  const std::int64_t inserts = 2 * (kStepsEach - kLength + 1);
  const Table* const tables[] = {world.evicting.get(), world.large.get()};
  for (int i = 0; i < 2; ++i) {
    const Store::TableInfo info = world.store->table_info(*tables[i]);
    CHECK_EQ(info.counters.inserts, inserts);
    CHECK_EQ(info.counters.inserts - info.counters.deletes, info.size);
    CHECK(info.size <= info.max_size);
    CHECK_EQ(info.counters.samples, world.sampled[i].load());
    CHECK(info.counters.samples > 0);
  }
  world.store->Clear(world.evicting.get());
  world.store->Clear(world.large.get());
  CHECK_EQ(world.store->info().num_chunks, 0u);
  CHECK_EQ(world.store->info().num_steps, 0u);
}

// Savers, each with a snapshot that it looks at while all else goes on; and tables that are
// emptied under them, of few items and of many.
struct Saving {
  std::shared_ptr<const RecordLayout> layout = StepLayout();
  std::shared_ptr<Store> store = std::make_shared<Store>(Store::Options{40 * kStepNbytes, 2});
  std::vector<std::shared_ptr<Table>> tables;
  std::atomic<bool> done{false};
  std::atomic<int> saved{0}, cleared{0}, packed{0}, sampled{0};

  Saving() {
    tables.push_back(store->CreateTable(TableConfig(5000)));
    tables.push_back(
        store->CreateTable(TableConfig(1500, SelectorKind::kPrioritized, SelectorKind::kUniform)));
    tables.push_back(
        store->CreateTable(TableConfig(300, SelectorKind::kMinHeap, SelectorKind::kMaxHeap)));
  }

  void Add(std::uint64_t index) {
    const auto new_writer = [this] {
      return std::make_unique<Writer>(
          store, layout, tables,
          Writer::Config{kLength, 1, 1.0, false, false, PadRecord(*layout), -1, 0,
                         Writer::Items::kStream});
    };
    auto writer = new_writer();
    for (std::uint64_t i = 0; !done; ++i) {
      // An end is where the counter says so.
      const How how = i % 10 == 9 ? How::kTruncated : How::kGoesOn;
      if (i % 64 == 0) writer->SetPriority(static_cast<double>(1 + i % 7));
      CHECK(writer->Append(Step(First(index) + i).columns().data(), how).ok());
      if (i % 3000 == 2999) writer = new_writer();
      if (i % 100 == 99) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  void Sample(std::size_t which) {
    Table* const table = tables[which].get();
    while (!done) {
      Batch batch(16, kLength);
      const Status status = store->Sample(table, {layout.get(), kLength}, 16, kLength,
                                          batch.outputs.data(), batch.info);
      if (!status.ok()) continue;
      CHECK(AreWindows(batch));
      ++sampled;
      const double priority = 1.0 + static_cast<double>(batch.key[0] % 5);
      store->UpdatePriorities(table, batch.key.data(), &priority, 1);
      if (batch.key[1] % 4 == 0) store->Delete(table, &batch.key[1], 1);
    }
  }
  void Clear() {
    for (int i = 0; !done; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(30));
      store->Clear(tables[static_cast<std::size_t>(i % 3)].get());
      ++cleared;
    }
  }
  void Save() {
    for (int i = 0; !done; ++i) {
      const auto snapshot = store->TakeSnapshot();
      if (i % 2 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      snapshot->Arrange();
      packed += Check(*snapshot);
      ++saved;
    }
  }

  // Every byte, and whether each item leads to steps that follow each other. Returns how
  // many chunks are packed.
  static int Check(const Snapshot& snapshot) {
    int num_packed = 0;
    const Saved all = reverie_test::Save(snapshot);
    std::map<std::uint64_t, std::size_t> rows;
    std::vector<std::vector<std::uint64_t>> counters;
    for (std::size_t row = 0; row < all.chunks.size(); ++row) {
      const SavedChunk& chunk = all.chunks[row];
      CHECK(rows.empty() || chunk.id > rows.rbegin()->first);
      rows[chunk.id] = row;
      num_packed += snapshot.whole(row) == nullptr;
      CHECK(chunk.next == 0 || chunk.next > chunk.id);
      counters.emplace_back();
      for (std::uint32_t i = 0; i < chunk.count; ++i) {
        std::uint64_t counter;
        std::vector<std::uint8_t> expected(kStepNbytes);
        std::memcpy(&counter, &chunk.bytes[i * kStepNbytes], sizeof(counter));
        Pack(*chunk.layout, Step(counter), expected.data());
        CHECK(std::equal(expected.begin(), expected.end(), &chunk.bytes[i * kStepNbytes]));
        counters.back().push_back(counter);
      }
    }
    for (std::size_t i = 0; i < all.ends.chunk.size(); ++i) {
      const std::size_t row = rows.at(all.ends.chunk[i]);
      if (!CHECK(all.ends.step[i] < counters[row].size())) continue;
      const std::uint64_t counter = counters[row][all.ends.step[i]];
      if (all.ends.how[i] == static_cast<std::uint8_t>(How::kTruncated)) {
        CHECK_EQ((counter & 0xffffffffu) % 10, 9u);
      } else {
        CHECK_EQ(all.ends.how[i], static_cast<std::uint8_t>(How::kCut));
      }
    }
    for (const TableState& table : snapshot.tables) {
      const ItemColumns& items = table.items;
      CHECK_EQ(table.counters.inserts - table.counters.deletes, items.key.size());
      CHECK(std::set<std::uint64_t>(items.key.begin(), items.key.end()).size() == items.key.size());
      for (std::size_t i = 0; i < items.key.size(); ++i) {
        CHECK_EQ(items.length[i], kLength);
        auto row = rows.find(items.chunk_id[i]);
        std::size_t at = items.offset[i];
        std::uint64_t before = 0;
        for (std::uint32_t t = 0; t < kLength; ++t, ++at) {
          if (row != rows.end() && at == counters[row->second].size()) {
            row = rows.find(all.chunks[row->second].next);
            at = 0;
          }
          if (!CHECK(row != rows.end() && at < counters[row->second].size())) break;
          const std::uint64_t counter = counters[row->second][at];
          CHECK(t == 0 || counter == before + 1);
          before = counter;
        }
      }
    }
    return num_packed;
  }
};

TEST(SaversSeeAWholeStoreBesideAllThatChangesIt) {
  Saving world;
  std::vector<std::thread> threads;
  for (std::uint64_t index = 1; index <= 2; ++index) {
    threads.emplace_back(&Saving::Add, &world, index);
    threads.emplace_back(&Saving::Save, &world);
  }
  for (const std::size_t which : {0u, 1u, 2u}) {
    threads.emplace_back(&Saving::Sample, &world, which);
  }
  threads.emplace_back(&Saving::Clear, &world);
  const auto start = std::chrono::steady_clock::now();
  while (world.saved < 8 || world.cleared < 12 || world.sampled < 100 || world.packed == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    if (!CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(120))) break;
  }
  world.done = true;
  for (auto& thread : threads) thread.join();
  for (const auto& table : world.tables) world.store->Clear(table.get());
  CHECK_EQ(world.store->info().num_chunks, 0u);
  CHECK_EQ(world.store->info().allocated_nbytes, 0u);
}

TEST(TheCheckSeesASnapshotThatIsTorn) {
  Saving world;
  {
    Writer writer(
        world.store, world.layout, world.tables,
        {kLength, 1, 1.0, false, false, PadRecord(*world.layout), -1, 0, Writer::Items::kStream});
    for (std::uint64_t i = 0; i < 300; ++i) {
      const How how = i % 10 == 9 ? How::kTruncated : How::kGoesOn;
      REQUIRE(writer.Append(Step(First(1) + i).columns().data(), how).ok());
    }
  }
  const auto fails = [&](void (*damage)(Snapshot*)) {
    return Fails([&] {
      const auto snapshot = Arranged(world.store);
      damage(snapshot.get());
      Saving::Check(*snapshot);
    });
  };
  CHECK_EQ(fails([](Snapshot*) {}), 0);
  CHECK(fails([](Snapshot* snapshot) { snapshot->tables[1].items.offset[5] = 1000; }));
  CHECK(fails([](Snapshot* snapshot) { snapshot->tables[0].items.chunk_id[9] = 999; }));
  CHECK(fails([](Snapshot* snapshot) { ++snapshot->tables[0].counters.inserts; }));
  CHECK(fails([](Snapshot* snapshot) { --snapshot->ends.step[2]; }));
  CHECK(fails([](Snapshot* snapshot) { snapshot->chunks.next[0] = 0; }));
  CHECK(fails([](Snapshot* snapshot) {  // bytes that change under it, which none may
    ++const_cast<Chunk&>(*snapshot->whole(1)).data[30];
  }));
}

// Each step evicts the one before and its chunk, hundreds of times in one gather.
TEST(EvictionFreesNothingThatASampleReads) {
  World world;
  const auto store = std::make_shared<Store>(Store::Options{kStepNbytes, 1});
  const auto table = store->CreateTable(TableConfig(1));
  Writer writer(store, world.layout, {table},
                {1, 1, 1.0, false, false, PadRecord(*world.layout), -1, 0});
  CHECK(writer.Append(Step(0).columns().data(), How::kGoesOn).ok());
  std::thread evicting([&] {
    for (std::uint64_t i = 1; !world.done; ++i) {
      CHECK(writer.Append(Step(i).columns().data(), How::kGoesOn).ok());
    }
  });
  for (int i = 0; i < 50; ++i) {
    Batch batch(20000, 1);
    CHECK(store
              ->Sample(table.get(), {world.layout.get(), 1}, 20000, 1, batch.outputs.data(),
                       batch.info)
              .ok());
    CHECK(batch.Intact());
    CHECK(std::count(batch.counter.begin(), batch.counter.end(), batch.counter[0]) == 20000);
  }
  world.done = true;
  evicting.join();
}

TEST(ThreadsThatShareAWriterLoseNoStep) {
  World world;
  const auto all = world.store->CreateTable(TableConfig(100000));
  Writer writer(world.store, world.layout, {all},
                {1, 1, 1.0, false, false, PadRecord(*world.layout), -1, 0});
  std::vector<std::thread> threads;
  for (std::uint64_t index = 0; index < 3; ++index) {
    threads.emplace_back([&, index] {
      for (std::uint64_t i = 0; i < 2000; ++i) {
        const Step step(First(index) + i);
        CHECK(writer.Append(step.columns().data(), How::kGoesOn).ok());
        writer.num_cached();
      }
    });
  }
  for (auto& thread : threads) thread.join();
  Store::Reader reader(world.store, {world.layout.get(), 1});
  REQUIRE(reader.Select(all.get(), nullptr, 0).ok());
  Batch batch(reader.keys().size(), 1);
  reader.Gather(batch.outputs.data());
  CHECK(batch.Intact());
  std::vector<std::uint64_t> next(3);
  for (const std::uint64_t counter : batch.counter) {  // each thread's in its own order
    CHECK_EQ(counter - First(counter >> 32), next[counter >> 32]++);
  }
  CHECK_EQ(next, std::vector<std::uint64_t>(3, 2000));
}

TEST(CloseEndsEverythingThatRuns) {
  for (int round = 0; round < 20; ++round) {
    World world;
    std::vector<std::thread> threads;
    threads.emplace_back([&] {
      const auto writer = world.NewWriter();
      for (std::uint64_t i = 0;; ++i) {
        const Status status = writer->Append(Step(i).columns().data(), How::kGoesOn);
        if (status.code == Code::kClosed) return;
        CHECK(status.ok());
      }
    });
    for (Table* table : {world.evicting.get(), world.large.get()}) {
      threads.emplace_back([&world, table] {
        Batch batch(8, kLength);
        while (true) {
          const Status status = world.store->Sample(table, {world.layout.get(), kLength}, 8,
                                                    kLength, batch.outputs.data(), batch.info);
          if (status.code == Code::kClosed) return;
          if (status.ok()) CHECK(AreWindows(batch));
          if (status.code == Code::kWouldBlock) world.store->WaitToSample(table, 1, 60.0);
        }
      });
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(round % 5));
    world.store->Close();
    for (auto& thread : threads) thread.join();
  }
}

TEST(TheCheckSeesATornStepAndABrokenWindow) {
  Batch batch(2, kLength);
  for (std::size_t i = 0; i < batch.counter.size(); ++i) {
    batch.counter[i] = First(1) + 100 * (i / kLength) + i % kLength;
    batch.check[i] = Hash(batch.counter[i]);
    batch.small[i] = static_cast<std::uint8_t>(batch.counter[i]);
  }
  CHECK(AreWindows(batch));
  std::swap(batch.check[1], batch.check[2]);  // halves of two steps
  CHECK(!AreWindows(batch));
  std::swap(batch.check[1], batch.check[2]);
  batch.small[4] ^= 1;
  CHECK(!AreWindows(batch));
  batch.small[4] ^= 1;
  std::swap(batch.counter[1], batch.counter[2]);  // whole steps in the wrong order
  std::swap(batch.check[1], batch.check[2]);
  std::swap(batch.small[1], batch.small[2]);
  CHECK(batch.Intact());
  CHECK(!AreWindows(batch));
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
