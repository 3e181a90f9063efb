#ifndef REVERIE_SNAPSHOT_H_
#define REVERIE_SNAPSHOT_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "packing.h"
#include "table.h"

namespace reverie {

class Store;

// A store at one point in time, all its tables together. Nothing is copied but the
// addresses of pages: records never change, and a page of items is copied by who changes
// it next. Only where records may be updated (Store::Allow) each has the values of some moment
// from then until it is copied. What is appended or evicted later does not show in it, nor do items
// that wait for their limiter. A store restored from it draws the very samples that this one goes
// on to draw.
//
// What is in it becomes arrays when they are first asked for, in whichever thread that
// is, without the store's mutex. Records that no item holds are left out.
class Snapshot {
 public:
  // The chunks, by id, that is, by age.
  struct Chunks {
    LargeVector<std::uint64_t> id;
    LargeVector<std::uint64_t> next;    // id; 0: none that is in this snapshot
    LargeVector<std::uint32_t> count;   // records
    LargeVector<std::uint64_t> nbytes;  // of those
    LargeVector<std::uint8_t> sealed;
    LargeVector<std::uint32_t> layout;  // row of `layouts`
  };
  struct Ends {
    LargeVector<std::uint64_t> chunk;
    LargeVector<std::uint32_t> step;
    LargeVector<std::uint8_t> how;
  };
  Chunks chunks;
  Ends ends;                                 // by chunk and step
  std::vector<const RecordLayout*> layouts;  // of the chunks; null: one cell of any size
  std::vector<TableState> tables;

  explicit Snapshot(std::shared_ptr<Store> store) : store_(std::move(store)) {}
  ~Snapshot();
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;

  // What only the store's mutex keeps still: O(pages), not O(items).
  void Take(ChunkStore* store, const std::vector<std::shared_ptr<Table>>& all_tables);
  // Makes arrays of it, once; after Take(), without the mutex. Thread-safe. Interrupted, it
  // has none yet.
  Status Arrange();
  // Of the tables alone, whose items then name the chunks as they are in the store.
  void ArrangeTables();

  std::size_t num_chunks() const { return packing_->chunks().size(); }
  std::uint32_t count(std::size_t row) const { return packing_->chunks()[row].count; }
  std::size_t record_nbytes(std::size_t row) const {
    return packing_->chunks()[row].layout->record_nbytes();
  }
  // The bytes of a chunk that stays whole, with what keeps it; null: it does not, or its
  // records may change.
  std::shared_ptr<const Chunk> whole(std::size_t row) const;
  // The bytes of any chunk, for chunks.nbytes[row]; every record of it is whole.
  void Copy(std::size_t row, std::uint8_t* to) const;

 private:
  TableState StateOf(const TableView& view) const;
  void Cover();

  const std::shared_ptr<Store> store_;
  std::uint64_t epoch_ = 0;
  std::vector<TableView> views_;
  PagedView<Chunk*> slots_;
  std::uint32_t num_slots_ = 0;
  std::unordered_map<std::uint32_t, Packing::Open> open_;  // by slot
  std::mutex arranging_;
  bool arranged_ = false;  // guarded by it
  std::unique_ptr<Coverage> coverage_;
  std::unique_ptr<Packing> packing_;
};

}  // namespace reverie

#endif  // REVERIE_SNAPSHOT_H_
