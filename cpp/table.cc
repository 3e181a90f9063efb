#include "table.h"

#include <algorithm>
#include <limits>
#include <new>
#include <utility>

#include "prefetch.h"
#include "selectors/make_selector.h"

namespace reverie {
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
    waiting.progress->dropped = true;
  }
  pending_.clear();
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

void Table::DropChunks(std::uint32_t slot, Garbage* garbage) {
  const Item& item = items_.at(slot);
  if (const Trajectory* trajectory = items_.trajectory(slot)) {
    for (const Piece& piece : trajectory->pieces) chunks_->Unref(piece.chunk, garbage);
  } else if (item.chunk != kNoSlot) {  // as it may be where restoring failed half-way
    chunks_->UnrefWindow(chunks_->at(item.chunk), item.offset, items_.length.Get(slot), garbage);
  }
}

void Table::Remove(std::uint32_t slot, Garbage* garbage) {
  const Item item = items_.at(slot);
  DropChunks(slot, garbage);
  sampler_->Delete(slot);
  remover_->Delete(slot);
  order_.Erase(item.order, [this](std::uint32_t moved, std::uint32_t place) {
    items_.at(moved).order = place;
  });
  if (const Trajectory* trajectory = items_.trajectory(slot)) {
    const auto episode = episodes_.find(trajectory->episode);
    if (--episode->second == 0) {
      episodes_.erase(episode);
      ++num_deleted_episodes_;
    }
  }
  if (config_.max_times_sampled != 0) remaining_samples_ -= Remaining(item);
  items_.Free(slot);
  limiter_.Deleted();
}

bool Table::Fits(const RecordLayout* layout, std::uint32_t slot, std::uint32_t steps) const {
  // The length of a trajectory, which has no chunk, is 0.
  return items_.length.Get(slot) == steps &&
         chunks_->at(items_.at(slot).chunk)->layout.get() == layout;
}

Status Table::Check(const BatchSpec& spec, std::uint32_t slot) const {
  const auto& wanted = spec.layout->columns();
  Status status = Status::Of(Code::kLayoutMismatch);
  status.key = items_.key(slot);
  const Trajectory* const trajectory = items_.trajectory(slot);
  if (trajectory == nullptr) {
    const RecordLayout* const layout = chunks_->at(items_.at(slot).chunk)->layout.get();
    const auto& columns = layout->columns();
    if (layout != spec.layout) {
      for (std::size_t c = 0; c < wanted.size() && columns.size() == wanted.size(); ++c) {
        if (columns[c].type == wanted[c].type && columns[c].nbytes == wanted[c].nbytes) continue;
        status.column = static_cast<std::int64_t>(c);
        break;
      }
      return status;
    }
    status.code = Code::kLengthMismatch;
    status.found = items_.length.Get(slot);
    status.wanted = spec.steps;
    if (spec.lengths == nullptr) return status.found == status.wanted ? Status() : status;
    while (spec.lengths[++status.column] == status.found) continue;  // some length is another
    status.wanted = spec.lengths[status.column];
    return status;
  }
  if (trajectory->columns.size() != wanted.size()) return status;
  Status mismatch;  // of lengths, unless a later column is of another type
  const Piece* piece = trajectory->pieces.data();
  for (std::size_t c = 0; c < wanted.size(); ++c) {
    const Trajectory::Column& column = trajectory->columns[c];
    status.column = static_cast<std::int64_t>(c);
    if (wanted[c].type == 0 || column.cell(*piece).type != wanted[c].type) return status;
    std::int64_t found = 0;
    for (const Piece* const end = piece + column.num_pieces; piece != end; ++piece) {
      found += piece->length;
    }
    if (column.squeeze) found = BatchSpec::kSqueezed;
    if (found == spec.length(c) || !mismatch.ok()) continue;
    mismatch = {Code::kLengthMismatch, status.key, status.column, found, spec.length(c)};
  }
  return mismatch;
}

Row Table::RowOf(std::uint32_t slot, BatchRows* rows) const {
  const Item& item = items_.at(slot);
  if (item.chunk != kNoSlot) return {chunks_->at(item.chunk), item.offset};
  rows->trajectories.push_back({items_.share(slot), 0});
  return {nullptr, static_cast<std::uint32_t>(rows->trajectories.size() - 1)};
}

Status Table::Sample(const BatchSpec& spec, BatchRows* rows, const SampleInfo& info,
                     Garbage* garbage) {
  const std::size_t n = rows->rows.size();
  if (config_.max_times_sampled == 0) return SampleSome(spec, 0, n, rows, info, garbage);
  SampleInfo one = info;
  for (std::size_t i = 0; i < n; ++i) {
    const Status status = SampleSome(spec, i, 1, rows, one, garbage);
    if (!status.ok()) return status;
    one.key += info.repeat;
    one.probability += info.repeat;
    one.table_size += info.repeat;
    one.priority += info.repeat;
    one.times_sampled += info.repeat;
  }
  return Status();
}

