#include "writers/writer.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace reverie {
namespace {

constexpr std::size_t kFirstChunkNbytes = 64;

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
      life_(store_->Lock().life()),
      priority_(config.priority),
      streams_(config.num_streams,
               Stream{ChunkChain(kFirstChunkNbytes, store_->options().chunk_nbytes)}),
      records_(config.num_streams),
      holder_(store_.get(), [this] { Rehome(); }) {}

Writer::~Writer() { Close(); }

std::uint64_t Writer::num_cached(std::uint32_t stream) const {
  std::lock_guard<Mutex> lock(mutex_);
  return streams_[stream].cached;
}

std::uint64_t Writer::pending() const {
  const Store::Locked store = store_->Lock();
  return progress_->pending;
}

void Writer::SetPriority(double priority) {
  std::lock_guard<Mutex> lock(mutex_);
  priority_ = priority;
}

std::vector<Writer::Ended> Writer::TakeEnded() {
  std::lock_guard<Mutex> lock(mutex_);
  return std::exchange(ended_, {});
}

double Writer::Reward(const Stream& stream) const {
  if (config_.return_column < 0) return 0;
  const auto& column = layout_->columns()[static_cast<std::size_t>(config_.return_column)];
  const std::uint8_t* const cell = stream.chain.open()->record(stream.chain.fill()) + column.offset;
  if (column.nbytes == sizeof(double)) {
    double value;
    std::memcpy(&value, cell, sizeof(value));
    return value;
  }
  float value;
  std::memcpy(&value, cell, sizeof(value));
  return value;
}

How Writer::AskColumn(const Stream& stream, const void* const* columns, std::size_t row) const {
  if (config_.boundary_column < 0) return How::kGoesOn;
  std::int32_t value;
  const void* const column = columns[config_.boundary_column];
  std::memcpy(&value, static_cast<const std::uint8_t*>(column) + row * sizeof(value),
              sizeof(value));
  if (value != config_.boundary_value) return How::kGoesOn;
  const std::uint64_t before = stream.chain.next() - 1;
  if (config_.discount_column < 0 || stream.cached == 0 || stream.chain.EndsAt(before)) {
    return How::kEnded;
  }
  const ChunkChain::Held& held = *stream.chain.Locate(before);
  const auto place = static_cast<std::size_t>(config_.discount_column);
  float discount;
  std::memcpy(&discount,
              held.chunk->record(static_cast<std::uint32_t>(before - held.first)) +
                  layout_->columns()[place].offset,
              sizeof(discount));
  return discount == 0 ? How::kTerminated : How::kTruncated;
}

bool Writer::Completes(const Stream& stream, bool ends) const {
  const std::uint64_t steps = stream.cached + 1;
  if (config_.items == Items::kEpisodes) return ends;
  if (config_.items == Items::kAnchors && ends) return steps > Anchored(stream);
  return steps >= config_.sequence_length &&
         (config_.stride_length == 1 ||
          (steps - config_.sequence_length) % config_.stride_length == 0);
}

std::uint32_t Writer::ItemLength(const Stream& stream, std::uint64_t steps) const {
  std::uint64_t length = config_.sequence_length;
  if (config_.items == Items::kEpisodes) length = steps;
  if (config_.items == Items::kAnchors) length = steps - Anchored(stream) + 1 + config_.lead;
  return static_cast<std::uint32_t>(length);
}

Status Writer::Append(const void* const* columns, std::optional<How> last, Fate* fate,
                      bool* blocked) {
  const auto how = static_cast<std::uint8_t>(last.value_or(How::kGoesOn));
  return AppendBatch(columns, nullptr, 1, last ? &how : nullptr, fate, blocked);
}

Status Writer::AppendBatch(const void* const* columns, const std::uint32_t* streams, std::size_t n,
                           const std::uint8_t* lasts, Fate* fates, bool* blocked) {
  if (n * layout_->record_nbytes() >= OuterLock::kLongNbytes) OuterLock::LetGo();
  std::lock_guard<Mutex> lock(mutex_);
  const Status status = CheckBatch(streams, n, lasts);
  return status.ok() ? AppendChecked(columns, streams, n, lasts, fates, blocked) : status;
}

Status Writer::CheckBatch(const std::uint32_t* streams, std::size_t n, const std::uint8_t* lasts) {
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
    if (lasts != nullptr && lasts[i] > static_cast<std::uint8_t>(How::kCut)) {
      return Status::Invalid("unknown kind of last step", static_cast<std::int64_t>(i));
    }
    at(i).last_batch = last_batch_;
  }
  return Status();
}

