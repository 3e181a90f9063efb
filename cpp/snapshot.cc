#include "snapshot.h"

#include <algorithm>
#include <unordered_map>

namespace reverie {

Snapshot TakeSnapshot(const ChunkStore& chunks, const std::vector<std::shared_ptr<Table>>& tables) {
  Snapshot snapshot;
  std::unordered_map<std::uint64_t, const Chunk*> by_id;
  for (std::uint32_t slot = 0; slot < chunks.num_slots(); ++slot) {
    if (const Chunk* chunk = chunks.at(slot)) by_id[chunk->id] = chunk;
  }
  std::unordered_map<std::uint64_t, const Chunk*> used;
  for (const auto& table : tables) {
    table->Pack();
    snapshot.tables.push_back(table->Save());
    const ItemColumns& items = snapshot.tables.back().items;
    for (const std::uint64_t id : items.piece_chunk) used[id] = by_id[id];
    const Chunk* first = nullptr;
    for (std::size_t i = 0; i < items.chunk_id.size(); ++i) {
      if (items.chunk_id[i] == 0) continue;                      // a trajectory
      if (first == nullptr || first->id != items.chunk_id[i]) {  // neighbours share their chunk
        first = by_id[items.chunk_id[i]];
        used[first->id] = first;
      }
      const Chunk* chunk = first;
      std::uint32_t here = chunk->capacity - items.offset[i];
      for (std::uint32_t left = items.length[i]; left > here; here = chunk->capacity) {
        left -= here;
        chunk = chunk->next;
        used[chunk->id] = chunk;
      }
    }
  }
  for (const auto& [id, chunk] : used) {
    const std::uint64_t next = used.count(chunk->next_id) != 0 ? chunk->next_id : 0;
    snapshot.chunks.push_back({chunks.share(chunk->slot), chunk->count, next, chunk->sealed});
  }
  std::sort(snapshot.chunks.begin(), snapshot.chunks.end(),
            [](const auto& a, const auto& b) { return a.chunk->id < b.chunk->id; });
  return snapshot;
}

}  // namespace reverie