Status Table::SampleSome(const BatchSpec& spec, std::size_t first, std::size_t n, BatchRows* to,
                         const SampleInfo& info, Garbage* garbage) {
  if (slots_.size() < n) {
    probabilities_.resize(n);
    slots_.resize(n);  // last, as its size tells whether both are long enough
  }
  Row* const rows = to->rows.data() + first;
  // A batch that fails must not use up randomness: the next one is as it was.
  const Rng::State before = rng_.state();
  sampler_->Select(&rng_, n, slots_.data(), probabilities_.data());
  for (std::size_t i = 0; i < n; ++i) {
    const Item* const item = &items_.at(slots_[i]);
    Prefetch(item);
    Prefetch(reinterpret_cast<const char*>(item + 1) - 1);  // one in four spans two lines
  }
  const RecordLayout* const layout = spec.lengths == nullptr ? spec.layout : nullptr;
  try {
    for (std::size_t i = 0; i < n; ++i) {
      if (Fits(layout, slots_[i], spec.steps)) {
        const Item& item = items_.at(slots_[i]);
        rows[i] = {chunks_->at(item.chunk), item.offset};
        continue;
      }
      const Status status = Check(spec, slots_[i]);
      if (!status.ok()) {
        rng_.set_state(before);
        return status;
      }
      rows[i] = RowOf(slots_[i], to);
    }
  } catch (const std::bad_alloc&) {
    rng_.set_state(before);
    throw;
  }
  const auto table_size = static_cast<std::int64_t>(size());
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t slot = slots_[i];
    Item& item = items_.at(slot);
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
  if (item->times_sampled >= config_.max_times_sampled) return true;
  --remaining_samples_;
  return false;
}

SampledItem Table::Sampled(std::uint32_t slot) const {
  const Item& item = items_.at(slot);
  SampledItem sampled;
  sampled.key = items_.key(slot);
  sampled.table_size = static_cast<std::int64_t>(size());
  sampled.priority = items_.priority.Get(slot);
  sampled.times_sampled = item.times_sampled;
  sampled.chunk = item.chunk == kNoSlot ? nullptr : chunks_->at(item.chunk);
  sampled.offset = item.offset;
  sampled.length = items_.length.Get(slot);
  sampled.trajectory = items_.share(slot);
  return sampled;
}

void Table::SampleItems(std::size_t n, std::vector<SampledItem>* items, Garbage* garbage) {
  while (items->size() < n && CanSample(1)) {
    std::uint32_t slot;
    double probability;
    sampler_->Select(&rng_, 1, &slot, &probability);
    try {
      items->push_back(Sampled(slot));
    } catch (const std::bad_alloc&) {
      if (items->empty()) throw;
      return;  // what is counted must be handed over
    }
    SampledItem& sampled = items->back();
    const bool spent = Count(&items_.at(slot));
    sampled.probability = probability;
    sampled.times_sampled = items_.at(slot).times_sampled;
    limiter_.Sampled(1);
    if (spent) Remove(slot, garbage);
  }
}

void Table::PickPieces(BatchRows* rows, std::uint32_t steps, std::uint32_t piece) {
  for (Row& row : rows->rows) {
    const std::uint32_t skip = rng_.Below(steps / piece) * piece;
    if (row.chunk != nullptr) {
      AdvanceRow(&row, skip);
    } else {
      rows->trajectories[row.offset].skip = skip;
    }
  }
}

Status Table::Select(BatchSpec* spec, const std::uint64_t* keys, std::size_t n, BatchRows* rows,
                     std::vector<std::uint64_t>* found) const {
  const auto add = [&](std::uint32_t slot) {
    if (spec->steps == 0) {
      const Trajectory* const trajectory = items_.trajectory(slot);
      spec->steps = items_.length.Get(slot);
      for (std::uint32_t p = 0; trajectory != nullptr && p < trajectory->columns[0].num_pieces; ++p)
        spec->steps += trajectory->pieces[p].length;
    }
    const Status status = Check(*spec, slot);
    if (status.ok()) {
      rows->rows.push_back(RowOf(slot, rows));
      found->push_back(items_.key(slot));
    }
    return status;
  };
  if (keys == nullptr) {
    rows->rows.reserve(size());
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
    const Status status = slot == kNoSlot ? Status::Stale(keys[i]) : add(slot);
    if (!status.ok()) return status;
  }
  return Status();
}

Status Table::Find(const std::uint64_t* key, SampledItem* item) const {
  if (key == nullptr && size() == 0) return Status::Of(Code::kWouldBlock);
  const std::uint32_t slot = key == nullptr ? order_[0] : items_.Find(*key);  // no hole is first
  if (slot == kNoSlot) return Status::Stale(*key);
  *item = Sampled(slot);
  return Status();
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

}  // namespace reverie
