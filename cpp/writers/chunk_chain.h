#ifndef REVERIE_WRITERS_CHUNK_CHAIN_H_
#define REVERIE_WRITERS_CHUNK_CHAIN_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "store.h"

namespace reverie {

// The chunks into which a writer puts one stream of records, or of a column's cells.
//
//   dropped | held[0]      | held[1]      | open: fill() records, then free places
//           | first ...    | first ...    | ...                  next() ->
//
// The n-th record ever published has number n. The first chunk is small and each next one
// at most twice as large, up to a kilobyte or what suits the store as it is
// (ChunkStore::NextNbytes), so that many streams cost little. A chunk is sealed once a record is in
// the next one, or when the chain drops it. Guarded by its writer's mutex; what takes a Locked, by
// the store's as well.
class ChunkChain {
 public:
  struct Held {
    Chunk* chunk;         // with one reference
    std::uint64_t first;  // number of its first record
  };

  ChunkChain(std::size_t first_nbytes, std::size_t max_nbytes)
      : next_nbytes_(std::min(first_nbytes, max_nbytes)), max_nbytes_(max_nbytes) {}

  // The chunk that takes the next record, if it has a place left; null: none.
  Chunk* open() const { return open_; }
  std::uint32_t fill() const { return fill_; }
  bool full() const { return open_ == nullptr || fill_ == open_->capacity; }
  std::uint64_t next() const { return first_ + fill_; }

  // The held chunk with this record, which must be published and not dropped. Those after
  // it, by age, follow.
  const Held* Locate(std::uint64_t number) const;

  // Whether the last end in its chunk is at this record, which must be as for Locate().
  bool EndsAt(std::uint64_t number) const {
    const Held& held = *Locate(number);
    const auto& ends = held.chunk->ends;
    return !ends.empty() && ends.back().step == number - held.first;
  }

  // Opens a new, empty chunk in the place of the open one, which is full and sealed.
  // `one`: for a single record. Throws std::bad_alloc with nothing changed.
  void Grow(Store::Locked* store, std::shared_ptr<const RecordLayout> layout, bool one = false);

  // The records in the next `n` places, which the writer has filled, are there for all.
  void Publish(Store::Locked* store, std::uint32_t n = 1) {
    if (fill_ == 0 && held_.size() - head_ > 1) store->chunks().Seal((held_.end() - 2)->chunk);
    store->chunks().Publish(open_, n);
    fill_ += n;
  }

  // Drops the chunks with records below `first` only, but never the open one.
  void DropBefore(std::uint64_t first, Store::Locked* store) {
    while (held_.size() - head_ > 1 && held_[head_ + 1].first <= first) DropFirst(store);
  }

  // The records from `first_needed` on, in a chunk of their own, where the held ones are
  // much larger than suits what is in them: items hold little of them, or there is far more
  // room than the store now gives. Throws std::bad_alloc with nothing changed.
  void Rehome(std::uint64_t first_needed, Store::Locked* store);

  // Seals, cuts to size and drops the open chunk; the one before it, which is full, is open
  // then.
  void DropOpen(Store::Locked* store);
  // Seals the open chunk and drops them all.
  void DropAll(Store::Locked* store) {
    while (open_ != nullptr) DropOpen(store);
  }

 private:
  static constexpr std::size_t kLeastNbytes = 1024;

  void DropFirst(Store::Locked* store);

  std::vector<Held> held_;  // by age, from head_ on
  std::size_t head_ = 0;
  Chunk* open_ = nullptr;    // the last one held
  std::uint64_t first_ = 0;  // number of its first record, or of the next record to come
  std::uint32_t fill_ = 0;
  std::size_t next_nbytes_;  // of the next chunk, at most
  std::size_t max_nbytes_;
};

}  // namespace reverie

#endif  // REVERIE_WRITERS_CHUNK_CHAIN_H_
