#include "writer.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace reverie {
namespace {

constexpr std::size_t kFirstChunkNbytes = 4096;

}  // namespace

Writer::Writer(std::shared_ptr<Store> store, std::shared_ptr<const RecordLayout> layout,
               std::vector<std::shared_ptr<Table>> tables, const Config& config)
    : store_(std::move(store)),
      layout_(std::move(layout)),
      tables_(std::move(tables)),
      config_(config),
      next_nbytes_(std::min(kFirstChunkNbytes, store_->options().chunk_nbytes)) {}

Writer::~Writer() { Close(); }

std::uint64_t Writer::num_cached() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return cached_;
}

Status Writer::Append(const void* const* columns, Last last) {
  std::lock_guard<std::mutex> lock(mutex_);
  bool ends = last == Last::kYes;
  if (last == Last::kAskColumn && config_.boundary_column >= 0) {
    std::int32_t value;
    std::memcpy(&value, columns[config_.boundary_column], sizeof(value));
    ends = value == config_.boundary_value;
  }
  const Status status = AppendRecord(columns);
  if (!status.ok() || !ends) return status;
  return EndEpisode(config_.pad_end);
}

Status Writer::AppendRecord(const void* const* columns) {
  if (held_.empty() || fill_ == held_.back()->capacity) {
    const Status status = Roll();
    if (!status.ok()) return status;
  }
  Chunk* const chunk = held_.back();
  // Nobody reads this record yet: it is published below.
  if (columns != nullptr) {
    layout_->Pack(columns, chunk->record(fill_));
  } else {
    std::memcpy(chunk->record(fill_), config_.pad_record.data(), config_.pad_record.size());
  }
  const std::uint64_t steps = cached_ + 1;
  const bool completes = steps >= config_.sequence_length &&
                         (steps - config_.sequence_length) % config_.stride_length == 0;
  Garbage garbage;
  std::lock_guard<std::mutex> lock(store_->mutex());
  if (store_->closed()) return Status::Of(Code::kClosed);
  if (completes) {
    // All that can fail comes first: a step goes in with all its items or not at all.
    for (const auto& table : tables_) {
      table->ReserveInsert(config_.sequence_length, config_.priority);
    }
  }
  store_->chunks().Publish(chunk, 1);
  ++fill_;
  cached_ = steps;
  if (completes) MakeItem(&garbage);
  // The next window takes at most this many of the steps so far.
  Release(config_.sequence_length - 1, &garbage);
  return Status();
}

Status Writer::Roll() {
  const std::size_t record_nbytes = layout_->record_nbytes();
  const auto capacity = static_cast<std::uint32_t>(
      std::max<std::size_t>(1, next_nbytes_ / std::max<std::size_t>(1, record_nbytes)));
  Garbage garbage;
  std::lock_guard<std::mutex> lock(store_->mutex());
  if (store_->closed()) return Status::Of(Code::kClosed);
  Chunk* const chunk = store_->chunks().Create(layout_, capacity);
  try {
    held_.push_back(chunk);
  } catch (...) {
    store_->chunks().Unref(chunk, &garbage);
    throw;
  }
  if (held_.size() > 1) {
    Chunk* const full = held_[held_.size() - 2];
    full->sealed = true;
    full->next = chunk;
    full->next_id = chunk->id;
  }
  next_nbytes_ = std::min(2 * next_nbytes_, store_->options().chunk_nbytes);
  fill_ = 0;
  return Status();
}

void Writer::MakeItem(Garbage* garbage) {
  // Walk back from the open chunk to the window's first step.
  std::size_t index = held_.size() - 1;
  std::uint32_t available = fill_;
  std::uint32_t wanted = config_.sequence_length;
  while (wanted > available) {
    wanted -= available;
    available = held_[--index]->capacity;
  }
  for (const auto& table : tables_) {
    table->Insert(held_[index], available - wanted, config_.sequence_length, config_.priority,
                  garbage);
  }
  covered_ = cached_;
  store_->NotifySamplers();
}

void Writer::Release(std::uint64_t keep_steps, Garbage* garbage) {
  keep_steps = std::min(keep_steps, cached_);
  // Steps in the chunks after the oldest: when they suffice, the oldest can go.
  while (held_.size() > 1) {
    std::uint64_t later = fill_;
    for (std::size_t i = 1; i + 1 < held_.size(); ++i) later += held_[i]->capacity;
    if (later < keep_steps) return;
    store_->chunks().Unref(held_.front(), garbage);
    held_.pop_front();
  }
}

Status Writer::EndEpisode(bool pad) {
  const std::uint32_t length = config_.sequence_length;
  std::uint32_t pads = 0;
  if (pad && cached_ > 0) {
    if (config_.tile_end) {
      pads = length - 1;
    } else if (cached_ < length) {
      pads = length - static_cast<std::uint32_t>(cached_);
    }
  }
  const auto forget = [this] {
    Garbage garbage;
    std::lock_guard<std::mutex> lock(store_->mutex());
    cached_ = 0;
    covered_ = 0;
    Release(0, &garbage);
  };
  Status status;
  try {
    for (; pads > 0 && status.ok(); --pads) status = AppendRecord(nullptr);
  } catch (...) {
    forget();  // or the next episode's steps would follow half the padding
    throw;
  }
  forget();
  return status;
}

Status Writer::Reset(bool write_cached_steps, std::uint64_t* uncovered) {
  std::lock_guard<std::mutex> lock(mutex_);
  *uncovered = write_cached_steps && !config_.pad_end ? cached_ - covered_ : 0;
  return EndEpisode(write_cached_steps && config_.pad_end);
}

void Writer::Close() {
  std::lock_guard<std::mutex> lock(mutex_);
  cached_ = 0;
  covered_ = 0;
  Garbage garbage;
  std::lock_guard<std::mutex> store_lock(store_->mutex());
  for (Chunk* chunk : held_) {
    chunk->sealed = true;
    store_->chunks().Unref(chunk, &garbage);
  }
  held_.clear();
  fill_ = 0;
}

}  // namespace reverie
