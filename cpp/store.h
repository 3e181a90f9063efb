#ifndef REVERIE_STORE_H_
#define REVERIE_STORE_H_

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "outer_lock.h"
#include "records_lock.h"
#include "restored_streams.h"
#include "scatter.h"
#include "status.h"
#include "stop.h"
#include "storage/chunk_store.h"
#include "table.h"

namespace reverie {

class Snapshot;

// The chunks and tables of one process, and the only owner of their lock.
//
// Locks, in the order they are taken: that of tidying; that of the list of writers; a
// Writer's mutex; that of moving and the records', see below; the store's, held for as long
// as a Locked lives; an arena's, for a few instructions. No other core lock exists, and no
// writer's nor the store's is held while a gather copies, while chunks are freed, or while
// anyone waits for a lock outside the core; and who waits for one of them has let go of that
// first (OuterLock). One mutex for all tables makes an insert into several tables, and a
// snapshot of them, a single point in time.
//
// Published records never change, but in a store that was told so beforehand (Allow). There
// each step has one home: the record that Update() finds is the one that all gathers read.
// It writes with three locks in hand, that of moving, the records' and the store's, and
// nobody reads what it may write without one of them: gathers and saves hold the records',
// shared, while they copy, and no other (Copying); Tidy that of moving from when it copies
// records until the copies are named, so that no update is lost between; a writer that copies
// its own the store's.
class Store : public std::enable_shared_from_this<Store> {
 public:
  // A chunk counts its records in 32 bits, and a record may have a single byte.
  static constexpr std::size_t kMaxChunkNbytes = std::size_t{1} << 31;

  // Whether records may change once they are published. kShared: items have steps in common,
  // of which then no second copy is made, that could differ: what is sparsely used stays
  // where it is.
  enum class Updates { kNone, kOwn, kShared };
  struct Options {
    std::size_t chunk_nbytes;  // of a writer's chunks, once they have grown; 2 GiB at most
    int gather_threads;        // at most, for one batch
  };
  struct Info {
    std::uint64_t num_chunks;
    std::uint64_t num_steps;
    std::uint64_t record_nbytes;
    std::uint64_t allocated_nbytes;
    std::uint64_t used_nbytes;  // of all memory for records and items
    std::uint64_t held_nbytes;  // the same, free and ahead of use included
  };
  struct TableInfo {
    std::uint32_t size;
    std::uint32_t max_size;
    RateLimiter::Config limiter;
    RateLimiter::Counters counters;
    Table::Stats stats;
  };

  // The store's mutex, held, and what may be touched under it alone.
  class Locked {
   public:
    ~Locked() {
      if (store_->chunks_.needs_care() && !store_->untidy_) store_->WakeKeeper(this);
    }
    Locked(const Locked&) = delete;
    Locked& operator=(const Locked&) = delete;

    ChunkStore& chunks() { return store_->chunks_; }
    bool closed() const { return store_->closed_; }
    Updates updates() const { return store_->updates(); }
    // For a writer that was made in that life of the store: see Reopen().
    bool closed(std::uint64_t life) const { return closed() || store_->life_ != life; }
    std::uint64_t life() const { return store_->life_; }
    void NotifySamplers() {
      if (store_->waiting_ != 0) store_->can_sample_.notify_all();
    }
    std::uint64_t NewEpisode() { return ++store_->last_episode_; }
    // Freed once the mutex is let go.
    Garbage* garbage() { return &garbage_; }

   private:
    friend class Store;
    explicit Locked(Store* store) : store_(store), lock_(store->mutex_, std::try_to_lock) {
      if (lock_.owns_lock()) return;
      store->queueing_.fetch_add(1, std::memory_order_relaxed);
      lock_.lock();
      store->queueing_.fetch_sub(1, std::memory_order_relaxed);
    }

    Store* const store_;
    Garbage garbage_;  // outlives the lock
    std::unique_lock<Mutex> lock_;
  };

