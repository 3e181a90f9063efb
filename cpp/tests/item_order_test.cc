#include "items/item_order.h"

#include <algorithm>
#include <map>

#include "check.h"

namespace reverie_test {
namespace {

enum class Erases { kOldest, kNewest, kAny };

// An ItemOrder, each slot's place as a table keeps it, and what it should hold.
struct Modelled {
  ItemOrder order;
  std::map<std::uint32_t, std::uint32_t> place;
  std::vector<std::uint32_t> model;
  std::uint32_t next_slot = 0;
  int packs = 0;

  void Push() {
    model.push_back(next_slot);
    place[next_slot] = order.PushBack(next_slot);
    ++next_slot;
  }
  void Erase(std::size_t index) {
    const std::uint32_t slot = model[index];
    model.erase(model.begin() + static_cast<std::ptrdiff_t>(index));
    const std::uint32_t at = place[slot];
    place.erase(slot);
    std::size_t moves = 0;
    order.Erase(at, [&](std::uint32_t moved, std::uint32_t to) {
      CHECK_EQ(place.count(moved), 1u);
      place[moved] = to;
      ++moves;
    });
    if (moves != 0) {
      ++packs;
      CHECK_EQ(moves, model.size());  // every item is told its new place
      CHECK_EQ(order.span(), model.size());
    }
  }
  void Pack() {
    order.Pack([&](std::uint32_t moved, std::uint32_t to) { place[moved] = to; });
  }
  void Check() const {
    std::vector<std::uint32_t> found;
    for (std::uint64_t i = 0; i < order.span(); ++i) {
      if (order[i] != kNoSlot) found.push_back(order[i]);
    }
    CHECK_EQ(found, model);
    CheckBounds();
  }
  void CheckBounds() const {
    CHECK_EQ(order.size(), model.size());
    CHECK(order.span() <= 2 * model.size() + 64);
    if (model.empty()) {
      CHECK_EQ(order.span(), 0u);
    } else {
      CHECK_EQ(order[0], model.front());  // no holes at the ends
      CHECK_EQ(order[order.span() - 1], model.back());
    }
  }
};

void RunRandom(Erases erases, std::uint64_t seed, Modelled* both) {
  Rng rng(seed);
  for (int round = 0; round < 12; ++round) {
    const std::uint32_t pushes = round % 2 == 0 ? 70 : 30;  // of a hundred: grow, then shrink
    for (int i = 0; i < 700; ++i) {
      const auto size = static_cast<std::uint32_t>(both->model.size());
      if (size == 0 || rng.Below(100) < pushes) {
        both->Push();
      } else {
        both->Erase(erases == Erases::kOldest   ? 0
                    : erases == Erases::kNewest ? size - 1
                                                : rng.Below(size));
      }
      both->CheckBounds();
    }
    both->Check();
  }
  while (!both->model.empty())
    both->Erase(rng.Below(static_cast<std::uint32_t>(both->model.size())));
  both->Check();
}

TEST(RandomErasesLeaveTheOrderOfInsertion) {
  Modelled both;
  RunRandom(Erases::kAny, 1, &both);
  CHECK(both.packs > 3);
}

TEST(AQueueIsNeverPacked) {
  Modelled both;
  RunRandom(Erases::kOldest, 2, &both);
  for (int i = 0; i < 5000; ++i) {  // over several pages, never more than a few items
    both.Push();
    if (both.model.size() > 3) both.Erase(0);
  }
  both.Check();
}

TEST(AStackBreathesAcrossPages) {
  Modelled both;
  RunRandom(Erases::kNewest, 3, &both);
  for (int i = 0; i < 3000; ++i) both.Push();
  for (int breath = 0; breath < 4; ++breath) {
    for (int i = 0; i < 2500; ++i) both.Erase(both.model.size() - 1);
    both.Check();
    for (int i = 0; i < 2500; ++i) both.Push();
    both.Check();
  }
}

TEST(HolesInTheMiddleArePacked) {
  Modelled both;
  for (int i = 0; i < 4000; ++i) both.Push();
  for (int i = 0; i < 3000; ++i) both.Erase(1);  // the oldest stays and keeps the holes
  both.Check();
  CHECK(both.packs >= 1);
}

TEST(PackClosesAllHolesAndTellsTheNewPlaces) {
  Modelled both;
  both.Pack();  // of nothing
  for (int i = 0; i < 3000; ++i) both.Push();
  both.Pack();
  for (int i = 0; i < 900; ++i) both.Erase(1 + static_cast<std::size_t>(i) * 2);
  CHECK(both.order.span() > both.order.size());
  both.Pack();
  CHECK_EQ(both.order.span(), both.order.size());
  both.Check();
  RunRandom(Erases::kAny, 5, &both);
}

TEST(ClearStartsAgain) {
  Modelled both;
  for (int i = 0; i < 3000; ++i) both.Push();
  both.order.Clear();
  both.model.clear();
  both.place.clear();
  both.Check();
  RunRandom(Erases::kAny, 4, &both);
}

TEST(ReserveChangesNothing) {
  Modelled both;
  for (int i = 0; i < 3000; ++i) {
    both.order.Reserve();
    both.order.Reserve();
    both.Push();
  }
  both.Check();
}

TEST(TheCheckSeesAWrongModel) {
  CHECK(Fails([] {
    Modelled both;
    for (int i = 0; i < 10; ++i) both.Push();
    std::swap(both.model[3], both.model[4]);
    both.Check();
  }));
  CHECK(Fails([] {
    Modelled both;
    for (int i = 0; i < 10; ++i) both.Push();
    both.model.pop_back();
    both.Check();
  }));
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
