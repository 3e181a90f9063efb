#ifndef REVERIE_PACKING_H_
#define REVERIE_PACKING_H_

#include <algorithm>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "coverage.h"
#include "storage/chunk.h"

namespace reverie {

// What of the chunks is worth keeping, laid out anew where that saves much.
//
// A chunk of which items hold nearly all records stays whole, under its id. What they
// hold of the others is packed: ranges of many chunks, of many streams, one after the
// other. Where a window reaches from one chunk into the next, so it does here:
//
//   chunks       [ 1: ##### ]->[ 2: ##..# ]->[ 3: #.... ]->[ 4: ##### ]     [ 7: .##.. ]
//   packed       [ 1: ##### ]->[ 2: ## #|# ->             ]                 [ 7: ##    ]
//
// Records that come to stand next to others than before are cut from them: there an
// episode ends, as kCut.
class Packing {
 public:
  // A chunk as it was when the snapshot was taken, if more has come since.
  struct Open {
    std::uint32_t count;
    std::vector<Chunk::End> ends;
  };
  struct Part {
    const Chunk* chunk;
    std::uint32_t first;
    std::uint32_t end;
  };
  struct Packed {
    std::uint64_t id;
    std::uint64_t next;  // id; 0: none
    const Chunk* whole;  // null: it is made of `parts`
    const RecordLayout* layout;
    std::uint32_t count;
    bool sealed;
    std::vector<Part> parts;
    std::vector<Chunk::End> ends;  // of `parts`
  };
  struct Place {
    std::uint64_t id;  // of the packed chunk
    std::uint32_t offset;
  };

  // `chunk_at(slot)` gives the chunks that `coverage` has; those in `open`, by slot, were
  // not sealed. `all`: none stays whole. Throws std::bad_alloc. O(records).
  template <typename ChunkAt>
  Packing(const Coverage& coverage, const std::unordered_map<std::uint32_t, Open>& open, bool all,
          const ChunkAt& chunk_at)
      : coverage_(coverage), open_(open), all_(all) {
    for (const std::uint32_t slot : coverage.slots()) chunks_.push_back(chunk_at(slot));
    Run();
  }

  const std::vector<Packed>& chunks() const { return packed_; }  // by id
  const std::vector<Chunk::End>& ends(const Packed& chunk) const {
    return chunk.whole == nullptr ? chunk.ends : EndsOf(*chunk.whole);
  }

  // Whether the chunk did not stay whole.
  bool moved(const Chunk& chunk) const { return MovedFrom(chunk) != nullptr; }
  // Where a record that is held stands.
  Place Find(const Chunk& chunk, std::uint32_t offset) const {
    const std::vector<Moved>* const moved = MovedFrom(chunk);
    if (moved == nullptr) return {chunk.id, offset};
    const auto after = std::upper_bound(
        moved->begin(), moved->end(), offset,
        [](std::uint32_t wanted, const Moved& range) { return wanted < range.first; });
    const Moved& range = *(after - 1);
    return {range.id, range.offset + (offset - range.first)};
  }

 private:
  struct Moved {
    std::uint32_t first;
    std::uint64_t id;
    std::uint32_t offset;
  };

  void Run();
  void Decide();
  std::uint32_t Count(const Chunk& chunk) const {
    const auto open = open_.find(chunk.slot);
    return open == open_.end() ? chunk.count : open->second.count;
  }
  const std::vector<Chunk::End>& EndsOf(const Chunk& chunk) const {
    const auto open = open_.find(chunk.slot);
    return open == open_.end() ? chunk.ends : open->second.ends;
  }
  // Null: the chunk stays whole.
  const std::vector<Moved>* MovedFrom(const Chunk& chunk) const {
    return chunk.slot < moved_of_.size() && moved_of_[chunk.slot] != kNoSlot
               ? &moved_[moved_of_[chunk.slot]]
               : nullptr;
  }
  // Of the chunks that are held; null: it is not.
  const Chunk* ById(std::uint64_t id) const;
  // The chunk into which windows may go on from the last record of this one; null: none.
  const Chunk* Reaches(const Chunk& chunk) const;
  void AddWhole(const Chunk& chunk);
  std::uint64_t AddSegment(const Chunk& first, bool linked);
  void AddRanges(const Chunk& chunk, bool joined, std::size_t to);

  const Coverage& coverage_;
  const std::unordered_map<std::uint32_t, Open>& open_;
  const bool all_;
  std::vector<const Chunk*> chunks_;  // by id
  std::vector<Packed> packed_;
  std::vector<std::uint32_t> moved_of_;  // by slot: where in moved_, of chunks not whole
  std::vector<std::vector<Moved>> moved_;
  std::unordered_map<const RecordLayout*, std::size_t> current_;  // in packed_, to be added to
};

}  // namespace reverie

#endif  // REVERIE_PACKING_H_
