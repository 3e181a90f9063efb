#ifndef REVERIE_ITEMS_TRAJECTORY_H_
#define REVERIE_ITEMS_TRAJECTORY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "storage/chunk.h"

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
// A squeezed column is one cell without the time axis. One block of the arena: this, the
// pieces of all columns, then the columns.
struct Trajectory : Shed {
  struct Column {
    std::uint32_t num_pieces;
    std::uint32_t field_and_squeeze;

    // Which column of its chunks' layout; 0 in those of a TrajectoryWriter.
    std::uint32_t field() const { return field_and_squeeze >> 1; }
    bool squeeze() const { return (field_and_squeeze & 1) != 0; }
    const RecordLayout::Column& cell(const Piece& first) const {
      return first.chunk->layout->columns()[field()];
    }
  };
  std::uint64_t episode;  // its writer's, unique in the store
  std::uint32_t num_columns;
  std::uint32_t num_pieces;

  // Of the first column, then of the second, ...
  Piece* pieces() { return reinterpret_cast<Piece*>(this + 1); }
  const Piece* pieces() const { return reinterpret_cast<const Piece*>(this + 1); }
  Column* columns() { return reinterpret_cast<Column*>(pieces() + num_pieces); }
  const Column* columns() const { return reinterpret_cast<const Column*>(pieces() + num_pieces); }

  struct Free {
    void operator()(Trajectory* trajectory) const { trajectory->arena->Free(trajectory->block); }
  };
  // Its columns and pieces are to be filled in. Throws std::bad_alloc.
  static std::unique_ptr<Trajectory, Free> New(Arena* arena, std::uint64_t episode,
                                               std::size_t num_columns, std::size_t num_pieces) {
    void* const block = arena->Allocate(sizeof(Trajectory) + num_pieces * sizeof(Piece) +
                                        num_columns * sizeof(Column));
    auto* const made = ::new (block) Trajectory;
    made->arena = arena;
    made->block = block;
    made->episode = episode;
    made->num_columns = static_cast<std::uint32_t>(num_columns);
    made->num_pieces = static_cast<std::uint32_t>(num_pieces);
    return std::unique_ptr<Trajectory, Free>(made);
  }
};

using OwnTrajectory = std::unique_ptr<Trajectory, Trajectory::Free>;

}  // namespace reverie

#endif  // REVERIE_ITEMS_TRAJECTORY_H_
