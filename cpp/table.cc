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
  if (item->times_sampled >= config_.max_times_sampled) return true;
  --remaining_samples_;
  return false;
}

void Table::SampleItems(std::size_t n, std::vector<SampledItem>* items, Garbage* garbage) {
  while (items->size() < n && CanSample(1)) {
    std::uint32_t slot;
    double probability;
    sampler_->Select(&rng_, 1, &slot, &probability);
    Item& item = items_.at(slot);
    SampledItem next{};
    try {
      if (const Trajectory* trajectory = items_.trajectory(slot)) {
        next.trajectory = *trajectory;
      } else {
        next.row = {chunks_->at(item.chunk), item.offset};
        const auto found = items_.spans.find(slot);
        if (found != items_.spans.end()) next.spans = found->second;
      }
      items->push_back(std::move(next));
    } catch (const std::bad_alloc&) {
      if (items->empty()) throw;
      return;  // what is counted must be handed over
    }
    SampledItem& sampled = items->back();
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

}  // namespace reverie
