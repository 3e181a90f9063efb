#ifndef REVERIE_RESTORED_STREAMS_H_
#define REVERIE_RESTORED_STREAMS_H_

#include <algorithm>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "storage/chunk.h"
#include "storage/large_vector.h"

namespace reverie {

// Restored chunks stream by stream, so that how far a window reaches is found without a walk
// over its chunks: a forged one may touch all of them.
//
//   place     0    1    2      3    4          each stream's chunks stand together
//   ends_    10   25   27     40   80          records of all chunks up to this one
//   last_     2    2    2      4    4          place of its stream's last chunk
//
// A chunk of another layout than the one before it, or that follows two, begins a stream: no
// window reaches into it. O(chunks) to make. Throws std::bad_alloc.
class RestoredStreams {
 public:
  explicit RestoredStreams(const std::unordered_map<std::uint64_t, Chunk*>& chunks) {
    std::uint32_t num_slots = 0;
    for (const auto& entry : chunks) {
      if (entry.second != nullptr) num_slots = std::max(num_slots, entry.second->slot + 1);
    }
    LargeVector<std::uint32_t> followed(num_slots, 0);
    for (const auto& entry : chunks) {
      const Chunk* const next = entry.second == nullptr ? nullptr : entry.second->next;
      if (next == nullptr) continue;
      // Two that go on in one chunk: neither does.
      followed[next->slot] += next->layout == entry.second->layout ? 1 : 2;
    }
    place_.resize(num_slots, 0);
    ends_.reserve(chunks.size());
    last_.reserve(chunks.size());
    for (const auto& entry : chunks) {
      const Chunk* chunk = entry.second;
      if (chunk == nullptr || followed[chunk->slot] == 1) continue;
      const std::size_t first = ends_.size();
      for (; chunk != nullptr; chunk = chunk->next) {
        if (ends_.size() != first && followed[chunk->slot] != 1) break;
        place_[chunk->slot] = static_cast<std::uint32_t>(ends_.size());
        ends_.push_back((ends_.empty() ? 0 : ends_.back()) + chunk->count);
      }
      last_.resize(ends_.size(), static_cast<std::uint32_t>(ends_.size() - 1));
    }
  }

  // How many chunks a window touches that begins inside this one; 0: its stream ends before.
  // O(log chunks).
  std::uint32_t Touched(const Chunk& chunk, std::uint32_t offset, std::uint32_t length) const {
    if (length <= chunk.count - offset) return 1;
    const std::uint32_t place = place_[chunk.slot];
    const std::uint64_t end = ends_[place] - chunk.count + offset + length;
    const auto behind = ends_.begin() + last_[place] + 1;
    const auto found = std::lower_bound(ends_.begin() + place, behind, end);
    return found == behind ? 0 : static_cast<std::uint32_t>(found - ends_.begin()) - place + 1;
  }

 private:
  LargeVector<std::uint32_t> place_;  // by slot
  LargeVector<std::uint64_t> ends_;
  LargeVector<std::uint32_t> last_;
};

}  // namespace reverie

#endif  // REVERIE_RESTORED_STREAMS_H_
