#include "items/item_order.h"

namespace reverie {

void ItemOrder::Reserve() {
  if (back_ / kPageSize - first_page_ == pages_.size()) {
    pages_.push_back(std::make_unique<std::uint32_t[]>(kPageSize));
  }
}

std::uint32_t ItemOrder::PushBack(std::uint32_t slot) {
  Reserve();
  At(back_) = slot;
  ++size_;
  return static_cast<std::uint32_t>(back_++);
}

void ItemOrder::Trim() {
  while (front_ < back_ && At(front_) == kNoSlot) ++front_;
  while (back_ > front_ && At(back_ - 1) == kNoSlot) --back_;
  DropPages();
}

void ItemOrder::DropPages() {
  while (!pages_.empty() && front_ / kPageSize > first_page_) {
    pages_.pop_front();
    ++first_page_;
  }
  // One page more than needed may stay: a stack that breathes at a page's edge
  // would allocate at every step otherwise.
  while (pages_.size() > back_ / kPageSize - first_page_ + 2) pages_.pop_back();
}

void ItemOrder::Clear() {
  pages_.clear();
  first_page_ = front_ = back_ = 0;
  size_ = 0;
}

}  // namespace reverie
