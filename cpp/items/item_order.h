#ifndef REVERIE_ITEMS_ITEM_ORDER_H_
#define REVERIE_ITEMS_ITEM_ORDER_H_

#include <cstdint>
#include <deque>
#include <memory>

#include "storage/chunk_store.h"

namespace reverie {

// The slots of a table's items in insertion order: 4 bytes an item.
//
// A queue of pages in which an erased item leaves a hole. Holes at both ends are
// dropped at once, and the queue is packed when over half of it and of 64 places
// is holes, so n items span at most 2 n + 64 places and every operation is
// amortised O(1). The uniform, FIFO and LIFO selectors are mere views of it.
// Not thread-safe.
class ItemOrder {
 public:
  // Makes room for one PushBack(), which then cannot fail.
  void Reserve();

  // Appends; returns the place, to be kept in the item, that Erase() wants.
  std::uint32_t PushBack(std::uint32_t slot);

  // Leaves a hole at `place`. When it packs the queue, `moved(slot, place)` is
  // called with every item's new place.
  template <typename Moved>
  void Erase(std::uint32_t place, Moved&& moved) {
    // Places are kept as 32 bits; the queue spans fewer, so they are unambiguous.
    At(front_ + static_cast<std::uint32_t>(place - static_cast<std::uint32_t>(front_))) = kNoSlot;
    --size_;
    Trim();
    if (span() > 64 && span() / 2 > size_) Pack(moved);
  }

  // Closes all holes; tells of every item's new place as Erase() does.
  template <typename Moved>
  void Pack(Moved&& moved) {
    if (span() == size_) return;
    std::uint64_t to = front_;
    for (std::uint64_t from = front_; from < back_; ++from) {
      const std::uint32_t slot = At(from);
      if (slot == kNoSlot) continue;
      At(to) = slot;
      moved(slot, static_cast<std::uint32_t>(to++));
    }
    back_ = to;
    DropPages();
  }

  void Clear();

  std::uint32_t size() const { return size_; }
  std::uint64_t span() const { return back_ - front_; }

  // The slot at the i-th place, i < span(); kNoSlot where there is a hole.
  std::uint32_t operator[](std::uint64_t i) const { return *address(i); }
  const std::uint32_t* address(std::uint64_t i) const {
    const std::uint64_t position = front_ + i;
    return &pages_[position / kPageSize - first_page_][position % kPageSize];
  }

 private:
  static constexpr std::uint64_t kPageSize = 1024;

  std::uint32_t& At(std::uint64_t position) {
    return pages_[position / kPageSize - first_page_][position % kPageSize];
  }
  void Trim();
  void DropPages();

  std::deque<std::unique_ptr<std::uint32_t[]>> pages_;
  std::uint64_t first_page_ = 0;  // number of pages_.front(), counted from position 0
  std::uint64_t front_ = 0;
  std::uint64_t back_ = 0;
  std::uint32_t size_ = 0;
};

}  // namespace reverie

#endif  // REVERIE_ITEMS_ITEM_ORDER_H_
