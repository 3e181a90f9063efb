#ifndef REVERIE_TESTS_TABLE_SCENE_H_
#define REVERIE_TESTS_TABLE_SCENE_H_

// What the tests of a table without a store share.

#include <memory>
#include <vector>

#include "check.h"
#include "table.h"

namespace reverie_test {

// A long stream over chunks of four steps, held by one reference each.
struct Stream {
  std::shared_ptr<const RecordLayout> layout = StepLayout();
  ChunkStore chunks;
  std::vector<Row> steps;
  std::vector<Chunk*> all;

  explicit Stream(std::uint32_t num_steps) {
    while (steps.size() < num_steps) {
      Chunk* chunk = chunks.Create(layout, 4);
      chunks.Publish(chunk, 4);
      if (!all.empty()) all.back()->next = chunk;
      all.push_back(chunk);
      for (std::uint32_t i = 0; i < 4; ++i) {
        Pack(*layout, Step(steps.size()), chunk->record(i));
        steps.push_back({chunk, i});
      }
    }
  }
  Chunk* chunk(std::size_t step) { return all[step / 4]; }
  void Insert(Table* table, std::size_t step, std::uint32_t length, double priority = 1.0) {
    Garbage garbage;
    reverie_test::Insert(table, chunk(step), static_cast<std::uint32_t>(step % 4), length, priority,
                         &garbage);
  }
  Status Sample(Table* table, Batch* batch, BatchRows* rows, std::uint32_t length) {
    rows->rows.resize(batch->key.size());
    Garbage garbage;
    return table->Sample({layout.get(), length}, rows, batch->info, &garbage);
  }
};

inline bool Same(const TableState& a, const TableState& b) {
  const ItemColumns& x = a.items;
  const ItemColumns& y = b.items;
  return x.key == y.key && x.chunk_id == y.chunk_id && x.offset == y.offset &&
         x.length == y.length && x.priority == y.priority && x.times_sampled == y.times_sampled &&
         a.free_keys == b.free_keys && a.rng == b.rng && a.counters.inserts == b.counters.inserts &&
         a.counters.samples == b.counters.samples && a.counters.deletes == b.counters.deletes;
}

inline std::vector<Chunk*> ChunksByRow(Stream* stream, const TableState& state) {
  std::vector<Chunk*> rows;
  for (const std::uint64_t id : state.items.chunk_id) rows.push_back(stream->all[id - 1]);
  return rows;
}

}  // namespace reverie_test

#endif  // REVERIE_TESTS_TABLE_SCENE_H_
