#ifndef REVERIE_WRITERS_WRITER_H_
#define REVERIE_WRITERS_WRITER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "outer_lock.h"
#include "store.h"
#include "writers/chunk_chain.h"

namespace reverie {

// Streams of steps, one for each environment, and the items over them.
//
// kWindows: with N steps in a stream's open episode, a window of `sequence_length`
// L ends at step N when N >= L and (N - L) % stride_length == 0; each becomes one
// item in every table. Ending an episode starts the count again, so no window
// crosses it:
//
//   no padding        N < L: none,  else (N - L) / stride + 1 items
//   pad_end           N <= L: one (padded to L),  else as without padding
//   pad_end, tile_end (N - 1) / stride + 1 items, L - 1 pads each time
//
// (the rules of TF-Agents' ReverbAddTrajectoryObserver). kStream: the same, but
// only Reset() ends an episode, so windows cross the environment's own.
// kEpisodes: an ended episode becomes one item of all its steps. One of more than
// L steps is dropped, from its first step to its last.
//
// kAnchors: for views, which find at sample time what follows a step. Each
// `stride_length`-th step of an episode, but for its last, becomes an item, as soon as the
// next `stride_length` steps are there or the episode has ended. `sequence_length` is
// stride_length + 1: items hold all that is stored, and each one the first step of the next.
//
// With `lead`, for views that look back from a step, as stacks of frames do: before an
// episode's first record come so many copies of it, or records of zeros, and each item begins
// that much before its step. So what it looks back to is there as long as it is, and always as
// far away. Only of AppendArrivals() and AppendRuns(); `sequence_length` is the longer by it.
//
// Chunk::ends tells where episodes end, so that they can be found again: at the last
// step of each, of kStream too, and, as kCut, where one stops for another reason. The
// padding after an episode is set apart by a kCut of its own:
//
//   steps   0 1 2 3 4 | 5 6 7 | pad pad | 8 9 (closed)
//   ends            ^ terminated   ^ cut    ^ cut
//                           ^ truncated
//
// Streams never share a chunk.
//
// Thread-safe: a mutex of its own, taken before the store's. Appending costs
// O(record bytes) a step and one short hold of the store's mutex for all of them.
class Writer {
 public:
  enum class Items { kWindows = 0, kStream = 1, kEpisodes = 2, kAnchors = 3 };
  struct Config {
    std::uint32_t sequence_length;  // of kEpisodes: the most steps of one
    std::uint32_t stride_length;
    double priority;  // of every item; kLargestPriority: in each table its own
    bool pad_end;
    bool tile_end;
    std::vector<std::uint8_t> pad_record;
    std::int64_t boundary_column;  // int32 column that tells the episode's end; -1: none
    std::int32_t boundary_value;
    Items items = Items::kWindows;
    std::uint32_t num_streams = 1;
    // float32 column. Where the boundary column says that an episode ended, its value in the
    // record before tells how: kTerminated if 0, else kTruncated; kEnded without one (-1), or
    // without such a record.
    std::int64_t discount_column = -1;
    std::uint32_t lead = 0;
    bool lead_is_zero = false;
    // For TakeEnded(), which then must be called now and then; of a single table.
    bool tells_ended = false;
    std::int64_t return_column = -1;  // float32 or float64, a scalar; -1: none
  };
  // The items of an episode that is over, and the sum of its steps' `return_column`.
  struct Ended {
    double total = 0;
    std::vector<std::uint64_t> keys;
  };
  // What became of a step. kTooLong: with it the episode has more than
  // `sequence_length` steps; all of them are dropped. kIgnored: so is this, which
  // came after it.
  enum class Fate : std::uint8_t { kStored, kTooLong, kIgnored };

  Writer(std::shared_ptr<Store> store, std::shared_ptr<const RecordLayout> layout,
         std::vector<std::shared_ptr<Table>> tables, const Config& config);
  ~Writer();

  // Stores one step of stream 0, given a pointer to each column's bytes. `last`: how it
  // ends its episode, if it does; nullopt asks the column. Items it
  // completes are visible to samplers when it returns, or wait for their limiter.
  // `*blocked`: whether it ended an episode while items of this writer wait.
  // kClosed changes nothing, nor does std::bad_alloc, but where it strikes the
  // padding of an ended episode: then the episode is over, and windows over its
  // padding are missing.
  Status Append(const void* const* columns, std::optional<How> last, Fate* fate = nullptr,
                bool* blocked = nullptr);

  // Stores a step of each of `n` streams, given the columns as arrays of n cells;
  // `streams` null: 0 to n - 1. `lasts`, of n, are `How`s; null asks the column.
  // `fates`, of n or null, is told what became of each. kClosed changes nothing, nor
  // does kInvalid with the index of a stream that is unknown or occurs twice, or of
  // an unknown `last`. Where std::bad_alloc strikes, streams before some
  // point of the batch have their step, as after Append(), and the rest do not.
  Status AppendBatch(const void* const* columns, const std::uint32_t* streams, std::size_t n,
                     const std::uint8_t* lasts, Fate* fates, bool* blocked);

  // Stores what came of a step of each of `n` streams, in records that hold what led to a
  // state beside the state itself: one of `columns`, an arrival. `before` has, for the
  // columns of a state, what it was before the step, and null for all others. Where that is
  // not what the stream's last record holds, byte for byte, a record of it alone begins a
  // new episode, and the one before ended as kTruncated.
  //
  //   before  o0  o1  o2 | o7        records   o0   o1    o2    o3  |  o7   o8
  //   after   o1  o2  o3 | o8                  --   a0r0  a1r1  a2r2   --   a7r7
  //
  // `begun`, of n or null, is told whether an episode began: kFirst, or kBroken where one was
  // open. Errors and their effects as AppendBatch()'s, but that a stream may have begun.
  enum class Begun : std::uint8_t { kNo = 0, kFirst, kBroken };
  Status AppendArrivals(const void* const* before, const void* const* columns,
                        const std::uint32_t* streams, std::size_t n, const std::uint8_t* lasts,
                        Begun* begun, bool* blocked);

