// Adders, samplers, savers and deleters while what items hold is moved under them. Runs for
// REVERIE_TEST_SECONDS, or two.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "tidy_scene.h"

namespace reverie_test {
namespace {

constexpr std::uint32_t kLength = 4;
constexpr std::uint64_t kEpisode = 10;  // steps; of each source its last is a kTruncated

void Rest() { std::this_thread::sleep_for(std::chrono::milliseconds(1)); }

// Steps of one source that follow each other, then padding. Its ends are where they belong:
// only its last step may be cut from others.
void CheckWindow(const std::vector<std::uint64_t>& ids, const WindowEnds* ends = nullptr) {
  CHECK_EQ(ids.size(), kLength);
  CHECK(!ids.empty() && ids[0] != kPad);
  for (std::uint32_t t = 0; t < ids.size(); ++t) {
    if (t != 0) CHECK(ids[t] == kPad || (ids[t - 1] != kPad && ids[t] == ids[t - 1] + 1));
    if (ends == nullptr) continue;
    const bool is_last = t + 1 == ids.size();
    const auto end = ends->find(t);
    const How found = end == ends->end() ? How::kGoesOn : end->second;
    if (ids[t] != kPad && (ids[t] & 0xffffffffu) % kEpisode == kEpisode - 1) {
      CHECK_EQ(found, How::kTruncated);
    } else {
      CHECK(found == How::kGoesOn || (is_last && found == How::kCut));
    }
  }
}

// The cells n - 2 to n of a column, and cell n - 4 by itself; of another, of any size, cell n.
void CheckCells(const Ids& ids) {
  REQUIRE(ids.size() == 3 && ids[0].size() == 3 && ids[1].size() == 1 && ids[2].size() == 1);
  CHECK_EQ(ids[0][1], ids[0][0] + 1);
  CHECK_EQ(ids[0][2], ids[0][0] + 2);
  CHECK_EQ(ids[1][0], ids[0][0] - 2);
  CHECK_EQ(ids[2][0], ids[0][2] + (std::uint64_t{1} << 32));
}

struct World {
  std::shared_ptr<Store> store = std::make_shared<Store>(Store::Options{1 << 17, 2});
  std::vector<std::shared_ptr<Table>> tables;  // of windows
  std::shared_ptr<Table> cells =
      store->CreateTable(TableConfig(200, SelectorKind::kPrioritized, SelectorKind::kUniform));
  std::atomic<std::uint64_t> num_sources{0};
  std::atomic<bool> done{false};
  std::atomic<int> tidied{0}, saved{0}, sampled{0}, deleted{0}, cleared{0};
  std::atomic<std::uint64_t> added{0};

  World() {
    const auto add = [&](std::uint32_t size, SelectorKind sampler, SelectorKind remover) {
      tables.push_back(store->CreateTable(TableConfig(size, sampler, remover)));
    };
    add(3000, SelectorKind::kUniform, SelectorKind::kFifo);
    add(200, SelectorKind::kPrioritized, SelectorKind::kUniform);
    add(200, SelectorKind::kMaxHeap, SelectorKind::kMinHeap);
    add(100, SelectorKind::kFifo, SelectorKind::kLifo);
  }

  void Add(Writer::Items items) {
    const bool pads = items == Writer::Items::kWindows;
    std::unique_ptr<Writer> writer;
    std::uint64_t source = 0, next = 0;
    for (std::uint64_t i = 0; !done; ++i) {
      if (i % 2500 == 0) {
        writer = std::make_unique<Writer>(
            store, kLarge, tables,
            Writer::Config{kLength, 1, 1.0, pads, pads, LargePad(), -1, 0, items});
        source = ++num_sources;
        next = 0;
      }
      writer->SetPriority(static_cast<double>(Hash(i) % 1000 + 1));
      const Words words = WordsOf(Id(source, next));
      const void* const columns[] = {&words[0], &words[1]};
      const bool ends = next % kEpisode == kEpisode - 1;
      CHECK(writer->Append(columns, ends ? How::kTruncated : How::kGoesOn).ok());
      ++next;
      ++added;
      if (i % 40 == 39) Rest();
    }
  }
  void AddCells() {
    std::unique_ptr<TrajectoryWriter> writer;
    std::uint64_t source = 0;
    for (std::uint64_t i = 0; !done; ++i) {
      if (i % 2000 == 0) {
        writer = std::make_unique<TrajectoryWriter>(store);
        writer->AddColumn(CellLayout(0), 6);
        writer->AddColumn(CellLayout(2), 1);
        source = num_sources.fetch_add(2) + 1;
      }
      const std::uint64_t n = writer->next(0);
      const Words large = WordsOf(Id(source, n));
      const Words other = WordsOf(Id(source + 1, n));
      const TrajectoryWriter::Cell step[] = {{large.data(), kRecordNbytes},
                                             {other.data(), 8 * CellWords(2, n)}};
      CHECK(writer->Append(step, 2).ok());
      if (n < 4) continue;
      const TrajectoryWriter::Run runs[] = {{0, n - 2, 1}, {0, n - 1, 2}, {0, n - 4, 1}, {1, n, 1}};
      const TrajectoryWriter::OutputColumn columns[] = {{2, false}, {1, true}, {1, true}};
      bool inserted;
      CHECK(writer
                ->CreateItem(cells.get(), static_cast<double>(1 + Hash(n) % 9), runs, 4, columns, 3,
                             &inserted)
                .ok());
      if (n % 50 == 0) writer->EndEpisode(false);
      if (i % 20 == 19) Rest();
    }
  }

