#ifndef REVERIE_STORAGE_LARGE_VECTOR_H_
#define REVERIE_STORAGE_LARGE_VECTOR_H_

#include <cstddef>
#include <new>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace reverie {

// Memory for arrays of millions of values that are filled under the store's mutex. Where
// they are large the system is asked for large pages, of which one is one page fault
// instead of 512; where it has none, nothing is lost. resize() writes no zeros.
template <typename T>
struct LargeAllocator {
  using value_type = T;
  static constexpr std::size_t kPage = std::size_t{1} << 21;
  static constexpr std::size_t kLarge = 2 * kPage;

  LargeAllocator() = default;
  template <typename U>
  LargeAllocator(const LargeAllocator<U>&) {}

  T* allocate(std::size_t n) {
    if (n > static_cast<std::size_t>(-1) / sizeof(T)) throw std::bad_alloc();
    const std::size_t nbytes = n * sizeof(T);
    if (nbytes < kLarge) return static_cast<T*>(::operator new(nbytes));
    void* const memory = ::operator new(nbytes, std::align_val_t{kPage});
#if defined(__linux__)
    static_cast<void>(madvise(memory, nbytes, MADV_HUGEPAGE));  // a wish, no more
#endif
    return static_cast<T*>(memory);
  }
  void deallocate(T* memory, std::size_t n) noexcept {
    if (n * sizeof(T) < kLarge) {
      ::operator delete(memory);
    } else {
      ::operator delete(memory, std::align_val_t{kPage});
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
};

template <typename T>
using LargeVector = std::vector<T, LargeAllocator<T>>;

}  // namespace reverie

#endif  // REVERIE_STORAGE_LARGE_VECTOR_H_
