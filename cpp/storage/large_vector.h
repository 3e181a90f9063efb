#ifndef REVERIE_STORAGE_LARGE_VECTOR_H_
#define REVERIE_STORAGE_LARGE_VECTOR_H_

#include <cstddef>
#include <new>
#include <utility>
#include <vector>

#include "storage/region.h"

namespace reverie {

// Memory for arrays that live for the length of a save or a load. Where they are large
// they are the system's own, on large pages, so that all of it goes back when they go: an
// allocator would keep what it took for a million items. resize() writes no zeros.
template <typename T>
struct LargeAllocator {
  using value_type = T;
  static constexpr std::size_t kLarge = std::size_t{1} << 16;

  LargeAllocator() = default;
  template <typename U>
  LargeAllocator(const LargeAllocator<U>&) {}

  T* allocate(std::size_t n) {
    if (n > static_cast<std::size_t>(-1) / 2 / sizeof(T)) throw std::bad_alloc();
    if (n * sizeof(T) < kLarge) return static_cast<T*>(::operator new(n * sizeof(T)));
    return static_cast<T*>(AllocateRegion(Whole(n), true));
  }
  void deallocate(T* memory, std::size_t n) noexcept {
    if (n * sizeof(T) < kLarge) {
      ::operator delete(memory);
    } else {
      FreeRegion(memory, Whole(n));
    }
  }

  template <typename U>
  void construct(U* place) noexcept {
    ::new (static_cast<void*>(place)) U;
  }
  template <typename U, typename... Args>
  void construct(U* place, Args&&... args) {
    ::new (static_cast<void*>(place)) U(std::forward<Args>(args)...);
  }

  friend bool operator==(const LargeAllocator&, const LargeAllocator&) { return true; }
  friend bool operator!=(const LargeAllocator&, const LargeAllocator&) { return false; }

 private:
  static constexpr std::size_t Whole(std::size_t n) {
    constexpr std::size_t kUnit = std::size_t{1} << 16;  // a multiple of any system's pages
    return (n * sizeof(T) + kUnit - 1) / kUnit * kUnit;
  }
};

template <typename T>
using LargeVector = std::vector<T, LargeAllocator<T>>;

}  // namespace reverie

#endif  // REVERIE_STORAGE_LARGE_VECTOR_H_
