#ifndef REVERIE_SELECTORS_HEAP_H_
#define REVERIE_SELECTORS_HEAP_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "selectors/selector.h"

namespace reverie {

// Chooses the item of the lowest (or the highest) priority, with probability 1.
//
// Among equal priorities the item that was inserted or updated longest ago wins, for
// lowest and highest alike. An update counts even where the priority stays the same.
// So does Reverb 0.14, with a heap as sampler and as remover. Hence the choice
// depends on the order of past updates, which Touched() tells.
//
// Priorities must not be NaN. Takes 28 bytes a slot. Select is O(1), the rest
// O(log2 n).
class Heap final : public Selector {
 public:
  explicit Heap(bool lowest) : sign_(lowest ? 1.0 : -1.0) {}

  void Reserve(std::uint32_t num_slots) override;
  void Insert(std::uint32_t slot, double priority) override;
  void Update(std::uint32_t slot, double priority) override;
  void Delete(std::uint32_t slot) override;
  void Select(Rng* rng, std::size_t n, std::uint32_t* slots, double* probabilities) const override;
  std::uint64_t Touched(std::uint32_t slot) const override;

 private:
  struct Entry {
    double value;           // sign_ * priority: the least is at the top
    std::uint64_t touched;  // number of the last Insert or Update
    std::uint32_t slot;
    bool Before(const Entry& other) const {
      return value != other.value ? value < other.value : touched < other.touched;
    }
  };

  // Both fill the gap at `place` with `entry`, or move others there until it fits.
  void Rise(std::size_t place, const Entry& entry);
  void Sink(std::size_t place, const Entry& entry);
  void Put(std::size_t place, const Entry& entry) {
    heap_[place] = entry;
    places_[entry.slot] = static_cast<std::uint32_t>(place);
  }

  const double sign_;
  std::uint64_t clock_ = 0;
  std::vector<Entry> heap_;            // children of i: 2 i + 1 and 2 i + 2
  std::vector<std::uint32_t> places_;  // in heap_, by slot
};

}  // namespace reverie

#endif  // REVERIE_SELECTORS_HEAP_H_
