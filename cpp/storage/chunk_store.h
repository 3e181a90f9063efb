#ifndef REVERIE_STORAGE_CHUNK_STORE_H_
#define REVERIE_STORAGE_CHUNK_STORE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "storage/arena.h"
#include "storage/chunk.h"
#include "storage/epochs.h"
#include "storage/page_pool.h"
#include "storage/paged_array.h"

namespace reverie {

// All chunks of a store, by slot, with their reference counts; what is freed is readable
// for as long as a gather or a snapshot may read it.
//
// Not thread-safe: guarded by the store's mutex, but for the bytes of published
// records, which anyone who holds a reference or an epoch may read. Every
// operation is O(1). Create() throws std::bad_alloc with nothing changed; nothing else
// throws.
class ChunkStore {
 public:
  static constexpr std::uint64_t kChunkNbytes = 300;  // that a chunk costs beside its records

  // What a gather needs of a chunk, in half a cache line.
  struct Place {
    Chunk* chunk;  // null: the slot is free
    std::uint8_t* data;
    const RecordLayout* layout;
    std::uint32_t capacity;
    std::uint32_t unused;  // places stand in pages, which their size must divide
  };

  ChunkStore();
  ~ChunkStore();

  // A new, empty, open chunk with one reference. `id` 0 issues the next one.
  Chunk* Create(std::shared_ptr<const RecordLayout> layout, std::uint32_t capacity,
                std::uint64_t id = 0);
  // Of a chunk that gets no more records, nor ends.
  void Seal(Chunk* chunk) noexcept;
  // Seals it, and gives back the memory of the records that never came.
  void Trim(Chunk* chunk) noexcept;

  // How large the next chunk of an open stream had better be, so that what is not yet
  // filled, and what is no longer needed, of all streams together stay a small part of
  // what is stored. Of few different sizes, so that what is freed fits what comes.
  std::size_t NextNbytes(std::size_t least, std::size_t most) const;

  Chunk* at(std::uint32_t slot) const { return places_[slot].chunk; }
  const Place& place(std::uint32_t slot) const { return places_[slot]; }
  std::shared_ptr<Chunk> share(std::uint32_t slot) const { return at(slot)->shared_from_this(); }
  std::uint32_t num_slots() const { return num_slots_; }
  std::uint64_t last_id() const { return last_id_; }
  const std::vector<Chunk*>& open() const { return open_; }  // those that are not sealed

  // A writer's reference.
  void Ref(Chunk* chunk) { ++chunk->refs; }
  void Unref(Chunk* chunk, Garbage* garbage);

  // An item's: on one chunk, or on every chunk that a window touches.
  void RefRun(Chunk* chunk, std::uint32_t offset, std::uint32_t length);
  void UnrefRun(Chunk* chunk, std::uint32_t length, Garbage* garbage);
  void RefWindow(Chunk* chunk, std::uint32_t offset, std::uint32_t length);
  void UnrefWindow(Chunk* chunk, std::uint32_t offset, std::uint32_t length, Garbage* garbage);

  // While anyone has joined a chunk, new items may come to refer to it: a writer that
  // holds it, or an item that waits to be placed.
  void Join(Chunk* chunk) noexcept { ++chunk->writers; }
  void Leave(Chunk* chunk) noexcept { --chunk->writers; }

  // Whether so much memory seems to hold nothing that anyone needs that it is worth looking
  // (see Tidy). What is found in vain is looked for less often.
  bool untidy() const {
    // What open streams keep for items to come is theirs.
    const std::uint64_t part = record_nbytes_ / 8 + kIdleNbytes + open_.size() * kOpenNbytes;
    if (num_chunks() > next_many_ && has_many()) return true;
    // A store that has become small since the last look need not wait for what suits a large one.
    const std::uint64_t next = std::min(next_look_, last_look_ + 64 + num_steps_ / 8);
    return removals_ >= next && (idle_nbytes_ > static_cast<std::int64_t>(part) ||
                                 allocated_nbytes_ - record_nbytes_ > part);
  }
  // Whether chunks are so many, beyond what open streams may have of them, that what they
  // cost by themselves is too much.
  bool has_many() const {
    const std::uint64_t some = open_.size() * kOpenChunks;
    return num_chunks() > some &&
           (num_chunks() - some) * kChunkNbytes > record_nbytes_ / 8 + kIdleNbytes;
  }
  // Whether there is anything that the store's keeper should do.
  bool needs_care() const { return wants_ahead_ || untidy(); }
  void Cared() { wants_ahead_ = false; }
  // `removals`: how many there had been when the look began, as what has left since may not
  // have been seen.
  void Looked(bool in_vain, std::uint64_t num_items, std::uint64_t removals);
  // An item has left a table.
  void Removed() { ++removals_; }
  std::uint64_t removals() const { return removals_; }
  void LookAgain() { next_look_ = last_look_ = next_many_ = 0; }
  // Until then nothing is worth looking.
  void LookNoMore() { next_look_ = last_look_ = next_many_ = ~std::uint64_t{0} / 2; }
  // The number of held records, once it is known.
  void SetHeld(Chunk* chunk, std::uint32_t held) noexcept;

