#include "store.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "snapshot.h"
#include "tidy.h"

namespace reverie {
namespace {

constexpr std::size_t kRowsPerLook = 4096;

// Between nothing, which NaN counts as, and an hour, so that no clock overflows.
std::chrono::duration<double> Duration(double seconds) {
  return std::chrono::duration<double>(seconds > 0 ? std::min(seconds, 3600.0) : 0.0);
}

}  // namespace

Store::~Store() {
  OuterLock::LetGo();  // the keeper may be at work
  {
    const std::lock_guard<Mutex> lock(mutex_);
    leaving_ = true;
  }
  needed_.notify_all();
  if (keeper_.joinable()) keeper_.join();
}

Store::Holder::Holder(Store* store, std::function<void()> rehome)
    : store_(store), rehome_(std::move(rehome)) {
  const std::lock_guard<Mutex> lock(store_->holding_);
  store_->holders_.insert(this);
}

Store::Holder::~Holder() {
  const std::lock_guard<Mutex> lock(store_->holding_);
  store_->holders_.erase(this);
}

void Store::GiveWay() const {
  constexpr int kMostYields = 256;  // those who queue without an end must not stop it
  for (int i = 0; i < kMostYields && queueing_.load(std::memory_order_relaxed) != 0; ++i) {
    std::this_thread::yield();
  }
}

void Store::WakeKeeper(Locked*) noexcept {
  if (!keeper_.joinable()) {
    try {
      keeper_ = std::thread([this] { Keep(); });
    } catch (const std::exception&) {
      return;  // there will be another need
    }
  }
  untidy_ = true;
  needed_.notify_one();
}

void Store::Keep() {
  std::unique_lock<std::mutex> lock(mutex_.bare());
  for (;;) {
    needed_.wait(lock, [this] { return untidy_ || leaving_; });
    if (leaving_) return;
    lock.unlock();
    bool failed = false;
    try {
      Tidy();
    } catch (const std::bad_alloc&) {
      failed = true;  // nothing is lost: what is idle stays where it is until a later need
    }
    lock.lock();
    if (failed) chunks_.Looked(true, 0, chunks_.removals());
    untidy_ = chunks_.needs_care() || !cleared_.empty();
  }
}

void Store::Tidy() {
  OuterLock::LetGo();
  const std::lock_guard<Mutex> one(tidying_);
  for (Arena* const arena : {chunks_.arena().get(), chunks_.item_arena().get()}) {
    while (arena->WantsAhead()) arena->FaultAhead();
  }
  if (!DropCleared().ok()) return;
  std::vector<std::shared_ptr<Table>> tables;
  {
    Locked locked = Lock();
    chunks_.Cared();
    if (!chunks_.untidy()) return;
    tables = tables_;
  }
  reverie::Tidy(this, std::move(tables)).Run();
  const std::lock_guard<Mutex> held(holding_);
  for (Holder* const holder : holders_) {
    GiveWay();
    holder->rehome_();
  }
}

std::shared_ptr<Table> Store::CreateTable(const Table::Config& config) {
  auto table = std::make_shared<Table>(config, &chunks_);
  std::lock_guard<Mutex> lock(mutex_);
  tables_.push_back(table);
  return table;
}

void Store::Moved(Table* table, Locked* locked) {
  if (!table->Drain(locked->garbage())) return;
  locked->NotifySamplers();
  if (waiting_to_insert_ != 0) inserted_.notify_all();
}

Status Store::WaitToSample(Table* table, std::int64_t n, double seconds) {
  OuterLock::LetGo();
  std::unique_lock<std::mutex> lock(mutex_.bare());
  ++waiting_;
  const bool ready =
      can_sample_.wait_for(lock, Duration(seconds), [&] { return closed_ || table->CanSample(n); });
  --waiting_;
  if (closed_) return Status::Of(Code::kClosed);
  return Status::Of(ready ? Code::kOk : Code::kWouldBlock);
}

Status Store::WaitForInserts(const InsertProgress& progress, std::uint64_t at_most,
                             double seconds) {
  OuterLock::LetGo();
  std::unique_lock<std::mutex> lock(mutex_.bare());
  ++waiting_to_insert_;
  const bool done = inserted_.wait_for(
      lock, Duration(seconds), [&] { return progress.dropped || progress.pending <= at_most; });
  --waiting_to_insert_;
  if (progress.dropped) return Status::Of(Code::kClosed);
  return Status::Of(done ? Code::kOk : Code::kWouldBlock);
}

double Store::MinProbability(const Table& table) const {
  std::lock_guard<Mutex> lock(mutex_);
  return table.MinProbability();
}

bool Store::CanSample(const Table& table, std::int64_t n) const {
  std::lock_guard<Mutex> lock(mutex_);
  return table.limiter().CanSample(n);
}

bool Store::CanInsert(const Table& table, std::int64_t n) const {
  std::lock_guard<Mutex> lock(mutex_);
  return table.limiter().CanInsert(n);
}

std::size_t Store::UpdatePriorities(Table* table, const std::uint64_t* keys,
                                    const double* priorities, std::size_t n) {
  std::lock_guard<Mutex> lock(mutex_);
  return table->UpdatePriorities(keys, priorities, n);
}

std::size_t Store::Delete(Table* table, const std::uint64_t* keys, std::size_t n) {
  Locked locked = Lock();
  const std::size_t stale = table->Delete(keys, n, locked.garbage());
  Moved(table, &locked);
  return stale;
}

Status Store::Clear(Table* table) {
  {
    Locked locked = Lock();
    cleared_.emplace_back();  // first, as it may throw
    cleared_.back().contents = table->Fresh();
    table->Clear(&cleared_.back().contents, locked.garbage());
    if (!closed_) Moved(table, &locked);
  }
  return DropCleared();
}

Status Store::Resize(Table* table, std::uint32_t max_size) {
  constexpr std::size_t kAtOnce = 1024;
  for (;;) {
    GiveWay();
    OuterLock::Tick();
    if (Stop::Asked()) return Status::Of(Code::kInterrupted);
    Locked locked = Lock();
    if (closed_) return Status::Of(Code::kClosed);
    const bool fits = table->Resize(max_size, kAtOnce, locked.garbage());
    Moved(table, &locked);
    if (fits) return Status();
  }
}

Status Store::DropCleared() {
  constexpr std::size_t kAtOnce = 1024;
  for (;;) {
    GiveWay();
    OuterLock::Tick();
    Locked locked = Lock();
    if (cleared_.empty()) return Status();
    if (leaving()) {
      WakeKeeper(&locked);
      return Status::Of(Code::kInterrupted);
    }
    Cleared& last = cleared_.back();
    if (last.contents == nullptr) {
      cleared_.pop_back();
      continue;
    }
    Table::Contents& contents = *last.contents;
    const std::uint64_t end = std::min(last.next + kAtOnce, contents.order.span());
    if (last.next == end) {
      chunks_.LookAgain();
      if (contents.ClearSome(kAtOnce)) cleared_.pop_back();
      continue;
    }
    for (; last.next < end; ++last.next) {
      const std::uint32_t slot = contents.order[last.next];
      if (slot != kNoSlot) contents.DropChunks(slot, &chunks_, locked.garbage());
    }
  }
}

Store::Info Store::info() const {
  std::lock_guard<Mutex> lock(mutex_);
  return {chunks_.num_chunks(),
          chunks_.num_steps(),
          chunks_.record_nbytes(),
          chunks_.allocated_nbytes(),
          chunks_.arena()->used_nbytes() + chunks_.item_arena()->used_nbytes(),
          chunks_.arena()->held_nbytes() + chunks_.item_arena()->held_nbytes()};
}

Store::TableInfo Store::table_info(const Table& table) const {
  std::lock_guard<Mutex> lock(mutex_);
  return {table.size(), table.max_size(), table.limiter().config(), table.limiter().counters(),
          table.stats()};
}

TableState Store::table_state(const std::shared_ptr<Table>& table) {
  Snapshot snapshot(shared_from_this());
  {
    std::lock_guard<Mutex> lock(mutex_);
    snapshot.Take(&chunks_, {table});
    if (table->size() >= OuterLock::kLongRows / 8) OuterLock::LetGo();
  }
  snapshot.ArrangeTables();
  return std::move(snapshot.tables[0]);
}

std::unique_ptr<Snapshot> Store::TakeSnapshot() {
  auto snapshot = std::make_unique<Snapshot>(shared_from_this());
  std::lock_guard<Mutex> lock(mutex_);
  snapshot->Take(&chunks_, tables_);
  return snapshot;
}

Chunk* Store::FindRestored(std::uint64_t id) {
  const auto found = restored_.find(id);
  return found == restored_.end() ? nullptr : found->second;
}

template <typename Ids>
std::vector<Chunk*> Store::FindRestored(const Ids& ids) {
  std::vector<Chunk*> chunks;
  chunks.reserve(ids.size());
  for (const std::uint64_t id : ids) {
    if (chunks.size() % kRowsPerLook == 0 && Stop::Asked()) break;  // who asked asks again
    chunks.push_back(FindRestored(id));
  }
  return chunks;
}

std::shared_ptr<Chunk> Store::RestoreChunk(std::shared_ptr<const RecordLayout> layout,
                                           std::uint64_t id, std::uint32_t count) {
  std::lock_guard<Mutex> lock(mutex_);
  // Half of all ids are left for new chunks, which count on from the highest.
  if (id == 0 || id >> 63 != 0 || count == 0 || FindRestored(id) != nullptr) return nullptr;
  streams_ = nullptr;
  Chunk*& restored = restored_[id];
  Chunk* chunk = chunks_.Create(std::move(layout), count, id);
  restored = chunk;
  chunks_.Join(chunk);
  chunks_.Publish(chunk, count);
  chunks_.Seal(chunk);
  return chunks_.share(chunk->slot);
}

Status Store::LinkChunks(const std::uint64_t* ids, const std::uint64_t* next_ids, std::size_t n) {
  std::lock_guard<Mutex> lock(mutex_);
  streams_ = nullptr;
  for (std::size_t i = 0; i < n; ++i) {
    if (i % kRowsPerLook == 0 && Stop::Asked()) return Status::Of(Code::kInterrupted);
    Chunk* const chunk = FindRestored(ids[i]);
    Chunk* const next = FindRestored(next_ids[i]);
    // Streams are written front to back, so ids rise along them: no cycles.
    if (chunk == nullptr || next == nullptr || chunk->next != nullptr || next_ids[i] <= ids[i]) {
      return Status::Invalid("no such chunks to link", static_cast<std::int64_t>(i));
    }
    chunk->GoOnIn(next);
  }
  return Status();
}

Status Store::RestoreEnds(const std::uint64_t* ids, const std::uint32_t* steps,
                          const std::uint8_t* hows, std::size_t n) {
  std::lock_guard<Mutex> lock(mutex_);
  for (std::size_t i = 0; i < n; ++i) {
    if (i % kRowsPerLook == 0 && Stop::Asked()) return Status::Of(Code::kInterrupted);
    const auto at = static_cast<std::int64_t>(i);
    Chunk* const chunk = FindRestored(ids[i]);
    if (chunk == nullptr) return Status::Invalid("end in an unknown chunk", at);
    if (steps[i] >= chunk->count) return Status::Invalid("end outside its chunk", at);
    if (hows[i] == 0 || hows[i] > static_cast<std::uint8_t>(How::kCut)) {
      return Status::Invalid("unknown kind of end", at);
    }
    if (!chunk->ends.empty() && chunk->ends.back().step >= steps[i]) {
      return Status::Invalid("ends do not ascend", at);
    }
    chunk->ends.push_back({steps[i], static_cast<How>(hows[i])});
  }
  return Status();
}

Status Store::RestoreTable(Table* table, const TableState& state, std::uint64_t* references) {
  OuterLock::LetGo();
  Status status;
  {
    std::lock_guard<Mutex> lock(mutex_);
    for (const std::uint64_t episode : state.items.traj_episode) {
      if (episode >> 62 != 0) return Status::Invalid("episode out of range", -1);
      last_episode_ = std::max(last_episode_, episode);
    }
    if (streams_ == nullptr) streams_ = std::make_unique<RestoredStreams>(restored_);
    const std::vector<Chunk*> by_row = FindRestored(state.items.chunk_id);
    const std::vector<Chunk*> by_piece = FindRestored(state.items.piece_chunk);
    if (Stop::Asked()) return Status::Of(Code::kInterrupted);
    std::uint64_t any = ~std::uint64_t{0};
    if (references == nullptr) references = &any;
    cleared_.emplace_back();
    status =
        table->Restore(state, *streams_, by_row, by_piece, references, &cleared_.back().contents);
  }
  DropCleared();
  return status;
}

Status Store::SealRestore() {
  OuterLock::LetGo();
  Locked locked = Lock();
  streams_ = nullptr;
  for (std::size_t i = 1; !restored_.empty(); ++i) {
    if (i % kRowsPerLook == 0 && Stop::Asked()) return Status::Of(Code::kInterrupted);
    Chunk* const chunk = restored_.begin()->second;
    restored_.erase(restored_.begin());
    if (chunk == nullptr) continue;
    chunks_.Leave(chunk);
    chunks_.Unref(chunk, locked.garbage());
  }
  return Status();
}

void Store::Close() {
  Locked locked = Lock();
  closed_ = true;
  for (const auto& table : tables_) table->DropPending(locked.garbage());
  can_sample_.notify_all();
  inserted_.notify_all();
}

void Store::Reopen() {
  Locked locked = Lock();
  closed_ = false;
  ++life_;
}

}  // namespace reverie
