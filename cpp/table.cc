#include "table.h"

#include <algorithm>
#include <new>
#include <utility>

#include "outer_lock.h"
#include "prefetch.h"
#include "selectors/make_selector.h"
#include "stop.h"

namespace reverie {
namespace {

// Fewer items than these are deleted one by one.
constexpr std::uint32_t kFewItems = 4096;
constexpr std::size_t kUpdatesAhead = 16;  // whose memory is asked for

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
      max_size_(config.max_size),
      chunks_(chunks),
      own_(std::make_unique<Contents>(config, chunks, 0)),
      limiter_(config.limiter),
      rng_(config.seed) {}

void Table::ReserveInsert(std::uint32_t length, double priority, std::size_t nth) {
  if (blocked()) {
    spare_.emplace_back();
    return;
  }
  NewItem item{Known(priority), nullptr, 0, length, {}};
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
  EachPart(item.chunk, item.offset, item.length, run);
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

bool Table::Submit(NewItem item, const std::shared_ptr<InsertProgress>& progress, Garbage* garbage,
                   std::uint64_t* key) {
  if (!blocked()) {
    item.priority = Known(item.priority);
    Reserve(item);
    TakeReferences(item);
    const std::uint64_t placed = Place(std::move(item), garbage);
    if (key != nullptr) *key = placed;
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
    const double wanted = next.item.priority;
    next.item.priority = Known(wanted);
    try {
      Reserve(next.item);
    } catch (const std::bad_alloc&) {
      next.item.priority = wanted;  // the largest when it goes in, not now
      return any;                   // it goes on waiting: the next drain may find memory
    }
    EachRun(next.item,
            [this](Chunk* chunk, std::uint32_t, std::uint32_t) { chunks_->Leave(chunk); });
    Place(std::move(next.item), garbage);
    --next.progress->pending;
    pending_.pop_front();
    any = true;
  }
  return any;
}

void Table::DropPending(Garbage* garbage) {
  for (Pending& waiting : pending_) {
    EachRun(waiting.item,
            [this](Chunk* chunk, std::uint32_t, std::uint32_t) { chunks_->Leave(chunk); });
    DropReferences(waiting.item, garbage);
    --waiting.progress->pending;
    waiting.progress->dropped = true;
  }
  pending_.clear();
}

std::uint64_t Table::Place(NewItem&& added, Garbage* garbage) noexcept {
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
  const std::uint64_t key = items.key(slot);
  if (size() > max_size_) Evict(true, garbage);
  return key;
}

bool Table::Resize(std::uint32_t max_size, std::size_t at_once, Garbage* garbage) {
  for (; size() > max_size; --at_once) {
    if (at_once == 0) return false;
    chunks_->pages()->ReserveCopies(kCopies);
    Evict(false, garbage);
  }
  max_size_ = max_size;
  return true;
}

void Table::Evict(bool for_newest, Garbage* garbage) {
  std::uint32_t victim;
  double probability;
  if (for_newest && config_.remover.kind == SelectorKind::kReservoir) {
    const std::uint32_t newest = own_->order[own_->order.span() - 1];
    const auto inserts = static_cast<double>(limiter_.counters().inserts);
    victim = newest;
    if (rng_.Fraction() * inserts < max_size_) {
      while (victim == newest) own_->remover->Select(&rng_, 1, &victim, &probability);
    }
  } else {
    own_->remover->Select(&rng_, 1, &victim, &probability);
  }
  Remove(victim, garbage);
}

void Table::Contents::DropChunks(std::uint32_t slot, ChunkStore* chunks, Garbage* garbage) {
  const Item& item = items.at(slot);
  if (Trajectory* const trajectory = items.trajectory(slot)) {
    const Piece* const pieces = trajectory->pieces();
    for (std::uint32_t p = 0; p < trajectory->num_pieces; ++p) {
      chunks->UnrefRun(pieces[p].chunk, pieces[p].length, garbage);
    }
    chunks->epochs()->Retire(trajectory, true, garbage);
  } else if (item.chunk != kNoSlot) {  // as it may be where restoring failed half-way
    chunks->UnrefWindow(chunks->at(item.chunk), item.offset, items.length.Get(slot), garbage);
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
  own_->DropChunks(slot, chunks_, garbage);
  if (config_.max_times_sampled != 0) remaining_samples_ -= Remaining(item);
  own_->items.Free(slot);
  own_->items.Tidy();
  limiter_.Deleted();
  chunks_->Removed();
}

std::size_t Table::UpdatePriorities(const std::uint64_t* keys, const double* priorities,
                                    std::size_t n) {
  std::size_t stale = 0;
  const auto expect = [&](std::size_t i) {
    const auto slot = static_cast<std::uint32_t>(keys[i]);
    Prefetch(own_->items.address(slot));
    Prefetch(own_->items.priority.address(slot));
    own_->sampler->Expect(slot);
  };
  for (std::size_t i = 0; i < std::min(n, kUpdatesAhead); ++i) expect(i);
  for (std::size_t i = 0; i < n; ++i) {
    if (i % 256 == 255) {
      OuterLock::Tick();
      if (Stop::Asked()) break;
    }
    if (i + kUpdatesAhead < n) expect(i + kUpdatesAhead);
    const std::uint32_t slot = own_->items.Find(keys[i]);
    if (slot == kNoSlot) {
      ++stale;
      continue;
    }
    own_->sampler->Own(slot);
    own_->remover->Own(slot);
    own_->items.priority.Set(slot, priorities[i], own_->items.size() > 1);
    own_->sampler->Update(slot, priorities[i]);
    own_->remover->Update(slot, priorities[i]);
  }
  return stale;
}

std::size_t Table::Delete(const std::uint64_t* keys, std::size_t n, Garbage* garbage) {
  std::size_t stale = 0;
  for (std::size_t i = 0; i < n; ++i) {
    if (i % 256 == 255) {
      OuterLock::Tick();
      if (Stop::Asked()) break;
    }
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
