#include "items/item_store.h"

#include <cstring>
#include <set>

#include "check.h"
#include "pages_scene.h"

namespace reverie_test {
namespace {

std::uint64_t Key(std::uint32_t generation, std::uint32_t slot) {
  return (std::uint64_t{generation} << 32) | slot;
}

constexpr std::uint32_t kLastLive = 0xfffffffdu;  // a slot's last odd generation but one

std::int64_t Restore(ItemStore* store, const std::vector<std::uint64_t>& live,
                     const std::vector<std::uint64_t>& free) {
  return store->Restore(live.data(), live.size(), free.data(), free.size());
}

std::vector<std::uint64_t> FreeKeys(ItemStore* items) {
  const auto keys = items->Share().FreeKeys();
  return {keys.begin(), keys.end()};
}

// An ItemStore with pages of its own.
struct Store : Pages, ItemStore {
  explicit Store(std::uint32_t generation = 0) : ItemStore(&this->pool, generation) {}
};

// A store, its live keys and all keys that it ever issued.
struct Modelled {
  Store items;
  std::vector<std::uint64_t> live;
  std::vector<std::uint64_t> stale;
  std::set<std::uint64_t> issued;

  explicit Modelled(std::uint32_t generation = 0) : items(generation) {}

  void Allocate() {
    const std::uint64_t key = items.key(items.Allocate());
    CHECK(issued.insert(key).second);  // never issued twice
    live.push_back(key);
  }
  void Free(std::size_t index) {
    items.Free(static_cast<std::uint32_t>(live[index]));
    stale.push_back(live[index]);
    live[index] = live.back();
    live.pop_back();
  }
  void Check() {
    CHECK_EQ(items.size(), live.size());
    for (const std::uint64_t key : live) CHECK_EQ(items.Find(key), static_cast<std::uint32_t>(key));
    for (const std::uint64_t key : stale) CHECK_EQ(items.Find(key), kNoSlot);
    CHECK_EQ(FreeKeys(&items).size() + live.size(), items.num_slots());
  }
};

void RunRandom(Modelled* both, Rng* rng, int operations) {
  for (int i = 0; i < operations; ++i) {
    const auto size = static_cast<std::uint32_t>(both->live.size());
    if (size == 0 || rng->Below(100) < (i / 500 % 2 == 0 ? 80u : 30u)) {
      both->Allocate();
    } else {
      both->Free(rng->Below(size));
    }
  }
  both->Check();
}

TEST(KeysAreNeverIssuedTwiceAndStaleOnesAreRecognised) {
  Modelled both;
  Rng rng(1);
  for (int round = 0; round < 5; ++round) RunRandom(&both, &rng, 2000);
  CHECK(both.items.num_slots() > ItemStore::kPageSize);
}

TEST(KeysOfNoSlotAreStale) {
  Store items;
  CHECK_EQ(items.Find(Key(1, 0)), kNoSlot);
  items.Allocate();
  for (const std::uint64_t key : {Key(0, 0), Key(2, 0), Key(3, 0), Key(1, 1), Key(1, kNoSlot)}) {
    CHECK_EQ(items.Find(key), kNoSlot);
  }
  items.Free(0);
  CHECK_EQ(items.Find(Key(2, 0)), kNoSlot);  // the generation of a free slot is no key's
}

TEST(TheSlotFreedLastIsUsedFirst) {
  Store items;
  for (int i = 0; i < 5; ++i) items.Allocate();
  for (const std::uint32_t slot : {3u, 0u, 4u}) items.Free(slot);
  for (const std::uint32_t slot : {4u, 0u, 3u, 5u}) CHECK_EQ(items.Allocate(), slot);
}

TEST(ARestoredStoreIssuesTheSameKeys) {
  Modelled both;
  Rng rng(2);
  RunRandom(&both, &rng, 3000);
  Store restored;
  REQUIRE(Restore(&restored, both.live, FreeKeys(&both.items)) == -1);
  CHECK_EQ(restored.size(), both.items.size());
  CHECK_EQ(restored.num_slots(), both.items.num_slots());
  CHECK_EQ(FreeKeys(&restored), FreeKeys(&both.items));
  for (const std::uint64_t key : both.stale) CHECK_EQ(restored.Find(key), kNoSlot);
  for (int i = 0; i < 2000; ++i) {
    const std::uint64_t key = restored.key(restored.Allocate());
    CHECK(both.issued.count(key) == 0);
    CHECK_EQ(key, both.items.key(both.items.Allocate()));
  }
}

TEST(ASlotIsRetiredBeforeItsGenerationWraps) {
  for (const bool live : {true, false}) {
    Store items;
    if (live) {
      REQUIRE(Restore(&items, {Key(kLastLive, 0)}, {}) == -1);
    } else {
      REQUIRE(Restore(&items, {}, {Key(kLastLive - 2, 0)}) == -1);
      CHECK_EQ(items.key(items.Allocate()), Key(kLastLive, 0));
    }
    CHECK_EQ(items.Find(Key(kLastLive, 0)), 0u);
    items.Free(0);
    CHECK_EQ(items.Find(Key(kLastLive, 0)), kNoSlot);
    CHECK_EQ(FreeKeys(&items).size(), 0u);
    CHECK_EQ(items.size(), 0u);
    for (std::uint32_t slot = 1; slot < 5; ++slot) CHECK_EQ(items.Allocate(), slot);
  }
}

TEST(ARetiredSlotStaysRetiredAfterRestore) {
  Store items;
  REQUIRE(Restore(&items, {Key(kLastLive, 0), Key(1, 1)}, {}) == -1);
  items.Free(0);
  Store restored;
  REQUIRE(Restore(&restored, {Key(1, 1)}, FreeKeys(&items)) == -1);
  CHECK_EQ(restored.size(), 1u);
  for (std::uint32_t slot = 2; slot < 5; ++slot) CHECK_EQ(restored.Allocate(), slot);
}

TEST(MalformedKeysAreNamedByTheirIndex) {
  struct Case {
    std::vector<std::uint64_t> live, free;
    std::int64_t index;
  };
  const Case cases[] = {
      {{Key(1, 0), Key(1, 1)}, {Key(5, 2)}, -1},
      {{Key(1, 0), Key(2, 1)}, {}, 1},                     // an even generation
      {{Key(1, 0), Key(0, 1)}, {}, 1},                     //
      {{Key(1, 0)}, {Key(4, 1)}, 1},                       // counted after `live`
      {{Key(kLastLive, 0)}, {Key(kLastLive - 2, 1)}, -1},  // the last ones that can be
      {{Key(1, 0), Key(kLastLive + 2, 1)}, {}, 1},         // never issued
      {{Key(1, 0)}, {Key(kLastLive, 1)}, 1},               // would have been retired
      {{Key(1, 1), Key(1, 0), Key(1, 1)}, {}, 2},          // a slot twice
      {{Key(1, 1), Key(1, 0)}, {Key(3, 0)}, 2},            //
      {{Key(1, 1)}, {Key(3, 0), Key(5, 0)}, 2},            //
      {{Key(1, 0), Key(1, 1025)}, {}, -1},                 // within the margin of slots
      {{Key(1, 0), Key(1, 1026)}, {}, 1},                  // beyond it
      {{Key(1, 0), Key(1, 0xfffffffeu)}, {}, 1},           //
      {{Key(1, 0)}, {Key(1, kNoSlot)}, 1},                 //
      {{}, {}, -1},
  };
  for (const Case& c : cases) {
    Store items;
    CHECK_EQ(Restore(&items, c.live, c.free), c.index);
  }
}

TEST(ALazyColumnHoldsWhatAVectorWould) {
  for (const std::uint32_t values : {1u, 2u, 50u}) {
    Rng rng(values);
    Modelled both;
    std::vector<std::uint32_t> model(4000);
    for (int i = 0; i < 4000; ++i) {
      const auto size = static_cast<std::uint32_t>(both.live.size());
      if (size != 0 && rng.Below(4) == 0) {
        both.Free(rng.Below(size));
        continue;
      }
      const std::uint32_t value = 7 + rng.Below(values);
      both.items.Reserve(value, 0.5, false);
      const std::size_t used = both.items.arena->used_nbytes();
      both.Allocate();
      const auto slot = static_cast<std::uint32_t>(both.live.back());
      both.items.length.Set(slot, value, both.live.size() > 1);
      CHECK_EQ(both.items.arena->used_nbytes(), used);  // as room was made for it
      model[slot] = value;
    }
    for (const std::uint64_t key : both.live) {
      const auto slot = static_cast<std::uint32_t>(key);
      CHECK_EQ(both.items.length.Get(slot), model[slot]);
    }
    CHECK_EQ(both.items.length.uniform(), values == 1);
  }
}

TEST(TheOnlyItemMayChangeACommonValue) {
  Pages pages;
  LazyColumn<double> column(&pages.pool);
  column.Set(0, 1.0, false);
  column.Set(0, 2.0, false);
  CHECK(column.uniform());
  CHECK_EQ(column.Get(0), 2.0);
  CHECK_EQ(pages.arena->used_nbytes(), 0u);
  column.Set(1, 3.0, true);
  CHECK(!column.uniform());
  CHECK_EQ(column.Get(0), 2.0);
  CHECK_EQ(column.Get(1), 3.0);
}

TEST(TrajectoriesLeaveWithTheirItem) {
  Store items;
  CHECK(items.trajectory(5) == nullptr);
  items.Reserve(0, 1.0, true);
  const std::uint32_t slot = items.Allocate();
  const OwnTrajectory trajectory = Trajectory::New(items.arena.get(), 1, 1, 1);
  items.trajectories.Edit(slot) = trajectory.get();
  CHECK(items.trajectory(slot) == trajectory.get());
  const ItemStore::View view = items.Share();
  const std::uint64_t epoch = items.epochs.Share();
  items.Free(slot);
  CHECK(items.trajectory(slot) == nullptr);
  CHECK(view.trajectory(slot) == trajectory.get());
  items.Unshare(epoch);
}

TEST(AStoreThatFollowsAnotherIssuesNoneOfItsKeys) {
  Modelled both;
  Rng rng(3);
  RunRandom(&both, &rng, 3000);
  std::set<std::uint64_t> issued = both.issued;
  std::uint32_t generation = both.items.next_generation();
  CHECK(generation % 2 == 0 && generation > 2);
  for (int store = 0; store < 3; ++store) {
    Modelled next(generation);
    CHECK_EQ(next.items.first_generation(), generation);
    RunRandom(&next, &rng, 2000);
    for (const std::uint64_t key : next.issued) CHECK(issued.insert(key).second);
    CHECK(next.items.next_generation() > generation);
    generation = next.items.next_generation();
  }
  Store unused(10);
  CHECK_EQ(unused.next_generation(), 10u);
}

TEST(AViewHoldsTheItemsAsTheyWere) {
  Modelled both;
  Rng rng(4);
  const auto change = [&] {
    const auto slot = static_cast<std::uint32_t>(both.live[rng.Below(700)]);
    const double priority = rng.Below(9);
    both.items.priority.Set(slot, priority, true);
    both.items.length.Set(slot, 1 + rng.Below(2), true);
    both.items.Edit(slot).offset = rng.Below(1000);
  };
  for (int i = 0; i < 900; ++i) both.Allocate();
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 200; ++i) both.Free(rng.Below(500));
    for (int i = 0; i < 200 - round; ++i) both.Allocate();
    if (round != 0) {  // at first all lengths and priorities agree
      for (int i = 0; i < 500; ++i) change();
    }
    const std::uint64_t epoch = both.items.epochs.Share();
    const ItemStore::View view = both.items.Share();
    struct Then {
      Item item;
      std::uint32_t length;
      double priority;
    };
    std::vector<Then> then;
    for (std::uint32_t slot = 0; slot < both.items.num_slots(); ++slot) {
      then.push_back(
          {both.items.at(slot), both.items.length.Get(slot), both.items.priority.Get(slot)});
    }
    const std::vector<std::uint64_t> free_keys = FreeKeys(&both.items);
    for (int i = 0; i < 2000; ++i) change();
    for (int i = 0; i < 100; ++i) both.Free(0);
    for (int i = 0; i < 300; ++i) both.Allocate();
    for (std::uint32_t slot = 0; slot < then.size(); ++slot) {
      CHECK(std::memcmp(&view.items[slot], &then[slot].item, sizeof(Item)) == 0);
      CHECK_EQ(view.length.Get(slot), then[slot].length);
      CHECK_EQ(view.priority.Get(slot), then[slot].priority);
    }
    CHECK_EQ(view.FreeKeys(), free_keys);
    both.Check();
    both.items.Unshare(epoch);
  }
  while (!both.items.ClearSome(2)) {
  }
  CHECK_EQ(both.items.arena->used_nbytes(), 0u);
}

TEST(TheCheckSeesAKeyIssuedTwice) {
  CHECK(Fails([] {
    Modelled both;
    both.Allocate();
    both.issued.insert(Key(1, 1));  // as if the next one had been
    both.Allocate();
  }));
  CHECK(Fails([] {
    Modelled both;
    both.Allocate();
    both.stale.push_back(both.live[0]);
    both.Check();
  }));
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
