#ifndef REVERIE_ITEMS_ITEM_ORDER_H_
#define REVERIE_ITEMS_ITEM_ORDER_H_

#include <cstdint>

#include "storage/chunk.h"
#include "storage/paged_array.h"

namespace reverie {

// The slots of a table's items in insertion order.
//
// Where slots are handed out in a ring and only the oldest item ever leaves, as in a
// table that removes first in, first out, the order is implicit: the i-th item stands
// in slot (first + i) mod ring. It takes no memory, and nothing is looked up.
//
// As soon as another item leaves or another slot comes, it is a queue of slots in which
// an erased item leaves a hole, with each slot's place in it: 8 bytes an item. Holes at
// both ends are dropped at once, and the queue is packed when over half of it and of 64
// places is holes, so n items span at most 2 n + 64 places and every operation is
// amortised O(1). The uniform, FIFO and LIFO selectors are mere views of it.
// Not thread-safe.
class ItemOrder {
 public:
  // `ring`: slots are handed out in a ring of so many as long as only the oldest item
  // leaves; 0: they are not.
  ItemOrder(PagePool* pool, std::uint32_t ring)
      : ring_(ring), implicit_(ring != 0), pool_(pool), queue_(pool), places_(pool) {}

  // Makes room for PushBack() of this slot. Throws std::bad_alloc with nothing changed.
  void Reserve(std::uint32_t slot);
  // The same for an Erase() of any item, in a ring too: it is none any more then, O(items).
  void ReserveErase(std::uint32_t slot);

  // Appends. Cannot fail after Reserve().
  void PushBack(std::uint32_t slot);
  // Appends a place with nobody in it, where an item is to follow. Throws as Reserve().
  void PushHole();
  void Erase(std::uint32_t slot);

  std::uint32_t size() const { return size_; }
  std::uint64_t span() const { return implicit_ ? size_ : back_ - front_; }
  bool implicit() const { return implicit_; }

  // The slot at the i-th place, i < span(); kNoSlot where there is a hole.
  std::uint32_t operator[](std::uint64_t i) const {
    return implicit_ ? Wrapped(i) : queue_[front_ + i];
  }
  // Where that stands; null: nowhere.
  const std::uint32_t* address(std::uint64_t i) const {
    return implicit_ ? nullptr : queue_.address(front_ + i);
  }

  // The order as it is now, whatever becomes of it. O(pages).
  class View {
   public:
    std::uint64_t span() const { return implicit_ ? size_ : span_; }
    std::uint32_t size() const { return size_; }
    std::uint32_t operator[](std::uint64_t i) const {
      return implicit_ ? Wrap(first_ + i, ring_) : queue_[front_ + i];
    }

   private:
    friend class ItemOrder;
    bool implicit_ = false;
    std::uint32_t size_ = 0;
    std::uint32_t first_ = 0;
    std::uint32_t ring_ = 0;
    std::uint64_t front_ = 0;
    std::uint64_t span_ = 0;
    PagedView<std::uint32_t> queue_;
  };
  View Share();

  // Drops all pages, at most n of them; true: there are none left. Of no more use then.
  bool ClearSome(std::size_t n) noexcept { return queue_.ClearSome(n) && places_.ClearSome(n); }

 private:
  static std::uint32_t Wrap(std::uint64_t slot, std::uint32_t ring) {
    return static_cast<std::uint32_t>(slot < ring ? slot : slot - ring);
  }
  std::uint32_t Wrapped(std::uint64_t i) const { return Wrap(first_ + i, ring_); }
  // From the front. Places are kept as 32 bits; the queue spans fewer, so they are
  // unambiguous.
  std::uint32_t Distance(std::uint32_t slot) const {
    return static_cast<std::uint32_t>(places_[slot] - static_cast<std::uint32_t>(front_));
  }
  void MakeExplicit();
  void Append(std::uint32_t slot);
  void Trim();
  void Pack();

  std::uint32_t ring_;
  bool implicit_;
  std::uint32_t size_ = 0;
  std::uint32_t first_ = 0;  // the oldest item's slot, where implicit

  PagePool* pool_;
  PagedArray<std::uint32_t> queue_;   // slots, by position from front_ to back_
  PagedArray<std::uint32_t> places_;  // positions, by slot: their lower 32 bits
  std::uint64_t front_ = 0;
  std::uint64_t back_ = 0;
};

}  // namespace reverie

#endif  // REVERIE_ITEMS_ITEM_ORDER_H_
