#ifndef REVERIE_SELECTORS_ORDERED_H_
#define REVERIE_SELECTORS_ORDERED_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "items/item_order.h"
#include "selectors/selector.h"

namespace reverie {

// The selectors that need to know nothing but the order of insertion: uniform, FIFO
// and LIFO. They are views of the table's ItemOrder, hence free: no memory, no work
// on insert or delete. Null for any other kind. `order` must outlive the selector.
std::unique_ptr<Selector> MakeOrderedSelector(SelectorKind kind, const ItemOrder* order);

// Chooses as the uniform selector does; see Selector::Select().
void SelectUniformly(const ItemOrder& order, Rng* rng, std::size_t n, std::uint32_t* slots,
                     double* probabilities);

// The same among the `newest` items, or all where there are no more. O(newest) where items have
// left other than in their order.
void SelectNewest(const ItemOrder& order, std::uint32_t newest, Rng* rng, std::size_t n,
                  std::uint32_t* slots, double* probabilities);

}  // namespace reverie

#endif  // REVERIE_SELECTORS_ORDERED_H_
