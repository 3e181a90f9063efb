#ifndef REVERIE_WRITERS_TRAJECTORY_WRITER_H_
#define REVERIE_WRITERS_TRAJECTORY_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "outer_lock.h"
#include "store.h"
#include "writers/chunk_chain.h"

namespace reverie {

// One stream of steps whose columns are stored apart, so that an item may take any
// cells of any column: what Reverb's TrajectoryWriter does.
//
// The n-th cell ever appended to a column has number n. The latest `keep` of them
// can be referred to by new items, until the episode ends; older ones live on only
// in the items that hold them. A column has cells of one layout, or of any size
// (layout null: each such cell has a chunk of its own).
//
// Thread-safe: a mutex of its own, taken before the store's. Appending costs
// O(bytes) and one or two short holds of the store's mutex.
class TrajectoryWriter {
 public:
  struct Cell {
    const void* bytes = nullptr;  // null: the column has no cell in this step
    std::size_t nbytes = 0;       // of a column without a layout
  };
  // `length` cells of stream `column`, from number `start` on.
  struct Run {
    std::uint32_t column;
    std::uint64_t start;
    std::uint32_t length;
  };
  struct OutputColumn {
    std::uint32_t num_runs;
    bool squeeze;
  };

  explicit TrajectoryWriter(std::shared_ptr<Store> store);
  ~TrajectoryWriter();

  // The new column's index.
  std::uint32_t AddColumn(std::shared_ptr<const RecordLayout> layout, std::uint64_t keep);
  // At once: what is too old now expires.
  void SetKeep(std::uint32_t column, std::uint64_t keep);
  std::uint32_t num_columns() const;
  // Null: cells of any size.
  std::shared_ptr<const RecordLayout> layout(std::uint32_t column) const;

  // One cell, or none, for each of the first `n` columns; later ones, which another
  // thread may just have declared, get none. kClosed and std::bad_alloc change
  // nothing. Requires n <= num_columns().
  Status Append(const Cell* cells, std::size_t n);

  // `n` cells of one column that has a layout, one after the other; `*first`: the number of the
  // first. After kClosed and std::bad_alloc some of them may be there.
  Status AppendCells(std::uint32_t column, const void* bytes, std::size_t n, std::uint64_t* first);

  // Cells of the column below this number expire, whatever it keeps.
  void DropBefore(std::uint32_t column, std::uint64_t first_kept);

  // Of the column's cells, [first_kept, next) can be referred to.
  std::uint64_t first_kept(std::uint32_t column) const;
  std::uint64_t next(std::uint32_t column) const;

  // A kept cell, alive as long as `pin`; null if it has expired.
  const void* Find(std::uint32_t column, std::uint64_t number, std::shared_ptr<Chunk>* pin) const;

  // An item over `runs`, the first output column's first. `*inserted`: whether it is
  // in, or waits for the table's limiter. kInvalid with the index of the run that
  // names unknown or expired cells, or cells of another kind than its column's.
  Status CreateItem(Table* table, double priority, const Run* runs, std::size_t num_runs,
                    const OutputColumn* columns, std::size_t num_columns, bool* inserted);

  // What comes later belongs to another episode. `clear`: all cells expire.
  void EndEpisode(bool clear);

  // Cells expire; items that wait go on waiting. Idempotent.
  void Close();

  const InsertProgress& progress() const { return *progress_; }
  std::uint64_t pending() const;

 private:
  struct Column {
    std::shared_ptr<const RecordLayout> layout;
    std::uint64_t keep = 0;
    ChunkChain chain;  // holds all kept cells
    std::uint64_t first_kept = 0;
  };

  bool Roll(const Cell* cells, std::size_t n);
  void Rehome();
  static void ExpireBefore(std::uint64_t first_kept, Column* column, Store::Locked* store);
  // All but the latest `keep` cells.
  static void Expire(Column* column, Store::Locked* store);
  static void DropEmptyTail(Column* column, Store::Locked* store);

  const std::shared_ptr<Store> store_;
  const std::uint64_t life_;  // of the store, in which it may write
  const std::shared_ptr<InsertProgress> progress_ = std::make_shared<InsertProgress>();

  mutable Mutex mutex_;
  std::vector<Column> columns_;
  std::uint64_t episode_;
  bool closed_ = false;
  std::vector<Piece> pieces_;  // scratch: of the item under way
  std::vector<Trajectory::Column> output_;
  Store::Holder holder_;  // last, so that it is the first to go
};

}  // namespace reverie

#endif  // REVERIE_WRITERS_TRAJECTORY_WRITER_H_
