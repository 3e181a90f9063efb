// What little is held of much takes little room once it is tidied, even where there is none.

#include <algorithm>
#include <chrono>
#include <map>
#include <set>
#include <thread>

#include "starve.h"
#include "tidy_scene.h"

namespace reverie_test {
namespace {

using Items = Writer::Items;

// A window of three steps and a trajectory of three pieces for every few steps of one
// stream; all others have been deleted.
struct Sparse {
  std::shared_ptr<Store> store = std::make_shared<Store>(Store::Options{1 << 16, 1});
  std::shared_ptr<Table> table = store->CreateTable(TableConfig(100000));
  std::unique_ptr<Writer> writer;
  std::unique_ptr<TrajectoryWriter> cells;
  std::uint64_t next = 0;
  std::vector<std::uint64_t> keys;  // of what is left
  std::map<std::uint64_t, Ids> expected;

  Sparse() { Quiet(store.get()); }
  void NewWriters() {
    writer = std::make_unique<Writer>(
        store, kLarge, std::vector<std::shared_ptr<Table>>{table},
        Writer::Config{3, 1, 1.0, false, false, LargePad(), -1, 0, Writer::Items::kStream});
    cells = std::make_unique<TrajectoryWriter>(store);
    cells->AddColumn(CellLayout(0), 5);
  }
  void Write(std::uint64_t steps, std::uint64_t every) {
    if (writer == nullptr) NewWriters();
    for (const std::uint64_t end = next + steps; next < end; ++next) {
      const Words words = WordsOf(Id(1, next));
      const void* const columns[] = {&words[0], &words[1]};
      REQUIRE(writer->Append(columns, next % 10 == 9 ? How::kTruncated : How::kGoesOn).ok());
      if (next % 3 != 0) continue;
      const std::uint64_t number = cells->next(0);
      const Words of_cell = WordsOf(Id(2, number));
      const TrajectoryWriter::Cell cell{of_cell.data(), kRecordNbytes};
      REQUIRE(cells->Append(&cell, 1).ok());
      if (next / 3 % every != 4 % every) continue;
      const std::uint64_t first = std::max<std::uint64_t>(cells->first_kept(0), 1);
      if (number < first + 3) continue;
      const TrajectoryWriter::Run runs[] = {{0, first + 1, 3}, {0, first, 1}, {0, number, 1}};
      const TrajectoryWriter::OutputColumn columns_of[] = {{2, false}, {1, true}};
      bool inserted;
      REQUIRE(cells->CreateItem(table.get(), 2.0, runs, 3, columns_of, 2, &inserted).ok());
    }
    const TableState state = store->table_state(table);
    std::vector<std::uint64_t> gone;
    for (std::size_t row = keys.size(); row < state.items.key.size(); ++row) {
      const std::uint64_t key = state.items.key[row];
      (state.items.priority[row] == 2.0 || row % every == 0 ? keys : gone).push_back(key);
    }
    REQUIRE(store->Delete(table.get(), gone.data(), gone.size()) == 0);
    expected = Contents();
  }
  std::map<std::uint64_t, Ids> Contents() const {
    std::map<std::uint64_t, Ids> contents;
    for (const std::uint64_t key : keys) {
      Store::ItemReader reader(store);
      REQUIRE(reader.Find(table.get(), &key).ok());
      contents[key] = Read(reader.items()[0]);
    }
    return contents;
  }
  void Check() const {
    CHECK(Contents() == expected);
    CHECK_EQ(store->table_info(*table).size, keys.size());
    CheckSums(store.get(), {table});
  }
  // Of what is left, each once.
  std::uint64_t Held() const {
    std::set<std::uint64_t> ids;
    for (const auto& item : expected) {
      for (const auto& column : item.second) ids.insert(column.begin(), column.end());
    }
    return ids.size() * kRecordNbytes;
  }
  void Empty() {
    writer.reset();
    cells.reset();
    store->Clear(table.get());
    keys.clear();
    Settle(store.get());
    const Store::Info info = store->info();
    CHECK_EQ(info.num_chunks + info.num_steps + info.record_nbytes + info.allocated_nbytes, 0u);
    CHECK_EQ(store->Lock().chunks().arena()->used_nbytes(), 0u);
  }
};

TEST(AFewItemsOfTheLongPastDoNotKeepAllThatWasAroundThem) {
  for (const std::uint64_t every : {10u, 50u, 300u}) {
    Sparse scene;
    scene.Write(9000, every);
    // The writers' own chunks, of which little is needed, as well.
    const std::uint64_t held = scene.Held();
    CHECK(every == 10 || scene.store->info().record_nbytes > held + held / 4 + 800 * 1024);
    CHECK(TidyNow(scene.store.get()));
    const Store::Info info = scene.store->info();
    const std::uint64_t needed = 2 * 2048 + 7 * kRecordNbytes;
    CHECK(info.record_nbytes >= held);
    CHECK(info.record_nbytes <= held + held / 4 + needed + 768 * 1024);
    CHECK(info.allocated_nbytes <= held + held / 4 + needed + 768 * 1024);
    scene.Check();
    // And again, as more comes.
    scene.Write(3000, every);
    TidyNow(scene.store.get());
    scene.Check();
    scene.Empty();
  }
}

TEST(WhatIsDenseOrSmallIsLeftWhereItIs) {
  Sparse dense, small;
  dense.Write(3000, 1);
  small.Write(200, 30);
  for (const Sparse* scene : {&dense, &small}) {
    CHECK(!TidyNow(scene->store.get()));
    scene->Check();
  }
}

// Without anyone asking for it.
TEST(TheKeeperTidiesByItself) {
  Sparse scene;
  scene.Write(6000, 50);
  const std::uint64_t before = scene.store->info().record_nbytes;
  {
    Store::Locked locked = scene.store->Lock();
    locked.chunks().LookAgain();
  }
  const auto start = std::chrono::steady_clock::now();
  while (scene.store->info().record_nbytes > before / 2) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    REQUIRE(std::chrono::steady_clock::now() - start < std::chrono::seconds(60));
  }
  Settle(scene.store.get());  // it has still to forget what it moved
  scene.Check();
  scene.Empty();
}

// Writing, thinning out, tidying and emptying leave no byte more behind than they did before.
TEST(RoundsOfTidyingLeaveNothingBehind) {
  Sparse scene;
  std::vector<std::uint64_t> used;
  for (int round = 0; round < 6; ++round) {
    scene.Write(3000, 40);
    auto snapshot = round % 2 == 0 ? Arranged(scene.store) : nullptr;
    CHECK(TidyNow(scene.store.get()));
    scene.Check();
    snapshot.reset();
    scene.Empty();
    used.push_back(scene.store->info().used_nbytes);
  }
  CHECK_EQ(used[4], used[2]);
  CHECK_EQ(used[5], used[3]);
}

// Streams that were given large chunks while the store was large give them up.
TEST(WritersGiveUpChunksThatAreTooLargeForThem) {
  constexpr std::uint32_t kStreams = 40;
  for (const Items items : {Items::kWindows, Items::kStream, Items::kEpisodes}) {
    const auto store = std::make_shared<Store>(Store::Options{1 << 20, 1});
    Quiet(store.get());
    const auto table = store->CreateTable(TableConfig(100000));
    Writer::Config config{4, 1, 1.0, false, false, LargePad(), -1, 0, items, kStreams, -1};
    Writer writer(store, kLarge, {table}, config);
    std::uint64_t next = 0;
    const auto write = [&](std::uint64_t steps) {
      for (const std::uint64_t end = next + steps; next < end; ++next) {
        for (std::uint32_t s = 0; s < kStreams; ++s) {
          const Words words = WordsOf(Id(1 + s, next));
          const void* const columns[] = {&words[0], &words[1]};
          const auto how = static_cast<std::uint8_t>(next % 4 == 3 ? 2 : 0);
          REQUIRE(writer.AppendBatch(columns, &s, 1, &how, nullptr, nullptr).ok());
        }
      }
    };
    write(602);  // 24 MB
    std::uint64_t of_writers = 0;
    {
      Store::Locked locked = store->Lock();
      for (std::uint32_t slot = 0; slot < locked.chunks().num_slots(); ++slot) {
        const Chunk* const chunk = locked.chunks().at(slot);
        if (chunk == nullptr || chunk->writers == 0) continue;
        of_writers += chunk->capacity * chunk->layout->record_nbytes();
      }
    }
    CHECK(of_writers > 700 * 1024);
    store->Clear(table.get());  // the keeper looks after that, too
    TidyNow(store.get());
    const Store::Info info = store->info();
    CHECK(info.record_nbytes <= kStreams * 3 * kRecordNbytes);
    CHECK(info.allocated_nbytes <= kStreams * (2048 + 3 * kRecordNbytes));
    CheckSums(store.get(), {table});
    for (std::uint32_t s = 0; s < kStreams; ++s)
      CHECK_EQ(writer.num_cached(s), items == Items::kStream ? 602u : 2u);
    write(10);  // the next windows begin among the steps that went elsewhere
    std::map<std::uint64_t, std::uint64_t> from;  // by stream: the next window
    const TableState state = store->table_state(table);
    for (const std::uint64_t key : state.items.key) {
      Store::ItemReader reader(store);
      REQUIRE(reader.Find(table.get(), &key).ok());
      const std::vector<std::uint64_t> ids = Read(reader.items()[0])[0];
      std::uint64_t& first =
          from.try_emplace(ids[0] >> 32, items == Items::kStream ? 599 : 600).first->second;
      CHECK_EQ(ids.size(), 4u);
      for (std::size_t t = 0; t < ids.size(); ++t) CHECK_EQ(ids[t] & 0xffffffffu, first + t);
      first += items == Items::kStream ? 1 : 4;
    }
    CHECK_EQ(from.size(), kStreams);
    CHECK_EQ(state.items.key.size(), kStreams * (items == Items::kStream ? 10 : 3));
    // What the episodes ended with went along.
    const auto snapshot = Arranged(store);
    for (const auto& [key, item] : Decode(*snapshot, 0)) {
      for (std::uint32_t t = 0; t < 3; ++t) {
        CHECK_EQ(item.ends.count(t), item.ids[0][t] % 4 == 3);
      }
    }
  }
}

TEST(WhereMemoryRunsOutNothingIsLost) {
  int failed = 0;
  for (const bool seen : {false, true}) {  // whether pages must be copied
    for (const long burst : {1L, 1000000L}) {
      bool reached = true;
      for (long k = 0; reached; k += burst == 1 ? 1 : 7) {
        Sparse scene;
        scene.Write(3000, 60);
        const auto snapshot = seen ? scene.store->TakeSnapshot() : nullptr;
        const auto then = seen ? Arranged(scene.store) : nullptr;
        const std::uint64_t most = scene.Held() + scene.Held() / 4 + 768 * 1024;
        CHECK(scene.store->info().record_nbytes > most + 200 * 1024);
        ChunkStore& chunks = scene.store->Lock().chunks();
        chunks.LookAgain();  // without a lock, as that would wake the keeper first
        const bool starved = Starved(k, burst, [&] { scene.store->Tidy(); });
        reached = failing != burst;
        failed += starved;
        Settle(scene.store.get());
        scene.Check();
        if (seen && k % 8 == 0) {
          snapshot->Arrange();
          CHECK(Same(*snapshot, *then));
        }
        TidyNow(scene.store.get());
        scene.Check();
        CHECK(scene.store->info().record_nbytes <= most);
        scene.Write(20, 1);  // the writers go on from where they were
        scene.Check();
        for (const auto& item : scene.Contents()) {
          for (std::size_t t = 1; item.second.size() == 1 && t < 3; ++t) {
            CHECK_EQ(item.second[0][t], item.second[0][t - 1] + 1);
          }
        }
        if (!seen) scene.Empty();
      }
    }
  }
  CHECK(failed > 600);
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
