#include "selectors/prioritized.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "prefetch.h"
#include "selectors/ordered.h"

namespace reverie {
namespace {

constexpr double kMinWeight = std::numeric_limits<double>::min();
constexpr double kMaxWeight = 0x1p991;

}  // namespace

Prioritized::Prioritized(double exponent, const ItemOrder* order,
                         const LazyColumn<double>* priorities, PagePool* pool)
    : exponent_(exponent), order_(*order), priorities_(*priorities) {
  levels_.reserve(kMaxHeight);
  for (std::size_t i = 0; i < kMaxHeight; ++i) levels_.emplace_back(pool);
  bounds_.reserve(kMaxHeight - 1);
  for (std::size_t i = 1; i < kMaxHeight; ++i) bounds_.emplace_back(pool);
  levels_[0].Make(0);
}

bool Prioritized::ClearSome(std::size_t n) noexcept {
  for (PagedArray<Node>& level : levels_) {
    if (!level.ClearSome(n)) return false;
  }
  for (PagedArray<ChildBounds>& level : bounds_) {
    if (!level.ClearSome(n)) return false;
  }
  return true;
}

double Prioritized::Weight(double priority) const {
  if (!(priority > 0)) return 0;
  const double weight = exponent_ == 1.0 ? priority : std::pow(priority, exponent_);
  if (!(weight > 0)) return 0;
  return std::min(std::max(weight, kMinWeight), kMaxWeight);
}

void Prioritized::Reserve(std::uint32_t slot) {
  std::size_t height = 0;
  for (std::size_t index = slot; height < height_ || index != 0; ++height) {
    index /= kFanout;
    levels_[height].Make(index);
    levels_[height].Make(0);
    if (height == 0) continue;
    bounds_[height - 1].Make(index);
    bounds_[height - 1].Make(0);
  }
  // Nothing from here on can fail.
  for (; height_ < height; ++height_) {  // above the root so far
    levels_[height_].Edit(0).child[0] = levels_[height_ - 1][0].Sum();
    const Bounds bounds = BoundsOf(0, height_ - 1);
    bounds_[height_ - 1].Edit(0).least[0] = bounds.least;
    bounds_[height_ - 1].Edit(0).largest[0] = bounds.largest;
  }
}

Prioritized::Bounds Prioritized::BoundsOf(std::size_t index, std::size_t level) const {
  double priorities[kFanout];
  const double* least = nullptr;
  const double* largest = priorities;
  if (level == 0) {
    least = levels_[0][index].child;
    priorities_.GetRun(static_cast<std::uint32_t>(index * kFanout), kFanout, priorities);
    // What a slot without an item had as its priority may still stand there.
    for (std::size_t i = 0; i < kFanout; ++i) priorities[i] = least[i] > 0 ? priorities[i] : 0;
  } else {
    const ChildBounds& node = bounds_[level - 1][index];
    least = node.least;
    largest = node.largest;
  }
  // No branches, as they could not be predicted.
  constexpr double kNone = std::numeric_limits<double>::infinity();
  Bounds bounds{kNone, 0};
  for (std::size_t i = 0; i < kFanout; ++i) {
    const double weight = least[i] > 0 ? least[i] : kNone;
    bounds.least = weight < bounds.least ? weight : bounds.least;
    bounds.largest = largest[i] > bounds.largest ? largest[i] : bounds.largest;
  }
  if (bounds.least == kNone) bounds.least = 0;
  return bounds;
}

void Prioritized::SetBounds(std::size_t index, std::size_t level) {
  for (; level + 1 < height_; ++level) {
    const Bounds bounds = BoundsOf(index, level);
    ChildBounds& node = bounds_[level].Edit(index / kFanout);
    double& least = node.least[index % kFanout];
    double& largest = node.largest[index % kFanout];
    if (least == bounds.least && largest == bounds.largest) return;  // then so are all above
    least = bounds.least;
    largest = bounds.largest;
    index /= kFanout;
  }
}

double Prioritized::MinProbability() const {
  const double total = total_weight();
  return total > 0 ? BoundsOf(0, height_ - 1).least / total : 1.0 / order_.size();
}

double Prioritized::LargestPriority() const {
  return order_.size() == 0 ? 1.0 : BoundsOf(0, height_ - 1).largest;
}

void Prioritized::Expect(std::uint32_t slot) const {
  // Above these, nodes are few.
  constexpr std::size_t kLevels = 3;
  std::size_t index = slot / kFanout;
  for (std::size_t level = 0; level < std::min(height_, kLevels); ++level, index /= kFanout) {
    Prefetch(levels_[level].Find(index));
    if (level == 0) continue;
    if (const ChildBounds* const bounds = bounds_[level - 1].Find(index)) {
      Prefetch(&bounds->least);
      Prefetch(&bounds->largest);
    }
  }
}

void Prioritized::Set(std::uint32_t slot, double weight) {
  std::size_t index = slot;
  for (std::size_t i = 0; i < height_; ++i) {
    Node& node = levels_[i].Edit(index / kFanout);
    if (node.child[index % kFanout] == weight) break;  // then so are all above
    node.child[index % kFanout] = weight;
    weight = node.Sum();
    index /= kFanout;
  }
  SetBounds(slot / kFanout, 0);  // also where the weight stays: priorities may share one
}

void Prioritized::Select(Rng* rng, std::size_t n, std::uint32_t* slots,
                         double* probabilities) const {
  const double total = total_weight();
  if (!(total > 0)) return SelectUniformly(order_, rng, n, slots, probabilities);
  // All draws go down the tree together, so that their cache misses overlap. On the
  // way, `slots` holds the node reached and `probabilities` how much weight in it is
  // still to be passed over.
  for (std::size_t i = 0; i < n; ++i) {
    slots[i] = 0;
    probabilities[i] = rng->Fraction() * total;
  }
  for (std::size_t level = height_; level-- > 0;) {
    const PagedArray<Node>& nodes = levels_[level];
    for (std::size_t i = 0; i < n; ++i) {
      const Node& node = nodes[slots[i]];
      const double rest = probabilities[i];
      // The first child up to whose end the weight exceeds `rest`; no branches, as they
      // could not be predicted. It has weight, for without it the sum does not grow.
      std::size_t taken = 0;
      double passed = 0;
      double sum = 0;
      for (const double weight : node.child) {
        sum += weight;
        const bool pass = rest >= sum;
        taken += pass;
        passed = pass ? sum : passed;
      }
      if (taken == kFanout) {  // the parent rounded up what these add up to: the last
        while (!(node.child[--taken] > 0)) {
        }
        passed = rest;
      }
      slots[i] = static_cast<std::uint32_t>(slots[i] * kFanout + taken);
      if (level > 0) {
        probabilities[i] = rest - passed;
        Prefetch(levels_[level - 1].address(slots[i]));
      } else {
        probabilities[i] = node.child[taken] / total;
      }
    }
  }
}

}  // namespace reverie
