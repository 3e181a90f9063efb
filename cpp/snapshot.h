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
class Snapshot {
 public:
  // The chunks, by id, that is, by age.
  struct Chunks {
    std::vector<std::uint64_t> id;
    std::vector<std::uint64_t> next;    // id; 0: none that is in this snapshot
    std::vector<std::uint32_t> count;   // published records at that time
    std::vector<std::uint64_t> nbytes;  // of those
    std::vector<std::uint8_t> sealed;
    std::vector<std::uint32_t> layout;  // row of `layouts`
  };
  struct Ends {
    std::vector<std::uint64_t> chunk;
    std::vector<std::uint32_t> step;
    std::vector<std::uint8_t> how;
  };
  Chunks chunks;
  Ends ends;                                 // by chunk and step
  std::vector<const RecordLayout*> layouts;  // of the chunks; null: one cell of any size
  std::vector<TableState> tables;

  // What only the store's mutex keeps still. Chunks without items (a writer's, so far)
  // are left out.
  void Take(const ChunkStore& store, const std::vector<std::shared_ptr<Table>>& all_tables);
  // Makes arrays of it; after Take(), without the mutex.
  void Arrange();

  std::size_t num_chunks() const { return taken_.size(); }
  const std::shared_ptr<Chunk>& chunk(std::size_t row) const { return taken_[row].chunk; }
  std::uint32_t count(std::size_t row) const { return taken_[row].count; }

 private:
  struct Taken {
    std::shared_ptr<Chunk> chunk;
    std::uint64_t next_id;
    std::size_t first_end;  // in taken_ends_
    std::uint32_t num_ends;
    std::uint32_t count;
    bool sealed;
  };
  std::vector<Taken> taken_;
  std::vector<Chunk::End> taken_ends_;
};

}  // namespace reverie

#endif  // REVERIE_SNAPSHOT_H_
