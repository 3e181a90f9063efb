#ifndef REVERIE_TABLE_H_
#define REVERIE_TABLE_H_

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>
#include <list>
#include <memory>
#include <unordered_map>
#include <vector>

#include "gather.h"
#include "items/item_order.h"
#include "items/item_store.h"
#include "items/sampled_item.h"
#include "items/trajectory.h"
#include "rate_limiter.h"
#include "restored_streams.h"
#include "rng.h"
#include "selectors/selector.h"
#include "status.h"
#include "storage/large_vector.h"
#include "storage/paged_array.h"

namespace reverie {

// What is told of each sampled item. All arrays have room for n values, or for
// n * repeat where each item's value is repeated for its steps.
struct SampleInfo {
  std::uint64_t* key;
  double* probability;
  std::int64_t* table_size;
  double* priority;
  std::int32_t* times_sampled;
  std::size_t repeat;
  // Of the whole batch: see Selector::MinProbability(), the least that held at any of its
  // draws. Null: not wanted.
  double* min_probability = nullptr;
};

// The priority of a new item that is to have the largest of its table's, once it is placed:
// see Table::LargestPriority(). No priority that an item has is NaN.
constexpr double kLargestPriority = std::numeric_limits<double>::quiet_NaN();

// An item on its way into a table: `length` whole steps, or a trajectory.
struct NewItem {
  double priority;  // kLargestPriority (NaN) until it is placed, or a number
  Chunk* chunk = nullptr;
  std::uint32_t offset = 0;
  std::uint32_t length = 0;
  OwnTrajectory trajectory;
};

// How many of a writer's items wait for a limiter. Guarded by the store's mutex.
struct InsertProgress {
  std::uint64_t pending = 0;
  bool dropped = false;  // some will never be in: the store was closed first
};

// The items of one table, as columns, in insertion order. A trajectory names its item
// by row, whose own chunk_id, offset and length are 0.
struct ItemColumns {
  LargeVector<std::uint64_t> key;
  LargeVector<std::uint64_t> chunk_id;
  LargeVector<std::uint32_t> offset;
  LargeVector<std::uint32_t> length;
  LargeVector<double> priority;
  LargeVector<std::int32_t> times_sampled;
  LargeVector<std::uint64_t> touched;  // order of last updates; empty unless a heap needs it
  LargeVector<std::uint64_t> traj_item;
  LargeVector<std::uint64_t> traj_episode;
  LargeVector<std::uint64_t> column_item;  // the columns of traj_item[0], then [1], ...
  LargeVector<std::uint32_t> column_field;
  LargeVector<std::uint8_t> column_squeeze;
  LargeVector<std::uint32_t> column_pieces;  // how many
  LargeVector<std::uint64_t> piece_chunk;    // the pieces of column 0, then 1, ...
  LargeVector<std::uint32_t> piece_offset;
  LargeVector<std::uint32_t> piece_length;
};

// What a table at one point in time has beside its items.
struct TableFacts {
  std::uint32_t first_generation = 0;  // of slots that are free without a name
  RateLimiter::Counters counters;
  std::int64_t num_unique_samples = 0;
  std::int64_t num_deleted_episodes = 0;
  Rng::State rng;
};

struct TableState : TableFacts {
  ItemColumns items;
  LargeVector<std::uint8_t> holes;  // of the order of items: a bit a place, from the lowest
  LargeVector<std::uint64_t> free_keys;
  std::uint32_t next_slot = kNoSlot;  // those begin here; kNoSlot: beyond all that are named
};

// A table at one point in time: what it shares with the table is never changed again.
struct TableView : TableFacts {
  ItemStore::View items;
  ItemOrder::View order;
  PagedView<std::uint64_t> touched;
  bool has_heap = false;
};

// Items, a sampler, a remover and a rate limiter over the steps of a chunk store.
//
// Not thread-safe: the store's mutex guards every call. Nothing here waits.
class Table {
 public:
  struct Config {
    std::uint32_t max_size;  // items
    SelectorConfig sampler;
    SelectorConfig remover;
    RateLimiter::Config limiter;
    std::uint64_t seed;
    std::int32_t max_times_sampled = 0;  // then the item is deleted; 0: never
  };
  // What has happened to items since the table was made or cleared.
  struct Stats {
    std::int64_t num_unique_samples;  // items that were sampled at least once
    std::int64_t num_episodes;        // that live trajectories belong to
    std::int64_t num_deleted_episodes;
    std::uint64_t pending;
  };