  // An epoch: what was referenced when it was entered stays readable until it ends.
  class Visit {
   public:
    explicit Visit(Store* store) : store_(store) {}
    ~Visit() {
      if (epoch_ == 0) return;
      Locked locked = store_->Lock();
      locked.chunks().Exit(epoch_, locked.garbage());
    }
    Visit(const Visit&) = delete;
    Visit& operator=(const Visit&) = delete;

    // At most once.
    void Enter(Locked* locked) { epoch_ = locked->chunks().Enter(); }

   private:
    Store* const store_;
    std::uint64_t epoch_ = 0;
  };

  explicit Store(const Options& options)
      : options_{std::min(options.chunk_nbytes, kMaxChunkNbytes), options.gather_threads} {}

  Locked Lock() { return Locked(this); }
  // To be called by who locks often for work that can wait, between two locks: lets those
  // go first who queue for it.
  void GiveWay() const;
  // Whether what can be left undone had better be: the store is being destroyed, or who
  // waits for it would rather not.
  bool leaving() const { return leaving_.load() || Stop::Asked(); }
  // Of trajectories; it has a lock of its own.
  Arena* item_arena() { return chunks_.item_arena().get(); }
  const Options& options() const { return options_; }

  ~Store();

  // Makes a writer known to the store for as long as it lives. `rehome` gives up chunks
  // that are much larger than what the writer needs of them; it locks for itself, and may
  // throw std::bad_alloc.
  class Holder {
   public:
    Holder(Store* store, std::function<void()> rehome);
    ~Holder();
    Holder(const Holder&) = delete;
    Holder& operator=(const Holder&) = delete;

   private:
    friend class Store;
    Store* const store_;
    const std::function<void()> rehome_;
  };

  std::shared_ptr<Table> CreateTable(const Table::Config& config);

  // One batch of n items into outputs[c], (n, steps / pieces per item ...): see Gather().
  // `piece` < spec.steps gives one of each item's steps / piece disjoint pieces, at
  // random; 0: none, but the items whole. kWouldBlock where the limiter or an empty
  // table forbids it. Selecting holds the lock, gathering does not. Where std::bad_alloc
  // strikes after selecting, the samples stay counted; nothing stays pinned.
  Status Sample(Table* table, BatchSpec spec, std::size_t n, std::uint32_t piece,
                void* const* outputs, const SampleInfo& info);

  // Items of any make. The reader pins what they hold until it is destroyed.
  class ItemReader {
   public:
    explicit ItemReader(std::shared_ptr<Store> store)
        : store_(std::move(store)), visit_(store_.get()) {}

    // So many at once, lest one call hold the lock for long.
    static constexpr std::size_t kMaxItems = 1 << 16;

    // At most n, and kMaxItems, as many as the limiter permits now; kWouldBlock where
    // it permits none.
    Status Sample(Table* table, std::size_t n);
    // One by key, or (null) the oldest, where kWouldBlock tells that there is none; counts
    // as no sample.
    Status Find(const Table* table, const std::uint64_t* key);

    const std::vector<SampledItem>& items() const { return items_; }
    // Theirs, or a part of them.
    void Copy(const ColumnCopies& columns, void* const* outputs) const {
      const Copying copying(store_.get());
      columns.Copy(outputs);
    }

   private:
    const std::shared_ptr<Store> store_;
    Visit visit_;
    std::vector<SampledItem> items_;
  };

  // A batch of items by key or of all of them, at one point in time; counts as no sample.
  // The reader pins the rows until it is destroyed.
  class Reader {
   public:
    Reader(std::shared_ptr<Store> store, const BatchSpec& spec)
        : store_(std::move(store)), visit_(store_.get()), spec_(spec) {}

    // See Table::Select().
    Status Select(const Table* table, const std::uint64_t* keys, std::size_t n);
    Status Gather(void* const* outputs) const;

    const std::vector<std::uint64_t>& keys() const { return keys_; }
    const BatchSpec& spec() const { return spec_; }

   private:
    const std::shared_ptr<Store> store_;
    Visit visit_;
    BatchSpec spec_;
    BatchRows rows_;
    std::vector<std::uint64_t> keys_;
  };

