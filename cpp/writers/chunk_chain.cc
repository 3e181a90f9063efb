#include "writers/chunk_chain.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace reverie {

const ChunkChain::Held* ChunkChain::Locate(std::uint64_t number) const {
  const Held* const end = held_.data() + held_.size();
  if (number >= first_) return end - 1;
  return std::upper_bound(
             held_.data() + head_, end, number,
             [](std::uint64_t wanted, const Held& held) { return wanted < held.first; }) -
         1;
}

void ChunkChain::Grow(Store::Locked* store, std::shared_ptr<const RecordLayout> layout, bool one) {
  const std::size_t record_nbytes = std::max<std::size_t>(1, layout->record_nbytes());
  const std::size_t nbytes =
      std::min(next_nbytes_, store->chunks().NextNbytes(kLeastNbytes, max_nbytes_));
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

void ChunkChain::Rehome(std::uint64_t first_needed, Store::Locked* store) {
  if (open_ == nullptr) return;
  const std::size_t record_nbytes = open_->layout->record_nbytes();
  const auto needed = static_cast<std::uint32_t>(next() - first_needed);
  std::size_t filled = 0;
  std::size_t held = 0;
  for (std::size_t i = head_; i < held_.size(); ++i) {
    filled += held_[i].chunk->count;
    held += held_[i].chunk->held;
  }
  constexpr std::size_t kFewNbytes = 2048;
  const bool idle =
      filled * record_nbytes > kFewNbytes && filled > 2 * std::max<std::size_t>(held, needed);
  const std::size_t room = (open_->capacity - fill_) * record_nbytes;
  const bool roomy =
      room > kFewNbytes && room > 4 * store->chunks().NextNbytes(kLeastNbytes, max_nbytes_);
  if (!idle && !roomy) return;
  ChunkChain fresh(kLeastNbytes, max_nbytes_);
  if (needed != 0) {
    const std::size_t least = kLeastNbytes / 4 / std::max<std::size_t>(1, record_nbytes);
    fresh.held_.reserve(2);
    Chunk* const chunk =
        store->chunks().Create(open_->layout, std::max(needed, static_cast<std::uint32_t>(least)));
    store->chunks().Join(chunk);
    fresh.held_.push_back({chunk, first_needed});
    fresh.open_ = chunk;
    try {
      for (std::uint64_t number = first_needed; number < next(); ++number) {
        const Held& from = *Locate(number);
        const auto at = static_cast<std::uint32_t>(number - from.first);
        const auto to = static_cast<std::uint32_t>(number - first_needed);
        if (record_nbytes != 0) {
          std::memcpy(chunk->record(to), from.chunk->record(at), record_nbytes);
        }
        const auto& ends = from.chunk->ends;
        const auto end = std::lower_bound(
            ends.begin(), ends.end(), at,
            [](const Chunk::End& one, std::uint32_t step) { return one.step < step; });
        if (end == ends.end() || end->step != at) continue;
        chunk->ReserveEnds();
        chunk->ends.push_back({to, end->how});
      }
      chunk->ReserveEnds();  // a chunk whose last step is no end always has room for one
    } catch (...) {
      store->chunks().Leave(chunk);
      store->chunks().Unref(chunk, store->garbage());
      throw;
    }
    store->chunks().Publish(chunk, needed);
  }
  fresh.first_ = first_needed;
  fresh.fill_ = needed;
  DropAll(store);
  *this = std::move(fresh);
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
