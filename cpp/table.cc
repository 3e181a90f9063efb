#include "table.h"

#include <algorithm>
#include <limits>
#include <new>
#include <utility>

#include "prefetch.h"
#include "selectors/make_selector.h"

namespace reverie {
namespace {

// Pages that placing an item may have to copy: its own, and those of the item that leaves.
constexpr std::size_t kCopies = 16;
// Fewer items than these are deleted one by one.
constexpr std::uint32_t kFewItems = 4096;

bool IsHeap(const SelectorConfig& selector) {
  return selector.kind == SelectorKind::kMinHeap || selector.kind == SelectorKind::kMaxHeap;
}

// How many slots are used in a ring; 0: they are not, as others than the oldest leave.
std::uint32_t Ring(const Table::Config& config) {
  const bool oldest = config.remover.kind == SelectorKind::kFifo &&
                      (config.max_times_sampled == 0 || config.sampler.kind == SelectorKind::kFifo);
  return oldest && config.max_size != kNoSlot ? config.max_size + 1 : 0;
}

}  // namespace

Table::Contents::Contents(const Config& config, ChunkStore* chunks, std::uint32_t first_generation)
    : items(chunks->pages(), first_generation),
      order(chunks->pages(), Ring(config)),
      sampler(MakeSelector(config.sampler, &order, &items.priority, chunks->pages())),
      remover(MakeSelector(config.remover, &order, &items.priority, chunks->pages())) {}

Table::Table(const Config& config, ChunkStore* chunks)
    : config_(config),
      chunks_(chunks),
      own_(std::make_unique<Contents>(config, chunks, 0)),
      limiter_(config.limiter),
      rng_(config.seed) {}

void Table::ReserveInsert(std::uint32_t length, double priority, std::size_t nth) {
  if (blocked()) {
    spare_.emplace_back();
    return;
  }
  NewItem item{priority, nullptr, 0, length, {}};
  Reserve(item);
  chunks_->pages()->ReserveCopies(nth * kCopies);
}

void Table::Reserve(const NewItem& item) {
  own_->items.Reserve(item.length, item.priority, item.trajectory != nullptr);
  const std::uint32_t slot = own_->items.next_slot();
  own_->order.Reserve(slot);
  own_->sampler->Reserve(slot);
  own_->remover->Reserve(slot);
  if (item.trajectory != nullptr) own_->episodes.try_emplace(item.trajectory->episode, 0);
  chunks_->pages()->ReserveCopies(kCopies);
}

// Calls run(chunk, offset, length) for each run of records that the item holds.
template <typename Run>
void Table::EachRun(const NewItem& item, const Run& run) {
  if (item.trajectory != nullptr) {
    const Piece* const pieces = item.trajectory->pieces();
    for (std::uint32_t p = 0; p < item.trajectory->num_pieces; ++p) {
      run(pieces[p].chunk, pieces[p].offset, pieces[p].length);
    }
    return;
  }
  Chunk* chunk = item.chunk;
  std::uint32_t offset = item.offset;
  for (std::uint32_t left = item.length; left != 0; offset = 0) {
    Chunk* const next = chunk->next;
    const std::uint32_t here = std::min<std::uint32_t>(left, chunk->capacity - offset);
    run(chunk, offset, here);
    left -= here;
    chunk = next;
  }
}

void Table::TakeReferences(const NewItem& item) {
  if (item.trajectory == nullptr) {
    chunks_->RefWindow(item.chunk, item.offset, item.length);
    return;
  }
  EachRun(item, [this](Chunk* chunk, std::uint32_t offset, std::uint32_t length) {
    chunks_->RefRun(chunk, offset, length);
  });
}

void Table::DropReferences(const NewItem& item, Garbage* garbage) {
  EachRun(item, [&](Chunk* chunk, std::uint32_t, std::uint32_t length) {
    chunks_->UnrefRun(chunk, length, garbage);
  });
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
  EachRun(item, [this](Chunk* chunk, std::uint32_t, std::uint32_t) { chunks_->Join(chunk); });
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
    EachRun(next.item, [this](Chunk* chunk, std::uint32_t, std::uint32_t) {
      chunks_->Leave(chunk);
    });
    Place(std::move(next.item), garbage);
    --next.progress->pending;
    pending_.pop_front();
    any = true;
  }
  return any;
}

void Table::DropPending(Garbage* garbage) {
  for (Pending& waiting : pending_) {
    EachRun(waiting.item, [this](Chunk* chunk, std::uint32_t, std::uint32_t) {
      chunks_->Leave(chunk);
    });
    DropReferences(waiting.item, garbage);
    --waiting.progress->pending;
    waiting.progress->dropped = true;
  }
  pending_.clear();
}

