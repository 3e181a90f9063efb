#include <algorithm>

#include "stop.h"
#include "store.h"

// Batches and items: chosen under the store's mutex, gathered outside it.

namespace reverie {
namespace {

// Bytes of a batch between two looks at whether somebody wants to change records.
constexpr std::size_t kCopiedAtOnce = std::size_t{1} << 22;

}  // namespace

Status Store::Choose(Table* table, const BatchSpec& spec, std::uint32_t piece, Visit* visit,
                     BatchRows* rows, const SampleInfo& info) {
  Locked locked = Lock();
  if (closed_) return Status::Of(Code::kClosed);
  const auto wanted = static_cast<std::int64_t>(rows->rows.size());
  if (!table->CanSample(wanted)) Moved(table, &locked);  // for what lacked memory before
  if (!table->CanSample(wanted)) return Status::Of(Code::kWouldBlock);
  visit->Enter(&locked);  // first, as an item sampled for the last time is deleted
  const Status status = table->Sample(spec, rows, info, locked.garbage());
  Moved(table, &locked);
  if (status.ok() && piece != 0) table->PickPieces(rows, spec.steps, piece);
  if (status.ok() && spec.other != BatchSpec::Other::kNone) table->PickOthers(spec, rows);
  if (status.ok() && spec.shifts) rows->seed = table->NewSeed();
  return status;
}

Status Store::Sample(Table* table, BatchSpec spec, std::size_t n, std::uint32_t piece,
                     void* const* outputs, const SampleInfo& info) {
  BatchRows rows;
  rows.rows.resize(n);
  if (n >= OuterLock::kLongRows) OuterLock::LetGo();
  Visit visit(this);
  if (piece == spec.steps) piece = 0;
  const Status status = Choose(table, spec, piece, &visit, &rows, info);
  if (!status.ok()) return status;
  if (piece != 0) spec.steps = piece;
  const Copying copying(this);
  Gather(spec, rows, outputs, options_.gather_threads);
  return Status::Of(Stop::Asked() ? Code::kInterrupted : Code::kOk);
}

Status Store::ViewReader::Sample(Table* table, std::size_t n, const SampleInfo& info,
                                 std::uint32_t newest) {
  spec_.newest = newest;
  rows_.rows.resize(n);
  rows_.reach.resize(n);
  if (spec_.other != BatchSpec::Other::kNone) rows_.others.resize(n);
  if (n >= OuterLock::kLongRows) OuterLock::LetGo();
  return store_->Choose(table, spec_, 0, &visit_, &rows_, info);
}

Status Store::ViewReader::Select(const Table* table, const std::uint64_t* keys, std::size_t n) {
  Locked locked = store_->Lock();
  if ((keys == nullptr ? table->size() : n) >= OuterLock::kLongRows) OuterLock::LetGo();
  const Status status = table->Select(&spec_, keys, n, &rows_, &keys_);
  if (!status.ok()) return status;
  visit_.Enter(&locked);
  rows_.reach.reserve(rows_.rows.size());
  for (const Row& row : rows_.rows) {
    rows_.reach.push_back(locked.chunks().ReachFrom(row.chunk, row.offset, spec_.steps));
  }
  return Status();
}

Status Store::ViewReader::Gather(const std::vector<ViewColumn>& columns,
                                 void* const* outputs) const {
  const int threads = store_->options_.gather_threads;
  if (store_->updates() == Updates::kNone) {
    GatherView(*spec_.layout, rows_, columns, outputs, threads);
    return Status::Of(Stop::Asked() ? Code::kInterrupted : Code::kOk);
  }
  // Some rows at a time, lest an update, and those who copy after it, wait for a large batch.
  std::size_t row_nbytes = 1;
  for (const ViewColumn& column : columns) {
    row_nbytes += column.steps * spec_.layout->columns()[column.field].nbytes;
  }
  const std::size_t some = std::max<std::size_t>(1, kCopiedAtOnce / row_nbytes);
  for (std::size_t first = 0; first < rows_.rows.size(); first += some) {
    const Copying copying(store_.get());
    GatherView(*spec_.layout, rows_, columns, outputs, threads, first,
               std::min(rows_.rows.size(), first + some));
    if (Stop::Asked()) return Status::Of(Code::kInterrupted);
  }
  return Status();
}

std::uint32_t Store::ViewReader::longest() const {
  std::uint32_t longest = 0;
  for (const ChunkStore::Reach& row : rows_.reach) longest = std::max(longest, row.records);
  return longest;
}

Status Store::ItemReader::Sample(Table* table, std::size_t n) {
  if (std::min(n, kMaxItems) >= OuterLock::kLongRows / 4) OuterLock::LetGo();
  Locked locked = store_->Lock();
  if (locked.closed()) return Status::Of(Code::kClosed);
  if (!table->CanSample(1)) store_->Moved(table, &locked);  // for what lacked memory before
  if (!table->CanSample(1)) return Status::Of(Code::kWouldBlock);
  visit_.Enter(&locked);
  table->SampleItems(std::min(n, kMaxItems), &items_, locked.garbage());
  store_->Moved(table, &locked);
  return Status();
}

Status Store::ItemReader::Find(const Table* table, const std::uint64_t* key) {
  items_.resize(1);
  Locked locked = store_->Lock();
  const Status status = table->Find(key, &items_[0]);
  if (status.ok()) visit_.Enter(&locked);
  return status;
}

Status Store::Reader::Select(const Table* table, const std::uint64_t* keys, std::size_t n) {
  Locked locked = store_->Lock();
  if ((keys == nullptr ? table->size() : n) >= OuterLock::kLongRows) OuterLock::LetGo();
  const Status status = table->Select(&spec_, keys, n, &rows_, &keys_);
  if (status.ok()) visit_.Enter(&locked);
  return status;
}

Status Store::Reader::Gather(void* const* outputs) const {
  const Copying copying(store_.get());
  reverie::Gather(spec_, rows_, outputs, store_->options_.gather_threads);
  return Status::Of(Stop::Asked() ? Code::kInterrupted : Code::kOk);
}

}  // namespace reverie