  // How far a stream can be followed from one of its records: `records` of them, at most
  // `most`, up to the episode's end or to the newest that is there. `how` its episode ended
  // with the last of them; kGoesOn: with none. Those behind need not be held by anyone.
  // The last of them is record `step` of the chunk with the id `chunk`.
  struct Reach {
    std::uint32_t records;
    How how;
    std::uint32_t step;
    std::uint64_t chunk;
  };
  Reach ReachFrom(const Chunk* chunk, std::uint32_t offset, std::uint32_t most) const;
  // The first record of that record's episode that is still there and can be come by, and how
  // many of them are before it. O(chunks between).
  struct Begin {
    const Chunk* chunk;
    std::uint32_t offset;
    std::uint64_t records;
  };
  Begin BeginOf(const Chunk* chunk, std::uint32_t offset) const;

  // Brackets a gather: what was referenced at Enter() stays readable until
  // Exit(), whatever is evicted meanwhile.
  std::uint64_t Enter() { return epochs_.Enter(); }
  void Exit(std::uint64_t epoch, Garbage* garbage) { epochs_.Leave(epoch, garbage); }
  // Brackets a snapshot: the same, and the chunks keep their slots.
  std::uint64_t Share() { return epochs_.Share(); }
  void Unshare(std::uint64_t epoch, Garbage* garbage) { epochs_.Unshare(epoch, garbage); }
  PagedView<Chunk*> ShareSlots() { return slots_.Share(); }

  // Adds to the published count of `chunk`.
  void Publish(Chunk* chunk, std::uint32_t records) {
    chunk->count += records;
    num_steps_ += records;
    const std::size_t nbytes = records * chunk->layout->record_nbytes();
    record_nbytes_ += nbytes;
    idle_nbytes_ += static_cast<std::int64_t>(nbytes);
  }

  std::uint64_t num_chunks() const { return num_slots_ - free_slots_.size() - left_slots_.size(); }
  std::uint64_t num_steps() const { return num_steps_; }
  std::uint64_t record_nbytes() const { return record_nbytes_; }
  std::uint64_t allocated_nbytes() const { return allocated_nbytes_; }

  const std::shared_ptr<Arena>& arena() const { return arena_; }  // of records
  // Of pages and trajectories, which come and go at other times.
  const std::shared_ptr<Arena>& item_arena() const { return item_arena_; }
  Epochs* epochs() { return &epochs_; }
  PagePool* pages() { return &pages_; }

 private:
  static constexpr std::uint64_t kIdleNbytes = std::uint64_t{1} << 18;

  static constexpr std::uint64_t kOpenNbytes = 2048;
  static constexpr std::uint64_t kOpenChunks = 16;

  // Records that no item holds, as far as can be told. Less than none for a moment: items
  // may be made before their last record is published.
  static std::int64_t IdleOf(const Chunk& chunk) {
    return (std::int64_t{chunk.count} - chunk.held) *
           static_cast<std::int64_t>(chunk.layout->record_nbytes());
  }

  const std::shared_ptr<Arena> arena_ = std::make_shared<Arena>();
  const std::shared_ptr<Arena> item_arena_ = std::make_shared<Arena>();
  Epochs epochs_;
  PagePool pages_{item_arena_, &epochs_};
  PagedArray<Place> places_{&pages_};  // never read by a snapshot
  PagedArray<Chunk*> slots_{&pages_};
  std::uint32_t num_slots_ = 0;
  std::vector<std::uint32_t> free_slots_;
  std::vector<std::uint32_t> left_slots_;  // free once no snapshot is alive
  std::vector<Chunk*> open_;
  std::uint64_t last_id_ = 0;
  std::uint64_t num_steps_ = 0;
  std::uint64_t record_nbytes_ = 0;
  std::uint64_t allocated_nbytes_ = 0;
  std::int64_t idle_nbytes_ = 0;  // of all chunks
  bool wants_ahead_ = false;      // an arena does, as far as was seen
  std::uint64_t removals_ = 0;    // of items, ever
  std::uint64_t last_look_ = 0;   // at so many of them
  std::uint64_t next_look_ = 0;   // likewise
  std::uint64_t next_many_ = 0;   // and beyond so many chunks
  std::uint64_t look_every_ = 64;
};

}  // namespace reverie

#endif  // REVERIE_STORAGE_CHUNK_STORE_H_