  Table(const Config& config, ChunkStore* chunks);

  // Makes room for one Submit() of a run of this length and priority,
  // which then cannot fail. Throws std::bad_alloc with nothing changed. `nth`: the
  // n-th table, from 1 on, for which that is done at once.
  void ReserveInsert(std::uint32_t length, double priority, std::size_t nth = 1);

  // From now on it holds at most so many, > 0. Those that are too many are removed, at most
  // `at_once` of them; false: there still are some, and all is as before but for those. Throws
  // std::bad_alloc likewise.
  bool Resize(std::uint32_t max_size, std::size_t at_once, Garbage* garbage);

  // Adds the item now if the limiter permits, else queues it; queued items go in,
  // in their order, by Drain(). Takes references on its chunks at once. False: it
  // was queued, and counts in `progress` until it is in. In a full table the remover
  // then picks a victim, which may be the new item. O(1), O(log n) with a selector
  // that goes by priority. Throws std::bad_alloc with nothing changed.
  // `key`, or null, is told that of an item which is in.
  bool Submit(NewItem item, const std::shared_ptr<InsertProgress>& progress, Garbage* garbage,
              std::uint64_t* key = nullptr);

  // Inserts what waits and is permitted now; true if any was. To be called after
  // whatever may have moved the limiter: samples, deletions, a reset. Where memory runs
  // out the rest goes on waiting, so it is to be called also where samples are wanted.
  bool Drain(Garbage* garbage) noexcept;

  // Of the items that are in now and have weight, where the sampler or else the remover goes
  // by weight: 0 where none has any. 1 where none is in, or nobody goes by weight. O(1).
  double LargestPriority() const {
    const bool sampler = config_.sampler.kind == SelectorKind::kPrioritized;
    return (sampler ? own_->sampler : own_->remover)->LargestPriority();
  }
  // The smallest positive probability with which the sampler would choose any item now; 0
  // without items. O(1).
  double MinProbability() const { return size() == 0 ? 0.0 : own_->sampler->MinProbability(); }

  // Forgets what waits, for good.
  void DropPending(Garbage* garbage);

  // Whether `n` samples may be taken now.
  bool CanSample(std::int64_t n) const {
    return size() > 0 && limiter_.CanSample(n) &&
           (config_.max_times_sampled == 0 || remaining_samples_ >= n);
  }

  // Chooses rows->rows.size() items and counts the samples. kLengthMismatch or
  // kLayoutMismatch, with nothing counted, where an item is not as `spec` says; so
  // does std::bad_alloc. With max_times_sampled items are chosen and deleted one after
  // the other, and what was chosen before such an item stays counted.
  // Requires CanSample() of as many, and an epoch entered: an item may be deleted here.
  Status Sample(const BatchSpec& spec, BatchRows* rows, const SampleInfo& info, Garbage* garbage);

  // Chooses items one after the other, as Reverb does, at most n and for as long as
  // each is permitted. Requires an epoch entered. Where memory runs out it stops with
  // what it has, and throws std::bad_alloc, with nothing counted, if that is nothing.
  void SampleItems(std::size_t n, std::vector<SampledItem>* items, Garbage* garbage);

