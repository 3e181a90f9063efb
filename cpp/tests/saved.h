#ifndef REVERIE_TESTS_SAVED_H_
#define REVERIE_TESTS_SAVED_H_

// Chunks as a checkpoint would keep them: their bytes, not the chunks.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "check.h"

namespace reverie_test {

struct SavedChunk {
  std::shared_ptr<const RecordLayout> layout;
  std::uint64_t id, next;
  std::uint32_t count;
  std::vector<std::uint8_t> bytes;
};

struct Saved {
  std::vector<SavedChunk> chunks;
  Snapshot::Ends ends;
};

inline Saved Save(const Snapshot& snapshot) {
  Saved saved{{}, snapshot.ends};
  for (std::size_t i = 0; i < snapshot.num_chunks(); ++i) {
    const Chunk& chunk = *snapshot.chunk(i);
    const std::uint8_t* const bytes = chunk.data.get();
    CHECK_EQ(snapshot.chunks.id[i], chunk.id);
    CHECK_EQ(snapshot.chunks.nbytes[i], snapshot.chunks.count[i] * chunk.layout->record_nbytes());
    saved.chunks.push_back({chunk.layout,
                            chunk.id,
                            snapshot.chunks.next[i],
                            snapshot.chunks.count[i],
                            {bytes, bytes + snapshot.chunks.nbytes[i]}});
  }
  return saved;
}

inline void Load(const Saved& saved, Store* store) {
  std::vector<std::uint64_t> from, to;
  for (const SavedChunk& chunk : saved.chunks) {
    const auto restored = store->RestoreChunk(chunk.layout, chunk.id, chunk.count);
    REQUIRE(restored != nullptr);
    std::copy(chunk.bytes.begin(), chunk.bytes.end(), restored->data.get());
    if (chunk.next == 0) continue;
    from.push_back(chunk.id);
    to.push_back(chunk.next);
  }
  REQUIRE(store->LinkChunks(from.data(), to.data(), from.size()).ok());
  const Snapshot::Ends& ends = saved.ends;
  REQUIRE(
      store->RestoreEnds(ends.chunk.data(), ends.step.data(), ends.how.data(), ends.chunk.size())
          .ok());
}

}  // namespace reverie_test

#endif  // REVERIE_TESTS_SAVED_H_
