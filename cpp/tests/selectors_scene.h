#ifndef REVERIE_TESTS_SELECTORS_SCENE_H_
#define REVERIE_TESTS_SELECTORS_SCENE_H_

// A selector, and the same as a plain list. Replaces operator new, as starve.h does.

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>
#include <set>
#include <vector>

#include "check.h"
#include "items/item_order.h"
#include "pages_scene.h"
#include "selectors/make_selector.h"
#include "selectors/selector.h"
#include "starve.h"

namespace reverie_test {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::size_t kDraws = 8;  // of each check

const SelectorConfig kConfigs[] = {
    {SelectorKind::kUniform, 1.0},     {SelectorKind::kFifo, 1.0},
    {SelectorKind::kLifo, 1.0},        {SelectorKind::kPrioritized, 1.0},
    {SelectorKind::kPrioritized, 0.0}, {SelectorKind::kPrioritized, 0.6},
    {SelectorKind::kPrioritized, 2.0}, {SelectorKind::kPrioritized, -1.0},
    {SelectorKind::kMinHeap, 1.0},     {SelectorKind::kMaxHeap, 1.0},
};

// The range of Prioritized's header, in numbers of a wider range.
inline long double Weight(double priority, double exponent) {
  if (priority == 0) return 0;
  const double weight = std::pow(priority, exponent);
  if (weight == 0) return 0;
  return std::min(std::max<long double>(weight, std::ldexp(1.0L, -1022)), std::ldexp(1.0L, 991));
}

// A selector and an order of items as a table keeps them, and a plain list of what
// they hold. The selector may be a broken one.
struct Modelled {
  struct Item {
    std::uint32_t slot;
    double priority;
    std::uint64_t touched;
  };

  SelectorConfig config;
  Pages pages;
  ItemOrder order{&pages.pool, 0};
  LazyColumn<double> priorities{&pages.pool};
  std::unique_ptr<Selector> selector;
  std::vector<Item> model;  // in order of insertion
  std::set<std::uint32_t> slots;
  std::uint64_t clock = 0;

  explicit Modelled(const SelectorConfig& c)
      : config(c), selector(MakeSelector(c, &order, &priorities, &pages.pool)) {}

  bool Has(std::uint32_t slot) const { return slots.count(slot) != 0; }
  Item& At(std::uint32_t slot) {
    return *std::find_if(model.begin(), model.end(),
                         [slot](const Item& item) { return item.slot == slot; });
  }

  void Insert(std::uint32_t slot, double priority) {
    order.Reserve(slot);
    selector->Reserve(slot);
    priorities.Reserve(slot, priority, !model.empty());
    const std::size_t used = pages.arena->used_nbytes();
    allocations_left = 0;  // from here on nothing may allocate
    priorities.Set(slot, priority, !model.empty());
    order.PushBack(slot);
    selector->Insert(slot, priority);
    allocations_left = -1;
    CHECK_EQ(pages.arena->used_nbytes(), used);
    slots.insert(slot);
    model.push_back({slot, priority, clock++});
  }
  void Update(std::uint32_t slot, double priority) {
    priorities.Set(slot, priority, model.size() > 1);
    selector->Update(slot, priority);
    At(slot).priority = priority;
    At(slot).touched = clock++;
  }
  void Delete(std::uint32_t slot) {
    selector->Delete(slot);
    order.Erase(slot);
    slots.erase(slot);
    model.erase(model.begin() + (&At(slot) - model.data()));
  }

  // The one item that a deterministic selector must choose.
  std::uint32_t Only() const {
    if (config.kind == SelectorKind::kFifo) return model.front().slot;
    if (config.kind == SelectorKind::kLifo) return model.back().slot;
    const double sign = config.kind == SelectorKind::kMinHeap ? 1 : -1;
    const Item* best = &model[0];
    for (const Item& item : model) {
      const double gain = sign * best->priority - sign * item.priority;  // inf - inf: no gain
      if (gain > 0 || (item.priority == best->priority && item.touched < best->touched)) {
        best = &item;
      }
    }
    return best->slot;
  }