  // Moves each row to one of its item's steps / piece disjoint pieces, at random.
  void PickPieces(BatchRows* rows, std::uint32_t steps, std::uint32_t piece);
  // Gives each row of a view another record: see BatchSpec. There is room for them.
  void PickOthers(const BatchSpec& spec, BatchRows* rows);
  // Of what else chance decides in a batch.
  std::uint64_t NewSeed() { return rng_.Next(); }

  // The items by key (null: all, in insertion order), as `spec` says; spec->steps 0
  // takes the first one's. Appends to `rows` and `found`; counts nothing.
  Status Select(BatchSpec* spec, const std::uint64_t* keys, std::size_t n, BatchRows* rows,
                std::vector<std::uint64_t>* found) const;

  // One live item, by key or (null) the oldest: what it holds, and its key. kWouldBlock
  // where there is none at all; counts nothing.
  Status Find(const std::uint64_t* key, SampledItem* item) const;

  // Both return how many keys were stale.
  std::size_t UpdatePriorities(const std::uint64_t* keys, const double* priorities, std::size_t n);
  std::size_t Delete(const std::uint64_t* keys, std::size_t n, Garbage* garbage);

  // What a table holds, and can be exchanged as a whole.
  struct Contents {
    Contents(const Config& config, ChunkStore* chunks, std::uint32_t first_generation);

    ItemStore items;
    ItemOrder order;
    std::unique_ptr<Selector> sampler;
    std::unique_ptr<Selector> remover;
    std::unordered_map<std::uint64_t, std::uint64_t> episodes;  // trajectories of each

    // The references of a live item.
    void DropChunks(std::uint32_t slot, ChunkStore* chunks, Garbage* garbage);
    // Drops all pages, at most n of each kind; true: there are none left.
    bool ClearSome(std::size_t n) noexcept {
      return items.ClearSome(n) && order.ClearSome(n) && sampler->ClearSome(n) &&
             remover->ClearSome(n);
    }
  };
  // Deletes all items and resets the limiter. A table of many items gives them away
  // instead, in exchange for `fresh`, which is null again then: Store::Clear() drops them.
  void Clear(std::unique_ptr<Contents>* fresh, Garbage* garbage);
  // For Clear(), where it wants one; else null.
  std::unique_ptr<Contents> Fresh() const;

  // O(pages). Throws std::bad_alloc.
  TableView Share();
  // Fills an empty table; kInvalid with the row at fault, then the table is empty
  // again, as it is where std::bad_alloc strikes, and what was in it already is in
  // `refused`, to be dropped as what Clear() gives away. `chunks_by_row` stands for
  // items.chunk_id, `chunks_by_piece` for items.piece_chunk. Without keys, fresh ones
  // are issued.
  //
  // `references` is how many may be taken on chunks: one for each that a window touches,
  // and for every kRecordsPerReference records of a window or a piece, as whoever walks over
  // them must; what was taken is taken off. kTooMany: it was not enough. Work and memory are
  // O(items + pieces + references), and log(chunks) an item.
  static constexpr std::uint32_t kRecordsPerReference = 4096;
  Status Restore(const TableState& state, const RestoredStreams& streams,
                 const std::vector<Chunk*>& chunks_by_row,
                 const std::vector<Chunk*>& chunks_by_piece, std::uint64_t* references,
                 std::unique_ptr<Contents>* refused);

  // For Tidy: calls run(slot, item, length, trajectory) for each item in these slots.
  template <typename Run>
  void VisitSlots(std::uint32_t first, std::uint32_t end, const Run& run) {
    for (std::uint32_t slot = first; slot < std::min(end, num_slots()); ++slot) {
      const Item* const item = own_->items.address(slot);
      if (item == nullptr || item->generation % 2 == 0) continue;
      run(slot, *item, own_->items.length.Get(slot), own_->items.trajectory(slot));
    }
  }
  std::uint32_t num_slots() const { return own_->items.num_slots(); }
  // The item's records stand elsewhere from now on: in that chunk, or as that trajectory
  // says. Throws std::bad_alloc with nothing changed.
  void MoveItem(std::uint32_t slot, Chunk* chunk, std::uint32_t offset, Garbage* garbage);
  void MoveItem(std::uint32_t slot, OwnTrajectory trajectory, Garbage* garbage);

