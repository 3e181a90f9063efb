#include "items/item_order.h"

#include <algorithm>

#include "check.h"
#include "pages_scene.h"

namespace reverie_test {
namespace {

enum class Erases { kOldest, kNewest, kAny };

template <typename Order>
std::vector<std::uint32_t> Items(const Order& order) {
  std::vector<std::uint32_t> items;
  for (std::uint64_t i = 0; i < order.span(); ++i) {
    if (order[i] != kNoSlot) items.push_back(order[i]);
  }
  return items;
}

// An ItemOrder, and what it should hold. Slots are handed out as a table does: the one
// that was left last comes first.
struct Modelled {
  Pages pages;
  std::uint32_t ring;
  ItemOrder order;
  std::vector<std::uint32_t> model;
  std::vector<std::uint32_t> free;
  std::uint32_t num_slots = 0;
  bool implicit;
  int packs = 0;

  explicit Modelled(std::uint32_t ring_of = 0)
      : ring(ring_of), order(&pages.pool, ring_of), implicit(ring_of != 0) {}

  std::uint32_t NextSlot() const { return free.empty() ? num_slots : free.back(); }
  void Push() {
    const std::uint32_t slot = NextSlot();
    if (free.empty()) {
      ++num_slots;
    } else {
      free.pop_back();
    }
    implicit =
        implicit && slot < ring && (model.empty() || slot == (model.front() + model.size()) % ring);
    model.push_back(slot);
    order.Reserve(slot);
    if (!order.implicit()) pages.pool.ReserveCopies(16);
    const std::size_t used = pages.arena->used_nbytes();
    order.PushBack(slot);
    CHECK_EQ(pages.arena->used_nbytes(), used);  // as room was made for it
  }
  void Erase(std::size_t index) {
    const std::uint32_t slot = model[index];
    const bool inside = index != 0 && index + 1 != model.size();
    implicit = implicit && !inside;
    model.erase(model.begin() + static_cast<std::ptrdiff_t>(index));
    const std::uint64_t span = order.span();
    if (slot % 2 == 0) order.ReserveErase(slot);
    order.Erase(slot);
    free.push_back(slot);
    if (inside && order.span() < span) {  // holes inside stay until all of them are closed
      ++packs;
      CHECK_EQ(order.span(), model.size());
    }
  }
  void Check() const {
    CHECK_EQ(Items(order), model);
    CheckBounds();
  }
  void CheckBounds() const {
    CHECK_EQ(order.size(), model.size());
    CHECK_EQ(order.implicit(), implicit);
    CHECK(order.span() <= 2 * model.size() + 64);
    if (implicit) CHECK_EQ(order.span(), model.size());
    if (implicit) CHECK_EQ(pages.arena->used_nbytes(), 0u);
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
  for (const std::uint32_t ring : {0u, 1u, 30u, 20000u}) {
    Modelled both(ring);
    RunRandom(Erases::kAny, 1, &both);
    CHECK(both.packs > 3);
    CHECK(!both.implicit);
  }
}

TEST(AQueueIsNeverPacked) {
  Modelled both;
  RunRandom(Erases::kOldest, 2, &both);
  both.packs = 0;
  for (int i = 0; i < 5000; ++i) {  // over several pages, never more than a few items
    both.Push();
    if (both.model.size() > 3) both.Erase(0);
  }
  both.Check();
  CHECK_EQ(both.packs, 0);
  CHECK(both.pages.arena->used_nbytes() < 6 * 4300);  // the rest is dropped
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

// Also while the places that change are shared.
TEST(PackingKeepsThePlaceOfEveryItem) {
  for (const bool shared : {false, true}) {
    Modelled both;
    for (int i = 0; i < 3000; ++i) both.Push();
    const std::uint64_t epoch = both.pages.epochs.Share();
    const std::vector<std::uint32_t> then = both.model;
    const ItemOrder::View view = both.order.Share();
    if (!shared) both.pages.Unshare(epoch);
    for (int i = 0; i < 900; ++i) both.Erase(1 + static_cast<std::size_t>(i) * 2);
    CHECK(both.order.span() > both.order.size());
    CHECK_EQ(both.packs, 0);
    while (both.packs == 0) both.Erase(1);
    both.Check();
    RunRandom(Erases::kAny, 5, &both);
    if (!shared) continue;
    CHECK_EQ(Items(view), then);
    both.pages.Unshare(epoch);
  }
}

// A table that removes first in, first out takes no memory for its order.
TEST(ARingIsImplicitWhateverItsItemsAreCalled) {
  for (const std::uint32_t max_size : {1u, 2u, 39u}) {
    Modelled both(max_size + 1);
    for (int i = 0; i < 500; ++i) {
      both.Push();
      if (both.model.size() > max_size) both.Erase(0);
      both.Check();
    }
    while (!both.model.empty()) both.Erase(both.model.size() - 1);  // as a table is cleared
    for (int i = 0; i < 500; ++i) {
      both.Push();
      if (both.model.size() > max_size) both.Erase(0);
      both.Check();
    }
    CHECK(both.order.implicit());
  }
}

TEST(AStackInARingIsImplicit) {
  Modelled both(50);
  Rng rng(1);
  for (int i = 0; i < 2000; ++i) {
    if (both.model.empty() || (both.model.size() < 50 && rng.Below(2) == 0)) {
      both.Push();
    } else {
      both.Erase(both.model.size() - 1);
    }
    both.CheckBounds();
  }
  both.Check();
  CHECK(both.order.implicit());
}

TEST(AnOrderThatIsNoRingAnyMoreGoesOnExplicitly) {
  // An item from within leaves; or a slot comes out of turn; or one beyond the ring.
  for (const int how : {0, 1, 2}) {
    for (const std::uint32_t before : {3u, 25u, 3000u}) {
      Modelled both(how == 2 ? before : before + 40);
      for (std::uint32_t i = 0; i < before; ++i) both.Push();
      CHECK(both.order.implicit());
      if (how == 0) both.Erase(1);
      if (how == 1) both.Erase(0);
      both.Check();
      both.Push();
      CHECK(!both.order.implicit());
      both.Check();
      RunRandom(Erases::kAny, before, &both);
    }
  }
  Modelled holes(20);
  for (int i = 0; i < 5; ++i) holes.Push();
  holes.order.PushHole();
  holes.implicit = false;
  holes.Push();
  CHECK_EQ(holes.order.span(), 7u);
  CHECK_EQ(holes.order[5], kNoSlot);
  holes.Check();
}

TEST(RoomForAnEraseMayEndARing) {
  Modelled both(20);
  for (int i = 0; i < 9; ++i) both.Push();
  for (const std::uint32_t slot : {0u, 8u}) both.order.ReserveErase(slot);
  both.Check();
  both.order.ReserveErase(4);
  both.implicit = false;
  both.Check();
}

TEST(AViewIsTheOrderAsItWas) {
  for (const std::uint32_t ring : {0u, 1401u, 40000u}) {
    for (const Erases erases : {Erases::kOldest, Erases::kAny}) {
      Modelled both(ring);
      Rng rng(ring);
      struct Then {
        ItemOrder::View view;
        std::vector<std::uint32_t> places;
        std::vector<std::uint32_t> items;
        std::uint64_t epoch;
      };
      const auto check_and_drop = [&](const Then& then) {
        CHECK_EQ(then.view.size(), then.items.size());
        CHECK_EQ(Items(then.view), then.items);
        REQUIRE(then.view.span() == then.places.size());
        for (std::uint64_t p = 0; p < then.places.size(); ++p) {
          CHECK_EQ(then.view[p], then.places[p]);  // the holes are where they were, too
        }
        both.pages.Unshare(then.epoch);
      };
      std::vector<Then> all;
      int of_rings = 0;
      for (int i = 0; i < 12000; ++i) {
        const auto size = static_cast<std::uint32_t>(both.model.size());
        const std::uint32_t limit = i % 6000 < 4000 ? 1400 : 30;  // it grows, then shrinks
        if (size <= limit) both.Push();
        if (size >= limit) both.Erase(erases == Erases::kOldest ? 0 : rng.Below(size));
        if (i % 1000 != 999) continue;
        Then then{both.order.Share(), {}, both.model, both.pages.epochs.Share()};
        for (std::uint64_t p = 0; p < both.order.span(); ++p) then.places.push_back(both.order[p]);
        of_rings += both.order.implicit();
        all.push_back(std::move(then));
        if (all.size() <= 3) continue;
        check_and_drop(all.front());
        all.erase(all.begin());
      }
      both.Check();
      for (const Then& then : all) check_and_drop(then);
      CHECK_EQ(of_rings > 3, ring == 1401 && erases == Erases::kOldest);
    }
  }
}

TEST(AllPagesAreDroppedAFewAtATime) {
  Modelled both;
  for (int i = 0; i < 30000; ++i) both.Push();
  int calls = 1;
  while (!both.order.ClearSome(5)) ++calls;
  CHECK(calls > 8);
  CHECK_EQ(both.pages.arena->used_nbytes(), 0u);
}

TEST(ReserveChangesNothing) {
  for (const std::uint32_t ring : {0u, 2000u}) {
    Modelled both(ring);
    for (int i = 0; i < 3000; ++i) {
      both.order.Reserve(both.NextSlot());
      both.order.Reserve(both.NextSlot());
      if (both.NextSlot() < ring) CHECK(both.order.implicit());
      both.Push();
    }
    both.Check();
  }
}

TEST(TheCheckSeesAWrongModel) {
  for (const std::uint32_t ring : {0u, 20u}) {
    const auto check = [ring](void (*damage)(Modelled*)) {
      return Fails([&] {
        Modelled both(ring);
        for (int i = 0; i < 10; ++i) both.Push();
        damage(&both);
        both.Check();
      });
    };
    CHECK_EQ(check([](Modelled*) {}), 0);
    CHECK(check([](Modelled* both) { std::swap(both->model[3], both->model[4]); }));
    CHECK(check([](Modelled* both) { both->model.pop_back(); }));
    CHECK(check([](Modelled* both) { both->implicit = !both->implicit; }));
  }
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