  // Batches of one table.
  void SampleBatches(std::size_t which) {
    constexpr std::size_t kBatch = 32;
    std::vector<std::uint64_t> first(kBatch * kLength);
    std::vector<std::uint64_t> rest(kBatch * kLength * (kWords - 1));
    void* const outputs[] = {first.data(), rest.data()};
    Batch info(kBatch, 1);
    for (int i = 0; !done; ++i) {
      const Status status = store->Sample(tables[which].get(), {kLarge.get(), kLength}, kBatch,
                                          kLength, outputs, info.info);
      if (!status.ok()) {
        CHECK_EQ(status.code, Code::kWouldBlock);
        Rest();
        continue;
      }
      for (std::size_t row = 0; row < kBatch; ++row) {
        std::vector<std::uint64_t> ids;
        for (std::size_t t = row * kLength; t < (row + 1) * kLength; ++t) {
          Words words;
          words[0] = first[t];
          std::memcpy(&words[1], &rest[t * (kWords - 1)], kRecordNbytes - 8);
          ids.push_back(IdOf(reinterpret_cast<const std::uint8_t*>(words.data()), kRecordNbytes));
        }
        CheckWindow(ids);
      }
      const double priority = 1.0 + static_cast<double>(info.key[0] % 7);
      store->UpdatePriorities(tables[which].get(), info.key.data(), &priority, 1);
      ++sampled;
      if (i % 8 == 7) Rest();
    }
  }
  // Readers of items that are slow, so that much is moved before they are done.
  void SampleItems() {
    while (!done) {
      Store::ItemReader of_cells(store), of_windows(store);
      const bool any = of_cells.Sample(cells.get(), 20).ok();
      const bool some = of_windows.Sample(tables[1].get(), 20).ok();
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      for (std::size_t i = 0; any && i < of_cells.items().size(); ++i) {
        CheckCells(Read(of_cells.items()[i]));
      }
      for (std::size_t i = 0; some && i < of_windows.items().size(); ++i) {
        CheckWindow(Read(of_windows.items()[i])[0]);
      }
      sampled += any && some;
    }
  }
  void Save() {
    for (int i = 0; !done; ++i) {
      const auto snapshot = store->TakeSnapshot();
      if (i % 2 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(50));
      snapshot->Arrange();
      CheckAll(*snapshot);
      ++saved;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }
  // Returns how many bytes all items hold at least.
  std::uint64_t CheckAll(const Snapshot& snapshot) const {
    std::vector<std::uint64_t> held;
    for (const auto& item : Decode(snapshot, 0)) {  // the table of trajectories was the first
      CheckCells(item.second.ids);
      held.insert(held.end(), item.second.ids[0].begin(), item.second.ids[0].end());
      held.push_back(item.second.ids[1][0]);
    }
    for (std::size_t t = 0; t < tables.size(); ++t) {
      const auto items = Decode(snapshot, t + 1);
      CHECK_EQ(snapshot.tables[t + 1].counters.inserts - snapshot.tables[t + 1].counters.deletes,
               items.size());
      for (const auto& item : items) {
        CheckWindow(item.second.ids[0], &item.second.ends);
        held.insert(held.end(), item.second.ids[0].begin(), item.second.ids[0].end());
      }
    }
    std::sort(held.begin(), held.end());
    const auto end = std::unique(held.begin(), held.end());
    return static_cast<std::uint64_t>(end - held.begin()) * kRecordNbytes;
  }
  void Delete() {
    for (std::uint64_t i = 0; !done; ++i) {
      const auto& table = i % 5 == 4 ? cells : tables[i % 4];
      const auto keys = store->table_state(table).items.key;
      for (std::uint64_t n = 0; n < 20 && !keys.empty(); ++n) {
        store->Delete(table.get(), &keys[Hash(i * 20 + n) % keys.size()], 1);
        ++deleted;
      }
      if (i % 40 == 39) {
        store->Clear(tables[Hash(i) % 4].get());
        ++cleared;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
  void Tidy() {
    while (!done) {
      store->Lock().chunks().LookAgain();
      store->Tidy();
      ++tidied;
      Rest();
    }
  }
};

TEST(NobodyNoticesThatRecordsAreMoved) {
  const char* const seconds = std::getenv("REVERIE_TEST_SECONDS");
  World world;
  std::vector<std::thread> threads;
  threads.emplace_back(&World::Add, &world, Writer::Items::kStream);
  threads.emplace_back(&World::Add, &world, Writer::Items::kWindows);
  threads.emplace_back(&World::AddCells, &world);
  for (const std::size_t which : {0u, 1u, 2u, 3u}) {
    threads.emplace_back(&World::SampleBatches, &world, which);
  }
  threads.emplace_back(&World::SampleItems, &world);
  threads.emplace_back(&World::Save, &world);
  threads.emplace_back(&World::Delete, &world);
  threads.emplace_back(&World::Tidy, &world);
  const auto start = std::chrono::steady_clock::now();
  const auto enough = std::chrono::seconds(seconds == nullptr ? 2 : std::atoi(seconds));
  while (std::chrono::steady_clock::now() - start < enough || world.tidied < 5 || world.saved < 2 ||
         world.sampled < 20 || world.cleared < 1) {
    Rest();
    if (!CHECK(std::chrono::steady_clock::now() - start < enough + std::chrono::seconds(120))) {
      break;
    }
  }
  world.done = true;
  for (auto& thread : threads) thread.join();
  for (int i = 0; i < 2; ++i) {  // the first one may be the keeper's, from before
    world.store->Lock().chunks().LookAgain();
    world.store->Tidy();
  }
  const Store::Info info = world.store->info();
  const std::uint64_t held = world.CheckAll(*Arranged(world.store));
  CHECK(info.record_nbytes >= held);
  CHECK(info.record_nbytes <= held + held / 4 + (1 << 20));
  if (seconds != nullptr) {
    std::printf(
        "%d tidied, %d saved, %d sampled, %d deleted, %d cleared, %llu added; %.1f MB of "
        "%.1f needed\n",
        world.tidied.load(), world.saved.load(), world.sampled.load(), world.deleted.load(),
        world.cleared.load(), static_cast<unsigned long long>(world.added.load()),
        static_cast<double>(info.record_nbytes) / 1e6, static_cast<double>(held) / 1e6);
  }
  for (const auto& table : world.tables) world.store->Clear(table.get());
  world.store->Clear(world.cells.get());
  world.store->Tidy();  // after the keeper's, if it is at work
  CHECK_EQ(world.store->info().num_chunks, 0u);
  CHECK_EQ(world.store->info().allocated_nbytes, 0u);
  CHECK_EQ(world.store->Lock().chunks().arena()->used_nbytes(), 0u);
}

TEST(TheChecksSeeStepsInTheWrongOrder) {
  const auto fails = [](const std::vector<std::uint64_t>& ids, const WindowEnds& ends) {
    return Fails([&] { CheckWindow(ids, &ends); }) > 0;
  };
  const std::vector<std::uint64_t> good{Id(3, 8), Id(3, 9), Id(3, 10), Id(3, 11)};
  CHECK(!fails(good, {{1, How::kTruncated}}));
  CHECK(!fails(good, {{1, How::kTruncated}, {3, How::kCut}}));
  CHECK(fails(good, {}));
  CHECK(fails(good, {{1, How::kCut}}));
  CHECK(fails(good, {{1, How::kTruncated}, {2, How::kCut}}));
  CHECK(fails({Id(3, 8), Id(3, 9), Id(3, 11), Id(3, 10)}, {{1, How::kTruncated}}));
  CHECK(fails({Id(3, 1), Id(3, 2), Id(3, 3), Id(4, 4)}, {}));
  CHECK(fails({Id(3, 1), kPad, Id(3, 2), Id(3, 3)}, {}));
  CHECK(fails({Id(3, 1), Id(3, 2), Id(3, 3)}, {}));
  Words words = WordsOf(Id(3, 1));
  const auto torn = [&] {
    return Fails([&] {
             IdOf(reinterpret_cast<const std::uint8_t*>(words.data()), kRecordNbytes);
           }) > 0;
  };
  CHECK(!torn());
  ++words[kWords / 2];
  CHECK(torn());
  const Ids of_cells{{Id(3, 7), Id(3, 8), Id(3, 9)}, {Id(3, 5)}, {Id(4, 9)}};
  CHECK_EQ(Fails([&] { CheckCells(of_cells); }), 0);
  for (std::size_t c = 0; c < 3; ++c) {
    Ids wrong = of_cells;
    ++wrong[c].back();
    CHECK(Fails([&] { CheckCells(wrong); }) > 0);
  }
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