void Table::Place(NewItem&& added, Garbage* garbage) noexcept {
  ItemStore& items = own_->items;
  const std::uint32_t slot = items.Allocate();
  Item& item = items.Edit(slot);
  const bool others = items.size() > 1;
  items.length.Set(slot, added.length, others);
  items.priority.Set(slot, added.priority, others);
  own_->order.PushBack(slot);
  item.chunk = added.chunk == nullptr ? kNoSlot : added.chunk->slot;
  item.offset = added.offset;
  if (added.trajectory != nullptr) {
    ++own_->episodes[added.trajectory->episode];
    items.trajectories.Edit(slot) = added.trajectory.release();
  }
  own_->sampler->Insert(slot, added.priority);
  own_->remover->Insert(slot, added.priority);
  remaining_samples_ += config_.max_times_sampled;
  limiter_.Inserted();
  if (size() > config_.max_size) Evict(garbage);
}

void Table::Evict(Garbage* garbage) {
  std::uint32_t victim;
  double probability;
  own_->remover->Select(&rng_, 1, &victim, &probability);
  Remove(victim, garbage);
}

void Table::DropChunks(std::uint32_t slot, Garbage* garbage) {
  const Item& item = own_->items.at(slot);
  if (Trajectory* const trajectory = own_->items.trajectory(slot)) {
    const Piece* const pieces = trajectory->pieces();
    for (std::uint32_t p = 0; p < trajectory->num_pieces; ++p) {
      chunks_->UnrefRun(pieces[p].chunk, pieces[p].length, garbage);
    }
    chunks_->epochs()->Retire(trajectory, true, garbage);
  } else if (item.chunk != kNoSlot) {  // as it may be where restoring failed half-way
    chunks_->UnrefWindow(chunks_->at(item.chunk), item.offset, own_->items.length.Get(slot),
                         garbage);
  }
}

void Table::Remove(std::uint32_t slot, Garbage* garbage) {
  const Item item = own_->items.at(slot);
  own_->sampler->Delete(slot);
  own_->remover->Delete(slot);
  own_->order.Erase(slot);
  if (const Trajectory* trajectory = own_->items.trajectory(slot)) {
    const auto episode = own_->episodes.find(trajectory->episode);
    if (--episode->second == 0) {
      own_->episodes.erase(episode);
      ++num_deleted_episodes_;
    }
  }
  DropChunks(slot, garbage);
  if (config_.max_times_sampled != 0) remaining_samples_ -= Remaining(item);
  own_->items.Free(slot);
  own_->items.Tidy();
  limiter_.Deleted();
}

bool Table::Fits(const RecordLayout* layout, std::uint32_t slot, std::uint32_t steps) const {
  // The length of a trajectory, which has no chunk, is 0.
  return own_->items.length.Get(slot) == steps &&
         chunks_->place(own_->items.at(slot).chunk).layout == layout;
}

Status Table::Check(const BatchSpec& spec, std::uint32_t slot) const {
  const auto& wanted = spec.layout->columns();
  Status status = Status::Of(Code::kLayoutMismatch);
  status.key = own_->items.key(slot);
  const Trajectory* const trajectory = own_->items.trajectory(slot);
  if (trajectory == nullptr) {
    const RecordLayout* const layout = chunks_->at(own_->items.at(slot).chunk)->layout.get();
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
    status.found = own_->items.length.Get(slot);
    status.wanted = spec.steps;
    if (spec.lengths == nullptr) return status.found == status.wanted ? Status() : status;
    while (spec.lengths[++status.column] == status.found) continue;  // some length is another
    status.wanted = spec.lengths[status.column];
    return status;
  }
  if (trajectory->num_columns != wanted.size()) return status;
  Status mismatch;  // of lengths, unless a later column is of another type
  const Piece* piece = trajectory->pieces();
  for (std::size_t c = 0; c < wanted.size(); ++c) {
    const Trajectory::Column& column = trajectory->columns()[c];
    status.column = static_cast<std::int64_t>(c);
    if (wanted[c].type == 0 || column.cell(*piece).type != wanted[c].type) return status;
    std::int64_t found = 0;
    for (const Piece* const end = piece + column.num_pieces; piece != end; ++piece) {
      found += piece->length;
    }
    if (column.squeeze()) found = BatchSpec::kSqueezed;
    if (found == spec.length(c) || !mismatch.ok()) continue;
    mismatch = {Code::kLengthMismatch, status.key, status.column, found, spec.length(c)};
  }
  return mismatch;
}

