#include "selectors/ordered.h"

#include <algorithm>

#include "prefetch.h"

namespace reverie {
namespace {

class Ordered : public Selector {
 public:
  explicit Ordered(const ItemOrder* order) : order_(*order) {}

  void Insert(std::uint32_t, double) override {}
  void Update(std::uint32_t, double) override {}
  void Delete(std::uint32_t) override {}

 protected:
  const ItemOrder& order_;
};

class Uniform final : public Ordered {
 public:
  using Ordered::Ordered;

  void Select(Rng* rng, std::size_t n, std::uint32_t* slots, double* probabilities) const override {
    SelectUniformly(order_, rng, n, slots, probabilities);
  }
  double MinProbability() const override { return 1.0 / order_.size(); }
};

// The item at one end of the order, which never is a hole.
class End final : public Ordered {
 public:
  End(const ItemOrder* order, bool oldest) : Ordered(order), oldest_(oldest) {}

  void Select(Rng*, std::size_t n, std::uint32_t* slots, double* probabilities) const override {
    const std::uint32_t slot = order_[oldest_ ? 0 : order_.span() - 1];
    for (std::size_t i = 0; i < n; ++i) {
      slots[i] = slot;
      probabilities[i] = 1.0;
    }
  }

 private:
  const bool oldest_;
};

}  // namespace

std::unique_ptr<Selector> MakeOrderedSelector(SelectorKind kind, const ItemOrder* order) {
  if (kind == SelectorKind::kUniform || kind == SelectorKind::kReservoir) {
    return std::make_unique<Uniform>(order);
  }
  if (kind == SelectorKind::kFifo) return std::make_unique<End>(order, true);
  if (kind == SelectorKind::kLifo) return std::make_unique<End>(order, false);
  return nullptr;
}

namespace {

// Among the items from place `first` on, of which there are `items`.
void SelectFrom(const ItemOrder& order, std::uint64_t first, std::uint32_t items, Rng* rng,
                std::size_t n, std::uint32_t* slots, double* probabilities) {
  const auto span = static_cast<std::uint32_t>(order.span() - first);
  const double probability = 1.0 / items;
  if (order.implicit()) {  // no holes, and nothing to look up
    for (std::size_t i = 0; i < n; ++i) slots[i] = order[first + rng->Below(span)];
    std::fill_n(probabilities, n, probability);
    return;
  }
  // Two passes, so that the cache misses of all draws overlap.
  for (std::size_t i = 0; i < n; ++i) {
    slots[i] = rng->Below(span);
    Prefetch(order.address(first + slots[i]));
  }
  for (std::size_t i = 0; i < n; ++i) {
    std::uint32_t slot = order[first + slots[i]];
    while (slot == kNoSlot) slot = order[first + rng->Below(span)];  // a hole: draw again
    slots[i] = slot;
    probabilities[i] = probability;
  }
}

}  // namespace

void SelectUniformly(const ItemOrder& order, Rng* rng, std::size_t n, std::uint32_t* slots,
                     double* probabilities) {
  SelectFrom(order, 0, order.size(), rng, n, slots, probabilities);
}

void SelectNewest(const ItemOrder& order, std::uint32_t newest, Rng* rng, std::size_t n,
                  std::uint32_t* slots, double* probabilities) {
  const std::uint32_t items = std::min(newest, order.size());
  std::uint64_t first = order.span();
  if (order.span() == order.size()) {
    first -= items;
  } else {
    for (std::uint32_t left = items; left != 0;) left -= order[--first] != kNoSlot;
  }
  SelectFrom(order, first, items, rng, n, slots, probabilities);
}

}  // namespace reverie
