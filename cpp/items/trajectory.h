#ifndef REVERIE_ITEMS_TRAJECTORY_H_
#define REVERIE_ITEMS_TRAJECTORY_H_

#include <cstdint>
#include <vector>

#include "storage/chunk_store.h"

namespace reverie {

// A run of records inside one chunk, of which a column takes one field.
struct Piece {
  Chunk* chunk;
  std::uint32_t offset;
  std::uint32_t length;
};

// What an item of a TrajectoryWriter holds: any number of output columns, each the
// concatenation of pieces of like cells, in any order and with any gaps.
//
//   history   a: [0 1 2 3 4 5 6 7]      item   column 0 = a[2..5)        one piece
//             b:     [0 1 2 3 4 5]             column 1 = b[3..5) + b[1] two pieces
//
// A squeezed column is one cell without the time axis.
struct Trajectory {
  struct Column {
    std::uint32_t num_pieces;
    std::uint32_t field;  // which column of its chunks' layout; 0 in those of a TrajectoryWriter
    bool squeeze;

    const RecordLayout::Column& cell(const Piece& first) const {
      return first.chunk->layout->columns()[field];
    }
  };
  std::uint64_t episode = 0;  // its writer's, unique in the store
  std::vector<Column> columns;
  std::vector<Piece> pieces;  // of the first column, then of the second, ...
};

}  // namespace reverie

#endif  // REVERIE_ITEMS_TRAJECTORY_H_
