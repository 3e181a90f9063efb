#ifndef REVERIE_GATHER_H_
#define REVERIE_GATHER_H_

#include <cstddef>
#include <cstdint>

#include "storage/chunk_store.h"
#include "items/trajectory.h"

namespace reverie {

// Where the steps of one row of a batch begin.
struct Row {
  const Chunk* chunk;
  std::uint32_t offset;
};

// Goes to the step `skip` after the row's first, in whichever chunk holds it.
void AdvanceRow(Row* row, std::uint32_t skip);

// Copies `steps` consecutive steps of each row into column-wise outputs:
// outputs[c] has room for num_rows * steps * columns[c].nbytes bytes, row-major.
//
// The rows' chunks must stay alive meanwhile (ChunkStore::Enter). Each record is
// read once, front to back, while the records of later rows are prefetched.
// Large batches are split over at most `max_threads` threads; the outputs do not
// depend on how. O(bytes). Throws std::bad_alloc before anything is copied; for
// want of threads it is merely slower.
void Gather(const RecordLayout& layout, const Row* rows, std::size_t num_rows, std::uint32_t steps,
            void* const* outputs, int max_threads);

// Copies the cells of `n` pieces, one after the other, into `output`.
void GatherPieces(const Piece* pieces, std::size_t n, void* output);

// Copies steps [start, start + length) after `row` of one column into `output`.
void GatherColumn(const RecordLayout& layout, std::size_t column, Row row, std::uint32_t start,
                  std::uint32_t length, void* output);

}  // namespace reverie

#endif  // REVERIE_GATHER_H_
