#include "items/item_order.h"

#include <new>

namespace reverie {

void ItemOrder::Reserve(std::uint32_t slot) {
  if (implicit_) {
    if (slot < ring_ && (size_ == 0 || slot == Wrapped(size_))) return;
    MakeExplicit();
  }
  queue_.Make(back_);
  places_.Make(slot);
}

void ItemOrder::ReserveErase(std::uint32_t slot) {
  if (implicit_ && slot != first_ && slot != Wrapped(size_ - 1)) MakeExplicit();
  if (!implicit_) queue_.Own(front_ + Distance(slot));
}

// Throws std::bad_alloc with nothing changed.
void ItemOrder::MakeExplicit() {
  PagedArray<std::uint32_t> queue(pool_);
  PagedArray<std::uint32_t> places(pool_);
  for (std::uint32_t i = 0; i < size_; ++i) {
    const std::uint32_t slot = Wrapped(i);
    queue.Make(i);
    places.Make(slot);
    queue.Edit(i) = slot;
    places.Edit(slot) = i;
  }
  queue.Make(size_);
  queue_ = std::move(queue);
  places_ = std::move(places);
  front_ = 0;
  back_ = size_;
  implicit_ = false;
}

void ItemOrder::Append(std::uint32_t slot) {
  queue_.Make(back_);
  queue_.Edit(back_) = slot;
  if (slot != kNoSlot) {
    places_.Make(slot);
    places_.Edit(slot) = static_cast<std::uint32_t>(back_);
    ++size_;
  }
  ++back_;
}

void ItemOrder::PushBack(std::uint32_t slot) {
  if (implicit_) {
    if (size_ == 0) first_ = slot;
    if (slot < ring_ && slot == Wrapped(size_)) {
      ++size_;
      return;
    }
    MakeExplicit();
  }
  Append(slot);
}

void ItemOrder::PushHole() {
  if (implicit_) MakeExplicit();
  Append(kNoSlot);
}

void ItemOrder::Erase(std::uint32_t slot) {
  if (implicit_) {
    if (slot == first_) {
      first_ = Wrapped(1);
      --size_;
      return;
    }
    if (slot == Wrapped(size_ - 1)) {
      --size_;
      return;
    }
    MakeExplicit();
  }
  queue_.Edit(front_ + Distance(slot)) = kNoSlot;
  --size_;
  Trim();
  if (span() > 64 && span() / 2 > size_) Pack();
}

void ItemOrder::Trim() {
  while (front_ < back_ && queue_[front_] == kNoSlot) ++front_;
  while (back_ > front_ && queue_[back_ - 1] == kNoSlot) --back_;
  queue_.DropBefore(front_);
  // One page more than needed may stay: a stack that breathes at a page's edge
  // would allocate at every step otherwise.
  queue_.DropFrom(back_ + PagedArray<std::uint32_t>::kPerPage + 1);
}

// Closes all holes.
void ItemOrder::Pack() {
  const std::uint64_t pages = 2 + 2 * span() / PagedArray<std::uint32_t>::kPerPage;
  try {
    for (std::uint64_t i = front_; pool_->shared() && i < back_; ++i) {
      if (queue_[i] != kNoSlot) places_.Own(queue_[i]);
    }
    // Last, as that took of them; and some for whoever erases.
    pool_->ReserveCopies(pages + 16);
  } catch (const std::bad_alloc&) {
    return;  // holes do no harm: the next erase may find memory
  }
  std::uint64_t to = front_;
  for (std::uint64_t from = front_; from < back_; ++from) {
    const std::uint32_t slot = queue_[from];
    if (slot == kNoSlot) continue;
    queue_.Edit(to) = slot;
    places_.Edit(slot) = static_cast<std::uint32_t>(to++);
  }
  back_ = to;
  queue_.DropFrom(back_ + PagedArray<std::uint32_t>::kPerPage + 1);
}

ItemOrder::View ItemOrder::Share() {
  View view;
  view.implicit_ = implicit_;
  view.size_ = size_;
  view.first_ = first_;
  view.ring_ = ring_;
  view.front_ = front_;
  view.span_ = span();
  if (!implicit_) view.queue_ = queue_.Share();
  return view;
}

}  // namespace reverie
