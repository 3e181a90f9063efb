#include <algorithm>

#include "selectors/heap.h"
#include "selectors/make_selector.h"
#include "selectors/ordered.h"
#include "selectors/prioritized.h"
#include "selectors_scene.h"

namespace reverie_test {
namespace {

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
  Pages pages;
  const ItemOrder order(&pages.pool, 0);
  const LazyColumn<double> priorities(&pages.pool);
  for (const int kind : {-1, 7}) {
    CHECK(MakeSelector({static_cast<SelectorKind>(kind), 1.0}, &order, &priorities, &pages.pool) ==
          nullptr);
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
          CHECK_EQ(other->MinProbability(), both.selector->MinProbability());
          CHECK_EQ(other->LargestPriority(), both.selector->LargestPriority());
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
enum class Fault {
  kNone,
  kForgetsUpdates,
  kForgetsDeletes,
  kTies,
  kWeightless,
  kProbability,
  kLeast,
  kLargest
};

class Broken final : public Selector {
 public:
  Broken(std::unique_ptr<Selector> sound, Fault fault) : sound_(std::move(sound)), fault_(fault) {}
  void Reserve(std::uint32_t slot) override {
    sound_->Reserve(slot);
    priorities_.resize(std::max<std::size_t>(priorities_.size(), slot + 1));
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
  double MinProbability() const override {
    return sound_->MinProbability() * (fault_ == Fault::kLeast ? 1 + 1e-12 : 1);
  }
  double LargestPriority() const override {
    if (fault_ != Fault::kLargest) return sound_->LargestPriority();
    return largest_ = std::max(largest_, sound_->LargestPriority());  // one that never falls
  }

 private:
  std::unique_ptr<Selector> sound_;
  const Fault fault_;
  std::vector<double> priorities_;
  mutable double largest_ = 0;
};

TEST(TheCheckSeesABrokenSelector) {
  const auto failures_of = [](SelectorKind kind, Fault fault) {
    return Fails([=] {
      Modelled both({kind, 1.0});
      both.selector = std::make_unique<Broken>(std::move(both.selector), fault);
      // No slot comes back, as a broken selector may still hold it.
      Rng rng(1);
      for (std::uint32_t slot = 0; slot < 500; ++slot) {
        both.Insert(slot, slot % 50 == 0 ? 9 : rng.Below(3));
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
    CHECK(failures_of(kind, Fault::kLeast));
  }
  CHECK(failures_of(SelectorKind::kPrioritized, Fault::kLargest));
  CHECK(failures_of(SelectorKind::kPrioritized, Fault::kWeightless));
  CHECK(failures_of(SelectorKind::kMinHeap, Fault::kTies));
  CHECK(failures_of(SelectorKind::kMaxHeap, Fault::kTies));
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
