#include "items/item_store.h"

#include <algorithm>
#include <new>

namespace reverie {
namespace {

// Of a retired slot: the next item would take the last odd generation, and the
// one after it the first again.
constexpr std::uint32_t kRetired = 0xfffffffeu;

}  // namespace

void ItemStore::ReserveSlots(std::uint32_t num_slots) {
  while (pages_.size() * kPageSize < num_slots) {
    pages_.push_back(std::make_unique<Item[]>(kPageSize));
  }
}

void ItemStore::Reserve(std::uint32_t item_length, double item_priority) {
  std::uint32_t num_slots = num_slots_;
  if (free_head_ == kNoSlot) {
    if (num_slots == kNoSlot) throw std::bad_alloc();
    ReserveSlots(++num_slots);
  }
  length.Reserve(item_length, size_ != 0, num_slots);
  priority.Reserve(item_priority, size_ != 0, num_slots);
}

void ItemStore::ReserveTrajectory() {
  const std::size_t wanted = std::size_t{num_slots_} + (free_head_ == kNoSlot ? 1 : 0);
  if (trajectories.size() >= wanted) return;
  if (trajectories.capacity() < wanted) trajectories.reserve(2 * wanted + 16);
  trajectories.resize(wanted);
}

std::uint32_t ItemStore::Allocate() {
  std::uint32_t slot = free_head_;
  if (slot != kNoSlot) {
    free_head_ = at(slot).chunk;
  } else {
    if (num_slots_ == kNoSlot) throw std::bad_alloc();
    slot = num_slots_;
    ReserveSlots(num_slots_ + 1);
    ++num_slots_;
  }
  Item& item = at(slot);
  ++item.generation;
  item.times_sampled = 0;
  ++size_;
  return slot;
}

void ItemStore::Free(std::uint32_t slot) {
  Item& item = at(slot);
  ++item.generation;
  --size_;
  if (slot < trajectories.size()) trajectories[slot].reset();
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

std::vector<std::uint64_t> ItemStore::FreeKeys() const {
  std::vector<std::uint64_t> keys;
  for (std::uint32_t slot = free_head_; slot != kNoSlot; slot = at(slot).chunk) {
    // The last live generation was one lower than the free one.
    keys.push_back((std::uint64_t{at(slot).generation - 1} << 32) | slot);
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
  ReserveSlots(num_slots);
  num_slots_ = num_slots;
  for (std::size_t i = 0; i < num_live + num_free; ++i) {
    const std::uint64_t key = key_at(i);
    Item& item = at(static_cast<std::uint32_t>(key));
    if (item.generation != 0) return static_cast<std::int64_t>(i);
    item.generation = static_cast<std::uint32_t>(key >> 32) + (i < num_live ? 0 : 1);
  }
  for (std::uint32_t slot = 0; slot < num_slots; ++slot) {
    if (at(slot).generation == 0) at(slot).generation = kRetired;
  }
  for (std::size_t i = 0; i < num_free; ++i) {
    const auto slot = static_cast<std::uint32_t>(free[i]);
    at(slot).chunk = free_head_;
    free_head_ = slot;
  }
  size_ = static_cast<std::uint32_t>(num_live);
  return -1;
}

}  // namespace reverie
