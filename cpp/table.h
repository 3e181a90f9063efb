#ifndef REVERIE_TABLE_H_
#define REVERIE_TABLE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "gather.h"
#include "item_order.h"
#include "item_store.h"
#include "rate_limiter.h"
#include "rng.h"
#include "selectors/ordered.h"
#include "status.h"

namespace reverie {

// What is told of each sampled item. All arrays have room for n values, or for
// n * repeat where each item's value is repeated for its steps.
struct SampleInfo {
  std::uint64_t* key;
  double* probability;
  std::int64_t* table_size;
  double* priority;
  std::int32_t* times_sampled;
  std::size_t repeat;
};

// The items of one table, as columns, in insertion order. Keys and spans as in
// the checkpoint format: a span names its item by row.
struct ItemColumns {
  std::vector<std::uint64_t> key;
  std::vector<std::uint64_t> chunk_id;
  std::vector<std::uint32_t> offset;
  std::vector<std::uint32_t> length;
  std::vector<double> priority;
  std::vector<std::int32_t> times_sampled;
  std::vector<std::uint64_t> span_item;
  std::vector<std::uint32_t> span_column;
  std::vector<std::uint32_t> span_start;
  std::vector<std::uint32_t> span_length;
};

struct TableState {
  ItemColumns items;
  std::vector<std::uint64_t> free_keys;
  RateLimiter::Counters counters;
  Rng::State rng;
};

// Items, a sampler, a remover and a rate limiter over the steps of a chunk store.
//
// Not thread-safe: the store's mutex guards every call. Nothing here waits.
class Table {
 public:
  struct Config {
    std::uint32_t max_size;  // items
    OrderedKind sampler;
    OrderedKind remover;
    RateLimiter::Config limiter;
    std::uint64_t seed;
  };

  Table(const Config& config, ChunkStore* chunks);

  // Makes room for one Insert() of this length and priority, which then cannot
  // fail. Throws std::bad_alloc with nothing changed.
  void ReserveInsert(std::uint32_t length, double priority);

  // Adds an item over `length` steps from `offset` in `chunk` on, and references
  // the chunks. In a full table the remover then picks a victim, which may be
  // the new item. O(1). Throws std::bad_alloc with nothing changed.
  void Insert(Chunk* chunk, std::uint32_t offset, std::uint32_t length, double priority,
              Garbage* garbage);

  // Whether `n` samples may be taken now.
  bool CanSample(std::int64_t n) const { return size() > 0 && limiter_.CanSample(n); }

  // Chooses n items and counts the samples. kLengthMismatch or kLayoutMismatch,
  // with nothing counted, where an item is no run of `steps` records of `layout`.
  Status Sample(const RecordLayout* layout, std::size_t n, std::uint32_t steps, Row* rows,
                const SampleInfo& info);

  // Moves each row to one of its item's steps / piece disjoint pieces, at random.
  void PickPieces(Row* rows, std::size_t n, std::uint32_t steps, std::uint32_t piece);

  // The items by key (null: all, in insertion order), of `steps` steps each;
  // 0 takes the first one's. Appends to `rows` and `found`; counts nothing.
  Status Select(const RecordLayout* layout, const std::uint64_t* keys, std::size_t n,
                std::uint32_t* steps, std::vector<Row>* rows,
                std::vector<std::uint64_t>* found) const;

  // Finds one live item; `spans` is null unless its columns cover unequal steps.
  Status Find(std::uint64_t key, const RecordLayout* layout, Row* row, std::uint32_t* length,
              const std::vector<Span>** spans) const;

  // Both return how many keys were stale.
  std::size_t UpdatePriorities(const std::uint64_t* keys, const double* priorities, std::size_t n);
  std::size_t Delete(const std::uint64_t* keys, std::size_t n, Garbage* garbage);

  // Deletes all items and resets the limiter.
  void Clear(Garbage* garbage);

  TableState Save() const;
  // Closes the holes in the order of the items. How uniform draws fall depends on
  // them and they are not saved, so a table that is to go on as its copy will,
  // closes them when the copy is made. O(items) where there are any.
  void Pack();
  // Fills an empty table; kInvalid with the row at fault, then the table must be
  // dropped. `chunks_by_row` stands for items.chunk_id. Without keys, fresh ones
  // are issued.
  Status Restore(const TableState& state, const std::vector<Chunk*>& chunks_by_row);

  std::uint32_t size() const { return items_.size(); }
  const Config& config() const { return config_; }
  const RateLimiter& limiter() const { return limiter_; }

 private:
  // Whether an item is a plain run of `steps` records of `layout`: the common case
  // of CheckSteps(), without its words.
  bool Fits(const RecordLayout* layout, std::uint32_t slot, std::uint32_t steps) const;
  Status CheckSteps(const RecordLayout* layout, std::uint32_t slot, std::uint32_t steps) const;
  void Remove(std::uint32_t slot, Garbage* garbage);

  const Config config_;
  ChunkStore* const chunks_;
  ItemStore items_;
  ItemOrder order_;
  std::unique_ptr<Selector> sampler_;
  std::unique_ptr<Selector> remover_;
  RateLimiter limiter_;
  Rng rng_;
  std::vector<std::uint32_t> slots_;  // scratch of Sample()
  std::vector<double> probabilities_;
};

}  // namespace reverie

#endif  // REVERIE_TABLE_H_
