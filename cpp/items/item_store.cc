#include "items/item_store.h"

#include <algorithm>
#include <new>

namespace reverie {
namespace {

// Of a retired slot: the next item would take the last odd generation, and the
// one after it the first again.
constexpr std::uint32_t kRetired = 0xfffffffeu;

}  // namespace

// The page with this slot; all slots of a new one are as before the first use. Throws
// std::bad_alloc with nothing changed.
void ItemStore::MakePage(std::uint32_t slot) {
  if (items_.has(slot)) return;
  const std::size_t page = slot / kPageSize;
  if (used_in_page_.size() <= page) {
    if (used_in_page_.capacity() <= page) used_in_page_.reserve(2 * page + 8);
    used_in_page_.resize(page + 1);
  }
  items_.Make(slot);
  Item* const first = &items_.Edit(static_cast<std::uint32_t>(page) * kPageSize);
  std::fill_n(first, kPageSize, Item{first_generation_, 0, kNoSlot, 0});
}

std::uint32_t ItemStore::next_slot() const {
  if (free_head_ != kNoSlot) return free_head_;
  for (; cursor_ < num_slots_; ++cursor_) {
    const Item* const item = items_.Find(cursor_);
    if (item == nullptr || item->generation == first_generation_) break;
  }
  return cursor_;
}

void ItemStore::Reserve(std::uint32_t item_length, double item_priority, bool is_trajectory) {
  const std::uint32_t slot = next_slot();
  if (slot == kNoSlot) throw std::bad_alloc();
  MakePage(slot);
  items_.Own(slot);
  length.Reserve(slot, item_length, size_ != 0);
  priority.Reserve(slot, item_priority, size_ != 0);
  if (!is_trajectory) return;
  trajectories.Make(slot);
  trajectories.Own(slot);
}

std::uint32_t ItemStore::Allocate() {
  const std::uint32_t slot = next_slot();
  if (slot == kNoSlot) throw std::bad_alloc();
  MakePage(slot);
  Item& item = items_.Edit(slot);
  if (slot == free_head_) {
    free_head_ = item.chunk;
    --num_free_;
  } else {
    ++cursor_;
    num_slots_ = std::max(num_slots_, cursor_);
  }
  ++item.generation;
  highest_ = std::max(highest_, item.generation);
  item.times_sampled = 0;
  ++size_;
  ++used_in_page_[slot / kPageSize];
  return slot;
}

void ItemStore::Free(std::uint32_t slot) {
  Item& item = items_.Edit(slot);
  ++item.generation;
  --size_;
  if (trajectory(slot) != nullptr) trajectories.Edit(slot) = nullptr;
  if (item.generation == kRetired) return;
  --used_in_page_[slot / kPageSize];
  item.chunk = free_head_;
  free_head_ = slot;
  ++num_free_;
}

void ItemStore::ForgetFree() noexcept {
  // Beyond those of slots that are alive now and will be freed: a slot without a name is
  // known by it.
  const std::uint64_t generation = std::uint64_t{next_generation()} + 2;
  if (generation > kLastFirst) return;
  const auto each_page = [this](const auto& run) {
    for (std::uint32_t first = 0; first < num_slots_; first += kPageSize) {
      if (items_.has(first)) run(first);
      if (first + kPageSize < first) break;
    }
  };
  try {
    each_page([this](std::uint32_t first) {
      if (used_in_page_[first / kPageSize] != 0) items_.Own(first);
    });
  } catch (const std::bad_alloc&) {
    return;
  }
  first_generation_ = static_cast<std::uint32_t>(generation);
  std::uint32_t num_slots = 0;
  each_page([&](std::uint32_t first) {
    if (used_in_page_[first / kPageSize] == 0) {
      items_.DropPage(first);
      return;
    }
    for (std::uint32_t slot = first; slot < first + kPageSize; ++slot) {
      Item& item = items_.Edit(slot);
      if (item.generation % 2 != 0 || item.generation == kRetired) {
        num_slots = slot + 1;
      } else {
        item = {first_generation_, 0, kNoSlot, 0};
      }
    }
  });
  num_slots_ = num_slots;
  free_head_ = kNoSlot;
  num_free_ = 0;
  cursor_ = 0;
}

std::uint32_t ItemStore::Find(std::uint64_t key) const {
  const auto slot = static_cast<std::uint32_t>(key);
  const auto generation = static_cast<std::uint32_t>(key >> 32);
  if (generation % 2 == 0) return kNoSlot;
  const Item* const item = items_.Find(slot);
  return item != nullptr && item->generation == generation ? slot : kNoSlot;
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
                                const std::uint64_t* free, std::size_t num_free,
                                std::uint32_t cursor) {
  const auto key_at = [&](std::size_t i) { return i < num_live ? live[i] : free[i - num_live]; };
  // What lies below the cursor is named, but for retired slots: that bounds what it costs.
  constexpr std::size_t kMostRetired = 1024;
  const std::size_t limit = num_live + num_free + kMostRetired;
  for (std::size_t i = 0; i < num_live + num_free; ++i) {
    const std::uint64_t key = key_at(i);
    const auto slot = static_cast<std::uint32_t>(key);
    const auto generation = static_cast<std::uint32_t>(key >> 32);
    // A slot that is free has a generation left for its next item.
    const std::uint32_t last = i < num_live ? kRetired - 1 : kRetired - 3;
    if (slot == kNoSlot || (cursor == kNoSlot && slot >= limit) || generation % 2 == 0 ||
        generation > last) {
      return static_cast<std::int64_t>(i);
    }
    MakePage(slot);
    num_slots_ = std::max(num_slots_, slot + 1);
    Item& item = items_.Edit(slot);
    const std::uint32_t now = generation + (i < num_live ? 0 : 1);
    if (item.generation != first_generation_ || now == first_generation_) {
      return static_cast<std::int64_t>(i);
    }
    item.generation = now;
    highest_ = std::max(highest_, generation);
    if (i < num_live) ++used_in_page_[slot / kPageSize];
  }
  cursor_ = cursor != kNoSlot ? cursor : num_slots_;
  if (cursor_ > limit) return 0;
  for (std::uint32_t slot = 0; slot < cursor_; ++slot) {
    MakePage(slot);
    Item& item = items_.Edit(slot);
    if (item.generation != first_generation_) continue;
    item.generation = kRetired;
    ++used_in_page_[slot / kPageSize];
  }
  num_slots_ = std::max(num_slots_, cursor_);
  for (std::size_t i = 0; i < num_free; ++i) {
    const auto slot = static_cast<std::uint32_t>(free[i]);
    items_.Edit(slot).chunk = free_head_;
    free_head_ = slot;
  }
  num_free_ = static_cast<std::uint32_t>(num_free);
  size_ = static_cast<std::uint32_t>(num_live);
  return -1;
}

}  // namespace reverie
