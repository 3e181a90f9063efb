#include "storage/paged_array.h"

#include <algorithm>
#include <deque>
#include <map>

#include "check.h"
#include "pages_scene.h"

namespace reverie_test {
namespace {

using Array = PagedArray<std::uint64_t>;
using View = PagedView<std::uint64_t>;
constexpr std::uint64_t kPerPage = Array::kPerPage;

// The values of the pages that are there, by number of the page.
using Values = std::map<std::uint64_t, std::vector<std::uint64_t>>;

template <typename From>
bool Holds(const From& from, const Values& values, std::uint64_t pages) {
  for (std::uint64_t page = 0; page < pages; ++page) {
    const auto wanted = values.find(page);
    const std::uint64_t* const found = from.Find(page * kPerPage);
    if (wanted == values.end()) {
      if (found != nullptr || from.Find(page * kPerPage + 7) != nullptr) return false;
      continue;
    }
    if (found == nullptr || !std::equal(wanted->second.begin(), wanted->second.end(), found)) {
      return false;
    }
    if (&from[page * kPerPage + 7] != found + 7) return false;
  }
  return true;
}

// An array, the same as plain values, and views of it with what they must hold.
struct Modelled {
  Pages pages;
  Array array{&pages.pool};
  Values model;
  std::uint64_t first = 0;  // pages before are gone for good
  std::uint64_t most = 1;   // pages that there ever were
  struct Shared {
    std::uint64_t epoch;
    View view;
    Values model;
  };
  std::deque<Shared> views;

