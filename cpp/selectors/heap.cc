#include "selectors/heap.h"

#include <algorithm>

namespace reverie {

void Heap::Reserve(std::uint32_t slot) {
  touched_.Make(slot);
  of_slot_.Make(slot);
  heap_.Make(size_);
}

void Heap::Insert(std::uint32_t slot, double priority) {
  touched_.Edit(slot) = clock_++;
  Rise(size_++, {sign_ * priority, touched_[slot], slot});
}

void Heap::Update(std::uint32_t slot, double priority) {
  const std::size_t place = of_slot_[slot];
  touched_.Edit(slot) = clock_++;
  const Entry entry{sign_ * priority, touched_[slot], slot};
  // Where it belongs is decided by its neighbours alone: its old value is gone.
  if (place > 0 && entry.Before(At((place - 1) / 2))) {
    Rise(place, entry);
  } else {
    Sink(place, entry);
  }
}

void Heap::Delete(std::uint32_t slot) {
  const std::size_t place = of_slot_[slot];
  const Entry last = At(--size_);
  if (place == size_) return;
  if (place > 0 && last.Before(At((place - 1) / 2))) {
    Rise(place, last);
  } else {
    Sink(place, last);
  }
}

void Heap::Rise(std::size_t place, const Entry& entry) {
  while (place > 0) {
    const std::size_t parent = (place - 1) / 2;
    const Entry above = At(parent);
    if (!entry.Before(above)) break;
    Put(place, above);
    place = parent;
  }
  Put(place, entry);
}

void Heap::Sink(std::size_t place, const Entry& entry) {
  for (;;) {
    std::size_t child = 2 * place + 1;
    if (child >= size_) break;
    Entry below = At(child);
    if (child + 1 < size_) {
      const Entry other = At(child + 1);
      if (other.Before(below)) {
        below = other;
        ++child;
      }
    }
    if (!below.Before(entry)) break;
    Put(place, below);
    place = child;
  }
  Put(place, entry);
}

void Heap::Select(Rng*, std::size_t n, std::uint32_t* slots, double* probabilities) const {
  std::fill_n(slots, n, heap_[0]);
  std::fill_n(probabilities, n, 1.0);
}

}  // namespace reverie
