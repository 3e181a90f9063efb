#include "table.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <numeric>
#include <utility>

#include "prefetch.h"
#include "selectors/make_selector.h"

namespace reverie {
namespace {

// Of a restored counter, so that counting on never overflows.
constexpr std::int64_t kMaxCounter = std::int64_t{1} << 62;

}  // namespace

Table::Table(const Config& config, ChunkStore* chunks)
    : config_(config),
      chunks_(chunks),
      sampler_(MakeSelector(config.sampler, &order_)),
      remover_(MakeSelector(config.remover, &order_)),
      limiter_(config.limiter),
      rng_(config.seed) {}

void Table::ReserveInsert(std::uint32_t length, double priority) {
  if (blocked()) {
    spare_.emplace_back();
    return;
  }
  NewItem item;
  item.length = length;
  item.priority = priority;
  Reserve(item);
}

void Table::Reserve(const NewItem& item) {
  items_.Reserve(item.length, item.priority);
  order_.Reserve();
  sampler_->Reserve(items_.num_slots() + 1);
  remover_->Reserve(items_.num_slots() + 1);
  if (item.trajectory != nullptr) {
    items_.ReserveTrajectory();
    episodes_.try_emplace(item.trajectory->episode, 0);
  }
}

void Table::TakeReferences(const NewItem& item) {
  if (item.trajectory == nullptr) {
    chunks_->RefWindow(item.chunk, item.offset, item.length);
  } else {
    for (const Piece& piece : item.trajectory->pieces) chunks_->Ref(piece.chunk);
  }
}

void Table::DropReferences(const NewItem& item, Garbage* garbage) {
  if (item.trajectory == nullptr) {
    chunks_->UnrefWindow(item.chunk, item.offset, item.length, garbage);
  } else {
    for (const Piece& piece : item.trajectory->pieces) chunks_->Unref(piece.chunk, garbage);
  }
}

bool Table::Submit(NewItem item, const std::shared_ptr<InsertProgress>& progress,
                   Garbage* garbage) {
  if (!blocked()) {
    Reserve(item);
    TakeReferences(item);
    Place(std::move(item), garbage);
    return true;
  }
  if (spare_.empty()) spare_.emplace_back();
  TakeReferences(item);
  spare_.front().item = std::move(item);
  spare_.front().progress = progress;
  ++progress->pending;
  pending_.splice(pending_.end(), spare_, spare_.begin());
  return false;
}

bool Table::Drain(Garbage* garbage) noexcept {
  bool any = false;
  while (!pending_.empty() && limiter_.CanInsert(1)) {
    Pending& next = pending_.front();
    try {
      Reserve(next.item);
    } catch (const std::bad_alloc&) {
      return any;  // it goes on waiting: the next drain may find memory
    }
    Place(std::move(next.item), garbage);
    --next.progress->pending;
    pending_.pop_front();
    any = true;
  }
  return any;
}

void Table::DropPending(Garbage* garbage) {
  for (Pending& waiting : pending_) {
    DropReferences(waiting.item, garbage);
    --waiting.progress->pending;
  }
  pending_.clear();
}

void Table::Insert(Chunk* chunk, std::uint32_t offset, std::uint32_t length, double priority,
                   Garbage* garbage) {
  NewItem item{priority, chunk, offset, length, nullptr};
  Reserve(item);  // nothing after it can fail
  TakeReferences(item);
  Place(std::move(item), garbage);
}

void Table::Place(NewItem&& added, Garbage* garbage) noexcept {
  const std::uint32_t slot = items_.Allocate();
  Item& item = items_.at(slot);
  const bool others = items_.size() > 1;
  items_.length.Set(slot, added.length, others, items_.num_slots());
  items_.priority.Set(slot, added.priority, others, items_.num_slots());
  item.order = order_.PushBack(slot);
  item.chunk = added.chunk == nullptr ? kNoSlot : added.chunk->slot;
  item.offset = added.offset;
  if (added.trajectory != nullptr) {
    ++episodes_[added.trajectory->episode];
    items_.trajectories[slot] = std::move(added.trajectory);
  }
  sampler_->Insert(slot, added.priority);
  remover_->Insert(slot, added.priority);
  remaining_samples_ += config_.max_times_sampled;
  limiter_.Inserted();
  if (size() > config_.max_size) Evict(garbage);
}

void Table::Evict(Garbage* garbage) {
  std::uint32_t victim;
  double probability;
  remover_->Select(&rng_, 1, &victim, &probability);
  Remove(victim, garbage);
}

void Table::Remove(std::uint32_t slot, Garbage* garbage) {
  const Item item = items_.at(slot);
  sampler_->Delete(slot);
  remover_->Delete(slot);
  order_.Erase(item.order, [this](std::uint32_t moved, std::uint32_t place) {
    items_.at(moved).order = place;
  });
  if (const Trajectory* trajectory = items_.trajectory(slot)) {
    for (const Piece& piece : trajectory->pieces) chunks_->Unref(piece.chunk, garbage);
    const auto episode = episodes_.find(trajectory->episode);
    if (--episode->second == 0) {
      episodes_.erase(episode);
      ++num_deleted_episodes_;
    }
  } else if (item.chunk != kNoSlot) {  // as it may be where restoring failed half-way
    chunks_->UnrefWindow(chunks_->at(item.chunk), item.offset, items_.length.Get(slot), garbage);
  }
  if (config_.max_times_sampled != 0) {
    remaining_samples_ -= std::max(0, config_.max_times_sampled - item.times_sampled);
  }
  items_.Free(slot);
  limiter_.Deleted();
}

bool Table::Fits(const RecordLayout* layout, std::uint32_t slot, std::uint32_t steps) const {
  return items_.length.Get(slot) == steps && items_.spans.empty() &&
         chunks_->at(items_.at(slot).chunk)->layout.get() == layout;
}

Status Table::CheckSteps(const RecordLayout* layout, std::uint32_t slot,
                         std::uint32_t steps) const {
  Status status = Status::Of(Code::kLengthMismatch);
  status.key = items_.key(slot);
  status.wanted = steps;
  if (items_.trajectory(slot) != nullptr) {
    status.code = Code::kLayoutMismatch;
    return status;
  }
  if (items_.length.Get(slot) != steps) {
    status.found = items_.length.Get(slot);
    return status;
  }
  if (!items_.spans.empty()) {
    const auto found = items_.spans.find(slot);
    if (found != items_.spans.end()) {
      for (std::size_t column = 0; column < found->second.size(); ++column) {
        if (found->second[column].length == steps) continue;
        status.column = static_cast<std::int64_t>(column);
        status.found = found->second[column].length;
        return status;
      }
    }
  }
  if (chunks_->at(items_.at(slot).chunk)->layout.get() != layout) {
    status.code = Code::kLayoutMismatch;
    return status;
  }
  return Status();
}

Status Table::Sample(const RecordLayout* layout, std::size_t n, std::uint32_t steps, Row* rows,
                     const SampleInfo& info, Garbage* garbage) {
  if (config_.max_times_sampled != 0 && n > 1) {
    SampleInfo one = info;
    for (std::size_t i = 0; i < n; ++i) {
      const Status status = Sample(layout, 1, steps, rows + i, one, garbage);
      if (!status.ok()) return status;
      one.key += info.repeat;
      one.probability += info.repeat;
      one.table_size += info.repeat;
      one.priority += info.repeat;
      one.times_sampled += info.repeat;
    }
    return Status();
  }
  if (slots_.size() < n) {
    probabilities_.resize(n);
    slots_.resize(n);  // last, as its size tells whether both are long enough
  }
  // A batch that fails must not use up randomness: the next one is as it was.
  const Rng::State before = rng_.state();
  sampler_->Select(&rng_, n, slots_.data(), probabilities_.data());
  for (std::size_t i = 0; i < n; ++i) {
    const Item* const item = &items_.at(slots_[i]);
    Prefetch(item);
    Prefetch(reinterpret_cast<const char*>(item + 1) - 1);  // one in four spans two lines
  }
  for (std::size_t i = 0; i < n; ++i) {
    if (Fits(layout, slots_[i], steps)) continue;
    const Status status = CheckSteps(layout, slots_[i], steps);
    if (!status.ok()) {
      rng_.set_state(before);
      return status;
    }
  }
  const auto table_size = static_cast<std::int64_t>(size());
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t slot = slots_[i];
    Item& item = items_.at(slot);
    rows[i] = {chunks_->at(item.chunk), item.offset};
    const bool spent = Count(&item);
    const std::uint64_t key = items_.key(slot);
    const double priority = items_.priority.Get(slot);
    for (std::size_t r = i * info.repeat; r < (i + 1) * info.repeat; ++r) {
      info.key[r] = key;
      info.probability[r] = probabilities_[i];
      info.table_size[r] = table_size;
      info.priority[r] = priority;
      info.times_sampled[r] = item.times_sampled;
    }
    if (spent) Remove(slot, garbage);
  }
  limiter_.Sampled(static_cast<std::int64_t>(n));
  return Status();
}

