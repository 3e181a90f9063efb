#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <utility>

#include "stop.h"
#include "table.h"

// Saving a table and filling a fresh one again: the part of Table that trusts nobody.

namespace reverie {
namespace {

// Of a restored counter, so that counting on never overflows.
constexpr std::int64_t kMaxCounter = std::int64_t{1} << 62;
constexpr std::size_t kRowsPerLook = 1024;

bool Take(std::uint64_t taken, std::uint64_t* from) {
  if (taken > *from) return false;
  *from -= taken;
  return true;
}

}  // namespace

Status Table::RestoreTrajectories(const ItemColumns& from, const std::vector<std::uint32_t>& slots,
                                  const std::vector<Chunk*>& chunks_by_piece,
                                  std::uint64_t* references) {
  const std::size_t n = from.offset.size();
  std::size_t column = 0;
  std::size_t piece = 0;
  for (std::size_t i = 0; i < from.traj_item.size(); ++i) {
    if (i % kRowsPerLook == 0 && Stop::Asked()) return Status::Of(Code::kInterrupted);
    const std::uint64_t row = from.traj_item[i];
    const auto at = static_cast<std::int64_t>(row);
    if (row >= n || (i > 0 && row <= from.traj_item[i - 1])) {
      return Status::Invalid("trajectory of an unknown item", at);
    }
    std::size_t num_columns = 0;
    std::size_t num_pieces = 0;
    for (std::size_t c = column; c < from.column_item.size() && from.column_item[c] == row; ++c) {
      ++num_columns;
      if (from.column_pieces[c] == 0 || from.column_pieces[c] > chunks_by_piece.size() - piece ||
          num_pieces > chunks_by_piece.size() - piece - from.column_pieces[c]) {
        return Status::Invalid("column without its pieces", at);
      }
      num_pieces += from.column_pieces[c];
    }
    if (num_columns == 0) return Status::Invalid("trajectory without columns", at);
    OwnTrajectory trajectory =
        Trajectory::New(chunks_->item_arena().get(), from.traj_episode[i], num_columns, num_pieces);
    Piece* to = trajectory->pieces();
    for (std::size_t c = 0; c < num_columns; ++c, ++column) {
      const std::uint32_t field = from.column_field[column];
      const bool squeeze = from.column_squeeze[column] != 0;
      const Chunk* const first = chunks_by_piece[piece];
      for (const std::size_t end = piece + from.column_pieces[column]; piece < end; ++piece) {
        Chunk* const chunk = chunks_by_piece[piece];
        const std::uint32_t offset = from.piece_offset[piece];
        const std::uint32_t length = from.piece_length[piece];
        if (chunk == nullptr) return Status::Invalid("chunk unknown", at);
        const auto& fields = chunk->layout->columns();
        if (field >= fields.size()) return Status::Invalid("column of no field", at);
        if (fields[field].type != first->layout->columns()[field].type) {
          return Status::Invalid("piece of another kind of column", at);
        }
        if (length == 0 || offset >= chunk->count || length > chunk->count - offset ||
            (squeeze && (length != 1 || from.column_pieces[column] != 1))) {
          return Status::Invalid("piece outside its chunk", at);
        }
        if (!Take(length / kRecordsPerReference, references)) return Status::Of(Code::kTooMany);
        ::new (to++) Piece{chunk, offset, length};
      }
      ::new (trajectory->columns() + c)
          Trajectory::Column{from.column_pieces[column], field << 1 | (squeeze ? 1u : 0u)};
    }
    // Items were appended in row order, so the row is also the place, but for the holes.
    const std::uint32_t slot = slots[row];
    own_->items.trajectories.Make(slot);
    ++own_->episodes[trajectory->episode];
    const Piece* const pieces = trajectory->pieces();
    for (std::size_t p = 0; p < num_pieces; ++p) {
      chunks_->RefRun(pieces[p].chunk, pieces[p].offset, pieces[p].length);
    }
    own_->items.trajectories.Edit(slot) = trajectory.release();
  }
  if (column != from.column_item.size() || piece != chunks_by_piece.size()) {
    return Status::Invalid("columns or pieces of no trajectory", -1);
  }
  return Status();
}

Status Table::Restore(const TableState& state, const RestoredStreams& streams,
                      const std::vector<Chunk*>& chunks_by_row,
                      const std::vector<Chunk*>& chunks_by_piece, std::uint64_t* references,
                      std::unique_ptr<Contents>* refused) {
  const ItemColumns& from = state.items;
  const std::size_t n = from.offset.size();
  if (size() != 0 || own_->items.num_slots() != 0) return Status::Invalid("table not fresh", -1);
  if (n > max_size_) return Status::Invalid("more items than max_size", -1);
  *refused = std::make_unique<Contents>(config_, chunks_, 0);
  struct Undone {  // a table half filled must not be used: it becomes empty again
    Table* table;
    std::unique_ptr<Contents>* refused;
    ~Undone() {
      if (table == nullptr) return;
      std::swap(table->own_, *refused);
      table->remaining_samples_ = 0;
    }
  } undone{this, refused};
  if (state.first_generation % 2 != 0 || state.first_generation > ItemStore::kLastFirst) {
    return Status::Invalid("first_generation out of range", -1);
  }
  own_ = std::make_unique<Contents>(config_, chunks_, state.first_generation);
  if (from.key.size() == n) {  // an empty table has free keys, too
    const std::int64_t bad = own_->items.Restore(from.key.data(), n, state.free_keys.data(),
                                                 state.free_keys.size(), state.next_slot);
    if (bad >= 0) return Status::Invalid("key malformed or used twice", bad);
  }
  // Where a bit is set nobody stands in that place.
  const auto is_hole = [&](std::uint64_t place) {
    return place / 8 < state.holes.size() && (state.holes[place / 8] >> place % 8 & 1) != 0;
  };
  std::uint64_t place = 0;
  std::vector<std::uint32_t> slots(n);  // by row
  // A weight must be finite and not negative; heaps take any number in.
  const bool weighs = config_.sampler.kind == SelectorKind::kPrioritized ||
                      config_.remover.kind == SelectorKind::kPrioritized;
  std::size_t next_trajectory = 0;
  for (std::size_t i = 0; i < n; ++i) {
    if (i % kRowsPerLook == 0 && Stop::Asked()) return Status::Of(Code::kInterrupted);
    const auto row = static_cast<std::int64_t>(i);
    const std::uint32_t length = from.length[i];
    const Chunk* const chunk = chunks_by_row[i];
    const bool is_trajectory =
        next_trajectory < from.traj_item.size() && from.traj_item[next_trajectory] == i;
    if (is_trajectory) {
      ++next_trajectory;
      if (from.chunk_id[i] != 0 || from.offset[i] != 0 || length != 0) {
        return Status::Invalid("trajectory with steps of its own", row);
      }
    } else {
      if (chunk == nullptr) return Status::Invalid("chunk unknown", row);
      if (chunk->layout->any_size()) return Status::Invalid("run of cells of any size", row);
      if (length == 0) return Status::Invalid("length is 0", row);
      if (from.offset[i] >= chunk->capacity) return Status::Invalid("offset past its chunk", row);
    }
    const double priority = from.priority[i];
    if (weighs ? !(priority >= 0) || std::isinf(priority) : std::isnan(priority)) {
      return Status::Invalid("priority out of range", row);
    }
    if (from.times_sampled[i] < 0) return Status::Invalid("times_sampled below 0", row);
    if (!is_trajectory) {
      const std::uint64_t touched = streams.Touched(*chunk, from.offset[i], length);
      if (touched == 0) return Status::Invalid("window past the end of its chunks", row);
      if (!Take(touched + length / kRecordsPerReference, references)) {
        return Status::Of(Code::kTooMany);
      }
    }
    for (; is_hole(place); ++place) {
      if (i == 0 || place >= 2 * n + 64) return Status::Invalid("too many holes", row);
      own_->order.PushHole();
    }
    ++place;
    const std::uint32_t slot =
        from.key.empty() ? own_->items.Allocate() : static_cast<std::uint32_t>(from.key[i]);
    slots[i] = slot;
    Item& item = own_->items.Edit(slot);
    const bool others = i > 0;
    own_->items.length.Set(slot, length, others);
    own_->items.priority.Set(slot, from.priority[i], others);
    item.times_sampled = from.times_sampled[i];
    item.chunk = kNoSlot;
    item.offset = from.offset[i];
    own_->order.PushBack(slot);
    if (!is_trajectory) {
      item.chunk = chunks_by_row[i]->slot;
      chunks_->RefWindow(chunks_by_row[i], item.offset, length);
    }
    if (config_.max_times_sampled != 0) remaining_samples_ += Remaining(item);
  }
  for (std::uint64_t i = place; i < 8 * state.holes.size(); ++i) {
    if (is_hole(i)) return Status::Invalid("hole behind the last item", -1);
  }
  std::vector<std::size_t> rows;  // where the order is another than the items'
  if (n != 0 && from.touched.size() == n) {
    rows.resize(n);
    std::iota(rows.begin(), rows.end(), std::size_t{0});
    std::sort(rows.begin(), rows.end(), [&](std::size_t a, std::size_t b) {
      return std::make_pair(from.touched[a], a) < std::make_pair(from.touched[b], b);
    });
  }
  for (std::size_t i = 0; i < n; ++i) {
    if (i % kRowsPerLook == 0 && Stop::Asked()) return Status::Of(Code::kInterrupted);
    const std::size_t row = rows.empty() ? i : rows[i];
    own_->sampler->Reserve(slots[row]);
    own_->remover->Reserve(slots[row]);
    own_->sampler->Insert(slots[row], from.priority[row]);
    own_->remover->Insert(slots[row], from.priority[row]);
  }
  if (next_trajectory != from.traj_item.size()) {
    return Status::Invalid("trajectory of an unknown item", -1);
  }
  const Status trajectories = RestoreTrajectories(from, slots, chunks_by_piece, references);
  if (!trajectories.ok()) return trajectories;
  for (const std::int64_t counter :
       {state.counters.inserts, state.counters.samples, state.counters.deletes,
        state.num_unique_samples, state.num_deleted_episodes}) {
    if (counter < 0 || counter > kMaxCounter) return Status::Invalid("counter out of range", -1);
  }
  if (!rng_.set_state(state.rng)) return Status::Invalid("RNG state is all zeros", -1);
  limiter_.set_counters(state.counters);
  num_unique_samples_ = state.num_unique_samples;
  num_deleted_episodes_ = state.num_deleted_episodes;
  undone.table = nullptr;
  *refused = nullptr;
  return Status();
}

}  // namespace reverie
