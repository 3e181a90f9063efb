#include "items/item_store.h"

#include <algorithm>
#include <new>

namespace reverie {
namespace {

// Of a retired slot: the next item would take the last odd generation, and the
// one after it the first again.
constexpr std::uint32_t kRetired = 0xfffffffeu;

}  // namespace

// Room for slots up to `num_slots` - 1, whose items are as before the first use.
void ItemStore::ReserveSlots(std::uint32_t num_slots) {
  if (num_slots == 0) return;
  for (std::uint32_t slot = num_slots_; slot < num_slots; ++slot) {
    items_.Make(slot);
    items_.Edit(slot) = {first_generation_, 0, kNoSlot, 0};
  }
}

void ItemStore::Reserve(std::uint32_t item_length, double item_priority, bool is_trajectory) {
  if (free_head_ == kNoSlot && num_slots_ == kNoSlot) throw std::bad_alloc();
  pool_->ReserveCopies(8);  // of the new item's pages and of the next victim's
  const std::uint32_t slot = next_slot();
  if (free_head_ == kNoSlot) ReserveSlots(num_slots_ + 1);
  items_.Own(slot);
  length.Reserve(slot, item_length, size_ != 0);
  priority.Reserve(slot, item_priority, size_ != 0);
  if (!is_trajectory) return;
  trajectories.Make(slot);
  trajectories.Own(slot);
}

std::uint32_t ItemStore::Allocate() {
  std::uint32_t slot = free_head_;
  if (slot != kNoSlot) {
    Item& item = items_.Edit(slot);
    free_head_ = item.chunk;
  } else {
    if (num_slots_ == kNoSlot) throw std::bad_alloc();
    slot = num_slots_;
    ReserveSlots(num_slots_ + 1);
    ++num_slots_;
  }
  Item& item = items_.Edit(slot);
  ++item.generation;
  highest_ = std::max(highest_, item.generation);
  item.times_sampled = 0;
  ++size_;
  return slot;
}

void ItemStore::Free(std::uint32_t slot) {
  Item& item = items_.Edit(slot);
  ++item.generation;
  --size_;
  if (trajectory(slot) != nullptr) trajectories.Edit(slot) = nullptr;
  if (item.generation == kRetired) return;
  item.chunk = free_head_;
  free_head_ = slot;
}

std::uint32_t ItemStore::Find(std::uint64_t key) const {
  const auto slot = static_cast<std::uint32_t>(key);
  const auto generation = static_cast<std::uint32_t>(key >> 32);
  if (slot >= num_slots_ || generation % 2 == 0) return kNoSlot;
  return at(slot).generation == generation ? slot : kNoSlot;
}

LargeVector<std::uint64_t> ItemStore::View::FreeKeys() const {
  LargeVector<std::uint64_t> keys;
  for (std::uint32_t slot = free_head; slot != kNoSlot; slot = items[slot].chunk) {
    // The last live generation was one lower than the free one.
    keys.push_back((std::uint64_t{items[slot].generation - 1} << 32) | slot);
  }
  std::reverse(keys.begin(), keys.end());
  return keys;
}

std::int64_t ItemStore::Restore(const std::uint64_t* live, std::size_t num_live,
                                const std::uint64_t* free, std::size_t num_free) {
  // Every slot was once handed out, so an honest file names nearly all of them;
  // the margin is for retired ones. It also bounds what a crafted key can cost.
  const std::size_t limit = num_live + num_free + 1024;
  const auto key_at = [&](std::size_t i) { return i < num_live ? live[i] : free[i - num_live]; };
  std::uint32_t num_slots = 0;
  for (std::size_t i = 0; i < num_live + num_free; ++i) {
    const std::uint64_t key = key_at(i);
    const auto slot = static_cast<std::uint32_t>(key);
    const auto generation = static_cast<std::uint32_t>(key >> 32);
    // A slot that is free has a generation left for its next item.
    const std::uint32_t last = i < num_live ? kRetired - 1 : kRetired - 3;
    if (slot >= limit || slot == kNoSlot || generation % 2 == 0 || generation > last) {
      return static_cast<std::int64_t>(i);
    }
    num_slots = std::max(num_slots, slot + 1);
  }
  const std::uint32_t fresh = first_generation_;
  first_generation_ = 0;
  ReserveSlots(num_slots);
  first_generation_ = fresh;
  num_slots_ = num_slots;
  for (std::size_t i = 0; i < num_live + num_free; ++i) {
    const std::uint64_t key = key_at(i);
    Item& item = items_.Edit(static_cast<std::uint32_t>(key));
    if (item.generation != 0) return static_cast<std::int64_t>(i);
    item.generation = static_cast<std::uint32_t>(key >> 32) + (i < num_live ? 0 : 1);
    highest_ = std::max(highest_, static_cast<std::uint32_t>(key >> 32));
  }
  for (std::uint32_t slot = 0; slot < num_slots; ++slot) {
    if (at(slot).generation == 0) items_.Edit(slot).generation = kRetired;
  }
  for (std::size_t i = 0; i < num_free; ++i) {
    const auto slot = static_cast<std::uint32_t>(free[i]);
    items_.Edit(slot).chunk = free_head_;
    free_head_ = slot;
  }
  size_ = static_cast<std::uint32_t>(num_live);
  return -1;
}

}  // namespace reverie