  // A batch of a view's rows, sampled or by key. The reader pins them until it is destroyed.
  class ViewReader {
   public:
    // `most`: records of a row; see ChunkStore::ReachFrom().
    // `lead`, `other`, `shifts`: of BatchSpec; Select() picks none.
    ViewReader(std::shared_ptr<Store> store, const RecordLayout* layout, std::uint32_t most,
               std::uint32_t lead = 0, BatchSpec::Other other = BatchSpec::Other::kNone,
               bool shifts = false)
        : store_(std::move(store)), visit_(store_.get()), spec_(layout, most) {
      spec_.is_view = true;
      spec_.lead = lead;
      spec_.other = other;
      spec_.shifts = shifts;
    }

    // As Store::Sample(); `newest`: of BatchSpec.
    Status Sample(Table* table, std::size_t n, const SampleInfo& info, std::uint32_t newest = 0);
    // As Reader::Select(): no samples.
    Status Select(const Table* table, const std::uint64_t* keys, std::size_t n);
    Status Gather(const std::vector<ViewColumn>& columns, void* const* outputs) const;

    const std::vector<ChunkStore::Reach>& reach() const { return rows_.reach; }
    const std::vector<std::uint64_t>& keys() const { return keys_; }  // of Select()
    // Records of the longest row.
    std::uint32_t longest() const;

   private:
    const std::shared_ptr<Store> store_;
    Visit visit_;
    BatchSpec spec_;
    BatchRows rows_;
    std::vector<std::uint64_t> keys_;
  };

  // Waits until a batch of `n` is allowed, the store is closed or the time is over;
  // an hour at most.
  Status WaitToSample(Table* table, std::int64_t n, double seconds);

  // Waits until at most `at_most` items of `progress` wait for their limiters, the
  // store is closed or the time is over; an hour at most. kClosed where any of them
  // was dropped because the store was closed.
  Status WaitForInserts(const InsertProgress& progress, std::uint64_t at_most, double seconds);

  // The limiter's arithmetic alone, whatever the table holds.
  bool CanSample(const Table& table, std::int64_t n) const;
  bool CanInsert(const Table& table, std::int64_t n) const;
  // To be said before anybody else knows the store.
  void Allow(Updates updates) {
    const std::lock_guard<Mutex> one(tidying_);  // its keeper may be at work
    updates_ = updates;
  }
  Updates updates() const { return updates_; }

  // Writes new values into the steps of n items, by key; what has left is counted. In slices
  // of some 100 KB, each of them at once for whoever copies or saves. Nothing is written, but
  // kLayoutMismatch told, where an item is no run of records of the layout; kInvalid without
  // Allow(). Interrupted, a part has been written. O(bytes), and O(chunks) of each row.
  Status Update(Table* table, const Scatter& scatter, const std::uint64_t* keys, std::size_t n,
                Scattered* counts);

  // Held by who copies published records without the store's mutex.
  class Copying {
   public:
    explicit Copying(Store* store)
        : records_(store->updates() == Updates::kNone ? nullptr : &store->records_) {
      if (records_ != nullptr) records_->lock_shared();
    }
    ~Copying() {
      if (records_ != nullptr) records_->unlock_shared();
    }
    Copying(const Copying&) = delete;
    Copying& operator=(const Copying&) = delete;

   private:
    RecordsLock* const records_;
  };
  // Held by who copies records to name the copies afterwards.
  std::unique_lock<Mutex> Moving() {
    return updates() == Updates::kNone ? std::unique_lock<Mutex>()
                                       : std::unique_lock<Mutex>(moving_);
  }

  // See Table::MinProbability().
  double MinProbability(const Table& table) const;

  // Both tell how many keys were stale. Interrupted, a part of them has been dealt with.
  std::size_t UpdatePriorities(Table* table, const std::uint64_t* keys, const double* priorities,
                               std::size_t n);
  std::size_t Delete(Table* table, const std::uint64_t* keys, std::size_t n);
  // Interrupted, the table is empty all the same, and the store's keeper does the rest.
  Status Clear(Table* table);
  // See Table::Resize(). Interrupted, some of those that are too many have left.
  Status Resize(Table* table, std::uint32_t max_size);

