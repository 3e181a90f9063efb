#ifndef REVERIE_STORAGE_CHUNK_H_
#define REVERIE_STORAGE_CHUNK_H_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "storage/arena.h"
#include "storage/epochs.h"
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
// Records below `count` are published: never written again. A chunk is sealed once its
// stream has gone on in another one, or its writer went away; from then on nothing of it
// changes but its references. `next` is set once, before any item reaches over the seam,
// and is followed only by windows that hold a reference on the chunk it points to.
struct Chunk final : Shed, std::enable_shared_from_this<Chunk> {
  struct End {
    std::uint32_t step;  // an episode's last record
    How how;
  };

  ~Chunk() {
    if (data != nullptr) memory->Free(data);
  }

  std::uint64_t id = 0;  // never reused; 0 is no chunk
  std::uint32_t slot = kNoSlot;
  std::atomic<std::uint32_t> capacity{0};  // cut to `count` when a writer leaves it
  std::uint32_t count = 0;
  std::uint32_t refs = 0;     // one per window, piece of a trajectory and writer that needs it
  std::uint32_t writers = 0;  // of those, by writers and by items that wait: new items may come
  std::uint32_t open_at = 0;  // where it stands among the open ones
  bool sealed = false;
  // Items have been runs of its records: then it matters where episodes end.
  std::atomic<bool> in_runs{false};
  bool leaving = false;  // what items hold of it is being moved elsewhere
  // At least so many records are held by items, as far as can be told in O(1); and up to
  // where they ever were.
  std::uint32_t held = 0;
  std::uint32_t covered = 0;
  Chunk* next = nullptr;
  std::uint64_t next_id = 0;
  std::uint32_t next_slot = kNoSlot;
  std::uint64_t previous_id = 0;  // of the chunk that went on here, if any; it may be gone
  std::uint32_t previous_slot = kNoSlot;
  std::shared_ptr<const RecordLayout> layout;
  std::uint8_t* data = nullptr;
  std::shared_ptr<Arena> memory;
  std::vector<End> ends;        // ascending; guarded by the store's mutex
  std::shared_ptr<Chunk> self;  // until it is freed

  std::uint8_t* record(std::uint32_t index) const {
    return data + std::size_t{index} * layout->record_nbytes();
  }

  void GoOnIn(Chunk* after) {
    next = after;
    next_id = after->id;
    next_slot = after->slot;
    after->previous_id = id;
    after->previous_slot = slot;
  }

  // Makes room for an end and one more, which then cannot fail to be added. Throws
  // std::bad_alloc with nothing changed. Amortised O(1).
  void ReserveEnds() {
    const std::size_t wanted = ends.size() + 2;
    if (ends.capacity() < wanted) ends.reserve(std::max(wanted, 2 * ends.size()));
  }
};

// Calls run(chunk, offset, length) for each chunk that a window touches, with what it takes
// of it. The `next` of the last one, which a writer may be setting, is not looked at, and
// none is after its chunk's turn: it may be freed by then.
template <typename AnyChunk, typename Run>
void EachPart(AnyChunk* chunk, std::uint32_t offset, std::uint32_t length, const Run& run) {
  for (;;) {
    const std::uint32_t here = std::min<std::uint32_t>(length, chunk->capacity - offset);
    length -= here;
    AnyChunk* const next = length != 0 ? chunk->next : nullptr;
    run(chunk, offset, here);
    if (length == 0) return;
    chunk = next;
    offset = 0;
  }
}

}  // namespace reverie

#endif  // REVERIE_STORAGE_CHUNK_H_
