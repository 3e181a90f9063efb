#ifndef REVERIE_TIDY_H_
#define REVERIE_TIDY_H_

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "coverage.h"
#include "packing.h"
#include "storage/large_vector.h"
#include "table.h"

namespace reverie {

class Store;

// Gives what items hold of sparsely used chunks a new home, so that a few items of the long
// past do not keep all that was written around them.
//
//   before   [ 3: .#........ ]  [ 5: ......##.. ]  [ 8: #......... ]
//   after    [ 9: # ## # ]                            and 3, 5 and 8 are free
//
// Nobody is stopped. Items are looked at a few at a time under the store's mutex, twice:
// first to learn which records are held; then, when these have been copied without the
// mutex, to name the copies. That is sound because nobody can come to refer to a chunk
// that no writer and no waiting item has joined: what is learnt of it can only shrink. A
// window that reaches into such a chunk is copied whole, so all that refers to the chunk
// goes. Gathers under way, and snapshots, go on reading the old records. In a store whose
// records may change, none does from the copies until they are named; and where items have
// steps in common, of which some would stay behind, nothing is moved at all.
//
// For one thread at a time. Throws std::bad_alloc, with nothing lost.
class Tidy {
 public:
  Tidy(Store* store, std::vector<std::shared_ptr<Table>> tables)
      : store_(store), tables_(std::move(tables)) {}

  // Looks, and moves what is worth it. O(items) + O(bytes moved).
  void Run();

 private:
  struct Crossing {  // a window that reaches beyond its first chunk
    Chunk* chunk;
    std::uint32_t offset;
    std::uint32_t length;
  };

  struct Seen {  // a chunk that had not been joined when it began, and its `held` then
    Chunk* chunk;
    std::uint32_t held;
  };

  void Look();
  void Choose();
  bool Move();  // some of the chosen ones; false: there were none left
  static bool Touches(const Chunk* chunk, std::uint32_t offset, std::uint32_t length);
  Chunk* Moved(const Chunk& chunk, std::uint32_t offset, std::uint32_t* to) const;
  template <typename Visitor>
  void EachTable(const Visitor& visit);

  Store* const store_;
  const std::vector<std::shared_ptr<Table>> tables_;
  std::uint64_t num_items_ = 0;
  std::uint64_t removals_ = 0;  // before it began
  std::uint64_t last_id_ = 0;   // later chunks are none of its business
  std::unique_ptr<Coverage> coverage_;
  LargeVector<Seen> seen_;
  LargeVector<Crossing> crossings_;
  LargeVector<Chunk*> chosen_;  // the fullest first, to be taken from the end
  std::uint64_t at_once_ = 0;   // bytes
  bool in_vain_ = true;
  std::unique_ptr<Packing> packing_;
  std::unordered_map<std::uint64_t, Chunk*> homes_;  // by the packed chunk's id
};

}  // namespace reverie

#endif  // REVERIE_TIDY_H_