bool Table::Count(Item* item) {
  if (item->times_sampled != std::numeric_limits<std::int32_t>::max()) ++item->times_sampled;
  if (item->times_sampled == 1) ++num_unique_samples_;
  if (config_.max_times_sampled == 0) return false;
  --remaining_samples_;
  return item->times_sampled >= config_.max_times_sampled;
}

void Table::SampleItems(std::size_t n, std::vector<SampledItem>* items, Garbage* garbage) {
  items->reserve(n);
  while (items->size() < n && CanSample(1)) {
    std::uint32_t slot;
    double probability;
    sampler_->Select(&rng_, 1, &slot, &probability);
    Item& item = items_.at(slot);
    items->emplace_back();
    SampledItem& sampled = items->back();
    if (const Trajectory* trajectory = items_.trajectory(slot)) {
      sampled.trajectory = *trajectory;
    } else {
      sampled.row = {chunks_->at(item.chunk), item.offset};
      const auto found = items_.spans.find(slot);
      if (found != items_.spans.end()) sampled.spans = found->second;
    }
    const bool spent = Count(&item);
    sampled.key = items_.key(slot);
    sampled.probability = probability;
    sampled.table_size = static_cast<std::int64_t>(size());
    sampled.priority = items_.priority.Get(slot);
    sampled.times_sampled = item.times_sampled;
    sampled.length = items_.length.Get(slot);
    limiter_.Sampled(1);
    if (spent) Remove(slot, garbage);
  }
}