  Info info() const;
  TableInfo table_info(const Table& table) const;
  // Stop::Asked(): it is of no use.
  TableState table_state(const std::shared_ptr<Table>& table);
  // Holds the mutex for O(pages). It keeps the store alive.
  std::unique_ptr<Snapshot> TakeSnapshot();

  // Restoring into a store that nobody else can see yet. Null: the id is in use,
  // 0 or 2**63 and above, or the count is 0.
  std::shared_ptr<Chunk> RestoreChunk(std::shared_ptr<const RecordLayout> layout, std::uint64_t id,
                                      std::uint32_t count);
  // Both take restored chunks by id, and stop at the first link or end that does not fit:
  // kInvalid with its index.
  Status LinkChunks(const std::uint64_t* ids, const std::uint64_t* next_ids, std::size_t n);
  Status RestoreEnds(const std::uint64_t* ids, const std::uint32_t* steps, const std::uint8_t* hows,
                     std::size_t n);
  // The chunks are named by state.items.chunk_id. `references`: see Table::Restore();
  // null: as many as there are.
  Status RestoreTable(Table* table, const TableState& state, std::uint64_t* references = nullptr);
  // Drops the references that kept restored chunks alive until now.
  Status SealRestore();

  // Looks after memory, in this thread: touches pages that will soon be needed, and gives
  // sparsely used chunks a new home (see Tidy). Where there is need for it a thread of the
  // store's own does so, which begins with the first need. Throws std::bad_alloc.
  void Tidy();

  // Later samples, waits and appends give kClosed; what runs ends well. Idempotent.
  void Close();
  // Takes Close() back but for the writers made before it, which stay closed.
  void Reopen();

 private:
  // What a table has given away. Nobody else knows it: only what it refers to, and its
  // pages, are anyone's, and those are dropped a few at a time.
  struct Cleared {
    std::unique_ptr<Table::Contents> contents;
    std::uint64_t next = 0;  // in its order: what is before is dropped
  };
  Status DropCleared();
  // Chooses as many items as there are rows, and of each one piece unless it is 0, and pins
  // them.
  Status Choose(Table* table, const BatchSpec& spec, std::uint32_t piece, Visit* visit,
                BatchRows* rows, const SampleInfo& info);
  // One pass over the keys: finds them, and also writes. Adds to `counts` if it writes.
  Status Pass(Table* table, const Scatter& scatter, const std::uint64_t* keys, std::size_t n,
              Scattered* counts);
  // Has the keeper look after memory. Never fails: without a thread it is put off.
  void WakeKeeper(Locked* locked) noexcept;
  void Keep();
  Chunk* FindRestored(std::uint64_t id);
  template <typename Ids>
  std::vector<Chunk*> FindRestored(const Ids& ids);
  // After what may have moved the table's limiter: lets in what waited, and wakes
  // whom that concerns.
  void Moved(Table* table, Locked* locked);

  const Options options_;
  mutable Mutex mutex_;
  std::condition_variable can_sample_;
  std::condition_variable inserted_;
  int waiting_ = 0;            // threads at can_sample_
  int waiting_to_insert_ = 0;  // threads at inserted_
  std::uint64_t last_episode_ = 0;
  bool closed_ = false;
  std::uint64_t life_ = 0;  // how often it was reopened
  ChunkStore chunks_;
  std::vector<std::shared_ptr<Table>> tables_;
  std::vector<Cleared> cleared_;
  std::unordered_map<std::uint64_t, Chunk*> restored_;
  std::unique_ptr<RestoredStreams> streams_;  // of those, once a table asks
  std::atomic<int> queueing_{0};              // threads that wait for a Locked

  std::atomic<Updates> updates_{Updates::kNone};
  Mutex moving_;
  RecordsLock records_;

  Mutex tidying_;  // taken before all others; one Tidy at a time
  Mutex holding_;  // taken before a Writer's; guards holders_
  std::unordered_set<Holder*> holders_;
  std::thread keeper_;
  std::condition_variable needed_;
  bool untidy_ = false;               // the keeper has work
  std::atomic<bool> leaving_{false};  // the store is being destroyed
};

}  // namespace reverie

#endif  // REVERIE_STORE_H_
