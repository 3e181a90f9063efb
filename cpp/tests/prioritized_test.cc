#include "selectors/prioritized.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "selectors_scene.h"

namespace reverie_test {
namespace {

// An Rng whose next number is `number`.
Rng RngThatSays(std::uint64_t number) {
  const auto inverse = [](std::uint64_t odd) {
    std::uint64_t x = odd;  // right in 3 bits; each step doubles them
    for (int i = 0; i < 5; ++i) x *= 2 - odd * x;
    return x;
  };
  const std::uint64_t rotated = number * inverse(9);
  Rng rng(1);
  rng.set_state({1, ((rotated >> 7) | (rotated << 57)) * inverse(5), 2, 3});
  return rng;
}

TEST(TheFirstAndTheLastDrawFindItemsWithWeight) {
  Rng source(7);
  for (int round = 0; round < 3000; ++round) {
    Modelled both({SelectorKind::kPrioritized, 1.0});
    // Slots without weight stand before, among and behind those with some.
    const std::uint32_t num_slots = 1 + source.Below(round % 10 == 0 ? 1000 : 70);
    for (std::uint32_t slot = 0; slot < num_slots; ++slot) {
      const bool some = source.Below(3) == 0;
      both.Insert(slot, some ? SomePriority(&source, round % 3 == 0) : 0.0);
    }
    for (const std::uint64_t number : {std::uint64_t{0}, ~std::uint64_t{0}}) {
      Rng rng = RngThatSays(number);
      CHECK_EQ(Rng(rng).Next(), number);
      both.Check(&rng);
    }
  }
}

TEST(SumsThatOverflowAreStillDrawnFairly) {
  for (const double huge : {1e308, kInfinity}) {
    Modelled both({SelectorKind::kPrioritized, 2.0});
    for (std::uint32_t slot = 0; slot < 100; ++slot) {
      both.Insert(slot, slot % 10 == 0 ? huge : 1e100);  // 1e100^2 is below 2^991
    }
    std::vector<std::uint32_t> slots(10000);
    std::vector<double> probabilities(slots.size());
    Rng rng(2);
    both.selector->Select(&rng, slots.size(), slots.data(), probabilities.data());
    std::vector<std::uint64_t> counts(10);
    for (std::size_t i = 0; i < slots.size(); ++i) {
      REQUIRE(slots[i] % 10 == 0);
      ++counts[slots[i] / 10];
      CHECK_EQ(probabilities[i], 0.1);
    }
    CHECK(LooksUniform(counts));
  }
}

// Whether slots come as often as their weights say, but for chance.
bool DrawsInProportion(const Selector& selector, const std::vector<double>& weights) {
  double total = 0;
  for (const double weight : weights) total += weight;
  std::vector<std::uint32_t> slots(400000);
  std::vector<double> probabilities(slots.size());
  Rng rng(11);
  selector.Select(&rng, slots.size(), slots.data(), probabilities.data());
  std::vector<std::uint64_t> counts(weights.size());
  for (const std::uint32_t slot : slots) ++counts[slot];
  double statistic = 0;
  double degrees = -1;
  for (std::size_t slot = 0; slot < weights.size(); ++slot) {
    const double expected = static_cast<double>(slots.size()) * weights[slot] / total;
    if (expected == 0 && counts[slot] != 0) return false;
    if (expected != 0) {
      ++degrees;
      statistic += std::pow(static_cast<double>(counts[slot]) - expected, 2) / expected;
    }
  }
  const double t = 2.0 / (9.0 * degrees);
  return statistic < degrees * std::pow(1.0 - t + 4.753 * std::sqrt(t), 3);  // as LooksUniform
}

TEST(ItemsAreDrawnInProportionToTheirWeight) {
  for (const double exponent : {0.0, 0.6, 1.0, 2.0}) {
    Modelled both({SelectorKind::kPrioritized, exponent});
    std::vector<double> weights;
    for (std::uint32_t slot = 0; slot < 500; ++slot) {
      both.Insert(slot, slot % 5 + (slot % 50 == 0 ? 3 : 0));
      weights.push_back(static_cast<double>(Weight(both.model.back().priority, exponent)));
    }
    CHECK(DrawsInProportion(*both.selector, weights));
    for (std::size_t slot = 0; slot < 250; ++slot) weights[slot] *= 1.1;
    CHECK(!DrawsInProportion(*both.selector, weights));  // half of them a tenth too rare
  }
}

TEST(TotalsDoNotDrift) {
  Pages pages;
  const ItemOrder order(&pages.pool, 0);
  const LazyColumn<double> priorities(&pages.pool);
  Prioritized selector(1.0, &order, &priorities, &pages.pool);
  for (std::uint32_t slot = 0; slot < 3000; ++slot) selector.Reserve(slot);
  Rng rng(5);
  for (int i = 0; i < 300000; ++i) {
    const std::uint32_t slot = rng.Below(3000);
    selector.Update(slot, std::ldexp(1.0, static_cast<int>(rng.Below(600)) - 300) / 3);
  }
  for (std::uint32_t slot = 0; slot < 3000; ++slot) selector.Update(slot, slot == 77 ? 0.1 : 0);
  CHECK_EQ(selector.total_weight(), 0.1);
}

TEST(TheLeastChanceAndTheLargestPriorityFollowTheItems) {
  for (const std::uint32_t far : {4u, 5000u}) {  // how high the tree is
    Modelled both({SelectorKind::kPrioritized, 1.0});
    Rng rng(1);
    const auto expect = [&](double least, double largest) {
      both.Check(&rng);
      CHECK_EQ(both.selector->MinProbability(), least);
      CHECK_EQ(both.selector->LargestPriority(), largest);
    };
    CHECK_EQ(both.selector->LargestPriority(), 1.0);
    both.Insert(0, 0.0);
    expect(1.0, 0.0);
    both.Insert(1, 0.25);
    expect(1.0, 0.25);  // what has no weight is not chosen
    both.Insert(far, 0.5);
    both.Insert(far + 1, 0.25);
    expect(0.25, 0.5);
    both.Delete(far);
    expect(0.5, 0.25);
    both.Insert(far, 6.0);
    both.Update(1, 1.75);
    expect(0.03125, 6.0);
    both.Delete(far + 1);
    both.Update(far, 1.75);  // the largest, down
    expect(0.5, 1.75);
    both.Update(1, 0.0);
    both.Update(far, 0.0);
    expect(1.0 / 3, 0.0);
    both.Delete(0);
    both.Delete(1);
    both.Delete(far);
    CHECK_EQ(both.selector->LargestPriority(), 1.0);
  }
}

TEST(TheLargestPriorityIsThatAlsoWhereWeightsAreEqual) {
  for (const double exponent : {0.0, 0.6, -1.0}) {
    Modelled both({SelectorKind::kPrioritized, exponent});
    Rng rng(1);
    for (const double priority : {1.0, std::nextafter(1.0, 2.0), 3.0}) {
      both.Insert(static_cast<std::uint32_t>(both.model.size() * 70), priority);
      both.Check(&rng);
    }
    both.Update(140, 2.0);
    both.Check(&rng);
    both.Delete(140);
    CHECK_EQ(both.selector->LargestPriority(), std::nextafter(1.0, 2.0));
  }
}

TEST(AllPagesCanBeDroppedAFewAtATime) {
  Modelled both({SelectorKind::kPrioritized, 1.0});
  for (std::uint32_t slot = 0; slot < 5000; ++slot) both.Insert(slot, slot);
  const std::size_t used = both.pages.arena->used_nbytes();
  const auto other = both.Rebuilt(5000);
  CHECK(both.pages.arena->used_nbytes() > used);
  int calls = 1;
  while (!other->ClearSome(1)) ++calls;
  CHECK(calls > 5);
  CHECK_EQ(both.pages.arena->used_nbytes(), used);
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