  void Check(Rng* rng) {
    CHECK_EQ(order.size(), model.size());
    if (model.empty()) {
      CHECK_EQ(selector->LargestPriority(), 1.0);
      return;
    }
    std::uint32_t drawn[kDraws];
    double probabilities[kDraws];
    selector->Select(rng, kDraws, drawn, probabilities);
    const bool prioritized = config.kind == SelectorKind::kPrioritized;
    long double total = 0;
    if (prioritized) {
      for (const Item& item : model) total += Weight(item.priority, config.exponent);
    }
    for (std::size_t i = 0; i < kDraws; ++i) {
      REQUIRE(Has(drawn[i]));
      double wanted = 1.0;
      if (total > 0) {
        const long double weight = Weight(At(drawn[i]).priority, config.exponent);
        CHECK(weight > 0);
        wanted = static_cast<double>(weight / total);
      } else if (prioritized || config.kind == SelectorKind::kUniform) {
        wanted /= static_cast<double>(model.size());
      } else {
        CHECK_EQ(drawn[i], Only());
      }
      CHECK(std::abs(probabilities[i] - wanted) <= 1e-14 * wanted);
    }
    CheckBounds(total);
  }

  // The least probability and the largest priority; `total` is that of the weights.
  void CheckBounds(long double total) const {
    const bool prioritized = config.kind == SelectorKind::kPrioritized;
    double wanted = 1.0;
    double largest = prioritized ? 0.0 : 1.0;
    if (prioritized && total > 0) {
      long double least = std::numeric_limits<long double>::infinity();
      for (const Item& item : model) {
        const long double weight = Weight(item.priority, config.exponent);
        if (weight == 0) continue;
        least = std::min(least, weight);
        largest = std::max(largest, item.priority);
      }
      wanted = static_cast<double>(least / total);
    } else if (prioritized || config.kind == SelectorKind::kUniform) {
      wanted /= static_cast<double>(model.size());
    }
    // Below the least normal number a quotient has fewer digits.
    const double slack = 1e-14 * wanted + std::numeric_limits<double>::denorm_min();
    CHECK(std::abs(selector->MinProbability() - wanted) <= slack);
    CHECK_EQ(selector->LargestPriority(), largest);
  }

  // One made of the present items alone.
  std::unique_ptr<Selector> Rebuilt(std::uint32_t reserve) {
    auto rebuilt = MakeSelector(config, &order, &priorities, &pages.pool);
    rebuilt->Reserve(reserve);  // of another height, where it is a tree
    std::vector<Item> items = model;
    const PagedView<std::uint64_t> touched = selector->ShareTouched();
    if (config.kind == SelectorKind::kMinHeap || config.kind == SelectorKind::kMaxHeap) {
      std::sort(items.begin(), items.end(),
                [&](const Item& a, const Item& b) { return touched[a.slot] < touched[b.slot]; });
    } else {
      CHECK(touched.Find(0) == nullptr);
    }
    for (const Item& item : items) {
      rebuilt->Reserve(item.slot);
      rebuilt->Insert(item.slot, item.priority);
    }
    return rebuilt;
  }
};

inline double SomePriority(Rng* rng, bool extreme) {
  static const double kExtreme[] = {0,    5e-324, 1e-310, 1e-200,    1e-12,
                                    1e17, 1e160,  1e298,  1.79e308,  kInfinity,
                                    1.0,  2.0,    3.0,    1.0 / 3.0, 0};
  if (extreme) return kExtreme[rng->Below(15)];
  return rng->Below(3) == 0 ? rng->Below(3)
                            : std::ldexp(static_cast<double>(rng->Next() >> 11), -53);
}

inline void RunRandom(Modelled* both, std::uint32_t num_slots, bool extreme, std::uint64_t seed,
                      int operations) {
  Rng rng(seed);
  for (int i = 0; i < operations; ++i) {
    const std::uint32_t inserts = i / 500 % 2 == 0 ? 60 : 20;  // of a hundred: grow, then shrink
    const std::uint32_t dice = rng.Below(100);
    const std::uint32_t slot = rng.Below(num_slots);
    const auto size = static_cast<std::uint32_t>(both->model.size());
    if (dice < inserts || size == 0) {
      if (!both->Has(slot)) both->Insert(slot, SomePriority(&rng, extreme));
    } else if (dice < 80) {
      both->Update(both->model[rng.Below(size)].slot, SomePriority(&rng, extreme));
    } else {
      both->Delete(both->model[rng.Below(size)].slot);
    }
    both->Check(&rng);
  }
}

}  // namespace reverie_test

#endif  // REVERIE_TESTS_SELECTORS_SCENE_H_
