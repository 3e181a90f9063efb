#ifndef REVERIE_SELECTORS_HEAP_H_
#define REVERIE_SELECTORS_HEAP_H_

#include <cstddef>
#include <cstdint>

#include "items/item_store.h"
#include "selectors/selector.h"

namespace reverie {

// Chooses the item of the lowest (or the highest) priority, with probability 1.
//
// Among equal priorities the item that was inserted or updated longest ago wins, for
// lowest and highest alike. An update counts even where the priority stays the same.
// So does Reverb 0.14, with a heap as sampler and as remover. Hence the choice
// depends on the order of past updates, which Touched() tells.
//
// Priorities must not be NaN. Takes 16 bytes a slot beside the table's priorities, which
// it reads. Select is O(1), the rest O(log2 n).
class Heap final : public Selector {
 public:
  // `priorities` has those of the table's items: before each Insert() and Update(), too.
  Heap(bool lowest, const LazyColumn<double>* priorities, PagePool* pool)
      : sign_(lowest ? 1.0 : -1.0),
        priorities_(*priorities),
        heap_(pool),
        of_slot_(pool),
        touched_(pool) {}

  void Reserve(std::uint32_t slot) override;
  void Insert(std::uint32_t slot, double priority) override;
  void Update(std::uint32_t slot, double priority) override;
  void Delete(std::uint32_t slot) override;
  void Select(Rng* rng, std::size_t n, std::uint32_t* slots, double* probabilities) const override;
  PagedView<std::uint64_t> ShareTouched() override { return touched_.Share(); }
  void Own(std::uint32_t slot) override { touched_.Own(slot); }
  bool ClearSome(std::size_t n) noexcept override {
    return heap_.ClearSome(n) && of_slot_.ClearSome(n) && touched_.ClearSome(n);
  }

 private:
  struct Entry {
    double value;  // sign_ * priority: the least is at the top
    std::uint64_t touched;
    std::uint32_t slot;
    bool Before(const Entry& other) const {
      return value != other.value ? value < other.value : touched < other.touched;
    }
  };
  Entry At(std::size_t place) const {
    const std::uint32_t slot = heap_[place];
    return {sign_ * priorities_.Get(slot), touched_[slot], slot};
  }

  // Both fill the gap at `place` with `entry`, or move others there until it fits.
  void Rise(std::size_t place, const Entry& entry);
  void Sink(std::size_t place, const Entry& entry);
  void Put(std::size_t place, const Entry& entry) {
    heap_.Edit(place) = entry.slot;
    of_slot_.Edit(entry.slot) = static_cast<std::uint32_t>(place);
  }

  const double sign_;
  const LazyColumn<double>& priorities_;
  std::uint64_t clock_ = 0;
  std::size_t size_ = 0;
  PagedArray<std::uint32_t> heap_;     // slots; children of i: 2 i + 1 and 2 i + 2
  PagedArray<std::uint32_t> of_slot_;  // places in heap_
  PagedArray<std::uint64_t> touched_;  // by slot: number of the last Insert or Update
};

}  // namespace reverie

#endif  // REVERIE_SELECTORS_HEAP_H_
