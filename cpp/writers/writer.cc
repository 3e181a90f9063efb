#include "writers/writer.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace reverie {
namespace {

constexpr std::size_t kFirstChunkNbytes = 4096;

// Copies n cells of a column to where each one's record has it; null: nowhere. The
// common sizes are known to the compiler.
template <std::size_t kNbytes>
void CopyCells(const std::uint8_t* cells, std::uint8_t* const* records, std::size_t n,
               std::size_t offset, std::size_t nbytes) {
  for (std::size_t i = 0; i < n; ++i, cells += kNbytes != 0 ? kNbytes : nbytes) {
    if (records[i] == nullptr) continue;
    std::memcpy(records[i] + offset, cells, kNbytes != 0 ? kNbytes : nbytes);
  }
}

}  // namespace

Writer::Writer(std::shared_ptr<Store> store, std::shared_ptr<const RecordLayout> layout,
               std::vector<std::shared_ptr<Table>> tables, const Config& config)
    : store_(std::move(store)),
      layout_(std::move(layout)),
      tables_(std::move(tables)),
      config_(config),
      priority_(config.priority),
      streams_(config.num_streams),
      records_(config.num_streams) {
  for (Stream& stream : streams_) {
    stream.next_nbytes = std::min(kFirstChunkNbytes, store_->options().chunk_nbytes);
  }
}

Writer::~Writer() { Close(); }

std::uint64_t Writer::num_cached(std::uint32_t stream) const {
  std::lock_guard<std::mutex> lock(mutex_);
  return streams_[stream].cached;
}

std::uint64_t Writer::pending() const {
  std::lock_guard<std::mutex> lock(store_->mutex());
  return progress_->pending;
}

void Writer::SetPriority(double priority) {
  std::lock_guard<std::mutex> lock(mutex_);
  priority_ = priority;
}

bool Writer::Ends(const void* const* columns, std::size_t row, Last last) const {
  if (config_.items == Items::kStream) return false;
  if (last != Last::kAskColumn || config_.boundary_column < 0) return last == Last::kYes;
  std::int32_t value;
  const void* const column = columns[config_.boundary_column];
  std::memcpy(&value, static_cast<const std::uint8_t*>(column) + row * sizeof(value),
              sizeof(value));
  return value == config_.boundary_value;
}

bool Writer::Completes(std::uint64_t steps, bool ends) const {
  if (config_.items == Items::kEpisodes) return ends;
  return steps >= config_.sequence_length &&
         (config_.stride_length == 1 ||
          (steps - config_.sequence_length) % config_.stride_length == 0);
}

Status Writer::Append(const void* const* columns, Last last, Fate* fate, bool* blocked) {
  const std::uint8_t ends = last == Last::kYes ? 1 : 0;
  return AppendBatch(columns, nullptr, 1, last == Last::kAskColumn ? nullptr : &ends, fate,
                     blocked);
}

