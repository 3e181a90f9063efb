#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <utility>

#include "selectors/make_selector.h"
#include "table.h"

// Saving a table and filling a fresh one again: the part of Table that trusts nobody.

namespace reverie {
namespace {

// Of a restored counter, so that counting on never overflows.
constexpr std::int64_t kMaxCounter = std::int64_t{1} << 62;

}  // namespace

TableState Table::Save(std::vector<bool>* used) const {
  TableState state;
  const auto mark = [used](const Chunk* chunk) { (*used)[chunk->slot] = true; };
  ItemColumns& to = state.items;
  const std::size_t n = size();
  // A million items are a matter of milliseconds under the lock: written by index.
  to.key.resize(n);
  to.chunk_id.resize(n);
  to.offset.resize(n);
  to.length.resize(n);
  to.priority.resize(n);
  to.times_sampled.resize(n);
  const bool heap = has_heap();
  const Chunk* last = nullptr;  // neighbours tend to share their chunk
  std::size_t row = 0;
  for (std::uint64_t i = 0; i < order_.span(); ++i) {
    const std::uint32_t slot = order_[i];
    if (slot == kNoSlot) continue;
    const Item& item = items_.at(slot);
    if (const Trajectory* trajectory = items_.trajectory(slot)) {
      to.traj_item.push_back(row);
      to.traj_episode.push_back(trajectory->episode);
      for (const Trajectory::Column& column : trajectory->columns) {
        to.column_item.push_back(row);
        to.column_field.push_back(column.field);
        to.column_squeeze.push_back(column.squeeze);
        to.column_pieces.push_back(column.num_pieces);
      }
      for (const Piece& piece : trajectory->pieces) {
        to.piece_chunk.push_back(piece.chunk->id);
        to.piece_offset.push_back(piece.offset);
        to.piece_length.push_back(piece.length);
        if (used != nullptr) mark(piece.chunk);
      }
    }
    const Chunk* chunk = item.chunk == kNoSlot ? nullptr : chunks_->at(item.chunk);
    const std::uint32_t length = items_.length.Get(slot);
    to.key[row] = items_.key(slot);
    to.chunk_id[row] = chunk == nullptr ? 0 : chunk->id;
    to.offset[row] = item.offset;
    to.length[row] = length;
    if (used != nullptr && chunk != nullptr) {
      if (chunk != last) mark(last = chunk);
      std::uint32_t here = chunk->capacity - item.offset;
      for (std::uint32_t left = length; left > here; here = chunk->capacity) {
        left -= here;
        chunk = chunk->next;
        mark(chunk);
      }
    }
    to.priority[row] = items_.priority.Get(slot);
    to.times_sampled[row] = item.times_sampled;
    // Both selectors hear of the same events, so either heap tells their order.
    if (heap) to.touched.push_back(std::max(sampler_->Touched(slot), remover_->Touched(slot)));
    ++row;
  }
  state.free_keys = items_.FreeKeys();
  state.counters = limiter_.counters();
  state.num_unique_samples = num_unique_samples_;
  state.num_deleted_episodes = num_deleted_episodes_;
  state.rng = rng_.state();
  return state;
}

Status Table::RestoreTrajectories(const ItemColumns& from,
                                  const std::vector<Chunk*>& chunks_by_piece) {
  const std::size_t n = from.offset.size();
  std::size_t column = 0;
  std::size_t piece = 0;
  if (!from.traj_item.empty()) items_.trajectories.resize(items_.num_slots());
  for (std::size_t i = 0; i < from.traj_item.size(); ++i) {
    const std::uint64_t row = from.traj_item[i];
    const auto at = static_cast<std::int64_t>(row);
    if (row >= n || (i > 0 && row <= from.traj_item[i - 1])) {
      return Status::Invalid("trajectory of an unknown item", at);
    }
    auto trajectory = std::make_shared<Trajectory>();
    trajectory->episode = from.traj_episode[i];
    for (; column < from.column_item.size() && from.column_item[column] == row; ++column) {
      const std::uint32_t num_pieces = from.column_pieces[column];
      const std::uint32_t field = from.column_field[column];
      const bool squeeze = from.column_squeeze[column] != 0;
      if (num_pieces == 0 || num_pieces > chunks_by_piece.size() - piece) {
        return Status::Invalid("column without its pieces", at);
      }
      const Chunk* const first = chunks_by_piece[piece];
      for (const std::size_t end = piece + num_pieces; piece < end; ++piece) {
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
            (squeeze && (length != 1 || num_pieces != 1))) {
          return Status::Invalid("piece outside its chunk", at);
        }
        trajectory->pieces.push_back({chunk, offset, length});
      }
      trajectory->columns.push_back({num_pieces, field, squeeze});
    }
    if (trajectory->columns.empty()) return Status::Invalid("trajectory without columns", at);
    ++episodes_[trajectory->episode];
    for (const Piece& p : trajectory->pieces) chunks_->Ref(p.chunk);
    // Items were appended in row order, so the row is also the place.
    items_.trajectories[order_[row]] = std::move(trajectory);
  }
  if (column != from.column_item.size() || piece != chunks_by_piece.size()) {
    return Status::Invalid("columns or pieces of no trajectory", -1);
  }
  return Status();
}

