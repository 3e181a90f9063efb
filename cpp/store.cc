#include "store.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace reverie {
namespace {

// Between nothing, which NaN counts as, and an hour, so that no clock overflows.
std::chrono::duration<double> Duration(double seconds) {
  return std::chrono::duration<double>(seconds > 0 ? std::min(seconds, 3600.0) : 0.0);
}

}  // namespace

std::shared_ptr<Table> Store::CreateTable(const Table::Config& config) {
  auto table = std::make_shared<Table>(config, &chunks_);
  std::lock_guard<std::mutex> lock(mutex_);
  tables_.push_back(table);
  return table;
}

Status Store::Sample(Table* table, const RecordLayout* layout, std::size_t n, std::uint32_t steps,
                     std::uint32_t piece, void* const* outputs, const SampleInfo& info) {
  struct Visit {  // ends also where gathering runs out of memory
    Store* store;
    std::uint64_t epoch = 0;

    ~Visit() {
      if (epoch == 0) return;
      Garbage garbage;
      std::lock_guard<std::mutex> lock(store->mutex_);
      store->chunks_.Leave(epoch, &garbage);
    }
  };
  std::vector<Row> rows(n);
  Visit visit{this};
  Garbage garbage;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) return Status::Of(Code::kClosed);
    const auto wanted = static_cast<std::int64_t>(n);
    if (!table->CanSample(wanted)) Moved(table, &garbage);  // for what lacked memory before
    if (!table->CanSample(wanted)) return Status::Of(Code::kWouldBlock);
    // First, as an item sampled for the last time is deleted.
    visit.epoch = chunks_.Enter();
    const Status status = table->Sample(layout, n, steps, rows.data(), info, &garbage);
    Moved(table, &garbage);
    if (!status.ok()) return status;
    if (piece != steps) table->PickPieces(rows.data(), n, steps, piece);
  }
  Gather(*layout, rows.data(), n, piece, outputs, options_.gather_threads);
  return Status();
}

void Store::Moved(Table* table, Garbage* garbage) {
  if (!table->Drain(garbage)) return;
  NotifySamplers();
  if (waiting_to_insert_ != 0) inserted_.notify_all();
}

Store::ItemReader::~ItemReader() {
  if (epoch_ == 0) return;
  Garbage garbage;
  std::lock_guard<std::mutex> lock(store_->mutex_);
  store_->chunks_.Leave(epoch_, &garbage);
}

Status Store::ItemReader::Sample(Table* table, std::size_t n) {
  Garbage garbage;
  std::lock_guard<std::mutex> lock(store_->mutex_);
  if (store_->closed_) return Status::Of(Code::kClosed);
  if (!table->CanSample(1)) store_->Moved(table, &garbage);  // for what lacked memory before
  if (!table->CanSample(1)) return Status::Of(Code::kWouldBlock);
  epoch_ = store_->chunks_.Enter();
  table->SampleItems(std::min(n, kMaxItems), &items_, &garbage);
  store_->Moved(table, &garbage);
  return Status();
}

Store::Reader::~Reader() {
  if (epoch_ == 0) return;
  Garbage garbage;
  std::lock_guard<std::mutex> lock(store_->mutex_);
  store_->chunks_.Leave(epoch_, &garbage);
}

Status Store::Reader::Select(Table* table, const RecordLayout* layout, const std::uint64_t* keys,
                             std::size_t n, std::uint32_t steps) {
  std::lock_guard<std::mutex> lock(store_->mutex_);
  steps_ = steps;
  const Status status = table->Select(layout, keys, n, &steps_, &rows_, &keys_);
  if (status.ok()) epoch_ = store_->chunks_.Enter();
  return status;
}

Status Store::Reader::Find(Table* table, const RecordLayout* layout, std::uint64_t key) {
  std::lock_guard<std::mutex> lock(store_->mutex_);
  rows_.resize(1);
  const std::vector<Span>* spans = nullptr;
  const Status status = table->Find(key, layout, &rows_[0], &steps_, &spans);
  if (!status.ok()) return status;
  if (spans != nullptr) spans_ = *spans;
  epoch_ = store_->chunks_.Enter();
  return status;
}

void Store::Reader::GatherRows(const RecordLayout& layout, void* const* outputs) const {
  Gather(layout, rows_.data(), rows_.size(), steps_, outputs, store_->options_.gather_threads);
}

void Store::Reader::GatherSpan(const RecordLayout& layout, std::size_t column, void* output) const {
  const Span span = spans_.empty() ? Span{0, steps_} : spans_[column];
  GatherColumn(layout, column, rows_[0], span.start, span.length, output);
}

Status Store::WaitToSample(Table* table, std::int64_t n, double seconds) {
  std::unique_lock<std::mutex> lock(mutex_);
  ++waiting_;
  const bool ready =
      can_sample_.wait_for(lock, Duration(seconds), [&] { return closed_ || table->CanSample(n); });
  --waiting_;
  if (closed_) return Status::Of(Code::kClosed);
  return Status::Of(ready ? Code::kOk : Code::kWouldBlock);
}

