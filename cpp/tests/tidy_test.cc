// What items hold of sparsely used chunks gets a new home, and nobody notices.

#include "tidy.h"

#include <functional>

#include "tidy_world.h"

namespace reverie_test {
namespace {

// A store restored from a snapshot holds the same, draws the same, and goes on to do so
// when both are tidied.
void CheckCopy(World* world) {
  const std::shared_ptr<Store>& store = world->store;
  const auto& tables = world->tables;
  const auto snapshot = Arranged(store);
  auto copy = std::make_shared<Store>(store->options());
  Quiet(copy.get());
  Load(Save(*snapshot), copy.get());
  std::vector<std::shared_ptr<Table>> to;
  for (std::size_t t = 0; t < tables.size(); ++t) {
    to.push_back(copy->CreateTable(world->configs[t]));
    REQUIRE(copy->RestoreTable(to[t].get(), snapshot->tables[t]).ok());
  }
  copy->SealRestore();
  for (int round = 0; round < 8; ++round) {
    if (round == 3) TidyNow(copy.get());
    if (round == 5) TidyNow(store.get());
    for (std::size_t t = 0; t < tables.size(); ++t) {
      if (store->table_info(*tables[t]).stats.pending != 0) continue;  // they go in here only
      Store::ItemReader one(store), other(copy);
      const Status status = one.Sample(tables[t].get(), 4);
      CHECK_EQ(other.Sample(to[t].get(), 4).code, status.code);
      if (!status.ok()) continue;
      REQUIRE(one.items().size() == other.items().size());
      for (std::size_t i = 0; i < one.items().size(); ++i) {
        const SampledItem& a = one.items()[i];
        const SampledItem& b = other.items()[i];
        CHECK_EQ(a.key, b.key);
        CHECK_EQ(a.priority, b.priority);
        CHECK_EQ(a.probability, b.probability);
        CHECK_EQ(a.times_sampled, b.times_sampled);
        const Ids ids = Read(a);
        CHECK(ids == Read(b));
        world->CheckItem(a.priority, ids);
      }
    }
  }
  for (const auto& table : to) copy->Clear(table.get());
  Settle(copy.get());
  CHECK_EQ(copy->info().num_chunks + copy->info().allocated_nbytes, 0u);
}

struct Total {
  int tidied = 0;
  int moved = 0;
  int waited = 0;
  std::uint64_t freed = 0;
};

void RandomProgram(std::uint64_t seed, const World::Options& options, int steps, Total* total) {
  World world(seed, options);
  std::unique_ptr<Snapshot> kept;  // through some of it
  std::vector<World::Contents_> in_kept;
  std::vector<std::unique_ptr<Store::ItemReader>> readers;
  std::vector<Ids> expected;
  const auto check_readers = [&] {
    for (std::size_t i = 0; i < readers.size(); ++i) {
      CHECK(Read(readers[i]->items()[0]) == expected[i]);
    }
  };
  const auto fill = [&] {  // so that chunks become large
    for (int i = 0; i < 2500; ++i) world.AddRecords();
  };
  fill();
  for (int i = 1; i <= steps; ++i) {
    world.Change();
    if (i % 1000 == 0) {
      world.store->Clear(world.tables[4].get());
      if (world.rng.Below(2) == 0) fill();
    }
    if (i % 400 != 0) continue;
    if (!options.keeper) Settle(world.store.get());  // as there may have been a Clear()
    const auto before = world.Look();
    world.CheckSums();
    check_readers();
    readers.clear();
    expected.clear();
    if (i % 800 == 0) {  // some that read what is about to be moved
      for (std::size_t t = 0; t < before.size(); ++t) {
        for (const auto& item : before[t]) {
          if (world.rng.Below(10) != 0) continue;
          readers.push_back(std::make_unique<Store::ItemReader>(world.store));
          REQUIRE(readers.back()->Find(world.tables[t].get(), &item.first).ok());
          expected.push_back(item.second.ids);
        }
      }
    }
    auto late = world.rng.Below(2) == 0 ? world.store->TakeSnapshot() : nullptr;
    const auto at_once = late != nullptr ? Arranged(world.store) : nullptr;
    const std::uint64_t stored = world.store->info().record_nbytes;
    const bool moved = TidyNow(world.store.get());
    ++total->tidied;
    total->moved += moved;
    total->waited += world.Pending() != 0;
    const std::uint64_t now = world.store->info().record_nbytes;
    CHECK(now <= stored || now - stored <= 64 * 1024);  // copies of windows that reach far
    if (now < stored) total->freed += stored - now;
    world.CheckSums();
    const auto after = world.Look();
    CHECK(World::Same(before, after));
    const std::uint64_t bound = world.Bound(after);
    CHECK(now <= bound);
    check_readers();
    world.CheckSnapshot(*Arranged(world.store), after);
    if (late != nullptr) {
      late->Arrange();
      // The keeper may have moved something between the two.
      CHECK(options.keeper || Same(*late, *at_once));
      world.CheckSnapshot(*late, before);
      CHECK(kept == nullptr || (world.CheckSnapshot(*kept, in_kept), true));
      kept = world.rng.Below(3) == 0 ? nullptr : std::move(late);
      in_kept = before;
    }
    if (i % 1600 == 0) CheckCopy(&world);
  }
  if (kept != nullptr) world.CheckSnapshot(*kept, in_kept);
  check_readers();
  kept.reset();
  readers.clear();
  world.Empty();
}

TEST(NoItemChangesWhereverItsRecordsGo) {
  Total total;
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    RandomProgram(seed, {seed % 2 == 0, false}, 4800, &total);
  }
  CHECK(2 * total.moved > total.tidied && total.waited > 10);
  CHECK(total.freed > std::uint64_t{10} << 20);
}

// The store's own thread does it as well, when it will.
TEST(NoItemChangesWhileTheKeeperTidies) {
  Total total;
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    RandomProgram(seed + 100, {seed % 2 == 0, true}, 3200, &total);
  }
}