Status Table::Restore(const TableState& state, const std::vector<Chunk*>& chunks_by_row,
                      const std::vector<Chunk*>& chunks_by_piece) {
  const ItemColumns& from = state.items;
  const std::size_t n = from.offset.size();
  if (size() != 0 || items_.num_slots() != 0) return Status::Invalid("table not fresh", -1);
  if (n > config_.max_size) return Status::Invalid("more items than max_size", -1);
  struct Undone {  // a table half filled must not be used: it becomes empty again
    Table* table;
    std::unique_ptr<Selector> sampler;
    std::unique_ptr<Selector> remover;
    Garbage garbage{};
    ~Undone() {
      if (table == nullptr) return;
      for (std::uint64_t i = 0; i < table->order_.span(); ++i) {
        table->DropChunks(table->order_[i], &garbage);
      }
      table->items_ = ItemStore();
      table->order_.Clear();
      table->sampler_ = std::move(sampler);
      table->remover_ = std::move(remover);
      table->episodes_.clear();
      table->remaining_samples_ = 0;
    }
  } undone{this, MakeSelector(config_.sampler, &order_), MakeSelector(config_.remover, &order_)};
  if (from.key.size() == n) {  // an empty table has free keys, too
    const std::int64_t bad =
        items_.Restore(from.key.data(), n, state.free_keys.data(), state.free_keys.size());
    if (bad >= 0) return Status::Invalid("key malformed or used twice", bad);
  }
  // A weight must be finite and not negative; heaps take any number in.
  const bool weighs = config_.sampler.kind == SelectorKind::kPrioritized ||
                      config_.remover.kind == SelectorKind::kPrioritized;
  std::size_t next_trajectory = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const auto row = static_cast<std::int64_t>(i);
    const std::uint32_t length = from.length[i];
    Chunk* chunk = chunks_by_row[i];
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
    std::uint32_t here = is_trajectory ? 0 : chunk->capacity - from.offset[i];
    for (std::uint32_t left = length; left > here;) {
      left -= here;
      chunk = chunk->next;
      if (chunk == nullptr || chunk->layout != chunks_by_row[i]->layout) {
        return Status::Invalid("window past the end of its chunks", row);
      }
      here = chunk->capacity;
    }
    const std::uint32_t slot =
        from.key.empty() ? items_.Allocate() : static_cast<std::uint32_t>(from.key[i]);
    Item& item = items_.at(slot);
    const bool others = i > 0;
    items_.length.Set(slot, length, others, items_.num_slots());
    items_.priority.Set(slot, from.priority[i], others, items_.num_slots());
    item.times_sampled = from.times_sampled[i];
    item.chunk = is_trajectory ? kNoSlot : chunks_by_row[i]->slot;
    item.offset = from.offset[i];
    item.order = order_.PushBack(slot);
    if (!is_trajectory) chunks_->RefWindow(chunks_by_row[i], item.offset, length);
    if (config_.max_times_sampled != 0) remaining_samples_ += Remaining(item);
  }
  sampler_->Reserve(items_.num_slots());
  remover_->Reserve(items_.num_slots());
  std::vector<std::size_t> rows(n);
  std::iota(rows.begin(), rows.end(), std::size_t{0});
  if (from.touched.size() == n) {
    std::sort(rows.begin(), rows.end(), [&](std::size_t a, std::size_t b) {
      return std::make_pair(from.touched[a], a) < std::make_pair(from.touched[b], b);
    });
  }
  for (const std::size_t row : rows) {
    sampler_->Insert(order_[row], from.priority[row]);
    remover_->Insert(order_[row], from.priority[row]);
  }
  if (next_trajectory != from.traj_item.size()) {
    return Status::Invalid("trajectory of an unknown item", -1);
  }
  const Status trajectories = RestoreTrajectories(from, chunks_by_piece);
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
  return Status();
}

}  // namespace reverie
