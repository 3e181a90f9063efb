#ifndef REVERIE_COVERAGE_H_
#define REVERIE_COVERAGE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "storage/chunk.h"
#include "storage/large_vector.h"

namespace reverie {

// Which records of which chunks are held by items: one bit a record. Not thread-safe.
// Throws std::bad_alloc.
class Coverage {
 public:
  struct Range {
    std::uint32_t first;
    std::uint32_t end;
  };

  // Chunks in slots below `num_slots`; their records up to `count`.
  explicit Coverage(std::uint32_t num_slots) : of_slot_(num_slots, kNone) {}

  // Records from `offset` on, all of them in this chunk, of `count_of(chunk)` in all.
  template <typename CountOf>
  void Mark(const Chunk& chunk, std::uint32_t offset, std::uint32_t length,
            const CountOf& count_of) {
    std::uint64_t& first = of_slot_[chunk.slot];
    if (first == kNone) {
      first = bits_.size();
      bits_.resize(bits_.size() + (std::size_t{count_of(chunk)} + 63) / 64, 0);
      slots_.push_back(chunk.slot);
    }
    std::uint64_t* const words = &bits_[first];
    const std::uint32_t end = offset + length;
    for (std::uint32_t at = offset; at < end;) {
      const std::uint32_t upto = std::min(end, (at / 64 + 1) * 64);
      words[at / 64] |= Ones(upto - at) << at % 64;
      at = upto;
    }
  }
  // The records of a window from `offset` of the chunk on, which may go on in later ones.
  template <typename CountOf>
  void MarkWindow(const Chunk* chunk, std::uint32_t offset, std::uint32_t length,
                  const CountOf& count_of) {
    EachPart(chunk, offset, length, [&](const Chunk* one, std::uint32_t at, std::uint32_t here) {
      Mark(*one, at, here, count_of);
    });
  }

  // What another one has of this chunk.
  void Add(const Coverage& other, const Chunk& chunk, std::uint32_t count) {
    for (const Range& range : other.Ranges(chunk.slot, count)) {
      Mark(chunk, range.first, range.end - range.first, [count](const Chunk&) { return count; });
    }
  }

  // Of chunks with a held record, in the order in which they were first marked.
  const LargeVector<std::uint32_t>& slots() const { return slots_; }
  bool has(std::uint32_t slot) const { return of_slot_[slot] != kNone; }
  bool has(std::uint32_t slot, std::uint32_t record) const {
    return has(slot) && (bits_[of_slot_[slot] + record / 64] >> record % 64 & 1) != 0;
  }
  // The held records of a chunk of `count`, as ranges by place.
  LargeVector<Range> Ranges(std::uint32_t slot, std::uint32_t count) const {
    LargeVector<Range> ranges;
    for (std::uint32_t at = 0; at < count;) {
      const std::uint64_t word = bits_[of_slot_[slot] + at / 64] >> at % 64;
      if (word == 0) {
        at = (at / 64 + 1) * 64;
      } else if ((word & 1) == 0) {
        ++at;
      } else {
        std::uint32_t end = at + 1;
        while (end < count && has(slot, end)) ++end;
        ranges.push_back({at, end});
        at = end;
      }
    }
    return ranges;
  }
  std::uint32_t Held(std::uint32_t slot, std::uint32_t count) const {
    std::uint32_t held = 0;
    for (std::uint32_t word = 0; word < (std::size_t{count} + 63) / 64; ++word) {
      std::uint64_t bits = bits_[of_slot_[slot] + word];
      if (bits == ~std::uint64_t{0}) {
        held += 64;
        continue;
      }
      for (; bits != 0; bits &= bits - 1) ++held;
    }
    return held;
  }

 private:
  static constexpr std::uint64_t kNone = ~std::uint64_t{0};
  static std::uint64_t Ones(std::uint32_t n) {
    return n >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << n) - 1;
  }

  LargeVector<std::uint64_t> of_slot_;  // where a chunk's bits begin
  LargeVector<std::uint64_t> bits_;
  LargeVector<std::uint32_t> slots_;
};

}  // namespace reverie

#endif  // REVERIE_COVERAGE_H_