TEST(TheChecksSeeAnItemThatWentAstray) {
  World world(7, {false, false});
  for (int i = 0; i < 2500; ++i) world.AddRecords();
  for (int i = 0; i < 1000; ++i) world.Change();
  const std::uint64_t last_id = world.store->Lock().chunks().last_id();
  world.store->Clear(world.tables[4].get());
  TidyNow(world.store.get());
  CHECK(world.store->Lock().chunks().last_id() != last_id);  // something was moved
  const auto check = [&] {
    return Fails([&] {
      world.CheckSums();
      world.Look();
      world.CheckSnapshot(*Arranged(world.store), world.Look());
    });
  };
  CHECK_EQ(check(), 0);
  // The first window, or trajectory, that `damages`, is damaged, found out and mended.
  const auto sees = [&](auto damages) {
    std::function<void()> mend;
    {
      Store::Locked locked = world.store->Lock();
      for (const auto& table : world.tables) {
        table->VisitSlots(0, table->num_slots(),
                          [&](std::uint32_t, const Item& item, std::uint32_t length,
                              const Trajectory* trajectory) {
                            if (mend != nullptr) return;
                            Chunk* const chunk =
                                trajectory != nullptr ? nullptr : locked.chunks().at(item.chunk);
                            mend = damages(const_cast<Item*>(&item), chunk, length,
                                           const_cast<Trajectory*>(trajectory));
                          });
      }
    }
    REQUIRE(mend != nullptr);
    const int failed = check();
    mend();
    CHECK_EQ(check(), 0);
    return failed > 0;
  };
  using Mend = std::function<void()>;
  const auto crosses = [](const Item* item, const Chunk* chunk, std::uint32_t length) {
    return chunk != nullptr && item->offset + length > chunk->capacity;
  };
  CHECK(sees([](Item* item, Chunk* chunk, std::uint32_t length, Trajectory*) -> Mend {
    if (chunk == nullptr || item->offset + length >= chunk->count) return nullptr;
    ++item->offset;
    return [=] { --item->offset; };
  }));
  CHECK(sees([](Item* item, Chunk* chunk, std::uint32_t, Trajectory*) -> Mend {
    if (chunk == nullptr || item->offset == 0) return nullptr;
    --item->offset;
    return [=] { ++item->offset; };
  }));
  CHECK(sees([](Item*, Chunk*, std::uint32_t, Trajectory* trajectory) -> Mend {
    if (trajectory == nullptr) return nullptr;
    Piece* const piece = trajectory->pieces();
    if (piece->offset + piece->length >= piece->chunk->count) return nullptr;
    ++piece->offset;
    return [=] { --piece->offset; };
  }));
  CHECK(sees([](Item* item, Chunk* chunk, std::uint32_t, Trajectory*) -> Mend {
    if (chunk == nullptr) return nullptr;
    std::uint8_t* const byte = chunk->record(item->offset) + 500;
    *byte ^= 1;
    return [=] { *byte ^= 1; };
  }));
  CHECK(sees([](Item*, Chunk* chunk, std::uint32_t, Trajectory*) -> Mend {
    if (chunk == nullptr) return nullptr;
    ++chunk->refs;
    return [=] { --chunk->refs; };
  }));
  CHECK(sees([](Item*, Chunk* chunk, std::uint32_t, Trajectory*) -> Mend {
    if (chunk == nullptr || chunk->writers != 0) return nullptr;
    chunk->held += 1000;
    return [=] { chunk->held -= 1000; };
  }));
  CHECK(sees([&](Item* item, Chunk* chunk, std::uint32_t length, Trajectory*) -> Mend {
    if (!crosses(item, chunk, length)) return nullptr;
    Chunk* const next = chunk->next;
    chunk->next = chunk;
    return [=] { chunk->next = next; };
  }));
  CHECK(sees([](Item* item, Chunk* chunk, std::uint32_t length, Trajectory*) -> Mend {
    if (chunk == nullptr) return nullptr;
    for (std::size_t e = 0; e < chunk->ends.size(); ++e) {
      const Chunk::End end = chunk->ends[e];
      if (end.step < item->offset || end.step + 1 >= item->offset + length) continue;
      chunk->ends.erase(chunk->ends.begin() + static_cast<std::ptrdiff_t>(e));
      return [=] { chunk->ends.insert(chunk->ends.begin() + static_cast<std::ptrdiff_t>(e), end); };
    }
    return nullptr;
  }));
  CHECK(sees([](Item* item, Chunk* chunk, std::uint32_t length, Trajectory*) -> Mend {
    if (chunk == nullptr || !chunk->ends.empty() || length < 3) return nullptr;
    chunk->ends.push_back({item->offset, How::kEnded});
    return [=] { chunk->ends.clear(); };
  }));
  world.Empty();
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
