#include <algorithm>
#include <cstring>

#include "writers/writer.h"

// Streams whose records are arrivals, and whole runs of steps at once.

namespace reverie {
namespace {

constexpr std::uint64_t kStepsPerLock = 256;

}  // namespace

bool Writer::GoesOn(const Stream& stream, const void* const* before, std::size_t row) const {
  if (stream.cached == 0) return false;
  const std::uint64_t last = stream.chain.next() - 1;
  const ChunkChain::Held& held = *stream.chain.Locate(last);
  const std::uint8_t* const record =
      held.chunk->record(static_cast<std::uint32_t>(last - held.first));
  for (const RecordLayout::Column& column : layout_->columns()) {
    const auto* const cells = static_cast<const std::uint8_t*>(*before++);
    if (cells == nullptr) continue;
    const std::uint8_t* const cell = cells + row * column.nbytes;
    if (std::memcmp(record + column.offset, cell, column.nbytes) != 0) return false;
  }
  return true;
}

void Writer::EndBefore(Stream* stream, How how, Store::Locked* store) {
  if (stream->cached != 0) {
    const std::uint64_t end = stream->chain.next();
    const bool is_left = config_.items == Items::kEpisodes ||
                         (config_.items == Items::kAnchors && stream->cached > Anchored(*stream));
    if (is_left && !stream->too_long) {
      MakeItem(stream, ItemLength(*stream, stream->cached), end, store);
    }
    const ChunkChain::Held& held = *stream->chain.Locate(end - 1);
    if (!stream->chain.EndsAt(end - 1)) {  // there is room for it: see Advance()
      held.chunk->ends.push_back({static_cast<std::uint32_t>(end - 1 - held.first), how});
    }
  }
  Forget(stream, store);
  stream->too_long = false;
}

void Writer::Begin(Stream* stream, const void* const* cells, std::size_t row, bool lead_alone,
                   Store::Locked* store) {
  try {
    for (std::uint32_t k = lead_alone ? 1 : 0; k <= config_.lead; ++k) {
      if (stream->chain.full()) Roll(stream, store);
      std::uint8_t* const record = stream->chain.open()->record(stream->chain.fill());
      std::memcpy(record, config_.pad_record.data(), config_.pad_record.size());
      const bool is_first = !lead_alone && k == config_.lead;
      std::size_t c = 0;
      for (const RecordLayout::Column& column : layout_->columns()) {
        const auto* const values = static_cast<const std::uint8_t*>(cells[c++]);
        if (values == nullptr || (config_.lead_is_zero && !is_first)) continue;
        std::memcpy(record + column.offset, values + row * column.nbytes, column.nbytes);
      }
      Advance(stream, How::kGoesOn, store);
    }
  } catch (...) {
    Forget(stream, store);  // or the next step would follow a part of the lead
    throw;
  }
}

Status Writer::AppendArrivals(const void* const* before, const void* const* columns,
                              const std::uint32_t* streams, std::size_t n,
                              const std::uint8_t* lasts, Begun* begun, bool* blocked) {
  if (n * layout_->record_nbytes() >= OuterLock::kLongNbytes) OuterLock::LetGo();
  std::lock_guard<Mutex> lock(mutex_);
  const Status status = CheckBatch(streams, n, lasts);
  if (!status.ok()) return status;
  for (std::size_t i = 0; i < n; ++i) {
    Stream& stream = streams_[streams == nullptr ? i : streams[i]];
    if (begun != nullptr) begun[i] = Begun::kNo;
    if (GoesOn(stream, before, i)) continue;
    if (begun != nullptr) begun[i] = stream.cached == 0 ? Begun::kFirst : Begun::kBroken;
    Store::Locked store = store_->Lock();
    if (store.closed(life_)) return Status::Of(Code::kClosed);
    EndBefore(&stream, How::kTruncated, &store);
    Begin(&stream, before, i, false, &store);
  }
  return AppendChecked(columns, streams, n, lasts, nullptr, blocked);
}

Status Writer::AppendRuns(const void* const* columns, std::uint32_t index,
                          const std::uint64_t* lengths, const std::uint8_t* lasts,
                          std::size_t num_runs) {
  OuterLock::LetGo();
  std::lock_guard<Mutex> lock(mutex_);
  if (index >= streams_.size()) return Status::Invalid("no such stream", 0);
  for (std::size_t r = 0; r < num_runs; ++r) {
    if (lengths[r] == 0) return Status::Invalid("a run of no steps", static_cast<std::int64_t>(r));
    if (!Ends(static_cast<How>(lasts[r])) || lasts[r] > static_cast<std::uint8_t>(How::kCut)) {
      return Status::Invalid("unknown kind of last step", static_cast<std::int64_t>(r));
    }
    if (config_.items == Items::kEpisodes && lengths[r] > config_.sequence_length) {
      return Status::Invalid("a run that is too long", static_cast<std::int64_t>(r));
    }
  }
  Stream& stream = streams_[index];
  {
    Store::Locked store = store_->Lock();
    if (store.closed(life_)) return Status::Of(Code::kClosed);
    EndBefore(&stream, How::kCut, &store);
  }
  std::size_t row = 0;
  for (std::size_t r = 0; r < num_runs; ++r) {
    for (std::uint64_t done = 0; done < lengths[r];) {
      if (Stop::Asked()) return Status::Of(Code::kInterrupted);
      Store::Locked store = store_->Lock();
      if (store.closed(life_)) return Status::Of(Code::kClosed);
      const std::uint64_t until = std::min(lengths[r], done + kStepsPerLock);
      if (done == 0) Begin(&stream, columns, row, true, &store);
      for (; done < until; ++done, ++row) {
        if (stream.chain.full()) Roll(&stream, &store);
        std::uint8_t* const record = stream.chain.open()->record(stream.chain.fill());
        std::size_t c = 0;
        for (const RecordLayout::Column& column : layout_->columns()) {
          const auto* const cells = static_cast<const std::uint8_t*>(columns[c++]);
          std::memcpy(record + column.offset, cells + row * column.nbytes, column.nbytes);
        }
        const bool is_last = done + 1 == lengths[r];
        Advance(&stream, is_last ? static_cast<How>(lasts[r]) : How::kGoesOn, &store);
      }
    }
    Store::Locked store = store_->Lock();
    Forget(&stream, &store);
  }
  return Status();
}

}  // namespace reverie
