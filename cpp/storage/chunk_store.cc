#include "storage/chunk_store.h"

#include <algorithm>
#include <cstdint>
#include <new>
#include <utility>

namespace reverie {

void ShedQueue::Free() noexcept {
  while (first_ != nullptr) {
    Shed* const shed = Pop();
    if (shed->arena != nullptr) {
      shed->arena->Free(shed->block);
    } else {
      static_cast<Chunk*>(shed)->self.reset();
    }
  }
}

namespace {

// Chunks from this size on are worth a look at what comes after them.
constexpr std::size_t kLooksAhead = std::size_t{1} << 16;

}  // namespace

ChunkStore::ChunkStore() = default;

ChunkStore::~ChunkStore() {
  for (std::uint32_t slot = 0; slot < num_slots_; ++slot) {
    if (Chunk* const chunk = at(slot)) chunk->self.reset();
  }
}

std::size_t ChunkStore::NextNbytes(std::size_t least, std::size_t most) const {
  const std::uint64_t part = record_nbytes_ / (16 * (open_.size() + 1));
  if (part >= most) return most;
  std::uint64_t nbytes = least;
  while (2 * nbytes <= part) nbytes *= 2;
  if (nbytes + nbytes / 2 <= part) nbytes += nbytes / 2;
  return static_cast<std::size_t>(std::min<std::uint64_t>(nbytes, most));
}

Chunk* ChunkStore::Create(std::shared_ptr<const RecordLayout> layout, std::uint32_t capacity,
                          std::uint64_t id) {
  if (capacity != 0 && layout->record_nbytes() > SIZE_MAX / capacity) throw std::bad_alloc();
  if (!epochs_.shared()) {
    free_slots_.insert(free_slots_.end(), left_slots_.begin(), left_slots_.end());
    left_slots_.clear();
  }
  const bool fresh = free_slots_.empty();
  const std::uint32_t slot = fresh ? num_slots_ : free_slots_.back();
  if (open_.capacity() == open_.size()) open_.reserve(2 * open_.size() + 4);
  if (fresh) {
    // So that Unref() never has to allocate.
    if (free_slots_.capacity() <= num_slots_) free_slots_.reserve(2 * num_slots_ + 16);
    if (left_slots_.capacity() <= num_slots_) left_slots_.reserve(2 * num_slots_ + 16);
    places_.Make(slot);
    slots_.Make(slot);
  }
  slots_.Own(slot);
  auto chunk = std::allocate_shared<Chunk>(ArenaAllocator<Chunk>(item_arena_));
  const std::size_t nbytes = std::size_t{capacity} * layout->record_nbytes();
  chunk->data = static_cast<std::uint8_t*>(arena_->Allocate(nbytes));
  chunk->memory = arena_;
  chunk->layout = std::move(layout);
  chunk->capacity = capacity;
  chunk->refs = 1;
  chunk->slot = slot;
  chunk->id = id != 0 ? id : last_id_ + 1;
  last_id_ = std::max(last_id_, chunk->id);
  if (fresh) {
    ++num_slots_;
  } else {
    free_slots_.pop_back();
  }
  Chunk* const made = chunk.get();
  places_.Edit(slot) = {made, made->data, made->layout.get(), capacity, 0};
  slots_.Edit(slot) = made;
  made->open_at = static_cast<std::uint32_t>(open_.size());
  open_.push_back(made);
  made->self = std::move(chunk);
  if (nbytes >= kLooksAhead) wants_ahead_ = arena_->WantsAhead() || item_arena_->WantsAhead();
  allocated_nbytes_ += nbytes;
  return made;
}

void ChunkStore::Seal(Chunk* chunk) noexcept {
  if (chunk->sealed) return;
  chunk->sealed = true;
  Chunk* const last = open_.back();
  open_[chunk->open_at] = last;
  last->open_at = chunk->open_at;
  open_.pop_back();
}

void ChunkStore::Trim(Chunk* chunk) noexcept {
  Seal(chunk);
  if (chunk->capacity == chunk->count) return;
  const std::size_t nbytes = chunk->count * chunk->layout->record_nbytes();
  allocated_nbytes_ -= std::size_t{chunk->capacity} * chunk->layout->record_nbytes() - nbytes;
  chunk->capacity = chunk->count;
  places_.Edit(chunk->slot).capacity = chunk->count;
  arena_->Shrink(chunk->data, nbytes);
}

void ChunkStore::Unref(Chunk* chunk, Garbage* garbage) {
  if (--chunk->refs != 0) return;
  Seal(chunk);
  idle_nbytes_ -= IdleOf(*chunk);
  num_steps_ -= chunk->count;
  record_nbytes_ -= chunk->count * chunk->layout->record_nbytes();
  allocated_nbytes_ -= std::size_t{chunk->capacity} * chunk->layout->record_nbytes();
  places_.Edit(chunk->slot).chunk = nullptr;
  (epochs_.shared() ? left_slots_ : free_slots_).push_back(chunk->slot);
  epochs_.Retire(chunk, true, garbage);
}

void ChunkStore::SetHeld(Chunk* chunk, std::uint32_t held) noexcept {
  idle_nbytes_ -= IdleOf(*chunk);
  chunk->held = std::min(held, chunk->count);
  idle_nbytes_ += IdleOf(*chunk);
}

void ChunkStore::Looked(bool in_vain, std::uint64_t num_items, std::uint64_t removals) {
  const std::uint64_t least = std::max<std::uint64_t>(64, num_items / 32);
  look_every_ = in_vain ? std::min(2 * look_every_, 4 * least) : least;
  look_every_ = std::max(look_every_, least);
  last_look_ = removals;
  next_look_ = removals + look_every_;
  next_many_ = num_chunks() + num_chunks() / 4;
}

// Where windows come in the order of their steps, as they do from writers, what is newly
// held is what lies beyond all that was.
void ChunkStore::RefRun(Chunk* chunk, std::uint32_t offset, std::uint32_t length) {
  ++chunk->refs;
  const std::uint32_t end = offset + length;
  if (end <= chunk->covered) return;
  const std::uint32_t fresh = end - std::max(chunk->covered, offset);
  chunk->covered = end;
  chunk->held += fresh;
  idle_nbytes_ -= static_cast<std::int64_t>(fresh * chunk->layout->record_nbytes());
}

void ChunkStore::UnrefRun(Chunk* chunk, std::uint32_t length, Garbage* garbage) {
  const std::uint32_t gone = std::min(chunk->held, length);
  chunk->held -= gone;
  idle_nbytes_ += static_cast<std::int64_t>(gone * chunk->layout->record_nbytes());
  Unref(chunk, garbage);
}

void ChunkStore::RefWindow(Chunk* chunk, std::uint32_t offset, std::uint32_t length) {
  EachPart(chunk, offset, length, [this](Chunk* one, std::uint32_t at, std::uint32_t here) {
    RefRun(one, at, here);
    if (!one->in_runs.load(std::memory_order_relaxed)) one->in_runs = true;
  });
}

void ChunkStore::UnrefWindow(Chunk* chunk, std::uint32_t offset, std::uint32_t length,
                             Garbage* garbage) {
  EachPart(chunk, offset, length,
           [&](Chunk* one, std::uint32_t, std::uint32_t here) { UnrefRun(one, here, garbage); });
}

ChunkStore::Reach ChunkStore::ReachFrom(const Chunk* chunk, std::uint32_t offset,
                                        std::uint32_t most) const {
  std::uint32_t before = 0;  // records in earlier chunks
  for (;;) {
    const auto& ends = chunk->ends;
    // Mostly there are few ends, or the last one is far behind.
    auto end = ends.end();
    if (!ends.empty() && ends.back().step >= offset) {
      end = std::lower_bound(
          ends.begin(), ends.end(), offset,
          [](const Chunk::End& one, std::uint32_t step) { return one.step < step; });
    }
    const std::uint32_t stop = end != ends.end() ? end->step + 1 : chunk->count;
    if (most - before < stop - offset) {
      return {most, How::kGoesOn, offset + (most - before) - 1, chunk->id};
    }
    before += stop - offset;
    const Reach here{before, end != ends.end() ? end->how : How::kGoesOn, stop - 1, chunk->id};
    if (here.how != How::kGoesOn || before == most) return here;
    // The chunk that it went on in may be gone; an id is never used again.
    if (chunk->next_slot >= num_slots_) return here;
    const Chunk* const next = at(chunk->next_slot);
    if (next == nullptr || next->id != chunk->next_id || next->count == 0) return here;
    chunk = next;
    offset = 0;
  }
}

ChunkStore::Begin ChunkStore::BeginOf(const Chunk* chunk, std::uint32_t offset) const {
  for (std::uint64_t after = 0;;) {  // records in later chunks
    const auto& ends = chunk->ends;
    const auto end =
        std::lower_bound(ends.begin(), ends.end(), offset,
                         [](const Chunk::End& one, std::uint32_t step) { return one.step < step; });
    const std::uint32_t begin = end == ends.begin() ? 0 : std::prev(end)->step + 1;
    after += offset - begin;
    const Begin here{chunk, begin, after};
    if (begin != 0 || chunk->previous_slot >= num_slots_) return here;
    const Chunk* const before = at(chunk->previous_slot);
    if (before == nullptr || before->id != chunk->previous_id || before->next_id != chunk->id ||
        before->count == 0) {
      return here;
    }
    if (!before->ends.empty() && before->ends.back().step + 1 == before->count) return here;
    chunk = before;
    offset = before->count;
  }
}

}  // namespace reverie
