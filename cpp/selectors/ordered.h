#ifndef REVERIE_SELECTORS_ORDERED_H_
#define REVERIE_SELECTORS_ORDERED_H_

#include <memory>

#include "item_order.h"
#include "selectors/selector.h"

namespace reverie {

// Selectors that need to know nothing but the order of insertion. They are views
// of the table's ItemOrder, hence free: no memory, no work on insert or delete.
enum class OrderedKind : int {
  kUniform = 0,  // each item equally likely: at most two draws an item, expected
  kFifo = 1,     // the oldest, with probability 1
  kLifo = 2,     // the newest, with probability 1
};

// Null for a kind that is none of the above. `order` must outlive the selector.
std::unique_ptr<Selector> MakeOrderedSelector(OrderedKind kind, const ItemOrder* order);

}  // namespace reverie

#endif  // REVERIE_SELECTORS_ORDERED_H_
