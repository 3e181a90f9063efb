#include "writers/chunk_chain.h"

#include <algorithm>
#include <utility>

namespace reverie {

ChunkChain::HeldIterator ChunkChain::Locate(std::uint64_t number) const {
  if (number >= first_) return held_.end() - 1;
  const auto after =
      std::upper_bound(held_.begin(), held_.end(), number,
                       [](std::uint64_t wanted, const Held& held) { return wanted < held.first; });
  return after - 1;
}

void ChunkChain::Grow(Store::Locked* store, std::shared_ptr<const RecordLayout> layout, bool one) {
  const std::size_t record_nbytes = std::max<std::size_t>(1, layout->record_nbytes());
  const std::size_t capacity = one ? 1 : std::max<std::size_t>(1, next_nbytes_ / record_nbytes);
  Chunk* const chunk =
      store->chunks().Create(std::move(layout), static_cast<std::uint32_t>(capacity));
  try {
    held_.push_back({chunk, next()});
  } catch (...) {
    store->chunks().Unref(chunk, store->garbage());
    throw;
  }
  if (open_ != nullptr) open_->sealed = true;
  first_ = next();
  open_ = chunk;
  fill_ = 0;
  next_nbytes_ = std::min(2 * next_nbytes_, max_nbytes_);
}

void ChunkChain::DropOpen(Store::Locked* store) {
  open_->sealed = true;
  store->chunks().Unref(open_, store->garbage());
  held_.pop_back();
  if (held_.empty()) {
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