Row Table::RowOf(std::uint32_t slot, BatchRows* rows) const {
  const Item& item = own_->items.at(slot);
  if (item.chunk != kNoSlot) return Row::Of(chunks_->place(item.chunk), item.offset);
  rows->trajectories.push_back({own_->items.trajectory(slot), 0});
  return {nullptr, nullptr, static_cast<std::uint32_t>(rows->trajectories.size() - 1), 0};
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
  ItemStore& items = own_->items;
  // A batch that fails must not use up randomness: the next one is as it was.
  const Rng::State before = rng_.state();
  own_->sampler->Select(&rng_, n, slots_.data(), probabilities_.data());
  // Two misses for each: its item, then its chunk's place; so the first one is asked for
  // early. The records themselves are the gather's.
  constexpr std::size_t kAhead = 32;
  for (std::size_t i = 0; i < std::min(kAhead, n); ++i) Prefetch(&items.at(slots_[i]));
  const RecordLayout* const layout = spec.lengths == nullptr ? spec.layout : nullptr;
  const bool copies = chunks_->pages()->shared() || config_.max_times_sampled != 0;
  try {
    for (std::size_t i = 0; i < n; ++i) {
      if (i + kAhead < n) Prefetch(&items.at(slots_[i + kAhead]));
      if (copies) ReserveCount(slots_[i]);
      if (Fits(layout, slots_[i], spec.steps)) {
        const Item& item = items.at(slots_[i]);
        rows[i] = Row::Of(chunks_->place(item.chunk), item.offset);
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
  // The gather begins with these, while what follows here is told of all.
  for (std::size_t i = 0; i < std::min(kAhead, n); ++i) Prefetch(rows[i].record);
  const auto table_size = static_cast<std::int64_t>(size());
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t slot = slots_[i];
    Item& item = items.Edit(slot);
    const bool spent = Count(&item);
    const std::uint64_t key = ItemStore::KeyOf(item, slot);
    const double priority = items.priority.Get(slot);
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

void Table::ReserveCount(std::uint32_t slot) {
  own_->items.Own(slot);
  if (config_.max_times_sampled == 0) return;
  own_->order.ReserveErase(slot);
  chunks_->pages()->ReserveCopies(kCopies);
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
  const Item& item = own_->items.at(slot);
  SampledItem sampled;
  sampled.key = own_->items.key(slot);
  sampled.table_size = static_cast<std::int64_t>(size());
  sampled.priority = own_->items.priority.Get(slot);
  sampled.times_sampled = item.times_sampled;
  sampled.chunk = item.chunk == kNoSlot ? nullptr : chunks_->at(item.chunk);
  sampled.offset = item.offset;
  sampled.length = own_->items.length.Get(slot);
  sampled.trajectory = own_->items.trajectory(slot);
  return sampled;
}

void Table::SampleItems(std::size_t n, std::vector<SampledItem>* items, Garbage* garbage) {
  while (items->size() < n && CanSample(1)) {
    std::uint32_t slot;
    double probability;
    const Rng::State before = rng_.state();
    own_->sampler->Select(&rng_, 1, &slot, &probability);
    try {
      ReserveCount(slot);
      items->push_back(Sampled(slot));
    } catch (const std::bad_alloc&) {
      rng_.set_state(before);
      if (items->empty()) throw;
      return;  // what is counted must be handed over
    }
    SampledItem& sampled = items->back();
    const bool spent = Count(&own_->items.Edit(slot));
    sampled.probability = probability;
    sampled.times_sampled = own_->items.at(slot).times_sampled;
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
      const Trajectory* const trajectory = own_->items.trajectory(slot);
      spec->steps = own_->items.length.Get(slot);
      const std::uint32_t num_pieces =
          trajectory == nullptr ? 0 : trajectory->columns()->num_pieces;
      for (std::uint32_t p = 0; p < num_pieces; ++p) spec->steps += trajectory->pieces()[p].length;
    }
    const Status status = Check(*spec, slot);
    if (status.ok()) {
      rows->rows.push_back(RowOf(slot, rows));
      found->push_back(own_->items.key(slot));
    }
    return status;
  };
  if (keys == nullptr) {
    rows->rows.reserve(size());
    found->reserve(size());
    for (std::uint64_t i = 0; i < own_->order.span(); ++i) {
      if (own_->order[i] == kNoSlot) continue;
      const Status status = add(own_->order[i]);
      if (!status.ok()) return status;
    }
    return Status();
  }
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t slot = own_->items.Find(keys[i]);
    const Status status = slot == kNoSlot ? Status::Stale(keys[i]) : add(slot);
    if (!status.ok()) return status;
  }
  return Status();
}

Status Table::Find(const std::uint64_t* key, SampledItem* item) const {
  if (key == nullptr && size() == 0) return Status::Of(Code::kWouldBlock);
  const std::uint32_t slot =
      key == nullptr ? own_->order[0] : own_->items.Find(*key);  // no hole is first
  if (slot == kNoSlot) return Status::Stale(*key);
  *item = Sampled(slot);
  return Status();
}

std::size_t Table::UpdatePriorities(const std::uint64_t* keys, const double* priorities,
                                    std::size_t n) {
  std::size_t stale = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t slot = own_->items.Find(keys[i]);
    if (slot == kNoSlot) {
      ++stale;
      continue;
    }
    own_->sampler->Own(slot);
    own_->remover->Own(slot);
    own_->items.priority.Reserve(slot, priorities[i], own_->items.size() > 1);
    own_->items.priority.Set(slot, priorities[i], own_->items.size() > 1);
    own_->sampler->Update(slot, priorities[i]);
    own_->remover->Update(slot, priorities[i]);
  }
  return stale;
}

std::size_t Table::Delete(const std::uint64_t* keys, std::size_t n, Garbage* garbage) {
  std::size_t stale = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t slot = own_->items.Find(keys[i]);
    if (slot == kNoSlot) {
      ++stale;
      continue;
    }
    own_->items.Own(slot);
    own_->order.ReserveErase(slot);
    chunks_->pages()->ReserveCopies(kCopies);
    Remove(slot, garbage);
  }
  return stale;
}

