#ifndef REVERIE_ITEMS_ITEM_STORE_H_
#define REVERIE_ITEMS_ITEM_STORE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "items/trajectory.h"
#include "storage/chunk_store.h"

namespace reverie {

// What a table keeps of each item: 20 bytes. Its length and priority stand in
// LazyColumns, which cost nothing while all items agree.
struct Item {
  std::uint32_t generation = 0;  // odd while the item is alive; see ItemStore
  std::int32_t times_sampled = 0;
  // Slot of its first step's chunk; kNoSlot of a trajectory; next free slot when dead.
  std::uint32_t chunk = kNoSlot;
  std::uint32_t offset = 0;  // of its first step in that chunk
  std::uint32_t order = 0;   // its place in the table's ItemOrder
};

// One value per slot, stored only once two slots have differed.
template <typename T>
class LazyColumn {
 public:
  T Get(std::uint32_t slot) const { return values_.empty() ? common_ : values_[slot]; }

  // `others`: whether any other slot is in use. `num_slots`: how many there are.
  void Set(std::uint32_t slot, T value, bool others, std::uint32_t num_slots) {
    if (values_.empty()) {
      if (!others || value == common_) {
        common_ = value;
        return;
      }
      values_.assign(num_slots, common_);
    }
    if (values_.size() < num_slots) values_.resize(num_slots, common_);
    values_[slot] = value;
  }

  // Makes room for Set() with the same arguments, which then cannot fail.
  void Reserve(T value, bool others, std::uint32_t num_slots) {
    if (values_.empty() && (!others || value == common_)) return;
    if (values_.capacity() >= num_slots) return;
    values_.reserve(std::max<std::size_t>(num_slots, 2 * values_.capacity()));
  }

  bool uniform() const { return values_.empty(); }
  const T* address(std::uint32_t slot) const { return values_.data() + slot; }

 private:
  T common_{};
  std::vector<T> values_;
};

// The items of one table, by slot, in pages that never move.
//
// A key is (generation << 32 | slot). A slot's generation rises by one when an
// item moves in and when it leaves, so no key is ever issued twice and a stale
// one is recognised by one comparison, without a hash map. A slot whose
// generation would wrap is retired: 20 bytes lost after two thousand million
// uses. Not thread-safe; O(1).
class ItemStore {
 public:
  static constexpr std::uint32_t kPageSize = 1024;

  // Makes room for one Allocate() and for its length and priority. Throws
  // std::bad_alloc with nothing changed, also where 2**32 - 1 slots are in use.
  void Reserve(std::uint32_t item_length, double item_priority);
  // The same for an item that is a trajectory.
  void ReserveTrajectory();

  // A slot for a new item, with its generation set. Throws as Reserve().
  std::uint32_t Allocate();
  void Free(std::uint32_t slot);

  // The slot of a live key, else kNoSlot.
  std::uint32_t Find(std::uint64_t key) const;

  std::uint64_t key(std::uint32_t slot) const {
    return (std::uint64_t{at(slot).generation} << 32) | slot;
  }
  Item& at(std::uint32_t slot) { return pages_[slot / kPageSize][slot % kPageSize]; }
  const Item& at(std::uint32_t slot) const { return pages_[slot / kPageSize][slot % kPageSize]; }

  std::uint32_t size() const { return size_; }
  std::uint32_t num_slots() const { return num_slots_; }

  // Keys last used in the free slots, next to be used last.
  std::vector<std::uint64_t> FreeKeys() const;

  // Rebuilds an empty store so that `live` keys are alive and the next slots
  // used are `free`'s, from its end. Returns the index of the first key that is
  // malformed or repeats a slot, counting through `live` and then `free`; -1 if
  // all is well. Slots named by neither stay unused: they may have been retired.
  std::int64_t Restore(const std::uint64_t* live, std::size_t num_live, const std::uint64_t* free,
                       std::size_t num_free);

  LazyColumn<std::uint32_t> length;
  LazyColumn<double> priority;
  // By slot; empty until the first item that is a trajectory. Shared with whom they are
  // being copied for.
  std::vector<std::shared_ptr<const Trajectory>> trajectories;

  // Null for an item that is a run of whole steps.
  const Trajectory* trajectory(std::uint32_t slot) const {
    return slot < trajectories.size() ? trajectories[slot].get() : nullptr;
  }
  std::shared_ptr<const Trajectory> share(std::uint32_t slot) const {
    return slot < trajectories.size() ? trajectories[slot] : nullptr;
  }

 private:
  void ReserveSlots(std::uint32_t num_slots);

  std::vector<std::unique_ptr<Item[]>> pages_;
  std::uint32_t num_slots_ = 0;
  std::uint32_t size_ = 0;
  std::uint32_t free_head_ = kNoSlot;
};

}  // namespace reverie

#endif  // REVERIE_ITEMS_ITEM_STORE_H_
