#ifndef REVERIE_GATHER_H_
#define REVERIE_GATHER_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "items/trajectory.h"
#include "shift.h"
#include "storage/chunk_store.h"

namespace reverie {

// What each item of a batch must hold, and each of its outputs gets: a run of `steps`
// records of `layout`, or a trajectory whose columns hold, in order, what the layout's do.
struct BatchSpec {
  static constexpr std::int64_t kSqueezed = -1;  // one cell, without the time axis

  const RecordLayout* layout;
  // Cells of each column; of a view, the most records that a row may have.
  std::uint32_t steps;
  const std::int64_t* lengths = nullptr;  // instead, by column: then no run fits
  // Rows begin where items do, which must be runs, and go on whatever the items' length.
  bool is_view = false;
  // Of a view whose rows have so many records before their step, another record at random for
  // each row: of those after its step, of those of its episode, or of any item's next one.
  enum class Other { kNone, kLater, kEpisode, kAny } other = Other::kNone;
  std::uint32_t lead = 0;
  // Of a view that shifts images: its rows need a seed.
  bool shifts = false;
  // Items are chosen uniformly among so many of the newest, whatever the sampler; 0: by that.
  std::uint32_t newest = 0;

  // `of_columns`, one per column, may be null; where all are equal they are mere steps.
  BatchSpec(const RecordLayout* records, std::uint32_t num_steps,
            const std::int64_t* of_columns = nullptr);

  std::int64_t length(std::size_t column) const {
    return lengths == nullptr ? std::int64_t{steps} : lengths[column];
  }
};

// Where the steps of one row of a batch begin, and how many are there before its chunk
// ends. Without a chunk the row is a trajectory, of which `offset` is the index.
struct Row {
  const std::uint8_t* record;
  const Chunk* chunk;
  std::uint32_t offset;
  std::uint32_t here;

  static Row Of(const ChunkStore::Place& place, std::uint32_t offset) {
    return {place.data + offset * place.layout->record_nbytes(), place.chunk, offset,
            place.capacity - offset};
  }
  static Row Of(const Chunk* chunk, std::uint32_t offset) {
    return {chunk->record(offset), chunk, offset, chunk->capacity - offset};
  }
  // The first record of the chunk in which the row goes on.
  static Row After(const Row& row) {
    const Chunk* const next = row.chunk->next;
    return {next->data, next, 0, next->capacity};
  }
};

// The items of a batch.
struct BatchRows {
  struct OfTrajectory {
    const Trajectory* trajectory;
    std::uint32_t skip;  // cells of each column that are left out at its front
  };
  std::vector<Row> rows;
  std::vector<OfTrajectory> trajectories;
  std::vector<ChunkStore::Reach> reach;  // of each row, of a view
  std::vector<Row> others;               // likewise, with BatchSpec::other
  std::uint64_t seed = 0;                // with BatchSpec::shifts
};

// What a view takes of each of its rows: `steps` cells of a field from the row's record
// `first` on, counted from its end where that is negative: -1 is its last. Cells of records
// that the row has not, or that are among its last `spare`, are zeros.
// kOther: the row's other record, which is not shifted.
struct ViewColumn {
  static constexpr std::int64_t kOther = std::numeric_limits<std::int64_t>::min();

  std::uint32_t field;
  std::int64_t first;
  std::uint32_t steps;
  std::uint32_t spare;
  Shift shift = {};  // all cells of a row by the same offset
};

// Goes to the step `skip` after the row's first, in whichever chunk holds it.
void AdvanceRow(Row* row, std::uint32_t skip);

// Copies `steps` consecutive steps of each row, a run, into column-wise outputs:
// outputs[c] has room for num_rows * steps * columns[c].nbytes bytes, row-major.
//
// The rows' chunks must stay alive meanwhile (ChunkStore::Enter). Each record is
// read once, front to back, while the records of later rows are prefetched.
// Large batches are split over at most `max_threads` threads; the outputs do not
// depend on how. O(bytes). Throws std::bad_alloc before anything is copied; for
// want of threads it is merely slower. Stop::Asked(): not all is copied.
void Gather(const RecordLayout& layout, const Row* rows, std::size_t num_rows, std::uint32_t steps,
            void* const* outputs, int max_threads);

// The same for rows of which some may be trajectories, each as long as `spec` says.
void Gather(const BatchSpec& spec, const BatchRows& rows, void* const* outputs, int max_threads);

// The same for a view: outputs[c] has room for as many rows of columns[c].steps cells. What is
// shifted depends on the batch's seed and nothing else. Only rows from `first` up to `end` are
// copied, to where they stand in the outputs.
void GatherView(const RecordLayout& layout, const BatchRows& batch,
                const std::vector<ViewColumn>& columns, void* const* outputs, int max_threads,
                std::size_t first, std::size_t end);
inline void GatherView(const RecordLayout& layout, const BatchRows& batch,
                       const std::vector<ViewColumn>& columns, void* const* outputs,
                       int max_threads) {
  GatherView(layout, batch, columns, outputs, max_threads, 0, batch.rows.size());
}

// Copies the field's cells of `n` pieces, one after the other, into `output`.
void GatherPieces(const Piece* pieces, std::size_t n, std::uint32_t field, void* output);

}  // namespace reverie

#endif  // REVERIE_GATHER_H_