Status Writer::AppendBatch(const void* const* columns, const std::uint32_t* streams, std::size_t n,
                           const std::uint8_t* lasts, Fate* fates, bool* blocked) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto at = [&](std::size_t i) -> Stream& {
    return streams_[streams == nullptr ? i : streams[i]];
  };
  ++last_batch_;
  for (std::size_t i = 0; i < n; ++i) {
    if ((streams == nullptr ? i : streams[i]) >= streams_.size()) {
      return Status::Invalid("no such stream", static_cast<std::int64_t>(i));
    }
    if (at(i).last_batch == last_batch_) {
      return Status::Invalid("a stream occurs twice", static_cast<std::int64_t>(i));
    }
    at(i).last_batch = last_batch_;
  }
  bool any_ends = false;
  for (std::size_t i = 0; i < n; ++i) {
    Stream& stream = at(i);
    const Last last = lasts == nullptr ? Last::kAskColumn : static_cast<Last>(lasts[i] != 0);
    stream.ends = Ends(columns, i, last);
    any_ends = any_ends || stream.ends;
    stream.fate = Fate::kStored;
    if (config_.items == Items::kEpisodes && stream.too_long) {
      stream.fate = Fate::kIgnored;
    } else if (config_.items == Items::kEpisodes && stream.cached == config_.sequence_length) {
      stream.fate = Fate::kTooLong;
    } else if (stream.open == nullptr || stream.fill == stream.open->capacity) {
      const Status status = Roll(&stream);
      if (!status.ok()) return status;
    }
    // Nobody reads this record yet: it is published below.
    records_[i] = stream.fate == Fate::kStored ? stream.open->record(stream.fill) : nullptr;
    if (fates != nullptr) fates[i] = stream.fate;
  }
  PackBatch(columns, n);
  Garbage garbage;
  std::lock_guard<std::mutex> store_lock(store_->mutex());
  if (store_->closed()) return Status::Of(Code::kClosed);
  for (std::size_t i = 0; i < n; ++i) {
    Stream& stream = at(i);
    if (stream.fate == Fate::kStored) {
      Commit(&stream, stream.ends, &garbage);
      continue;
    }
    if (stream.fate == Fate::kTooLong) Forget(&stream, &garbage);
    stream.too_long = !stream.ends;
  }
  if (blocked != nullptr) *blocked = any_ends && progress_->pending != 0;
  return Status();
}

void Writer::PackBatch(const void* const* columns, std::size_t n) {
  for (const RecordLayout::Column& column : layout_->columns()) {
    const auto* const cells = static_cast<const std::uint8_t*>(*columns++);
    const auto copy = column.nbytes == 1   ? CopyCells<1>
                      : column.nbytes == 4 ? CopyCells<4>
                      : column.nbytes == 8 ? CopyCells<8>
                                           : CopyCells<0>;
    copy(cells, records_.data(), n, column.offset, column.nbytes);
  }
}

Status Writer::Roll(Stream* stream) {
  Garbage garbage;
  std::lock_guard<std::mutex> lock(store_->mutex());
  if (store_->closed()) return Status::Of(Code::kClosed);
  RollLocked(stream, &garbage);
  return Status();
}

void Writer::RollLocked(Stream* stream, Garbage* garbage) {
  const std::size_t record_nbytes = std::max<std::size_t>(1, layout_->record_nbytes());
  const auto capacity =
      static_cast<std::uint32_t>(std::max<std::size_t>(1, stream->next_nbytes / record_nbytes));
  Chunk* const chunk = store_->chunks().Create(layout_, capacity);
  try {
    stream->held.push_back(chunk);
  } catch (...) {
    store_->chunks().Unref(chunk, garbage);
    throw;
  }
  if (stream->open != nullptr) {
    stream->open->sealed = true;
    stream->open->next = chunk;
    stream->open->next_id = chunk->id;
  }
  stream->open = chunk;
  stream->fill = 0;
  stream->next_nbytes = std::min(2 * stream->next_nbytes, store_->options().chunk_nbytes);
}

void Writer::Commit(Stream* stream, bool ends, Garbage* garbage) {
  Advance(stream, ends, garbage);
  if (!ends) return;
  if (config_.pad_end) Pad(stream, garbage);
  Forget(stream, garbage);
}

void Writer::Advance(Stream* stream, bool ends, Garbage* garbage) {
  const std::uint64_t steps = stream->cached + 1;
  const bool completes = Completes(steps, ends);
  const std::uint32_t length = config_.items == Items::kEpisodes ? static_cast<std::uint32_t>(steps)
                                                                 : config_.sequence_length;
  // What can fail comes first: a step goes in with all its items or not at all.
  if (completes) MakeItem(stream, length, stream->fill + 1, garbage);
  store_->chunks().Publish(stream->open, 1);
  ++stream->fill;
  stream->cached = steps;
  if (completes) stream->covered = steps;
  // The next window takes at most this many of the steps so far.
  if (config_.items != Items::kEpisodes) Release(stream, config_.sequence_length - 1, garbage);
}

