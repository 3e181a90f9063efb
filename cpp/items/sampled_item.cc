#include "items/sampled_item.h"

#include <algorithm>

#include "gather.h"
#include "outer_lock.h"

namespace reverie {

void ColumnCopies::Add(const SampledItem& item) {
  std::size_t first = pieces_.size();
  if (item.trajectory == nullptr) {
    Piece piece{item.chunk, item.offset, 0};
    for (std::uint32_t left = item.length; left != 0; left -= piece.length) {
      if (left != item.length) piece = {piece.chunk->next, 0, 0};
      piece.length = std::min<std::uint32_t>(left, piece.chunk->capacity - piece.offset);
      pieces_.push_back(piece);
    }
    const auto num_pieces = static_cast<std::uint32_t>(pieces_.size() - first);
    const RecordLayout& layout = *item.chunk->layout;
    for (std::uint32_t field = 0; field < layout.columns().size(); ++field) {
      columns_.push_back(
          {layout.columns()[field].type, num_pieces, field, false, item.length, first});
    }
    nbytes_ += item.length * layout.record_nbytes();
    return;
  }
  const Trajectory& trajectory = *item.trajectory;
  pieces_.insert(pieces_.end(), trajectory.pieces(), trajectory.pieces() + trajectory.num_pieces);
  for (std::uint32_t c = 0; c < trajectory.num_columns; ++c) {
    const Trajectory::Column& column = trajectory.columns()[c];
    Column to{column.cell(pieces_[first]).type,
              column.num_pieces,
              column.field(),
              column.squeeze(),
              0,
              first};
    for (const std::size_t end = first + column.num_pieces; first < end; ++first) {
      to.length += pieces_[first].length;
      nbytes_ += pieces_[first].length * column.cell(pieces_[first]).nbytes;
    }
    columns_.push_back(to);
  }
}

void ColumnCopies::Copy(void* const* outputs) const {
  if (nbytes_ >= OuterLock::kLongNbytes) OuterLock::LetGo();
  for (const Column& column : columns_) {
    if (void* const to = *outputs++) {
      OuterLock::Tick();
      GatherPieces(pieces(column), column.num_pieces, column.field, to);
    }
  }
}

}  // namespace reverie
