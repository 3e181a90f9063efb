#ifndef REVERIE_SELECTORS_SELECTOR_H_
#define REVERIE_SELECTORS_SELECTOR_H_

#include <cstddef>
#include <cstdint>

#include "rng.h"
#include "storage/paged_array.h"

namespace reverie {

enum class SelectorKind : int {
  kUniform = 0,      // each item equally likely: at most two draws an item, expected
  kFifo = 1,         // the oldest, with probability 1
  kLifo = 2,         // the newest, with probability 1
  kPrioritized = 3,  // in proportion to priority^exponent
  kMinHeap = 4,      // the one of the lowest priority, with probability 1
  kMaxHeap = 5,      // the one of the highest priority, with probability 1
  kReservoir = 6,    // of removers alone: see Table::Evict()
};

struct SelectorConfig {
  SelectorKind kind = SelectorKind::kUniform;
  double exponent = 1.0;  // of kPrioritized alone; finite, may be negative
};

// Chooses items: for sampling, and for removal from a full table.
//
// A table tells its selectors of every item that comes, goes or changes its
// priority, always under the store's mutex, so a selector needs no lock. Slots
// are unique among the items told of. Insert, Delete and Update take O(log n) at
// most; Select O(log n) for each item it chooses. Only Reserve allocates.
class Selector {
 public:
  virtual ~Selector() = default;

  // Makes room for Insert() of this slot, which then cannot fail. Throws std::bad_alloc
  // with nothing changed. Amortised O(1), O(log n) for a tree.
  virtual void Reserve(std::uint32_t slot) { static_cast<void>(slot); }

  virtual void Insert(std::uint32_t slot, double priority) = 0;
  virtual void Update(std::uint32_t slot, double priority) = 0;
  virtual void Delete(std::uint32_t slot) = 0;

  // Chooses `n` items with replacement: their slots, and the probability with
  // which each was chosen. Requires at least one item. Changes nothing but `rng`.
  virtual void Select(Rng* rng, std::size_t n, std::uint32_t* slots,
                      double* probabilities) const = 0;

  // The smallest positive probability that Select() would report of any item now; 1 where
  // no chance is involved. Requires at least one item. O(1).
  virtual double MinProbability() const { return 1.0; }

  // The largest priority of all items that have weight, of a selector that goes by weight:
  // 0 where none has any. 1 without items, and of every other selector. O(1).
  virtual double LargestPriority() const { return 1.0; }

  // Where choices depend on the order in which items were last inserted or updated: by
  // slot, a number that rises in that order, as it is now; else nothing. A copy whose
  // items are inserted in the order of their numbers chooses as this one does. O(pages).
  virtual PagedView<std::uint64_t> ShareTouched() { return {}; }

  // Asks for the memory that Update() of this slot, of an item that may be gone, will touch.
  virtual void Expect(std::uint32_t slot) const { static_cast<void>(slot); }

  // Makes room for changes of this slot while a snapshot is alive. Throws std::bad_alloc.
  virtual void Own(std::uint32_t slot) { static_cast<void>(slot); }

  // Drops memory, at most n pages of it; true: there is none left. Of no more use then.
  virtual bool ClearSome(std::size_t n) noexcept {
    static_cast<void>(n);
    return true;
  }
};

}  // namespace reverie

#endif  // REVERIE_SELECTORS_SELECTOR_H_