  std::uint32_t size() const { return own_->items.size(); }
  const Config& config() const { return config_; }
  // As Resize() left it.
  std::uint32_t max_size() const { return max_size_; }
  const RateLimiter& limiter() const { return limiter_; }
  Stats stats() const {
    return {num_unique_samples_, static_cast<std::int64_t>(own_->episodes.size()),
            num_deleted_episodes_, pending_.size()};
  }

 private:
  Status Check(const BatchSpec& spec, std::uint32_t slot) const;
  // Sample() for n rows from `first` on; `info` is of the first of them.
  Status SampleSome(const BatchSpec& spec, std::size_t first, std::size_t n, BatchRows* rows,
                    const SampleInfo& info, Garbage* garbage);
  Row RowOf(std::uint32_t slot, BatchRows* rows) const;
  // Makes room for drawing n items.
  void Draw(std::size_t n);
  // Makes room for counting a sample of the item, which may be its last.
  void ReserveCount(std::uint32_t slot);
  SampledItem Sampled(std::uint32_t slot) const;
  void Remove(std::uint32_t slot, Garbage* garbage);
  // One item too many leaves. Of a reservoir, all items that there ever were are equally likely
  // to be in it: the n-th comes to stay with a probability of max_size / n, and then any other
  // makes room for it (Vitter 1985, algorithm R). `for_newest`: one was inserted.
  void Evict(bool for_newest, Garbage* garbage);

  struct Pending {
    NewItem item;
    std::shared_ptr<InsertProgress> progress;
  };
  double Known(double priority) const {
    return std::isnan(priority) ? LargestPriority() : priority;
  }
  bool blocked() const { return !pending_.empty() || !limiter_.CanInsert(1); }
  void Reserve(const NewItem& item);
  template <typename Run>
  static void EachRun(const NewItem& item, const Run& run);
  void TakeReferences(const NewItem& item);
  void DropReferences(const NewItem& item, Garbage* garbage);
  // Adds an item whose references are taken, and for which there is room.
  // Its key, which may be stale at once.
  std::uint64_t Place(NewItem&& item, Garbage* garbage) noexcept;
  // Counts a sample of the item; true if that was its last, then it must be removed.
  bool Count(Item* item);
  // How often a live item may still be sampled: once at least, as one that is restored
  // with more samples than allowed leaves with its next. With max_times_sampled.
  std::int64_t Remaining(const Item& item) const {
    return std::max(1, config_.max_times_sampled - item.times_sampled);
  }
  Status RestoreTrajectories(const ItemColumns& from, const std::vector<std::uint32_t>& slots,
                             const std::vector<Chunk*>& chunks_by_piece, std::uint64_t* references);

  // Pages that placing an item may have to copy: its own, and those of one that leaves.
  static constexpr std::size_t kCopies = 16;

  const Config config_;
  std::atomic<std::uint32_t> max_size_;  // read without the store's mutex, too
  ChunkStore* const chunks_;
  std::unique_ptr<Contents> own_;
  RateLimiter limiter_;
  Rng rng_;
  std::list<Pending> pending_;
  std::list<Pending> spare_;            // nodes for the next Submit() of a blocked table
  std::int64_t remaining_samples_ = 0;  // of all items together; with max_times_sampled
  std::int64_t num_unique_samples_ = 0;
  std::int64_t num_deleted_episodes_ = 0;
  std::vector<std::uint32_t> slots_;  // scratch of Sample()
  std::vector<double> probabilities_;
  std::vector<Item*> chosen_;
};

}  // namespace reverie

#endif  // REVERIE_TABLE_H_
