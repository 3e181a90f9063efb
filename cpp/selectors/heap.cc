#include "selectors/heap.h"

#include <algorithm>

namespace reverie {

void Heap::Reserve(std::uint32_t num_slots) {
  if (num_slots <= places_.size()) return;
  if (heap_.capacity() < num_slots) {
    heap_.reserve(std::max<std::size_t>(num_slots, 2 * heap_.capacity()));
  }
  if (places_.capacity() < num_slots) {
    places_.reserve(std::max<std::size_t>(num_slots, 2 * places_.capacity()));
  }
  places_.resize(num_slots);
}

void Heap::Insert(std::uint32_t slot, double priority) {
  const Entry entry{sign_ * priority, clock_++, slot};
  heap_.push_back(entry);
  Rise(heap_.size() - 1, entry);
}

void Heap::Update(std::uint32_t slot, double priority) {
  const std::size_t place = places_[slot];
  const Entry entry{sign_ * priority, clock_++, slot};
  if (entry.Before(heap_[place])) {
    Rise(place, entry);
  } else {
    Sink(place, entry);
  }
}

void Heap::Delete(std::uint32_t slot) {
  const std::size_t place = places_[slot];
  const Entry last = heap_.back();
  heap_.pop_back();
  if (place == heap_.size()) return;
  if (last.Before(heap_[place])) {
    Rise(place, last);
  } else {
    Sink(place, last);
  }
}

void Heap::Rise(std::size_t place, const Entry& entry) {
  while (place > 0) {
    const std::size_t parent = (place - 1) / 2;
    if (!entry.Before(heap_[parent])) break;
    Put(place, heap_[parent]);
    place = parent;
  }
  Put(place, entry);
}

void Heap::Sink(std::size_t place, const Entry& entry) {
  for (;;) {
    std::size_t child = 2 * place + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && heap_[child + 1].Before(heap_[child])) ++child;
    if (!heap_[child].Before(entry)) break;
    Put(place, heap_[child]);
    place = child;
  }
  Put(place, entry);
}

void Heap::Select(Rng*, std::size_t n, std::uint32_t* slots, double* probabilities) const {
  std::fill_n(slots, n, heap_.front().slot);
  std::fill_n(probabilities, n, 1.0);
}

std::uint64_t Heap::Touched(std::uint32_t slot) const { return heap_[places_[slot]].touched; }

}  // namespace reverie
