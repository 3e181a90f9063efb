#ifndef REVERIE_TESTS_SAVED_H_
#define REVERIE_TESTS_SAVED_H_

// Chunks as a checkpoint would keep them: their bytes, not the chunks.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "check.h"
#include "snapshot.h"

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

// A snapshot with its arrays.
inline std::unique_ptr<Snapshot> Arranged(Store* store) {
  auto snapshot = store->TakeSnapshot();
  snapshot->Arrange();
  return snapshot;
}
inline std::unique_ptr<Snapshot> Arranged(const std::shared_ptr<Store>& store) {
  return Arranged(store.get());
}

// The records of a chunk, which are the same however they are asked for.
inline std::vector<std::uint8_t> BytesOf(const Snapshot& snapshot, std::size_t row) {
  std::vector<std::uint8_t> bytes(snapshot.chunks.nbytes[row]);
  CHECK_EQ(bytes.size(), snapshot.count(row) * snapshot.record_nbytes(row));
  snapshot.Copy(row, bytes.data());
  if (const auto whole = snapshot.whole(row)) {
    CHECK_EQ(whole->id, snapshot.chunks.id[row]);
    CHECK(std::equal(bytes.begin(), bytes.end(), whole->data));
  }
  return bytes;
}

// A layout of chunks that all are packed must outlive what is loaded.
inline std::shared_ptr<const RecordLayout> LayoutOf(const Snapshot& snapshot, std::size_t row) {
  if (const auto whole = snapshot.whole(row)) return whole->layout;
  const RecordLayout* const layout = snapshot.layouts[snapshot.chunks.layout[row]];
  return {std::shared_ptr<void>(), layout};
}

inline Saved Save(const Snapshot& snapshot) {
  Saved saved{{}, snapshot.ends};
  for (std::size_t i = 0; i < snapshot.num_chunks(); ++i) {
    CHECK_EQ(snapshot.chunks.count[i], snapshot.count(i));
    saved.chunks.push_back({LayoutOf(snapshot, i), snapshot.chunks.id[i], snapshot.chunks.next[i],
                            snapshot.count(i), BytesOf(snapshot, i)});
  }
  return saved;
}

inline void Load(const Saved& saved, Store* store) {
  std::vector<std::uint64_t> from, to;
  for (const SavedChunk& chunk : saved.chunks) {
    const auto restored = store->RestoreChunk(chunk.layout, chunk.id, chunk.count);
    REQUIRE(restored != nullptr);
    std::copy(chunk.bytes.begin(), chunk.bytes.end(), restored->data);
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

// Whether all columns agree.
inline bool Same(const ItemColumns& a, const ItemColumns& b) {
  return a.key == b.key && a.chunk_id == b.chunk_id && a.offset == b.offset &&
         a.length == b.length && a.priority == b.priority && a.times_sampled == b.times_sampled &&
         a.touched == b.touched && a.traj_item == b.traj_item && a.traj_episode == b.traj_episode &&
         a.column_item == b.column_item && a.column_field == b.column_field &&
         a.column_squeeze == b.column_squeeze && a.column_pieces == b.column_pieces &&
         a.piece_chunk == b.piece_chunk && a.piece_offset == b.piece_offset &&
         a.piece_length == b.piece_length;
}
inline bool Same(const TableState& a, const TableState& b) {
  return Same(a.items, b.items) && a.holes == b.holes && a.free_keys == b.free_keys &&
         a.first_generation == b.first_generation && a.counters.inserts == b.counters.inserts &&
         a.counters.samples == b.counters.samples && a.counters.deletes == b.counters.deletes &&
         a.num_unique_samples == b.num_unique_samples &&
         a.num_deleted_episodes == b.num_deleted_episodes && a.rng == b.rng;
}
// Whether two snapshots hold the same, byte by byte.
inline bool Same(const Snapshot& a, const Snapshot& b) {
  const Saved x = Save(a);
  const Saved y = Save(b);
  const auto same_chunk = [](const SavedChunk& c, const SavedChunk& d) {
    return c.layout->record_nbytes() == d.layout->record_nbytes() && c.id == d.id &&
           c.next == d.next && c.count == d.count && c.bytes == d.bytes;
  };
  const auto same_state = [](const TableState& s, const TableState& t) { return Same(s, t); };
  return std::equal(x.chunks.begin(), x.chunks.end(), y.chunks.begin(), y.chunks.end(),
                    same_chunk) &&
         x.ends.chunk == y.ends.chunk && x.ends.step == y.ends.step && x.ends.how == y.ends.how &&
         a.chunks.sealed == b.chunks.sealed && a.layouts == b.layouts &&
         a.chunks.layout == b.chunks.layout &&
         std::equal(a.tables.begin(), a.tables.end(), b.tables.begin(), b.tables.end(), same_state);
}

}  // namespace reverie_test

#endif  // REVERIE_TESTS_SAVED_H_