Status Writer::AppendChecked(const void* const* columns, const std::uint32_t* streams,
                             std::size_t n, const std::uint8_t* lasts, Fate* fates, bool* blocked) {
  const auto at = [&](std::size_t i) -> Stream& {
    return streams_[streams == nullptr ? i : streams[i]];
  };
  bool any_ends = false;
  for (std::size_t i = 0; i < n; ++i) {
    Stream& stream = at(i);
    stream.how = lasts == nullptr ? AskColumn(stream, columns, i) : static_cast<How>(lasts[i]);
    any_ends = any_ends || Ends(stream.how);
    stream.fate = Fate::kStored;
    if (config_.items == Items::kEpisodes && stream.too_long) {
      stream.fate = Fate::kIgnored;
    } else if (config_.items == Items::kEpisodes && stream.cached == config_.sequence_length) {
      stream.fate = Fate::kTooLong;
    } else if (stream.chain.full()) {
      Store::Locked store = store_->Lock();
      if (store.closed(life_)) return Status::Of(Code::kClosed);
      Roll(&stream, &store);
    }
    // Nobody reads this record yet: it is published below.
    const ChunkChain& chain = stream.chain;
    records_[i] = stream.fate == Fate::kStored ? chain.open()->record(chain.fill()) : nullptr;
    if (fates != nullptr) fates[i] = stream.fate;
  }
  PackBatch(columns, n);
  Store::Locked store = store_->Lock();
  if (store.closed(life_)) return Status::Of(Code::kClosed);
  for (std::size_t i = 0; i < n; ++i) {
    Stream& stream = at(i);
    if (stream.fate == Fate::kStored) {
      Commit(&stream, &store);
      continue;
    }
    if (stream.fate == Fate::kTooLong) Forget(&stream, &store);
    stream.too_long = !Ends(stream.how);
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

void Writer::Roll(Stream* stream, Store::Locked* store) {
  Chunk* const before = stream->chain.open();
  stream->chain.Grow(store, layout_);
  if (before == nullptr) return;
  before->GoOnIn(stream->chain.open());
}

void Writer::Commit(Stream* stream, Store::Locked* store) {
  Advance(stream, stream->how, store);
  if (!Ends(stream->how)) return;
  if (config_.pad_end) Pad(stream, store);
  Forget(stream, store);
}

void Writer::Advance(Stream* stream, How how, Store::Locked* store) {
  ChunkChain& chain = stream->chain;
  const std::uint64_t steps = stream->cached + 1;
  const bool completes = Completes(*stream, Ends(how));
  const std::uint32_t length = ItemLength(*stream, steps);
  // What can fail comes first: a step goes in with all its items or not at all. A chunk
  // whose last step is no end always has room for one more, so Cut() cannot fail.
  if (how != How::kGoesOn || steps == 1 || chain.fill() == 0) chain.open()->ReserveEnds();
  const double reward = Reward(*stream);
  if (completes) MakeItem(stream, length, chain.next() + 1, store);
  if (how != How::kGoesOn) chain.open()->ends.push_back({chain.fill(), how});
  chain.Publish(store);
  stream->so_far.total += reward;
  stream->cached = steps;
  if (completes) stream->covered = steps;
  if (config_.items == Items::kEpisodes) return;
  // The next window takes at most this many of the steps so far.
  const std::uint64_t kept = std::min<std::uint64_t>(config_.sequence_length - 1, steps);
  chain.DropBefore(chain.next() - kept, store);
}

void Writer::MakeItem(Stream* stream, std::uint32_t length, std::uint64_t end,
                      Store::Locked* store) {
  if (tables_.size() > 1) {  // one by itself changes nothing where it fails
    std::size_t nth = 0;
    for (const auto& table : tables_) table->ReserveInsert(length, priority_, ++nth);
  }
  const ChunkChain::Held& held = *stream->chain.Locate(end - length);
  const auto offset = static_cast<std::uint32_t>(end - length - held.first);
  std::vector<std::uint64_t>& keys = stream->so_far.keys;
  if (config_.tells_ended) {  // nothing may fail once the item is in, nor when episodes end
    if (keys.size() == keys.capacity()) keys.reserve(2 * keys.size() + 8);
    const std::size_t wanted = ended_.size() + streams_.size();
    if (wanted > ended_.capacity()) ended_.reserve(2 * wanted);
  }
  for (const auto& table : tables_) {
    std::uint64_t key = 0;
    const bool is_in = table->Submit({priority_, held.chunk, offset, length, nullptr}, progress_,
                                     store->garbage(), &key);
    if (is_in && config_.tells_ended) keys.push_back(key);
  }
  store->NotifySamplers();
}

void Writer::Pad(Stream* stream, Store::Locked* store) {
  const std::uint32_t length = config_.sequence_length;
  std::uint32_t pads = 0;
  if (config_.tile_end) {
    pads = length - 1;
  } else if (stream->cached < length) {
    pads = length - static_cast<std::uint32_t>(stream->cached);
  }
  Cut(stream);  // an episode that was reset ends before its padding
  try {
    if (pads != 0) stream->chain.open()->ReserveEnds();
    for (; pads > 0; --pads) {
      if (stream->chain.full()) Roll(stream, store);
      std::memcpy(stream->chain.open()->record(stream->chain.fill()), config_.pad_record.data(),
                  config_.pad_record.size());
      Advance(stream, How::kGoesOn, store);
    }
  } catch (...) {
    Forget(stream, store);  // or the next episode's steps would follow half the padding
    throw;
  }
}

void Writer::Forget(Stream* stream, Store::Locked* store) {
  Cut(stream);
  // There is room: an item made some.
  if (!stream->so_far.keys.empty()) ended_.push_back(std::move(stream->so_far));
  stream->so_far = {};
  stream->cached = 0;
  stream->covered = 0;
  stream->chain.DropBefore(stream->chain.next(), store);
}

void Writer::Cut(Stream* stream) noexcept {
  const std::uint64_t last = stream->chain.next() - 1;
  if (stream->cached == 0 || stream->chain.EndsAt(last)) return;
  const ChunkChain::Held& held = *stream->chain.Locate(last);
  held.chunk->ends.push_back({static_cast<std::uint32_t>(last - held.first), How::kCut});
}

Status Writer::Reset(std::uint32_t index, bool write_cached_steps, std::uint64_t* uncovered) {
  std::lock_guard<Mutex> lock(mutex_);
  Stream& stream = streams_[index];
  Store::Locked store = store_->Lock();
  *uncovered = 0;
  const bool has_rest = config_.items == Items::kEpisodes || config_.items == Items::kAnchors;
  Status status;
  if (write_cached_steps && stream.cached > 0 && (has_rest || config_.pad_end)) {
    if (store.closed(life_)) {
      status = Status::Of(Code::kClosed);
    } else if (has_rest) {
      EndBefore(&stream, How::kCut, &store);
    } else {
      Pad(&stream, &store);
    }
  } else if (write_cached_steps) {
    *uncovered = stream.cached - stream.covered;
  }
  Forget(&stream, &store);
  stream.too_long = false;
  return status;
}

void Writer::Rehome() {
  if (config_.items == Items::kAnchors) return;  // views follow the stream from chunk to chunk
  std::lock_guard<Mutex> lock(mutex_);
  Store::Locked store = store_->Lock();
  // Windows would share steps with the copies.
  if (store.updates() == Store::Updates::kShared) return;
  for (Stream& stream : streams_) {
    // What the next items may take, and the last step, whose end may be told yet.
    std::uint64_t needed = stream.cached;
    if (config_.items != Items::kEpisodes) {
      needed = std::min<std::uint64_t>(needed, std::max(1u, config_.sequence_length - 1));
    }
    stream.chain.Rehome(stream.chain.next() - needed, &store);
  }
}

void Writer::Close() {
  std::lock_guard<Mutex> lock(mutex_);
  Store::Locked store = store_->Lock();
  for (Stream& stream : streams_) {
    Forget(&stream, &store);
    stream.chain.DropAll(&store);
    stream.too_long = false;
  }
}

}  // namespace reverie
