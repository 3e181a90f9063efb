#ifndef REVERIE_SNAPSHOT_H_
#define REVERIE_SNAPSHOT_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "table.h"

namespace reverie {

// A store at one point in time, all its tables together. Records are not copied:
// the snapshot shares the chunks that items refer to, and those records never
// change. What is appended or evicted later does not show in it, nor do items that
// wait for their limiter. A store restored from it draws the very samples that this
// one goes on to draw.
struct Snapshot {
  struct ChunkRef {
    std::shared_ptr<Chunk> chunk;
    std::uint32_t count;    // published records at that time
    std::uint64_t next_id;  // 0: none that is in this snapshot
    bool sealed;
  };
  std::vector<ChunkRef> chunks;  // by id, that is, by age
  std::vector<TableState> tables;
};

// Under the store's mutex. Chunks without items (a writer's, so far) are left out.
Snapshot TakeSnapshot(const ChunkStore& chunks, const std::vector<std::shared_ptr<Table>>& tables);

}  // namespace reverie

#endif  // REVERIE_SNAPSHOT_H_
