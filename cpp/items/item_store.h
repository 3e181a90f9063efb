#ifndef REVERIE_ITEMS_ITEM_STORE_H_
#define REVERIE_ITEMS_ITEM_STORE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "items/trajectory.h"
#include "storage/chunk.h"
#include "storage/large_vector.h"
#include "storage/paged_array.h"

namespace reverie {

// What a table keeps of each item: 16 bytes. Its length and priority stand in
// LazyColumns, which cost nothing while all items agree.
struct Item {
  std::uint32_t generation;  // odd while the item is alive; see ItemStore
  std::int32_t times_sampled;
  // Slot of its first step's chunk; kNoSlot of a trajectory; next free slot when dead.
  std::uint32_t chunk;
  std::uint32_t offset;  // of its first step in that chunk
};

// One value per slot, stored only where two slots have differed.
template <typename T>
class LazyColumn {
 public:
  explicit LazyColumn(PagePool* pool) : values_(pool) {}

  T Get(std::uint32_t slot) const {
    if (uniform_) return common_;
    const T* const value = values_.Find(slot);
    return value == nullptr ? common_ : *value;
  }

  const T* address(std::uint32_t slot) const { return values_.Find(slot); }  // or null

  // Those of n slots from the first one on, which is a multiple of n; n is a power of 2 and at
  // most a page.
  void GetRun(std::uint32_t first, std::size_t n, T* values) const {
    const T* const stored = uniform_ ? nullptr : values_.Find(first);
    if (stored == nullptr) {
      std::fill_n(values, n, common_);
    } else {
      std::copy_n(stored, n, values);
    }
  }

  // Makes room for Set() with the same arguments, which then cannot fail. `others`:
  // whether any other slot is in use.
  void Reserve(std::uint32_t slot, T value, bool others) {
    if (uniform_ && (!others || value == common_)) return;
    if (value == common_ && !values_.has(slot)) return;
    MakePage(slot);
    values_.Own(slot);
  }

  void Set(std::uint32_t slot, T value, bool others) {
    if (uniform_ && !others) common_ = value;
    if (value == common_ && (uniform_ || !values_.has(slot))) return;
    uniform_ = false;
    MakePage(slot);
    values_.Edit(slot) = value;
  }

  bool uniform() const { return uniform_; }

  class View {
   public:
    T Get(std::uint64_t slot) const {
      const T* const value = values_.Find(slot);
      return value == nullptr ? common_ : *value;
    }

   private:
    friend class LazyColumn;
    T common_{};
    PagedView<T> values_;
  };
  View Share() {
    View view;
    view.common_ = common_;
    view.values_ = values_.Share();
    return view;
  }
  bool ClearSome(std::size_t n) noexcept { return values_.ClearSome(n); }

 private:
  // All slots of a new page have had the common value.
  void MakePage(std::uint32_t slot) {
    if (values_.has(slot)) return;
    values_.Make(slot);
    constexpr std::uint32_t kPerPage = PagedArray<T>::kPerPage;
    T* const page = &values_.Edit(slot / kPerPage * kPerPage);
    for (std::uint32_t i = 0; i < kPerPage; ++i) page[i] = common_;
  }

  bool uniform_ = true;  // there are no pages
  T common_{};
  PagedArray<T> values_;
};

// The items of one table, by slot, in pages that never move.
//
// A key is (generation << 32 | slot). A slot's generation rises by one when an
// item moves in and when it leaves, so no key is ever issued twice and a stale
// one is recognised by one comparison, without a hash map. A slot whose
// generation would wrap is retired: 16 bytes lost after two thousand million
// uses.
//
// The slot that was freed last is used first. Behind those that are free by themselves
// come all that are free without a name, from the cursor up: they have the first
// generation, and their pages need not be there.
//
//   slots   0  1  2  3  4  5  6  7  8 ...       free by name: 4, then 1
//           L  f  L  .  f  L  L  .  . ...       then from the cursor up: 3, 7, 8, ...
//
// When most slots are free by name they are made nameless, with a generation that is
// beyond all others, and pages without an item go. So a table that was large once costs
// what it holds, and so does its checkpoint.
//
// Not thread-safe; O(1), amortised.
class ItemStore {
 public:
  static constexpr std::uint32_t kPageSize = PagedArray<Item>::kPerPage;
  // The last one that slots can begin with: they are used once, and retired.
  static constexpr std::uint32_t kLastFirst = 0xfffffffcu;

  // Slots that no item was in yet begin with `generation`, an even number up to kLastFirst.
  explicit ItemStore(PagePool* pool, std::uint32_t generation = 0)
      : length(pool),
        priority(pool),
        trajectories(pool),
        pool_(pool),
        items_(pool),
        first_generation_(generation),
        highest_(generation) {}

