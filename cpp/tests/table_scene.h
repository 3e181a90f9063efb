#ifndef REVERIE_TESTS_TABLE_SCENE_H_
#define REVERIE_TESTS_TABLE_SCENE_H_

// What the tests of a table by itself share.

#include <memory>
#include <unordered_map>
#include <vector>

#include "check.h"
#include "saved.h"
#include "table.h"

namespace reverie_test {

// A long stream over chunks of four steps, held by one reference each. Its tables are made
// without the store, which has but one thread here and is never locked for long.
struct Stream {
  std::shared_ptr<const RecordLayout> layout = StepLayout();
  std::shared_ptr<Store> store = std::make_shared<Store>(Store::Options{4096, 1});
  ChunkStore& chunks = store->Lock().chunks();
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
        steps.push_back(Row::Of(chunks.place(chunk->slot), i));
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
  TableState Save(Table* table) {
    return store->table_state(std::shared_ptr<Table>(std::shared_ptr<void>(), table));
  }
};

// Of a table that has not given all its contents away.
inline void Clear(Table* table, Garbage* garbage) {
  std::unique_ptr<Table::Contents> none;
  table->Clear(&none, garbage);
}

inline std::vector<Chunk*> ChunksByRow(Stream* stream, const TableState& state) {
  std::vector<Chunk*> rows;
  for (const std::uint64_t id : state.items.chunk_id) rows.push_back(stream->all[id - 1]);
  return rows;
}

// Of chunks that the stream has, and those that follow them.
inline Status Restore(Stream* stream, Table* table, const TableState& state,
                      const std::vector<Chunk*>& rows,
                      std::uint64_t references = ~std::uint64_t{0}) {
  std::unordered_map<std::uint64_t, Chunk*> all;
  for (Chunk* chunk : stream->all) {
    for (; chunk != nullptr; chunk = chunk->next) all[chunk->id] = chunk;
  }
  std::unique_ptr<Table::Contents> refused;
  const Status status =
      table->Restore(state, RestoredStreams(all), rows, {}, &references, &refused);
  Garbage garbage;
  for (std::uint64_t i = 0; refused != nullptr && i < refused->order.span(); ++i) {
    const std::uint32_t slot = refused->order[i];
    if (slot != kNoSlot) refused->DropChunks(slot, &stream->chunks, &garbage);
  }
  return status;
}

}  // namespace reverie_test

#endif  // REVERIE_TESTS_TABLE_SCENE_H_
