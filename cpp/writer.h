#ifndef REVERIE_WRITER_H_
#define REVERIE_WRITER_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "store.h"

namespace reverie {

// One stream of steps, and the windows over it.
//
// With N steps in the open episode, a window of `sequence_length` L ends at step
// N when N >= L and (N - L) % stride_length == 0; each becomes one item in every
// table. Ending an episode starts the count again, so no window crosses it:
//
//   no padding        N < L: none,  else (N - L) / stride + 1 items
//   pad_end           N <= L: one (padded to L),  else as without padding
//   pad_end, tile_end (N - 1) / stride + 1 items, L - 1 pads each time
//
// (the rules of TF-Agents' ReverbAddTrajectoryObserver). Streams never share a
// chunk. A stream's first chunk is small and each next one twice as large, up to
// the store's chunk_nbytes, so that many short streams cost little.
//
// Thread-safe: a mutex of its own, taken before the store's. Appending costs
// O(record bytes) and one short hold of the store's mutex.
class Writer {
 public:
  struct Config {
    std::uint32_t sequence_length;
    std::uint32_t stride_length;
    double priority;  // of every item
    bool pad_end;
    bool tile_end;
    std::vector<std::uint8_t> pad_record;
    std::int64_t boundary_column;  // int32 column that tells the episode's end; -1: none
    std::int32_t boundary_value;
  };
  enum class Last { kAskColumn = -1, kNo = 0, kYes = 1 };

  Writer(std::shared_ptr<Store> store, std::shared_ptr<const RecordLayout> layout,
         std::vector<std::shared_ptr<Table>> tables, const Config& config);
  ~Writer();

  // Stores one step, given a pointer to each column's bytes. Windows it completes
  // are items, visible to samplers, when it returns. kClosed changes nothing, nor
  // does std::bad_alloc, but where it strikes the padding of an ended episode:
  // then the episode is over, and windows over its padding are missing.
  Status Append(const void* const* columns, Last last);

  // Ends the episode: pads it first if `write_cached_steps` and pad_end say so.
  // `*uncovered`: how many of its last steps are in no item, for want of padding.
  Status Reset(bool write_cached_steps, std::uint64_t* uncovered);

  // Ends the episode without padding, seals the open chunk. Idempotent.
  void Close();

  const RecordLayout& layout() const { return *layout_; }
  std::uint64_t num_cached() const;

 private:
  Status AppendRecord(const void* const* columns);
  Status EndEpisode(bool pad);
  Status Roll();
  void MakeItem(Garbage* garbage);
  void Release(std::uint64_t keep_steps, Garbage* garbage);

  const std::shared_ptr<Store> store_;
  const std::shared_ptr<const RecordLayout> layout_;
  const std::vector<std::shared_ptr<Table>> tables_;
  const Config config_;

  mutable std::mutex mutex_;
  // Chunks that the next windows may still need, oldest first, one reference on
  // each; the last one is open. `fill_` counts its records.
  std::deque<Chunk*> held_;
  std::uint32_t fill_ = 0;
  std::uint64_t cached_ = 0;   // steps of the open episode
  std::uint64_t covered_ = 0;  // of them, up to the last item's end
  std::size_t next_nbytes_;    // of the next chunk
};

}  // namespace reverie

#endif  // REVERIE_WRITER_H_
