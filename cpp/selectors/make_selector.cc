#include "selectors/make_selector.h"

#include "selectors/heap.h"
#include "selectors/ordered.h"
#include "selectors/prioritized.h"

namespace reverie {

std::unique_ptr<Selector> MakeSelector(const SelectorConfig& config, const ItemOrder* order,
                                       const LazyColumn<double>* priorities, PagePool* pool) {
  switch (config.kind) {
    case SelectorKind::kUniform:
    case SelectorKind::kReservoir:
    case SelectorKind::kFifo:
    case SelectorKind::kLifo:
      return MakeOrderedSelector(config.kind, order);
    case SelectorKind::kPrioritized:
      return std::make_unique<Prioritized>(config.exponent, order, priorities, pool);
    case SelectorKind::kMinHeap:
      return std::make_unique<Heap>(/*lowest=*/true, priorities, pool);
    case SelectorKind::kMaxHeap:
      return std::make_unique<Heap>(/*lowest=*/false, priorities, pool);
  }
  return nullptr;
}

}  // namespace reverie