void Table::PickPieces(Row* rows, std::size_t n, std::uint32_t steps, std::uint32_t piece) {
  for (std::size_t i = 0; i < n; ++i) AdvanceRow(&rows[i], rng_.Below(steps / piece) * piece);
}

Status Table::Select(const RecordLayout* layout, const std::uint64_t* keys, std::size_t n,
                     std::uint32_t* steps, std::vector<Row>* rows,
                     std::vector<std::uint64_t>* found) const {
  const auto add = [&](std::uint32_t slot) {
    if (*steps == 0) *steps = items_.length.Get(slot);
    const Status status = CheckSteps(layout, slot, *steps);
    if (status.ok()) {
      rows->push_back({chunks_->at(items_.at(slot).chunk), items_.at(slot).offset});
      found->push_back(items_.key(slot));
    }
    return status;
  };
  if (keys == nullptr) {
    rows->reserve(size());
    found->reserve(size());
    for (std::uint64_t i = 0; i < order_.span(); ++i) {
      if (order_[i] == kNoSlot) continue;
      const Status status = add(order_[i]);
      if (!status.ok()) return status;
    }
    return Status();
  }
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t slot = items_.Find(keys[i]);
    Status status = Status::Of(Code::kStaleKey);
    status.key = keys[i];
    if (slot != kNoSlot) status = add(slot);
    if (!status.ok()) return status;
  }
  return Status();
}