  void Make(std::uint64_t page) {
    array.Make(page * kPerPage + 3);
    model.try_emplace(page, kPerPage);
    most = std::max(most, page + 1);
  }
  void Edit(std::uint64_t index, std::uint64_t value) {
    array.Edit(index) = value;
    model.at(index / kPerPage)[index % kPerPage] = value;
  }
  void DropBefore(std::uint64_t index) {
    array.DropBefore(index);
    model.erase(model.begin(), model.lower_bound(index / kPerPage));
    first = std::max(first, index / kPerPage);
  }
  void DropFrom(std::uint64_t index) {
    array.DropFrom(index);
    model.erase(model.lower_bound((index + kPerPage - 1) / kPerPage), model.end());
  }
  void Share() { views.push_back({pages.epochs.Share(), array.Share(), model}); }
  void Unshare(std::size_t which) {
    CHECK(Holds(views[which].view, views[which].model, most));
    pages.Unshare(views[which].epoch);
    views.erase(views.begin() + static_cast<std::ptrdiff_t>(which));
  }
  void Check() const {
    CHECK(Holds(array, model, most));
    for (const Shared& shared : views) CHECK(Holds(shared.view, shared.model, most));
  }
  std::size_t NumPages() const {  // in memory, the array's and those kept for views
    static const std::size_t one = [] {
      Pages alone;
      Array of_one(&alone.pool);
      of_one.Make(0);
      return alone.arena->used_nbytes();
    }();
    CHECK_EQ(pages.arena->used_nbytes() % one, 0u);
    return pages.arena->used_nbytes() / one;
  }
};

void RunRandom(Modelled* both, std::uint64_t seed, int operations) {
  Rng rng(seed);
  for (int i = 0; i < operations; ++i) {
    switch (rng.Below(12)) {
      case 0:
      case 1:
        both->Make(both->first + rng.Below(12));
        break;
      case 2:
        if (rng.Below(4) == 0) both->DropBefore(both->first * kPerPage + rng.Below(2 * kPerPage));
        break;
      case 3:
        if (rng.Below(4) == 0) {
          both->DropFrom((both->first + 1) * kPerPage + rng.Below(12 * kPerPage));
        }
        break;
      case 4:
        if (both->views.size() < 4) both->Share();
        break;
      case 5:
        if (!both->views.empty()) {
          both->Unshare(rng.Below(static_cast<std::uint32_t>(both->views.size())));
        }
        break;
      default:
        if (!both->model.empty()) {
          auto page = both->model.begin();
          std::advance(page, rng.Below(static_cast<std::uint32_t>(both->model.size())));
          both->Edit(page->first * kPerPage + rng.Below(kPerPage), rng.Next());
        }
    }
    if (i % 8 == 0) both->Check();
  }
}

TEST(AnArrayIsWhatPlainValuesWouldBeAndItsViewsStayAsTheyWere) {
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    Modelled both;
    RunRandom(&both, seed, 4000);
    while (!both.views.empty()) both.Unshare(0);
    CHECK_EQ(both.NumPages(), both.model.size());  // what only views had is gone
    both.Check();
    both.array.Clear();
    CHECK_EQ(both.pages.arena->used_nbytes(), 0u);
  }
}

TEST(APageIsCopiedOnceForEachView) {
  Modelled both;
  for (std::uint64_t page = 0; page < 5; ++page) both.Make(page);
  const std::uint64_t* const before = both.array.address(kPerPage);
  both.Edit(kPerPage, 1);
  CHECK(both.array.address(kPerPage) == before);  // nobody shares it
  both.Share();
  CHECK_EQ(both.NumPages(), 5u);
  CHECK(both.array.address(kPerPage) == before);
  both.Edit(kPerPage, 2);
  CHECK(both.array.address(kPerPage) != before);
  const std::uint64_t* const own = both.array.address(kPerPage);
  both.Edit(kPerPage + 1, 3);
  CHECK(both.array.address(kPerPage) == own);
  CHECK_EQ(both.NumPages(), 6u);
  CHECK(&both.views[0].view[kPerPage] == before);
  both.Share();
  both.Share();
  both.Edit(kPerPage, 4);
  CHECK_EQ(both.NumPages(), 7u);  // the two views share theirs
  both.Make(5);                   // which no view has
  both.Edit(5 * kPerPage, 1);
  CHECK_EQ(both.NumPages(), 8u);
  both.Check();
  both.Unshare(0);
  CHECK_EQ(both.NumPages(), 7u);
  both.Unshare(1);
  CHECK_EQ(both.NumPages(), 7u);
  both.Unshare(0);
  CHECK_EQ(both.NumPages(), 6u);
  const std::uint64_t* const last = both.array.address(0);
  both.Edit(0, 1);
  CHECK(both.array.address(0) == last);  // shared once, but by nobody any more
  both.Check();
}

TEST(APageThatIsDroppedLivesAsLongAsAViewHasIt) {
  Modelled both;
  for (std::uint64_t page = 0; page < 6; ++page) {
    both.Make(page);
    both.Edit(page * kPerPage + page, page);
  }
  both.DropBefore(kPerPage - 1);  // of the first page one value is left
  CHECK_EQ(both.NumPages(), 6u);
  both.DropBefore(kPerPage);
  both.DropFrom(5 * kPerPage + 1);
  CHECK_EQ(both.NumPages(), 5u);
  both.DropFrom(5 * kPerPage);
  CHECK_EQ(both.NumPages(), 4u);
  both.Share();
  both.DropBefore(3 * kPerPage);
  both.DropFrom(4 * kPerPage);
  CHECK_EQ(both.NumPages(), 4u);
  both.Make(4);  // a new one, of zeros
  CHECK_EQ(both.array[4 * kPerPage + 4], 0u);
  CHECK_EQ(both.NumPages(), 5u);
  both.array.Clear();
  both.model.clear();
  both.Check();
  CHECK_EQ(both.NumPages(), 4u);
  both.Unshare(0);
  CHECK_EQ(both.NumPages(), 0u);
}

TEST(ALaterViewDoesNotKeepWhatWasDroppedBefore) {
  Modelled both;
  both.Make(0);
  both.Share();
  both.DropFrom(0);
  both.Share();
  CHECK_EQ(both.NumPages(), 1u);
  both.Unshare(0);
  CHECK_EQ(both.NumPages(), 0u);
  both.Unshare(0);
}

// A reader, whose epoch is none of a view's, may be reading what a view kept.
TEST(WhatAViewKeptStaysWhileAReaderIsInside) {
  Modelled both;
  both.Make(0);
  both.Share();
  const std::uint64_t reader = both.pages.epochs.Enter();
  both.DropFrom(0);
  both.Unshare(0);
  CHECK_EQ(both.NumPages(), 1u);
  {
    Garbage garbage;
    both.pages.epochs.Leave(reader, &garbage);
  }
  CHECK_EQ(both.NumPages(), 0u);
}

TEST(PagesMayBeLeftOut) {
  Modelled both;
  for (const std::uint64_t page : {7u, 2u, 30u, 0u}) {
    both.Make(page);
    both.Check();
  }
  CHECK_EQ(both.NumPages(), 4u);
  CHECK_EQ(both.array.end(), 31 * kPerPage);
  CHECK(both.array.has(2 * kPerPage) && !both.array.has(3 * kPerPage));
  CHECK(both.array.Find(31 * kPerPage) == nullptr);
  CHECK(both.array.Find(~std::uint64_t{0}) == nullptr);
  both.Share();
  both.Make(3);
  both.DropBefore(3 * kPerPage);
  CHECK(both.array.Find(0) == nullptr);
  both.Check();
  both.Unshare(0);
  both.array.Clear();
}

TEST(AllPagesAreDroppedAFewAtATime) {
  for (const bool shared : {false, true}) {
    Modelled both;
    for (std::uint64_t page = 0; page < 20; page += 2) both.Make(page);
    if (shared) both.Share();
    CHECK(!both.array.ClearSome(7));
    CHECK(!both.array.ClearSome(7));
    CHECK(both.array.ClearSome(7));
    both.model.clear();
    both.Check();
    CHECK_EQ(both.NumPages(), shared ? 10u : 0u);
    if (shared) both.Unshare(0);
    CHECK_EQ(both.NumPages(), 0u);
  }
}

TEST(AnArrayThatMovesTakesItsPagesAlong) {
  Modelled both;
  both.Make(1);
  both.Edit(kPerPage, 5);
  Array other(std::move(both.array));
  CHECK(Holds(other, both.model, 3));
  both.array = std::move(other);
  both.Check();
}

TEST(ReservedCopiesAreTakenFirst) {
  Modelled both;
  for (std::uint64_t page = 0; page < 3; ++page) both.Make(page);
  both.pages.pool.ReserveCopies(3);
  CHECK_EQ(both.NumPages(), 3u);  // nothing will be copied
  both.Share();
  both.pages.pool.ReserveCopies(3);
  CHECK_EQ(both.NumPages(), 6u);
  both.pages.pool.ReserveCopies(2);
  for (std::uint64_t page = 0; page < 3; ++page) both.Edit(page * kPerPage, 1);
  CHECK_EQ(both.NumPages(), 6u);
  both.Check();
  both.Unshare(0);
  CHECK_EQ(both.NumPages(), 3u);
}

TEST(TheCheckSeesAValueThatChangesUnderAView) {
  const auto run = [](bool shares) {
    return Fails([shares] {
      Modelled both;
      both.Make(0);
      both.Edit(5, 1);
      both.Share();
      if (shares) {
        both.array.Edit(5) = 2;
      } else {
        *const_cast<std::uint64_t*>(both.array.address(5)) = 2;
      }
      both.model.at(0)[5] = 2;
      both.Check();
      both.Unshare(0);
    });
  };
  CHECK_EQ(run(true), 0);
  CHECK(run(false));
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
