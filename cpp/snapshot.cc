#include "snapshot.h"

#include <algorithm>
#include <unordered_map>

namespace reverie {

void Snapshot::Take(const ChunkStore& store,
                    const std::vector<std::shared_ptr<Table>>& all_tables) {
  std::vector<bool> used(store.num_slots());
  for (const auto& table : all_tables) {
    table->Pack();
    tables.push_back(table->Save(&used));
  }
  taken_.reserve(static_cast<std::size_t>(std::count(used.begin(), used.end(), true)));
  for (std::uint32_t slot = 0; slot < store.num_slots(); ++slot) {
    if (!used[slot]) continue;
    const Chunk& chunk = *store.at(slot);
    taken_.push_back({store.share(slot), chunk.next_id, taken_ends_.size(),
                      static_cast<std::uint32_t>(chunk.ends.size()), chunk.count, chunk.sealed});
    taken_ends_.insert(taken_ends_.end(), chunk.ends.begin(), chunk.ends.end());
  }
}

void Snapshot::Arrange() {
  std::sort(taken_.begin(), taken_.end(),
            [](const Taken& a, const Taken& b) { return a.chunk->id < b.chunk->id; });
  std::unordered_map<const RecordLayout*, std::uint32_t> rows;
  const RecordLayout* last = nullptr;  // neighbours tend to share theirs
  for (const Taken& taken : taken_) chunks.id.push_back(taken.chunk->id);
  for (const Taken& taken : taken_) {
    const Chunk& chunk = *taken.chunk;
    const bool has_next = std::binary_search(chunks.id.begin(), chunks.id.end(), taken.next_id);
    chunks.next.push_back(has_next ? taken.next_id : 0);
    chunks.count.push_back(taken.count);
    chunks.nbytes.push_back(taken.count * chunk.layout->record_nbytes());
    chunks.sealed.push_back(taken.sealed);
    const RecordLayout* const layout = chunk.layout->any_size() ? nullptr : chunk.layout.get();
    if (chunks.layout.empty() || layout != last) {
      const auto row = rows.try_emplace(layout, static_cast<std::uint32_t>(layouts.size()));
      if (row.second) layouts.push_back(layout);
      chunks.layout.push_back(row.first->second);
      last = layout;
    } else {
      chunks.layout.push_back(chunks.layout.back());
    }
    for (std::size_t i = taken.first_end; i < taken.first_end + taken.num_ends; ++i) {
      ends.chunk.push_back(chunk.id);
      ends.step.push_back(taken_ends_[i].step);
      ends.how.push_back(static_cast<std::uint8_t>(taken_ends_[i].how));
    }
  }
  taken_ends_ = {};
}

}  // namespace reverie