Status Store::WaitForInserts(const InsertProgress& progress, std::uint64_t at_most,
                             double seconds) {
  std::unique_lock<std::mutex> lock(mutex_);
  ++waiting_to_insert_;
  const bool done = inserted_.wait_for(
      lock, Duration(seconds), [&] { return progress.dropped || progress.pending <= at_most; });
  --waiting_to_insert_;
  if (progress.dropped) return Status::Of(Code::kClosed);
  return Status::Of(done ? Code::kOk : Code::kWouldBlock);
}

bool Store::CanSample(const Table& table, std::int64_t n) const {
  std::lock_guard<std::mutex> lock(mutex_);
  return table.limiter().CanSample(n);
}

bool Store::CanInsert(const Table& table, std::int64_t n) const {
  std::lock_guard<std::mutex> lock(mutex_);
  return table.limiter().CanInsert(n);
}

std::size_t Store::UpdatePriorities(Table* table, const std::uint64_t* keys,
                                    const double* priorities, std::size_t n) {
  std::lock_guard<std::mutex> lock(mutex_);
  return table->UpdatePriorities(keys, priorities, n);
}

std::size_t Store::Delete(Table* table, const std::uint64_t* keys, std::size_t n) {
  Garbage garbage;
  std::lock_guard<std::mutex> lock(mutex_);
  const std::size_t stale = table->Delete(keys, n, &garbage);
  Moved(table, &garbage);
  return stale;
}

void Store::Clear(Table* table) {
  Garbage garbage;
  std::lock_guard<std::mutex> lock(mutex_);
  table->Clear(&garbage);
  if (!closed_) Moved(table, &garbage);
}

Store::Info Store::info() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return {chunks_.num_chunks(), chunks_.num_steps(), chunks_.record_nbytes(),
          chunks_.allocated_nbytes()};
}

Store::TableInfo Store::table_info(const Table& table) const {
  std::lock_guard<std::mutex> lock(mutex_);
  return {table.size(), table.config().max_size, table.limiter().config(),
          table.limiter().counters(), table.stats()};
}

TableState Store::table_state(const Table& table) const {
  std::lock_guard<std::mutex> lock(mutex_);
  return table.Save();
}

Snapshot Store::TakeSnapshot() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return reverie::TakeSnapshot(chunks_, tables_);
}

Chunk* Store::FindRestored(std::uint64_t id) {
  const auto found = restored_.find(id);
  return found == restored_.end() ? nullptr : found->second;
}

std::vector<Chunk*> Store::FindRestored(const std::vector<std::uint64_t>& ids) {
  std::vector<Chunk*> chunks;
  chunks.reserve(ids.size());
  for (const std::uint64_t id : ids) chunks.push_back(FindRestored(id));
  return chunks;
}

Chunk* Store::RestoreChunk(std::shared_ptr<const RecordLayout> layout, std::uint64_t id,
                           std::uint32_t count) {
  std::lock_guard<std::mutex> lock(mutex_);
  // Half of all ids are left for new chunks, which count on from the highest.
  if (id == 0 || id >> 63 != 0 || count == 0 || FindRestored(id) != nullptr) return nullptr;
  Chunk*& restored = restored_[id];
  Chunk* chunk = chunks_.Create(std::move(layout), count, id);
  restored = chunk;
  chunks_.Publish(chunk, count);
  chunk->sealed = true;
  return chunk;
}

Status Store::LinkChunk(std::uint64_t id, std::uint64_t next_id) {
  std::lock_guard<std::mutex> lock(mutex_);
  Chunk* chunk = FindRestored(id);
  Chunk* next = FindRestored(next_id);
  // Streams are written front to back, so ids rise along them: no cycles.
  if (chunk == nullptr || next == nullptr || chunk->next != nullptr || next_id <= id) {
    return Status::Invalid("no such chunks to link", static_cast<std::int64_t>(id));
  }
  chunk->next = next;
  chunk->next_id = next_id;
  return Status();
}

Status Store::RestoreTable(Table* table, const TableState& state) {
  std::lock_guard<std::mutex> lock(mutex_);
  for (const std::uint64_t episode : state.items.traj_episode) {
    if (episode >> 62 != 0) return Status::Invalid("episode out of range", -1);
    last_episode_ = std::max(last_episode_, episode);
  }
  return table->Restore(state, FindRestored(state.items.chunk_id),
                        FindRestored(state.items.piece_chunk));
}

void Store::SealRestore() {
  Garbage garbage;
  std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& entry : restored_) {
    if (entry.second != nullptr) chunks_.Unref(entry.second, &garbage);
  }
  restored_.clear();
}

void Store::Close() {
  Garbage garbage;
  std::lock_guard<std::mutex> lock(mutex_);
  closed_ = true;
  for (const auto& table : tables_) table->DropPending(&garbage);
  can_sample_.notify_all();
  inserted_.notify_all();
}

}  // namespace reverie
