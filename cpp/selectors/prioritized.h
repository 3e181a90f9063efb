#ifndef REVERIE_SELECTORS_PRIORITIZED_H_
#define REVERIE_SELECTORS_PRIORITIZED_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "items/item_order.h"
#include "items/item_store.h"
#include "selectors/selector.h"

namespace reverie {

// Chooses items in proportion to their weight, priority^exponent.
//
// A priority of 0 gives weight 0, whatever the exponent (0^0 too). An item without
// weight is chosen only where no item has any: then all are equally likely, with
// probability 1 / size. So does Reverb 0.14.
//
// Weights are kept in [2^-1022, 2^991] or are 0. Smaller powers count as 2^-1022 (0
// where the power itself is 0 as a double), larger and infinite ones as 2^991, so
// that the weights of 2^32 slots have a finite sum: nothing here overflows, and no
// NaN arises. Where Reverb's sums are infinite, it reports NaN and picks wrongly.
//
// A tree of nodes of eight children, one cache line each; a leaf is a slot. What
// stands for a node in its parent is always the sum of its children anew, never an
// old sum plus a difference, so rounding errors do not add up over time, and the
// tree depends on the present weights alone: a restored table draws as its origin.
//
// Beside the sums each node above the leaves keeps the least weight and the largest priority
// below each child. Neither is ever guessed: both fall and rise with the items.
// Takes 11.7 bytes a slot, and reads the table's priorities. Insert, Update and Delete are
// O(log8 n).
class Prioritized final : public Selector {
 public:
  // `order` holds the table's items, `priorities` theirs: before each Insert() and Update(),
  // too. Both must outlive the selector.
  Prioritized(double exponent, const ItemOrder* order, const LazyColumn<double>* priorities,
              PagePool* pool);

  void Reserve(std::uint32_t slot) override;
  void Insert(std::uint32_t slot, double priority) override { Set(slot, Weight(priority)); }
  void Update(std::uint32_t slot, double priority) override { Set(slot, Weight(priority)); }
  void Delete(std::uint32_t slot) override { Set(slot, 0.0); }
  void Expect(std::uint32_t slot) const override;
  void Select(Rng* rng, std::size_t n, std::uint32_t* slots, double* probabilities) const override;
  double MinProbability() const override;
  double LargestPriority() const override;
  bool ClearSome(std::size_t n) noexcept override;

  // Of all items together.
  double total_weight() const { return levels_[height_ - 1][0].Sum(); }

 private:
  static constexpr std::size_t kFanout = 8;
  static constexpr std::size_t kMaxHeight = 11;  // 8^11 > 2^32

  struct alignas(64) Node {
    double child[kFanout];
    double Sum() const {
      return ((child[0] + child[1]) + (child[2] + child[3])) +
             ((child[4] + child[5]) + (child[6] + child[7]));
    }
  };

  // The least positive weight, 0 if there is none, and the largest priority of an item with
  // weight: of all items below a node.
  struct Bounds {
    double least = 0;
    double largest = 0;
  };
  // Of each child of a node.
  struct alignas(64) ChildBounds {
    double least[kFanout];
    double largest[kFanout];
  };

  double Weight(double priority) const;
  void Set(std::uint32_t slot, double weight);
  void SetBounds(std::size_t index, std::size_t level);
  Bounds BoundsOf(std::size_t index, std::size_t level) const;

  const double exponent_;
  const ItemOrder& order_;
  const LazyColumn<double>& priorities_;
  // levels_[0] holds the slots' weights, levels_[height_ - 1] the root alone. A node's
  // index, times eight, plus a child's place is the child's index one level below. Pages of
  // nodes below which no item ever was need not be there.
  std::vector<PagedArray<Node>> levels_;
  std::vector<PagedArray<ChildBounds>> bounds_;  // of levels_[1], [2], ...
  std::size_t height_ = 1;
};

}  // namespace reverie

#endif  // REVERIE_SELECTORS_PRIORITIZED_H_
