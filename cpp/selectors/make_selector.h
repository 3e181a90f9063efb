#ifndef REVERIE_SELECTORS_MAKE_SELECTOR_H_
#define REVERIE_SELECTORS_MAKE_SELECTOR_H_

#include <memory>

#include "items/item_order.h"
#include "selectors/selector.h"

namespace reverie {

// Null for a kind that is none of SelectorKind's. `order` must outlive the selector.
std::unique_ptr<Selector> MakeSelector(const SelectorConfig& config, const ItemOrder* order);

}  // namespace reverie

#endif  // REVERIE_SELECTORS_MAKE_SELECTOR_H_
