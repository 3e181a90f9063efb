#include "writers/chunk_chain.h"

#include <algorithm>
#include <utility>

namespace reverie {

const ChunkChain::Held* ChunkChain::Locate(std::uint64_t number) const {
  const Held* const end = held_.data() + held_.size();
  if (number >= first_) return end - 1;
  return std::upper_bound(held_.data() + head_, end, number,
                          [](std::uint64_t wanted, const Held& held) {
                            return wanted < held.first;
                          }) -
         1;
}

void ChunkChain::Grow(Store::Locked* store, std::shared_ptr<const RecordLayout> layout, bool one) {
  const std::size_t record_nbytes = std::max<std::size_t>(1, layout->record_nbytes());
  const std::size_t nbytes =
      std::min(next_nbytes_, store->chunks().NextNbytes(least_nbytes_, max_nbytes_));
  const std::size_t capacity = one ? 1 : std::max<std::size_t>(1, nbytes / record_nbytes);
  if (held_.capacity() == held_.size()) held_.reserve(held_.size() + held_.size() / 2 + 2);
  Chunk* const chunk =
      store->chunks().Create(std::move(layout), static_cast<std::uint32_t>(capacity));
  store->chunks().Join(chunk);
  first_ = next();
  held_.push_back({chunk, first_});
  open_ = chunk;
  fill_ = 0;
  next_nbytes_ = std::min(2 * nbytes, max_nbytes_);
}

void ChunkChain::DropFirst(Store::Locked* store) {
  Chunk* const chunk = held_[head_++].chunk;
  store->chunks().Seal(chunk);
  store->chunks().Leave(chunk);
  store->chunks().Unref(chunk, store->garbage());
  if (head_ < 8 || 2 * head_ < held_.size()) return;
  held_.erase(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>(head_));
  head_ = 0;
}

void ChunkChain::DropOpen(Store::Locked* store) {
  store->chunks().Trim(open_);
  store->chunks().Leave(open_);
  store->chunks().Unref(open_, store->garbage());
  held_.pop_back();
  if (held_.size() == head_) {
    held_ = {};
    head_ = 0;
    first_ = next();
    open_ = nullptr;
    fill_ = 0;
  } else {
    open_ = held_.back().chunk;
    first_ = held_.back().first;
    fill_ = open_->capacity;
  }
}

}  // namespace reverie