  // Stores whole runs of steps, one after the other, in one stream, whose open episode ends
  // first, as kCut. `columns` are arrays of all runs' cells, `lengths` their steps, > 0, and
  // `lasts` how each one ends its episode, which it must. kInvalid changes nothing; where
  // kClosed or std::bad_alloc strikes, steps up to some point are stored.
  Status AppendRuns(const void* const* columns, std::uint32_t stream, const std::uint64_t* lengths,
                    const std::uint8_t* lasts, std::size_t num_runs);

  // Ends a stream's episode. `write_cached_steps`: pads it first if pad_end says so;
  // of kEpisodes, it becomes an item as it is, of kAnchors the steps that are in none yet.
  // `*uncovered`: how many of its last steps are in no item, for want of padding. Requires stream <
  // num_streams.
  Status Reset(std::uint32_t stream, bool write_cached_steps, std::uint64_t* uncovered);
  Status Reset(bool write_cached_steps, std::uint64_t* uncovered) {
    return Reset(0, write_cached_steps, uncovered);
  }

  // Ends all episodes without padding, seals the open chunks. Idempotent.
  void Close();

  // Of items to come.
  void SetPriority(double priority);

  // The episodes that ended since the last call, in that order, but for those without an item.
  // Items that still waited for a limiter when their episode ended are not among theirs.
  std::vector<Ended> TakeEnded();

  const RecordLayout& layout() const { return *layout_; }
  const Config& config() const { return config_; }
  // How many of its items still wait for their table's limiter; see Store::WaitForInserts().
  const InsertProgress& progress() const { return *progress_; }
  std::uint64_t num_cached(std::uint32_t stream = 0) const;
  std::uint64_t pending() const;

 private:
  struct Stream {
    ChunkChain chain;              // holds what the next items may still need
    std::uint64_t cached = 0;      // steps of the open episode, all in the chain
    std::uint64_t covered = 0;     // of them, up to the last item's end
    bool too_long = false;         // the open episode is being dropped
    Ended so_far{};                // of the open episode, with tells_ended
    std::uint64_t last_batch = 0;  // that it was in
    // Of the batch under way.
    How how = How::kGoesOn;
    Fate fate = Fate::kStored;
  };

  How AskColumn(const Stream& stream, const void* const* columns, std::size_t row) const;
  // Whether a step that ends so ends an episode of this writer's.
  bool Ends(How how) const { return how != How::kGoesOn && config_.items != Items::kStream; }
  // Whether an item ends with the next step; of how many steps, `steps` being in the episode.
  bool Completes(const Stream& stream, bool ends) const;
  std::uint32_t ItemLength(const Stream& stream, std::uint64_t steps) const;
  // AppendBatch(), in two halves.
  Status CheckBatch(const std::uint32_t* streams, std::size_t n, const std::uint8_t* lasts);
  Status AppendChecked(const void* const* columns, const std::uint32_t* streams, std::size_t n,
                       const std::uint8_t* lasts, Fate* fates, bool* blocked);
  // Whether the stream's last record holds these cells.
  bool GoesOn(const Stream& stream, const void* const* before, std::size_t row) const;
  // Ends the stream's episode where its last record is, with the item that this completes.
  void EndBefore(Stream* stream, How how, Store::Locked* store);
  // The first records of an episode, the lead and one with the cells of `row`; null cells are
  // those of the pad record. The lead alone: without the last one.
  void Begin(Stream* stream, const void* const* cells, std::size_t row, bool lead_alone,
             Store::Locked* store);
  // Steps of the open episode up to the next item's first, of kAnchors.
  std::uint64_t Anchored(const Stream& stream) const {
    return std::max<std::uint64_t>(stream.covered, 1 + config_.lead);
  }
  void Rehome();
  void PackBatch(const void* const* columns, std::size_t n);

  // Opens the stream's next chunk.
  void Roll(Stream* stream, Store::Locked* store);
  void Commit(Stream* stream, Store::Locked* store);
  // Publishes the prepared step with its end and the items that it completes, or nothing.
  void Advance(Stream* stream, How how, Store::Locked* store);
  void Pad(Stream* stream, Store::Locked* store);
  // Ends the stream's episode, without a word to the tables.
  void Forget(Stream* stream, Store::Locked* store);
  // Makes the last step an end, if it is none yet: see Advance() for why this cannot fail.
  void Cut(Stream* stream) noexcept;
  // An item of the `length` steps before number `end`; in all tables, or in none where
  // std::bad_alloc strikes.
  void MakeItem(Stream* stream, std::uint32_t length, std::uint64_t end, Store::Locked* store);
  // The value of `return_column` in the record that was prepared last; 0 without one.
  double Reward(const Stream& stream) const;

  const std::shared_ptr<Store> store_;
  const std::shared_ptr<const RecordLayout> layout_;
  const std::vector<std::shared_ptr<Table>> tables_;
  const Config config_;
  const std::uint64_t life_;  // of the store, in which it may write

  const std::shared_ptr<InsertProgress> progress_ = std::make_shared<InsertProgress>();
  mutable Mutex mutex_;
  double priority_;
  std::vector<Stream> streams_;
  std::vector<Ended> ended_;
  std::vector<std::uint8_t*> records_;  // scratch: where the batch under way goes
  std::uint64_t last_batch_ = 0;
  Store::Holder holder_;  // last, so that it is the first to go
};

}  // namespace reverie

#endif  // REVERIE_WRITERS_WRITER_H_