Status Table::Find(std::uint64_t key, const RecordLayout* layout, Row* row, std::uint32_t* length,
                   const std::vector<Span>** spans) const {
  const std::uint32_t slot = items_.Find(key);
  Status status = Status::Of(Code::kStaleKey);
  status.key = key;
  if (slot == kNoSlot) return status;
  const Item& item = items_.at(slot);
  if (items_.trajectory(slot) != nullptr) {
    status.code = Code::kLayoutMismatch;
    return status;
  }
  *row = {chunks_->at(item.chunk), item.offset};
  *length = items_.length.Get(slot);
  const auto found = items_.spans.find(slot);
  *spans = found == items_.spans.end() ? nullptr : &found->second;
  status.code = row->chunk->layout.get() == layout ? Code::kOk : Code::kLayoutMismatch;
  return status;
}

std::size_t Table::UpdatePriorities(const std::uint64_t* keys, const double* priorities,
                                    std::size_t n) {
  std::size_t stale = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t slot = items_.Find(keys[i]);
    if (slot == kNoSlot) {
      ++stale;
      continue;
    }
    items_.priority.Set(slot, priorities[i], items_.size() > 1, items_.num_slots());
    sampler_->Update(slot, priorities[i]);
    remover_->Update(slot, priorities[i]);
  }
  return stale;
}

std::size_t Table::Delete(const std::uint64_t* keys, std::size_t n, Garbage* garbage) {
  std::size_t stale = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t slot = items_.Find(keys[i]);
    if (slot == kNoSlot) {
      ++stale;
    } else {
      Remove(slot, garbage);
    }
  }
  return stale;
}

void Table::Clear(Garbage* garbage) {
  // From the newest to the oldest, so that the slots are used again in order.
  while (order_.size() != 0) Remove(order_[order_.span() - 1], garbage);
  limiter_.Reset();
  num_unique_samples_ = 0;
  num_deleted_episodes_ = 0;
}

void Table::Pack() {
  order_.Pack([this](std::uint32_t moved, std::uint32_t place) { items_.at(moved).order = place; });
}

