#include "items/sampled_item.h"

#include <algorithm>

#include "gather.h"
#include "outer_lock.h"

namespace reverie {

bool ColumnCopies::Add(const SampledItem& item) {
  const std::size_t before = last_;
  last_ = columns_.size();
  if (item.trajectory == nullptr) {
    AddRun(item);
  } else {
    AddTrajectory(*item.trajectory);
  }
  const auto alike = [](const Column& one, const Column& other) {
    return one.type == other.type && one.length == other.length && one.squeeze == other.squeeze;
  };
  const auto added = columns_.begin() + static_cast<std::ptrdiff_t>(last_);
  return before != last_ && std::equal(columns_.begin() + static_cast<std::ptrdiff_t>(before),
                                       added, added, columns_.end(), alike);
}

void ColumnCopies::AddRun(const SampledItem& run) {
  const std::size_t first = pieces_.size();
  Piece piece{run.chunk, run.offset, 0};
  for (std::uint32_t left = run.length; left != 0; left -= piece.length) {
    if (left != run.length) piece = {piece.chunk->next, 0, 0};
    piece.length = std::min<std::uint32_t>(left, piece.chunk->capacity - piece.offset);
    pieces_.push_back(piece);
  }
  const auto num_pieces = static_cast<std::uint32_t>(pieces_.size() - first);
  const RecordLayout& layout = *run.chunk->layout;
  for (std::uint32_t field = 0; field < layout.columns().size(); ++field) {
    columns_.push_back({layout.columns()[field].type, num_pieces, field, false, run.length, first});
  }
  nbytes_ += run.length * layout.record_nbytes();
}

void ColumnCopies::AddTrajectory(const Trajectory& trajectory) {
  std::size_t first = pieces_.size();
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