std::unique_ptr<Table::Contents> Table::Fresh() const {
  if (own_->items.num_slots() <= kFewItems) return nullptr;
  if (own_->items.next_generation() > ItemStore::kLastFirst) return nullptr;
  return std::make_unique<Contents>(config_, chunks_, own_->items.next_generation());
}

void Table::Clear(std::unique_ptr<Contents>* fresh, Garbage* garbage) {
  if (*fresh != nullptr) {
    limiter_.Deleted(size());
    std::swap(own_, *fresh);
    remaining_samples_ = 0;
  } else {
    // From the newest to the oldest, so that the slots are used again in order.
    while (own_->order.size() != 0) {
      const std::uint32_t slot = own_->order[own_->order.span() - 1];
      own_->items.Own(slot);
      own_->order.ReserveErase(slot);
      chunks_->pages()->ReserveCopies(kCopies);
      Remove(slot, garbage);
    }
  }
  limiter_.Reset();
  num_unique_samples_ = 0;
  num_deleted_episodes_ = 0;
}

void Table::MoveItem(std::uint32_t slot, Chunk* chunk, std::uint32_t offset, Garbage* garbage) {
  Item& item = own_->items.Edit(slot);
  const std::uint32_t length = own_->items.length.Get(slot);
  chunks_->RefWindow(chunk, offset, length);
  chunks_->UnrefWindow(chunks_->at(item.chunk), item.offset, length, garbage);
  item.chunk = chunk->slot;
  item.offset = offset;
}

void Table::MoveItem(std::uint32_t slot, OwnTrajectory trajectory, Garbage* garbage) {
  Trajectory*& at = own_->items.trajectories.Edit(slot);
  const Piece* const to = trajectory->pieces();
  for (std::uint32_t p = 0; p < trajectory->num_pieces; ++p) {
    chunks_->RefRun(to[p].chunk, to[p].offset, to[p].length);
  }
  const Piece* const from = at->pieces();
  for (std::uint32_t p = 0; p < at->num_pieces; ++p) {
    chunks_->UnrefRun(from[p].chunk, from[p].length, garbage);
  }
  chunks_->epochs()->Retire(at, true, garbage);
  at = trajectory.release();
}

TableView Table::Share() {
  TableView view;
  view.items = own_->items.Share();
  view.order = own_->order.Share();
  // Both selectors hear of the same events, so either heap tells their order.
  view.has_heap = IsHeap(config_.sampler) || IsHeap(config_.remover);
  if (IsHeap(config_.remover)) {
    view.touched = own_->remover->ShareTouched();
  } else {
    view.touched = own_->sampler->ShareTouched();
  }
  view.first_generation = own_->items.first_generation();
  view.counters = limiter_.counters();
  view.num_unique_samples = num_unique_samples_;
  view.num_deleted_episodes = num_deleted_episodes_;
  view.rng = rng_.state();
  return view;
}

}  // namespace reverie
