#ifndef REVERIE_WRITERS_CHUNK_CHAIN_H_
#define REVERIE_WRITERS_CHUNK_CHAIN_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>

#include "store.h"

namespace reverie {

// The chunks into which a writer puts one stream of records, or of a column's cells.
//
//   dropped | held[0]      | held[1]      | open: fill() records, then free places
//           | first ...    | first ...    | ...                  next() ->
//
// The n-th record ever published has number n. The first chunk is small and each next
// one twice as large, up to the store's chunk_nbytes, so that many short streams cost
// little. Guarded by its writer's mutex; what takes a Locked, by the store's as well.
class ChunkChain {
 public:
  struct Held {
    Chunk* chunk;         // with one reference
    std::uint64_t first;  // number of its first record
  };
  using HeldIterator = std::deque<Held>::const_iterator;

  ChunkChain(std::size_t first_nbytes, std::size_t max_nbytes)
      : next_nbytes_(first_nbytes < max_nbytes ? first_nbytes : max_nbytes),
        max_nbytes_(max_nbytes) {}

  // The chunk that takes the next record, if it has a place left; null: none.
  Chunk* open() const { return open_; }
  std::uint32_t fill() const { return fill_; }
  bool full() const { return open_ == nullptr || fill_ == open_->capacity; }
  std::uint64_t next() const { return first_ + fill_; }
  const std::deque<Held>& held() const { return held_; }  // by age

  // The held chunk with this record, which must be published and not dropped.
  HeldIterator Locate(std::uint64_t number) const;

  // Whether the last end in its chunk is at this record, which must be as for Locate().
  bool EndsAt(std::uint64_t number) const {
    const Held& held = *Locate(number);
    const auto& ends = held.chunk->ends;
    return !ends.empty() && ends.back().step == number - held.first;
  }

  // Opens a new, empty chunk in the place of the open one, which is full and sealed.
  // `one`: for a single record. Throws std::bad_alloc with nothing changed.
  void Grow(Store::Locked* store, std::shared_ptr<const RecordLayout> layout, bool one = false);

  // The record in the next place, which the writer has filled, is there for all.
  void Publish(Store::Locked* store) {
    store->chunks().Publish(open_, 1);
    ++fill_;
  }

  // Drops the chunks with records below `first` only, but never the open one.
  void DropBefore(std::uint64_t first, Store::Locked* store) {
    while (held_.size() > 1 && held_[1].first <= first) {
      store->chunks().Unref(held_.front().chunk, store->garbage());
      held_.pop_front();
    }
  }

  // Seals and drops the open chunk; the one before it, which is full, is open then.
  void DropOpen(Store::Locked* store);
  // Seals the open chunk and drops them all.
  void DropAll(Store::Locked* store) {
    while (open_ != nullptr) DropOpen(store);
  }

 private:
  std::deque<Held> held_;
  Chunk* open_ = nullptr;    // the last one held
  std::uint64_t first_ = 0;  // number of its first record, or of the next record to come
  std::uint32_t fill_ = 0;
  std::size_t next_nbytes_;  // of the next chunk
  std::size_t max_nbytes_;
};

}  // namespace reverie

#endif  // REVERIE_WRITERS_CHUNK_CHAIN_H_
