#ifndef REVERIE_SELECTORS_SELECTOR_H_
#define REVERIE_SELECTORS_SELECTOR_H_

#include <cstddef>
#include <cstdint>

#include "rng.h"

namespace reverie {

// Chooses items: for sampling, and for removal from a full table.
//
// A table tells its selectors of every item that comes, goes or changes its
// priority, always under the store's mutex, so a selector needs no lock. Slots
// are unique among the items told of. Insert, Delete and Update take O(log n) at
// most; Select O(log n) for each item it chooses.
class Selector {
 public:
  virtual ~Selector() = default;

  virtual void Insert(std::uint32_t slot, double priority) = 0;
  virtual void Update(std::uint32_t slot, double priority) = 0;
  virtual void Delete(std::uint32_t slot) = 0;

  // Chooses `n` items with replacement: their slots, and the probability with
  // which each was chosen. Requires at least one item. Changes nothing but `rng`.
  virtual void Select(Rng* rng, std::size_t n, std::uint32_t* slots,
                      double* probabilities) const = 0;
};

}  // namespace reverie

#endif  // REVERIE_SELECTORS_SELECTOR_H_