  // Makes room for one Allocate() and for its length and priority, and for one Free() of
  // another item. Throws std::bad_alloc with nothing changed, also where 2**32 - 1 slots
  // are in use.
  void Reserve(std::uint32_t item_length, double item_priority, bool is_trajectory);

  // The slot that the next Allocate() will take; kNoSlot: there is none left.
  std::uint32_t next_slot() const;
  // A slot for a new item, with its generation set. Throws as Reserve().
  std::uint32_t Allocate();
  // Makes room for Free() of this slot. Throws std::bad_alloc.
  void Own(std::uint32_t slot) {
    items_.Own(slot);
    if (trajectories.has(slot)) trajectories.Own(slot);
  }
  // Its trajectory is no longer its own.
  void Free(std::uint32_t slot);
  // To be called now and then after Free(): makes free slots nameless where they have
  // become too many. For want of memory that is put off.
  void Tidy() noexcept {
    if (num_free_ > size_ + kFewFree) ForgetFree();
  }

  // The slot of a live key, else kNoSlot.
  std::uint32_t Find(std::uint64_t key) const;

  std::uint64_t key(std::uint32_t slot) const { return KeyOf(at(slot), slot); }
  static std::uint64_t KeyOf(const Item& item, std::uint32_t slot) {
    return (std::uint64_t{item.generation} << 32) | slot;
  }
  // To be changed: throws std::bad_alloc unless the slot is owned or room was reserved.
  Item& Edit(std::uint32_t slot) { return items_.Edit(slot); }
  const Item& at(std::uint32_t slot) const { return items_[slot]; }
  const Item* address(std::uint32_t slot) const { return items_.Find(slot); }  // null: no page

  std::uint32_t size() const { return size_; }
  std::uint32_t num_slots() const { return num_slots_; }
  std::uint32_t first_generation() const { return first_generation_; }
  // Of a store that is to follow this one and issue none of its keys again. Beyond
  // kLastFirst: there can be none.
  std::uint32_t next_generation() const { return (highest_ + 1) & ~1u; }

  // Rebuilds an empty store so that `live` keys are alive, the next slots used are
  // `free`'s, from its end, and then those from `cursor` up that neither names; kNoSlot:
  // from beyond the highest slot. Returns the index of the first key that is malformed or
  // repeats a slot, counting through `live` and then `free`; -1 if all is well. Slots below
  // the cursor that nobody names stay unused: they may have been retired. O(keys), and 8
  // bytes for each page of slots up to the highest.
  std::int64_t Restore(const std::uint64_t* live, std::size_t num_live, const std::uint64_t* free,
                       std::size_t num_free, std::uint32_t cursor = kNoSlot);

  LazyColumn<std::uint32_t> length;
  LazyColumn<double> priority;
  PagedArray<Trajectory*> trajectories;  // by slot; no pages where there are none

  // Null for an item that is a run of whole steps.
  Trajectory* trajectory(std::uint32_t slot) const {
    Trajectory* const* const found = trajectories.Find(slot);
    return found == nullptr ? nullptr : *found;
  }

  // All items as they are now. O(pages).
  struct View {
    PagedView<Item> items;
    LazyColumn<std::uint32_t>::View length;
    LazyColumn<double>::View priority;
    PagedView<Trajectory*> trajectories;
    std::uint32_t free_head = kNoSlot;
    std::uint32_t cursor = 0;

    const Trajectory* trajectory(std::uint32_t slot) const {
      Trajectory* const* const found = trajectories.Find(slot);
      return found == nullptr ? nullptr : *found;
    }
    // Keys last used in the free slots, next to be used last.
    LargeVector<std::uint64_t> FreeKeys() const;
  };
  View Share() {
    return {items_.Share(),       length.Share(), priority.Share(),
            trajectories.Share(), free_head_,     cursor_};
  }

  // Drops all pages, at most n of them; true: there are none left. Of no more use then.
  bool ClearSome(std::size_t n) noexcept {
    return items_.ClearSome(n) && length.ClearSome(n) && priority.ClearSome(n) &&
           trajectories.ClearSome(n);
  }

 private:
  static constexpr std::uint32_t kFewFree = 4096;

  void MakePage(std::uint32_t slot);
  void ForgetFree() noexcept;

  PagePool* pool_;
  PagedArray<Item> items_;
  std::uint32_t first_generation_;
  std::uint32_t highest_;        // generation of any slot, but of retired ones
  std::uint32_t num_slots_ = 0;  // beyond the highest one in use
  std::uint32_t size_ = 0;
  std::uint32_t free_head_ = kNoSlot;
  std::uint32_t num_free_ = 0;               // by name
  mutable std::uint32_t cursor_ = 0;         // no slot below is free without a name
  std::vector<std::uint16_t> used_in_page_;  // slots that are alive or retired
};

}  // namespace reverie

#endif  // REVERIE_ITEMS_ITEM_STORE_H_
