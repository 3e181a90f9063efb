#include "items/item_store.h"

#include <set>

#include "check.h"

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

// A store, its live keys and all keys that it ever issued.
struct Modelled {
  ItemStore items;
  std::vector<std::uint64_t> live;
  std::vector<std::uint64_t> stale;
  std::set<std::uint64_t> issued;

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
  void Check() const {
    CHECK_EQ(items.size(), live.size());
    for (const std::uint64_t key : live) CHECK_EQ(items.Find(key), static_cast<std::uint32_t>(key));
    for (const std::uint64_t key : stale) CHECK_EQ(items.Find(key), kNoSlot);
    CHECK_EQ(items.FreeKeys().size() + live.size(), items.num_slots());
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
  ItemStore items;
  CHECK_EQ(items.Find(Key(1, 0)), kNoSlot);
  items.Allocate();
  for (const std::uint64_t key : {Key(0, 0), Key(2, 0), Key(3, 0), Key(1, 1), Key(1, kNoSlot)}) {
    CHECK_EQ(items.Find(key), kNoSlot);
  }
  items.Free(0);
  CHECK_EQ(items.Find(Key(2, 0)), kNoSlot);  // the generation of a free slot is no key's
}

TEST(TheSlotFreedLastIsUsedFirst) {
  ItemStore items;
  for (int i = 0; i < 5; ++i) items.Allocate();
  for (const std::uint32_t slot : {3u, 0u, 4u}) items.Free(slot);
  for (const std::uint32_t slot : {4u, 0u, 3u, 5u}) CHECK_EQ(items.Allocate(), slot);
}

TEST(ARestoredStoreIssuesTheSameKeys) {
  Modelled both;
  Rng rng(2);
  RunRandom(&both, &rng, 3000);
  ItemStore restored;
  REQUIRE(Restore(&restored, both.live, both.items.FreeKeys()) == -1);
  CHECK_EQ(restored.size(), both.items.size());
  CHECK_EQ(restored.num_slots(), both.items.num_slots());
  CHECK_EQ(restored.FreeKeys(), both.items.FreeKeys());
  for (const std::uint64_t key : both.stale) CHECK_EQ(restored.Find(key), kNoSlot);
  for (int i = 0; i < 2000; ++i) {
    const std::uint64_t key = restored.key(restored.Allocate());
    CHECK(both.issued.count(key) == 0);
    CHECK_EQ(key, both.items.key(both.items.Allocate()));
  }
}

TEST(ASlotIsRetiredBeforeItsGenerationWraps) {
  for (const bool live : {true, false}) {
    ItemStore items;
    if (live) {
      REQUIRE(Restore(&items, {Key(kLastLive, 0)}, {}) == -1);
    } else {
      REQUIRE(Restore(&items, {}, {Key(kLastLive - 2, 0)}) == -1);
      CHECK_EQ(items.key(items.Allocate()), Key(kLastLive, 0));
    }
    CHECK_EQ(items.Find(Key(kLastLive, 0)), 0u);
    items.Free(0);
    CHECK_EQ(items.Find(Key(kLastLive, 0)), kNoSlot);
    CHECK_EQ(items.FreeKeys().size(), 0u);
    CHECK_EQ(items.size(), 0u);
    for (std::uint32_t slot = 1; slot < 5; ++slot) CHECK_EQ(items.Allocate(), slot);
  }
}

TEST(ARetiredSlotStaysRetiredAfterRestore) {
  ItemStore items;
  REQUIRE(Restore(&items, {Key(kLastLive, 0), Key(1, 1)}, {}) == -1);
  items.Free(0);
  ItemStore restored;
  REQUIRE(Restore(&restored, {Key(1, 1)}, items.FreeKeys()) == -1);
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
    ItemStore items;
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
      both.items.Reserve(value, 0.5);
      both.Allocate();
      const auto slot = static_cast<std::uint32_t>(both.live.back());
      both.items.length.Set(slot, value, both.live.size() > 1, both.items.num_slots());
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
  LazyColumn<double> column;
  column.Set(0, 1.0, false, 1);
  column.Set(0, 2.0, false, 1);
  CHECK(column.uniform());
  CHECK_EQ(column.Get(0), 2.0);
  column.Set(1, 3.0, true, 2);
  CHECK(!column.uniform());
  CHECK_EQ(column.Get(0), 2.0);
  CHECK_EQ(column.Get(1), 3.0);
}

TEST(TrajectoriesLeaveWithTheirItem) {
  ItemStore items;
  items.ReserveTrajectory();
  const std::uint32_t slot = items.Allocate();
  const auto trajectory = std::make_shared<Trajectory>();
  items.trajectories[slot] = trajectory;
  CHECK(items.share(slot) == trajectory);
  items.Free(slot);
  CHECK(items.trajectory(slot) == nullptr);
  CHECK_EQ(trajectory.use_count(), 1);
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
