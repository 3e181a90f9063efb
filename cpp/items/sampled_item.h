#ifndef REVERIE_ITEMS_SAMPLED_ITEM_H_
#define REVERIE_ITEMS_SAMPLED_ITEM_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "items/trajectory.h"
#include "storage/chunk_store.h"

namespace reverie {

// One sampled item, whatever it is made of: a trajectory, or else `length` whole steps
// from that `offset` in `chunk` on. What it refers to must be kept alive by an epoch.
struct SampledItem {
  std::uint64_t key = 0;
  double probability = 0;
  std::int64_t table_size = 0;
  double priority = 0;
  std::int32_t times_sampled = 0;
  Chunk* chunk = nullptr;
  std::uint32_t offset = 0;
  std::uint32_t length = 0;
  const Trajectory* trajectory = nullptr;
};

// The columns of some items, laid out for arrays that the caller makes, and then
// copied into them. The items' chunks must stay alive meanwhile.
class ColumnCopies {
 public:
  struct Column {
    std::uint32_t type;  // as in RecordLayout::Column; 0: cells of any size
    std::uint32_t num_pieces;
    std::uint32_t field;
    bool squeeze;  // one cell, without the time axis
    std::size_t length;
    std::size_t first_piece;
  };

  // Lays out the item's columns, after those of earlier ones. Returns whether they are like
  // those of the item before: as many, of the same types and lengths, and as squeezed.
  bool Add(const SampledItem& item);

  const std::vector<Column>& columns() const { return columns_; }
  const Piece* pieces(const Column& column) const { return &pieces_[column.first_piece]; }
  std::size_t nbytes() const { return nbytes_; }  // of all together

  // Copies column i to `outputs[i]`; null: not at all. O(bytes).
  void Copy(void* const* outputs) const;

 private:
  void AddRun(const SampledItem& run);
  void AddTrajectory(const Trajectory& trajectory);

  std::vector<Column> columns_;
  std::size_t last_ = 0;  // where the columns of the item added last begin
  std::vector<Piece> pieces_;
  std::size_t nbytes_ = 0;
};

}  // namespace reverie

#endif  // REVERIE_ITEMS_SAMPLED_ITEM_H_
