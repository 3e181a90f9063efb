#ifndef REVERIE_PACKING_H_
#define REVERIE_PACKING_H_

#include <algorithm>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "coverage.h"
#include "storage/chunk.h"
#include "storage/large_vector.h"

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
// episode ends, as kCut, unless no item is a run of them.
class Packing {
 public:
  // A chunk as it was when the snapshot was taken, if more has come since.
  struct Open {
    std::uint32_t count;
    LargeVector<Chunk::End> ends;
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
    LargeVector<Part> parts;
    LargeVector<Chunk::End> ends;  // of `parts`
  };
  struct Ends {
    const Chunk::End* first;
    std::size_t size;

    const Chunk::End& operator[](std::size_t i) const { return first[i]; }
    const Chunk::End* begin() const { return first; }
    const Chunk::End* end() const { return first + size; }
  };
  struct Place {
    std::uint64_t id;  // of the packed chunk
    std::uint32_t offset;
  };

  // `chunk_at(slot)` gives the chunks that `coverage` has; those in `open`, by slot, were
  // not sealed. `all`: none stays whole. Throws std::bad_alloc. O(records).
  // Stop::Asked(): it is not whole, and of no use.
  template <typename ChunkAt>
  Packing(const Coverage& coverage, const std::unordered_map<std::uint32_t, Open>& open, bool all,
          const ChunkAt& chunk_at)
      : coverage_(coverage), open_(open), all_(all) {
    for (const std::uint32_t slot : coverage.slots()) chunks_.push_back(chunk_at(slot));
    Run();
  }

  const LargeVector<Packed>& chunks() const { return packed_; }  // by id
  Ends ends(const Packed& chunk) const {
    return chunk.whole == nullptr ? Ends{chunk.ends.data(), chunk.ends.size()}
                                  : EndsOf(*chunk.whole);
  }

  // Whether the chunk did not stay whole.
  bool moved(const Chunk& chunk) const {
    return chunk.slot < moved_of_.size() && moved_of_[chunk.slot] != kNoSlot;
  }
  // Where a record that is held stands.
  Place Find(const Chunk& chunk, std::uint32_t offset) const {
    if (!moved(chunk)) return {chunk.id, offset};
    // One stretch of moved_ for each chunk, headed by how many ranges it has.
    const Moved* const head = &moved_[moved_of_[chunk.slot]];
    const Moved* const after = std::upper_bound(
        head + 1, head + 1 + head->first, offset,
        [](std::uint32_t wanted, const Moved& range) { return wanted < range.first; });
    const Moved& range = *(after - 1);
    return {range.id, range.offset + (offset - range.first)};
  }

 private:
  struct Moved {
    std::uint32_t first;
    std::uint32_t offset;
    std::uint64_t id;
  };
  static constexpr std::uint32_t kToCome = kNoSlot - 1;

  void Run();
  void Decide();
  std::uint32_t Count(const Chunk& chunk) const {
    const auto open = open_.find(chunk.slot);
    return open == open_.end() ? chunk.count : open->second.count;
  }
  Ends EndsOf(const Chunk& chunk) const {
    const auto open = open_.find(chunk.slot);
    if (open == open_.end()) return {chunk.ends.data(), chunk.ends.size()};
    return {open->second.ends.data(), open->second.ends.size()};
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
  LargeVector<const Chunk*> chunks_;  // by id
  LargeVector<Packed> packed_;
  // By slot, of chunks that do not stay whole: where their part of moved_ begins, kToCome
  // before it is there.
  LargeVector<std::uint32_t> moved_of_;
  LargeVector<Moved> moved_;
  std::unordered_map<const RecordLayout*, std::size_t> current_;  // in packed_, to be added to
};

}  // namespace reverie

#endif  // REVERIE_PACKING_H_
