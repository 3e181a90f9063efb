#include "storage/chunk_store.h"

#include <algorithm>
#include <cstdint>
#include <new>
#include <utility>

namespace reverie {

Chunk* ChunkStore::Create(std::shared_ptr<const RecordLayout> layout, std::uint32_t capacity,
                          std::uint64_t id) {
  if (capacity != 0 && layout->record_nbytes() > SIZE_MAX / capacity) throw std::bad_alloc();
  auto chunk = std::make_shared<Chunk>();
  // Not zeroed: pages that no record fills are never touched, hence not resident.
  chunk->data.reset(new std::uint8_t[std::size_t{capacity} * layout->record_nbytes()]);
  chunk->layout = std::move(layout);
  chunk->capacity = capacity;
  chunk->refs = 1;
  if (free_slots_.empty()) {
    // So that Unref() never has to allocate.
    if (free_slots_.capacity() <= slots_.size()) free_slots_.reserve(2 * slots_.size() + 16);
    chunk->slot = static_cast<std::uint32_t>(slots_.size());
    slots_.push_back(chunk);
  } else {
    chunk->slot = free_slots_.back();
    free_slots_.pop_back();
    slots_[chunk->slot] = chunk;
  }
  chunk->id = id != 0 ? id : last_id_ + 1;
  last_id_ = std::max(last_id_, chunk->id);
  allocated_nbytes_ += std::size_t{capacity} * chunk->layout->record_nbytes();
  return chunk.get();
}

void ChunkStore::Unref(Chunk* chunk, Garbage* garbage) {
  if (--chunk->refs != 0) return;
  num_steps_ -= chunk->count;
  record_nbytes_ -= chunk->count * chunk->layout->record_nbytes();
  allocated_nbytes_ -= std::size_t{chunk->capacity} * chunk->layout->record_nbytes();
  std::shared_ptr<Chunk> owner = std::move(slots_[chunk->slot]);
  free_slots_.push_back(chunk->slot);
  if (readers_.empty()) {
    garbage->Push(std::move(owner));
  } else {
    chunk->retired_at = epoch_;
    retired_.Push(std::move(owner));
  }
}

void ChunkStore::RefWindow(Chunk* chunk, std::uint32_t offset, std::uint32_t length) {
  while (true) {
    Ref(chunk);
    const std::uint32_t here = chunk->capacity - offset;
    if (length <= here) return;
    length -= here;
    offset = 0;
    chunk = chunk->next;
  }
}

void ChunkStore::UnrefWindow(Chunk* chunk, std::uint32_t offset, std::uint32_t length,
                             Garbage* garbage) {
  while (true) {
    Chunk* const next = chunk->next;
    const std::uint32_t here = chunk->capacity - offset;
    Unref(chunk, garbage);
    if (length <= here) return;
    length -= here;
    offset = 0;
    chunk = next;
  }
}

std::uint64_t ChunkStore::Enter() {
  readers_.push_back(epoch_ + 1);
  return ++epoch_;
}

void ChunkStore::Leave(std::uint64_t epoch, Garbage* garbage) {
  readers_.erase(std::find(readers_.begin(), readers_.end(), epoch));
  const std::uint64_t oldest =
      readers_.empty() ? epoch_ + 1 : *std::min_element(readers_.begin(), readers_.end());
  while (retired_.front() != nullptr && retired_.front()->retired_at < oldest) {
    garbage->Push(retired_.Pop());
  }
}

}  // namespace reverie
