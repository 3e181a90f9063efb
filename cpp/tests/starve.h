#ifndef REVERIE_TESTS_STARVE_H_
#define REVERIE_TESTS_STARVE_H_

// Running out of memory at will, of the heap and of every arena. Replaces operator new, so
// one file of a program may include this.

#include <cstdlib>
#include <functional>
#include <new>

#include "storage/arena.h"

// Allocations fail, on this thread alone, once `allocations_left` has run out:
// then as many of them as `failing` says. Negative: never.
namespace {
thread_local long allocations_left = -1;
thread_local long failing = 0;

void CountAllocation() {
  if (allocations_left == 0) {
    if (--failing <= 0) allocations_left = -1;
    throw std::bad_alloc();
  }
  if (allocations_left > 0) --allocations_left;
}

[[maybe_unused]] const bool arenas_are_counted = [] {
  reverie::Arena::before_allocating = &CountAllocation;
  return true;
}();

void* Allocate(std::size_t nbytes) {
  CountAllocation();
  void* memory = std::malloc(nbytes != 0 ? nbytes : 1);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
}  // namespace

void* operator new(std::size_t nbytes) { return Allocate(nbytes); }
void* operator new[](std::size_t nbytes) { return Allocate(nbytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace reverie_test {

// Runs `action` with the k-th allocation failing, and the `burst` - 1 after it;
// true if it failed.
inline bool Starved(long k, long burst, const std::function<void()>& action) {
  allocations_left = k;
  failing = burst;
  bool failed = false;
  try {
    action();
  } catch (const std::bad_alloc&) {
    failed = true;
  }
  allocations_left = -1;
  return failed;
}

}  // namespace reverie_test

#endif  // REVERIE_TESTS_STARVE_H_
