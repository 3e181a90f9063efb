#ifndef REVERIE_STORAGE_CHUNK_STORE_H_
#define REVERIE_STORAGE_CHUNK_STORE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "storage/record_layout.h"

namespace reverie {

constexpr std::uint32_t kNoSlot = 0xffffffffu;

// How an episode ended: the writer was not told how, the environment's end, a limit of
// time, or the stream stopped there (a reset, a close, a drop). kGoesOn: it did not.
enum class How : std::uint8_t { kGoesOn = 0, kEnded, kTerminated, kTruncated, kCut };

// A run of consecutive records of one writer, or of cells of one of its columns.
//
//   writer's stream:   [chunk 7]--next-->[chunk 9]--next-->[chunk 12, open]
//   item's window:            [offset ....... length ]
//
// Records below `count` are published: never written again. A chunk that is
// full, or whose writer went away, is sealed. `next` is set once, before any
// item reaches over the seam, and is followed only by windows that hold a
// reference on the chunk it points to.
struct Chunk {
  struct End {
    std::uint32_t step;  // an episode's last record
    How how;
  };

  std::uint64_t id = 0;  // never reused; 0 is no chunk
  std::uint32_t slot = kNoSlot;
  std::uint32_t capacity = 0;
  std::uint32_t count = 0;
  std::uint32_t refs = 0;  // one per window, piece of a trajectory and writer that needs it
  bool sealed = false;
  Chunk* next = nullptr;
  std::uint64_t next_id = 0;
  std::shared_ptr<const RecordLayout> layout;
  std::unique_ptr<std::uint8_t[]> data;
  std::vector<End> ends;  // ascending; guarded by the store's mutex

  // Of the ChunkQueue that the chunk may be in, once no table or writer needs it.
  std::uint64_t retired_at = 0;
  std::shared_ptr<Chunk> behind;

  std::uint8_t* record(std::uint32_t index) const {
    return data.get() + std::size_t{index} * layout->record_nbytes();
  }

  // Makes room for an end and one more, which then cannot fail to be added. Throws
  // std::bad_alloc with nothing changed. Amortised O(1).
  void ReserveEnds() {
    const std::size_t wanted = ends.size() + 2;
    if (ends.capacity() < wanted) ends.reserve(std::max(wanted, 2 * ends.size()));
  }
};

// A queue linked through its chunks, so that nothing it does can fail: a chunk is
// put aside in the middle of an eviction, where running out of memory would hurt.
class ChunkQueue {
 public:
  ChunkQueue() = default;
  ~ChunkQueue() {  // one by one: a chain that frees itself would recurse
    while (first_ != nullptr) Pop();
  }
  ChunkQueue(const ChunkQueue&) = delete;
  ChunkQueue& operator=(const ChunkQueue&) = delete;

  const Chunk* front() const { return first_.get(); }  // null: none
  void Push(std::shared_ptr<Chunk> chunk) noexcept {
    Chunk* const last = chunk.get();
    (first_ == nullptr ? first_ : last_->behind) = std::move(chunk);
    last_ = last;
  }
  std::shared_ptr<Chunk> Pop() noexcept {
    std::shared_ptr<Chunk> chunk = std::move(first_);
    first_ = std::move(chunk->behind);
    return chunk;
  }

 private:
  std::shared_ptr<Chunk> first_;
  Chunk* last_ = nullptr;
};

// Chunks to be freed by the caller once it has dropped the store's mutex:
// returning megabytes to the system is no work for a critical section.
using Garbage = ChunkQueue;

// All chunks of a store, by slot, with their reference counts, and the epochs
// that keep a freed chunk's bytes alive while a gather may still read them.
//
// Not thread-safe: guarded by the store's mutex, but for the bytes of published
// records, which anyone who holds a reference or an epoch may read. Every
// operation is O(1), Leave() O(gathers under way). Create() and Enter()
// throw std::bad_alloc with nothing changed; nothing else throws.
class ChunkStore {
 public:
  // A new, empty, open chunk with one reference. `id` 0 issues the next one.
  Chunk* Create(std::shared_ptr<const RecordLayout> layout, std::uint32_t capacity,
                std::uint64_t id = 0);

  Chunk* at(std::uint32_t slot) const { return slots_[slot].get(); }
  std::shared_ptr<Chunk> share(std::uint32_t slot) const { return slots_[slot]; }
  std::uint32_t num_slots() const { return static_cast<std::uint32_t>(slots_.size()); }

  void Ref(Chunk* chunk) { ++chunk->refs; }
  void Unref(Chunk* chunk, Garbage* garbage);

  // References on every chunk that a window touches.
  void RefWindow(Chunk* chunk, std::uint32_t offset, std::uint32_t length);
  void UnrefWindow(Chunk* chunk, std::uint32_t offset, std::uint32_t length, Garbage* garbage);

  // Brackets a gather: what was referenced at Enter() stays readable until
  // Leave(), whatever is evicted meanwhile.
  std::uint64_t Enter();
  void Leave(std::uint64_t epoch, Garbage* garbage);

  // Adds to the published count of `chunk`.
  void Publish(Chunk* chunk, std::uint32_t records) {
    chunk->count += records;
    num_steps_ += records;
    record_nbytes_ += records * chunk->layout->record_nbytes();
  }

  std::uint64_t num_chunks() const { return slots_.size() - free_slots_.size(); }
  std::uint64_t num_steps() const { return num_steps_; }
  std::uint64_t record_nbytes() const { return record_nbytes_; }
  std::uint64_t allocated_nbytes() const { return allocated_nbytes_; }

 private:
  std::vector<std::shared_ptr<Chunk>> slots_;
  std::vector<std::uint32_t> free_slots_;
  std::uint64_t last_id_ = 0;
  std::uint64_t num_steps_ = 0;
  std::uint64_t record_nbytes_ = 0;
  std::uint64_t allocated_nbytes_ = 0;

  std::uint64_t epoch_ = 0;
  std::vector<std::uint64_t> readers_;
  ChunkQueue retired_;  // readers that entered at or before `retired_at` may still read
};

}  // namespace reverie

#endif  // REVERIE_STORAGE_CHUNK_STORE_H_
