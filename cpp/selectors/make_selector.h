#ifndef REVERIE_SELECTORS_MAKE_SELECTOR_H_
#define REVERIE_SELECTORS_MAKE_SELECTOR_H_

#include <memory>

#include "items/item_order.h"
#include "items/item_store.h"
#include "selectors/selector.h"

namespace reverie {

// Null for a kind that is none of SelectorKind's. `order`, `priorities` and `pool` must
// outlive the selector.
std::unique_ptr<Selector> MakeSelector(const SelectorConfig& config, const ItemOrder* order,
                                       const LazyColumn<double>* priorities, PagePool* pool);

}  // namespace reverie

#endif  // REVERIE_SELECTORS_MAKE_SELECTOR_H_
