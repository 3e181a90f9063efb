#include "storage/region.h"

#include <cstdint>
#include <new>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace reverie {

#if defined(__unix__) || defined(__APPLE__)

std::size_t SystemPage() {
  static const long nbytes = sysconf(_SC_PAGESIZE);
  return nbytes > 0 ? static_cast<std::size_t>(nbytes) : 4096;
}

void* AllocateRegion(std::size_t nbytes, bool huge) {
  // More than asked for, so that an aligned part is in it; the rest goes back at once.
  const std::size_t whole = nbytes + kHugePage;
  if (whole < nbytes) throw std::bad_alloc();
  void* const mapped =
      mmap(nullptr, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  auto* const first = static_cast<char*>(mapped);
  const std::size_t before = (kHugePage - reinterpret_cast<std::uintptr_t>(first)) % kHugePage;
  if (before != 0) munmap(first, before);
  if (before != kHugePage) munmap(first + before + nbytes, kHugePage - before);
#if defined(MADV_HUGEPAGE)
  if (huge) static_cast<void>(madvise(first + before, nbytes, MADV_HUGEPAGE));
#else
  static_cast<void>(huge);
#endif
  return first + before;
}

void FreeRegion(void* memory, std::size_t nbytes) noexcept { munmap(memory, nbytes); }

void ReturnPages(void* memory, std::size_t nbytes) noexcept {
#if defined(__linux__)
  static_cast<void>(madvise(memory, nbytes, MADV_DONTNEED));
#elif defined(MADV_FREE)
  static_cast<void>(madvise(memory, nbytes, MADV_FREE));
#else
  static_cast<void>(memory), static_cast<void>(nbytes);
#endif
}

void MakeHuge(void* memory, std::size_t nbytes) noexcept {
#if defined(MADV_HUGEPAGE)
  constexpr int kCollapse = 25;  // MADV_COLLAPSE, of Linux 6.1; unknown to old headers
  static_cast<void>(madvise(memory, nbytes, MADV_HUGEPAGE));
  static_cast<void>(madvise(memory, nbytes, kCollapse));
#else
  static_cast<void>(memory), static_cast<void>(nbytes);
#endif
}

void FaultAhead(void* memory, std::size_t nbytes) noexcept {
#if defined(__linux__)
  constexpr int kPopulateWrite = 23;  // MADV_POPULATE_WRITE, of Linux 5.14; unknown to old headers
  static_cast<void>(madvise(memory, nbytes, kPopulateWrite));
#else
  static_cast<void>(memory), static_cast<void>(nbytes);
#endif
}

#else

std::size_t SystemPage() { return 4096; }
void* AllocateRegion(std::size_t nbytes, bool) {
  return ::operator new(nbytes, std::align_val_t{kHugePage});
}
void FreeRegion(void* memory, std::size_t) noexcept {
  ::operator delete(memory, std::align_val_t{kHugePage});
}
void ReturnPages(void*, std::size_t) noexcept {}
void MakeHuge(void*, std::size_t) noexcept {}
void FaultAhead(void*, std::size_t) noexcept {}

#endif

}  // namespace reverie
