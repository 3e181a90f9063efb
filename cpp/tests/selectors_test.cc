#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <new>

#include "check.h"
#include "selectors/heap.h"
#include "selectors/make_selector.h"
#include "selectors/ordered.h"
#include "selectors/prioritized.h"
#include "starve.h"

// What starve.h does for ordinary allocations, for aligned ones, too.
namespace {
// Keeps the address to be freed in front of what it returns.
void* AllocateAligned(std::size_t nbytes, std::size_t alignment) {
  auto* const memory = static_cast<char*>(Allocate(nbytes + alignment + sizeof(void*)));
  const auto first = reinterpret_cast<std::uintptr_t>(memory) + sizeof(void*);
  auto* const aligned = memory + sizeof(void*) + (alignment - first % alignment) % alignment;
  reinterpret_cast<void**>(aligned)[-1] = memory;
  return aligned;
}

void FreeAligned(void* memory) {
  if (memory != nullptr) std::free(static_cast<void**>(memory)[-1]);
}
}  // namespace

void* operator new(std::size_t nbytes, std::align_val_t alignment) {
  return AllocateAligned(nbytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory, std::align_val_t) noexcept { FreeAligned(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { FreeAligned(memory); }

namespace reverie_test {
namespace {

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
long double Weight(double priority, double exponent) {
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
  ItemOrder order;
  std::unique_ptr<Selector> selector;
  std::vector<Item> model;  // in order of insertion
  std::map<std::uint32_t, std::uint32_t> places;
  std::uint64_t clock = 0;

  explicit Modelled(const SelectorConfig& c) : config(c), selector(MakeSelector(c, &order)) {}

  bool Has(std::uint32_t slot) const { return places.count(slot) != 0; }
  Item& At(std::uint32_t slot) {
    return *std::find_if(model.begin(), model.end(),
                         [slot](const Item& item) { return item.slot == slot; });
  }

  void Insert(std::uint32_t slot, double priority) {
    order.Reserve();
    selector->Reserve(slot + 1);
    allocations_left = 0;  // from here on nothing may allocate
    const std::uint32_t place = order.PushBack(slot);
    selector->Insert(slot, priority);
    allocations_left = -1;
    places[slot] = place;
    model.push_back({slot, priority, clock++});
  }
  void Update(std::uint32_t slot, double priority) {
    selector->Update(slot, priority);
    At(slot).priority = priority;
    At(slot).touched = clock++;
  }
  void Delete(std::uint32_t slot) {
    selector->Delete(slot);
    order.Erase(places[slot],
                [this](std::uint32_t moved, std::uint32_t place) { places[moved] = place; });
    places.erase(slot);
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
    if (model.empty()) return;
    std::uint32_t slots[kDraws];
    double probabilities[kDraws];
    selector->Select(rng, kDraws, slots, probabilities);
    const bool prioritized = config.kind == SelectorKind::kPrioritized;
    long double total = 0;
    if (prioritized) {
      for (const Item& item : model) total += Weight(item.priority, config.exponent);
    }
    for (std::size_t i = 0; i < kDraws; ++i) {
      REQUIRE(Has(slots[i]));
      double wanted = 1.0;
      if (total > 0) {
        const long double weight = Weight(At(slots[i]).priority, config.exponent);
        CHECK(weight > 0);
        wanted = static_cast<double>(weight / total);
      } else if (prioritized || config.kind == SelectorKind::kUniform) {
        wanted /= static_cast<double>(model.size());
      } else {
        CHECK_EQ(slots[i], Only());
      }
      CHECK(std::abs(probabilities[i] - wanted) <= 1e-14 * wanted);
    }
  }

  // One made of the present items alone.
  std::unique_ptr<Selector> Rebuilt(std::uint32_t reserve) const {
    auto rebuilt = MakeSelector(config, &order);
    rebuilt->Reserve(reserve);
    std::vector<Item> items = model;
    std::sort(items.begin(), items.end(), [this](const Item& a, const Item& b) {
      return selector->Touched(a.slot) < selector->Touched(b.slot);
    });
    for (const Item& item : items) rebuilt->Insert(item.slot, item.priority);
    return rebuilt;
  }
};

double SomePriority(Rng* rng, bool extreme) {
  static const double kExtreme[] = {0,    5e-324, 1e-310, 1e-200,    1e-12,
                                    1e17, 1e160,  1e298,  1.79e308,  kInfinity,
                                    1.0,  2.0,    3.0,    1.0 / 3.0, 0};
  if (extreme) return kExtreme[rng->Below(15)];
  return rng->Below(3) == 0 ? rng->Below(3)
                            : std::ldexp(static_cast<double>(rng->Next() >> 11), -53);
}

void RunRandom(Modelled* both, std::uint32_t num_slots, bool extreme, std::uint64_t seed,
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

TEST(EachSelectorIsWhatAPlainListWouldBe) {
  for (const SelectorConfig& config : kConfigs) {
    for (const bool extreme : {false, true}) {
      for (const std::uint32_t num_slots : {1u, 9u, 70u, 5000u}) {
        Modelled both(config);
        RunRandom(&both, num_slots, extreme, num_slots, 3000);
      }
    }
  }
}

TEST(AnUnknownKindIsNoSelector) {
  const ItemOrder order;
  for (const int kind : {-1, 6}) {
    CHECK(MakeSelector({static_cast<SelectorKind>(kind), 1.0}, &order) == nullptr);
  }
}

// However a selector came to its items, it chooses as one that was just given them.
TEST(ChoicesDependOnThePresentAlone) {
  for (const SelectorConfig& config : kConfigs) {
    for (const bool extreme : {false, true}) {
      Modelled both(config);
      RunRandom(&both, 600, extreme, 1, 3500);
      while (both.model.size() > 40) both.Delete(both.model[17].slot);
      std::vector<std::unique_ptr<Selector>> others;
      others.push_back(both.Rebuilt(600));
      others.push_back(both.Rebuilt(40000));
      Rng operations(3);
      for (std::uint64_t round = 0; round < 200; ++round) {
        std::uint32_t slots[2][kDraws];
        double probabilities[2][kDraws];
        Rng rng(round);
        both.selector->Select(&rng, kDraws, slots[0], probabilities[0]);
        const std::uint32_t slot = both.model[operations.Below(40)].slot;
        const double priority = SomePriority(&operations, extreme);
        both.Update(slot, priority);
        for (const auto& other : others) {
          Rng again(round);
          other->Select(&again, kDraws, slots[1], probabilities[1]);
          CHECK(std::equal(slots[0], slots[0] + kDraws, slots[1]));
          CHECK(std::equal(probabilities[0], probabilities[0] + kDraws, probabilities[1]));
          CHECK(again.state() == rng.state());
          other->Update(slot, priority);
        }
      }
    }
  }
}

TEST(HeapsPreferTheItemThatWasTouchedLongestAgo) {
  for (const SelectorKind kind : {SelectorKind::kMinHeap, SelectorKind::kMaxHeap}) {
    Modelled both({kind, 1.0});
    for (std::uint32_t slot = 0; slot < 5; ++slot) both.Insert(4 - slot, 1.0);
    for (const std::uint32_t slot : {4u, 2u, 3u}) both.Update(slot, 1.0);  // by no change
    std::vector<std::uint32_t> found;
    while (!both.model.empty()) {
      std::uint32_t slot;
      double probability;
      both.selector->Select(nullptr, 1, &slot, &probability);
      found.push_back(slot);
      both.Delete(slot);
    }
    CHECK_EQ(found, (std::vector<std::uint32_t>{1, 0, 4, 2, 3}));
  }
}

// Selectors with a deliberate fault each, about a sound one.
enum class Fault { kNone, kForgetsUpdates, kForgetsDeletes, kTies, kWeightless, kProbability };

class Broken final : public Selector {
 public:
  Broken(std::unique_ptr<Selector> sound, Fault fault) : sound_(std::move(sound)), fault_(fault) {}
  void Reserve(std::uint32_t num_slots) override {
    sound_->Reserve(num_slots);
    priorities_.resize(num_slots);
  }
  void Insert(std::uint32_t slot, double priority) override {
    sound_->Insert(slot, fault_ == Fault::kWeightless ? priority + 1 : priority);
    priorities_[slot] = priority;
  }
  void Update(std::uint32_t slot, double priority) override {
    if (fault_ == Fault::kForgetsUpdates) return;
    if (fault_ == Fault::kTies && priorities_[slot] == priority) return;
    priorities_[slot] = priority;
    sound_->Update(slot, priority);
  }
  void Delete(std::uint32_t slot) override {
    if (fault_ != Fault::kForgetsDeletes || slot % 4 != 0) sound_->Delete(slot);
  }
  void Select(Rng* rng, std::size_t n, std::uint32_t* slots, double* probabilities) const override {
    sound_->Select(rng, n, slots, probabilities);
    if (fault_ == Fault::kProbability) probabilities[n - 1] *= 1 + 1e-12;
  }

 private:
  std::unique_ptr<Selector> sound_;
  const Fault fault_;
  std::vector<double> priorities_;
};

TEST(TheCheckSeesABrokenSelector) {
  const auto failures_of = [](SelectorKind kind, Fault fault) {
    return Fails([=] {
      Modelled both({kind, 1.0});
      both.selector = std::make_unique<Broken>(std::move(both.selector), fault);
      // No slot comes back, as a broken selector may still hold it.
      Rng rng(1);
      for (std::uint32_t slot = 0; slot < 500; ++slot) {
        both.Insert(slot, rng.Below(3));
        if (slot < 20) continue;
        both.Update(both.model[rng.Below(20)].slot, rng.Below(3));
        both.Delete(both.model[rng.Below(20)].slot);
        both.Check(&rng);
      }
    });
  };
  for (const SelectorKind kind :
       {SelectorKind::kPrioritized, SelectorKind::kMinHeap, SelectorKind::kMaxHeap}) {
    CHECK_EQ(failures_of(kind, Fault::kNone), 0);
    CHECK(failures_of(kind, Fault::kForgetsUpdates));
    CHECK(failures_of(kind, Fault::kForgetsDeletes));
    CHECK(failures_of(kind, Fault::kProbability));
  }
  CHECK(failures_of(SelectorKind::kPrioritized, Fault::kWeightless));
  CHECK(failures_of(SelectorKind::kMinHeap, Fault::kTies));
  CHECK(failures_of(SelectorKind::kMaxHeap, Fault::kTies));
}

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
  const ItemOrder order;
  Prioritized selector(1.0, &order);
  selector.Reserve(3000);
  Rng rng(5);
  for (int i = 0; i < 300000; ++i) {
    const std::uint32_t slot = rng.Below(3000);
    selector.Update(slot, std::ldexp(1.0, static_cast<int>(rng.Below(600)) - 300) / 3);
  }
  for (std::uint32_t slot = 0; slot < 3000; ++slot) selector.Update(slot, slot == 77 ? 0.1 : 0);
  CHECK_EQ(selector.total_weight(), 0.1);
}

TEST(ReserveChangesNothingWhereMemoryRunsOut) {
  for (const SelectorConfig& config : kConfigs) {
    int failed = 0;
    for (long k = 0;; ++k) {
      Modelled both(config);
      for (std::uint32_t slot = 0; slot < 8; ++slot) both.Insert(slot, slot % 4 + 1);
      const auto twin = both.Rebuilt(8);
      bool starved = false;
      allocations_left = k;
      try {
        both.selector->Reserve(100000);
      } catch (const std::bad_alloc&) {
        starved = true;
      }
      allocations_left = -1;
      failed += starved;
      for (std::uint64_t seed = 0; seed < 20; ++seed) {
        std::uint32_t slots[2][kDraws];
        double probabilities[2][kDraws];
        Rng rng(seed);
        both.selector->Select(&rng, kDraws, slots[0], probabilities[0]);
        rng = Rng(seed);
        twin->Select(&rng, kDraws, slots[1], probabilities[1]);
        CHECK(std::equal(slots[0], slots[0] + kDraws, slots[1]));
      }
      RunRandom(&both, 300, false, 1, 300);
      if (!starved) break;
    }
    const bool allocates = config.kind >= SelectorKind::kPrioritized;
    CHECK_EQ(failed > 0, allocates);
  }
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
