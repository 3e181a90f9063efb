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

Prioritized::Prioritized(double exponent, const ItemOrder* order, PagePool* pool)
    : exponent_(exponent), order_(*order) {
  levels_.reserve(kMaxHeight);
  for (std::size_t i = 0; i < kMaxHeight; ++i) levels_.emplace_back(pool);
  levels_[0].Make(0);
}

bool Prioritized::ClearSome(std::size_t n) noexcept {
  for (PagedArray<Node>& level : levels_) {
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
  }
  // Nothing from here on can fail.
  for (; height_ < height; ++height_) {
    levels_[height_].Edit(0).child[0] = levels_[height_ - 1][0].Sum();  // the root so far
  }
}

void Prioritized::Set(std::uint32_t slot, double weight) {
  std::size_t index = slot;
  for (std::size_t i = 0; i < height_; ++i) {
    Node& node = levels_[i].Edit(index / kFanout);
    if (node.child[index % kFanout] == weight) return;  // then so are all above
    node.child[index % kFanout] = weight;
    weight = node.Sum();
    index /= kFanout;
  }
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
    probabilities[i] = static_cast<double>(rng->Next() >> 11) * 0x1p-53 * total;
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