TableState Table::Save() const {
  TableState state;
  ItemColumns& to = state.items;
  const std::size_t n = size();
  to.key.reserve(n);
  to.chunk_id.reserve(n);
  to.offset.reserve(n);
  to.length.reserve(n);
  to.priority.reserve(n);
  to.times_sampled.reserve(n);
  for (std::uint64_t i = 0; i < order_.span(); ++i) {
    const std::uint32_t slot = order_[i];
    if (slot == kNoSlot) continue;
    const Item& item = items_.at(slot);
    if (!items_.spans.empty()) {
      const auto found = items_.spans.find(slot);
      if (found != items_.spans.end()) {
        for (std::size_t column = 0; column < found->second.size(); ++column) {
          to.span_item.push_back(to.key.size());
          to.span_column.push_back(static_cast<std::uint32_t>(column));
          to.span_start.push_back(found->second[column].start);
          to.span_length.push_back(found->second[column].length);
        }
      }
    }
    if (const Trajectory* trajectory = items_.trajectory(slot)) {
      to.traj_item.push_back(to.key.size());
      to.traj_episode.push_back(trajectory->episode);
      for (const Trajectory::Column& column : trajectory->columns) {
        to.column_item.push_back(to.key.size());
        to.column_squeeze.push_back(column.squeeze);
        to.column_pieces.push_back(column.num_pieces);
      }
      for (const Piece& piece : trajectory->pieces) {
        to.piece_chunk.push_back(piece.chunk->id);
        to.piece_offset.push_back(piece.offset);
        to.piece_length.push_back(piece.length);
      }
    }
    to.key.push_back(items_.key(slot));
    to.chunk_id.push_back(item.chunk == kNoSlot ? 0 : chunks_->at(item.chunk)->id);
    to.offset.push_back(item.offset);
    to.length.push_back(items_.length.Get(slot));
    to.priority.push_back(items_.priority.Get(slot));
    to.times_sampled.push_back(item.times_sampled);
    // Both selectors hear of the same events, so either heap tells their order.
    if (has_heap()) {
      to.touched.push_back(std::max(sampler_->Touched(slot), remover_->Touched(slot)));
    }
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
    auto trajectory = std::make_unique<Trajectory>();
    trajectory->episode = from.traj_episode[i];
    for (; column < from.column_item.size() && from.column_item[column] == row; ++column) {
      const std::uint32_t num_pieces = from.column_pieces[column];
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
        if (chunk->layout->columns().size() != 1 || chunk->layout->tag() != first->layout->tag()) {
          return Status::Invalid("piece of another kind of column", at);
        }
        if (length == 0 || offset >= chunk->count || length > chunk->count - offset ||
            (squeeze && (length != 1 || num_pieces != 1))) {
          return Status::Invalid("piece outside its chunk", at);
        }
        trajectory->pieces.push_back({chunk, offset, length});
      }
      trajectory->columns.push_back({num_pieces, squeeze});
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
  struct Undone {  // a table half filled must not be walked: its selectors know nothing of it
    ItemOrder* order;
    ~Undone() {
      if (order != nullptr) order->Clear();
    }
  } undone{&order_};
  if (from.key.size() == n) {  // an empty table has free keys, too
    const std::int64_t bad =
        items_.Restore(from.key.data(), n, state.free_keys.data(), state.free_keys.size());
    if (bad >= 0) return Status::Invalid("key malformed or used twice", bad);
  }
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
      if (length == 0) return Status::Invalid("length is 0", row);
      if (from.offset[i] >= chunk->capacity) return Status::Invalid("offset past its chunk", row);
    }
    if (!(from.priority[i] >= 0) || std::isinf(from.priority[i])) {
      return Status::Invalid("priority not finite and >= 0", row);
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
    if (config_.max_times_sampled != 0) {
      remaining_samples_ += std::max(0, config_.max_times_sampled - item.times_sampled);
    }
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
  for (std::size_t i = 0; i < from.span_item.size(); ++i) {
    const auto row = static_cast<std::int64_t>(from.span_item[i]);
    if (from.span_item[i] >= n) return Status::Invalid("span of an unknown item", row);
    if (items_.trajectory(order_[from.span_item[i]]) != nullptr) {
      return Status::Invalid("span of a trajectory", row);
    }
    const auto& layout = *chunks_by_row[from.span_item[i]]->layout;
    const std::uint32_t length = from.length[from.span_item[i]];
    if (from.span_column[i] >= layout.columns().size() || from.span_start[i] > length ||
        from.span_length[i] > length - from.span_start[i]) {
      return Status::Invalid("span outside its item", row);
    }
    // Items were appended in row order, so the row is also the place.
    auto& spans = items_.spans[order_[from.span_item[i]]];
    if (spans.empty()) spans.assign(layout.columns().size(), Span{0, length});
    spans[from.span_column[i]] = {from.span_start[i], from.span_length[i]};
  }
  for (const std::int64_t counter :
       {state.counters.inserts, state.counters.samples, state.counters.deletes,
        state.num_unique_samples, state.num_deleted_episodes}) {
    if (counter < 0 || counter > kMaxCounter) return Status::Invalid("counter out of range", -1);
  }
  limiter_.set_counters(state.counters);
  num_unique_samples_ = state.num_unique_samples;
  num_deleted_episodes_ = state.num_deleted_episodes;
  if (!rng_.set_state(state.rng)) return Status::Invalid("RNG state is all zeros", -1);
  undone.order = nullptr;
  return Status();
}

}  // namespace reverie