void Writer::MakeItem(Stream* stream, std::uint32_t length, std::uint32_t fill, Garbage* garbage) {
  if (tables_.size() > 1) {  // one by itself changes nothing where it fails
    for (const auto& table : tables_) table->ReserveInsert(length, priority_);
  }
  // Walk back from the open chunk to the item's first step.
  std::size_t index = stream->held.size() - 1;
  std::uint32_t available = fill;
  std::uint32_t wanted = length;
  while (wanted > available) {
    wanted -= available;
    available = stream->held[--index]->capacity;
  }
  for (const auto& table : tables_) {
    table->Submit({priority_, stream->held[index], available - wanted, length, {}}, progress_,
                  garbage);
  }
  store_->NotifySamplers();
}

void Writer::Release(Stream* stream, std::uint64_t keep_steps, Garbage* garbage) {
  keep_steps = std::min(keep_steps, stream->cached);
  // Steps in the chunks after the oldest: when they suffice, the oldest can go.
  std::deque<Chunk*>& held = stream->held;
  while (held.size() > 1) {
    std::uint64_t later = stream->fill;
    for (std::size_t i = 1; i + 1 < held.size(); ++i) later += held[i]->capacity;
    if (later < keep_steps) return;
    store_->chunks().Unref(held.front(), garbage);
    held.pop_front();
  }
}

void Writer::Pad(Stream* stream, Garbage* garbage) {
  const std::uint32_t length = config_.sequence_length;
  std::uint32_t pads = 0;
  if (config_.tile_end) {
    pads = length - 1;
  } else if (stream->cached < length) {
    pads = length - static_cast<std::uint32_t>(stream->cached);
  }
  try {
    for (; pads > 0; --pads) {
      if (stream->fill == stream->open->capacity) RollLocked(stream, garbage);
      std::memcpy(stream->open->record(stream->fill), config_.pad_record.data(),
                  config_.pad_record.size());
      Advance(stream, false, garbage);
    }
  } catch (...) {
    Forget(stream, garbage);  // or the next episode's steps would follow half the padding
    throw;
  }
}

void Writer::Forget(Stream* stream, Garbage* garbage) {
  stream->cached = 0;
  stream->covered = 0;
  Release(stream, 0, garbage);
}

Status Writer::Reset(std::uint32_t index, bool write_cached_steps, std::uint64_t* uncovered) {
  std::lock_guard<std::mutex> lock(mutex_);
  Stream& stream = streams_[index];
  Garbage garbage;
  std::lock_guard<std::mutex> store_lock(store_->mutex());
  *uncovered = 0;
  const bool makes_items = config_.items == Items::kEpisodes || config_.pad_end;
  Status status;
  if (write_cached_steps && stream.cached > 0 && makes_items) {
    if (store_->closed()) {
      status = Status::Of(Code::kClosed);
    } else if (config_.items == Items::kEpisodes) {
      const auto length = static_cast<std::uint32_t>(stream.cached);
      MakeItem(&stream, length, stream.fill, &garbage);
    } else {
      Pad(&stream, &garbage);
    }
  } else if (write_cached_steps) {
    *uncovered = stream.cached - stream.covered;
  }
  Forget(&stream, &garbage);
  stream.too_long = false;
  return status;
}

void Writer::Close() {
  std::lock_guard<std::mutex> lock(mutex_);
  Garbage garbage;
  std::lock_guard<std::mutex> store_lock(store_->mutex());
  for (Stream& stream : streams_) {
    for (Chunk* chunk : stream.held) {
      chunk->sealed = true;
      store_->chunks().Unref(chunk, &garbage);
    }
    stream.held.clear();
    stream.open = nullptr;
    stream.fill = 0;
    stream.cached = 0;
    stream.covered = 0;
    stream.too_long = false;
  }
}

}  // namespace reverie
