#include "aligned_memory.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace reverie_py {
namespace {

// From here on huge pages, as NumPy has them for its own arrays.
constexpr std::size_t kHuge = std::size_t{1} << 22;

// What malloc gave, which is at most kAlignment and at least one byte before; the byte before
// says how far.
std::uint8_t* RawOf(void* memory) {
  auto* const bytes = static_cast<std::uint8_t*>(memory);
  return bytes - bytes[-1];
}

void* Aligned(void* raw) {
  if (raw == nullptr) return nullptr;
  const std::size_t beyond = reinterpret_cast<std::uintptr_t>(raw) % kAlignment;
  auto* const bytes = static_cast<std::uint8_t*>(raw) + (kAlignment - beyond);
  bytes[-1] = static_cast<std::uint8_t>(kAlignment - beyond);
  return bytes;
}

void* RawMalloc(std::size_t nbytes) {
  return nbytes > SIZE_MAX - kAlignment ? nullptr : std::malloc(nbytes + kAlignment);
}

}  // namespace

void* AlignedMalloc(void* /*ctx*/, std::size_t nbytes) {
  void* const raw = RawMalloc(nbytes);
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  if (raw != nullptr && nbytes >= kHuge) {
    constexpr std::uintptr_t kPage = 4096;
    const std::uintptr_t begin = reinterpret_cast<std::uintptr_t>(raw) + kPage - 1;
    // A hint; what it answers changes nothing.
    static_cast<void>(
        madvise(reinterpret_cast<void*>(begin / kPage * kPage), nbytes - kPage, MADV_HUGEPAGE));
  }
#endif
  return Aligned(raw);
}

void* AlignedCalloc(void* ctx, std::size_t count, std::size_t size) {
  if (size != 0 && count > SIZE_MAX / size) return nullptr;
  void* const memory = AlignedMalloc(ctx, count * size);
  if (memory != nullptr) std::memset(memory, 0, count * size);
  return memory;
}

void* AlignedRealloc(void* ctx, void* memory, std::size_t nbytes) {
  if (memory == nullptr) return AlignedMalloc(ctx, nbytes);
  if (nbytes > SIZE_MAX - kAlignment) return nullptr;
  std::uint8_t* const before = RawOf(memory);
  const std::size_t offset = static_cast<std::uint8_t*>(memory) - before;
  auto* const raw = static_cast<std::uint8_t*>(std::realloc(before, nbytes + kAlignment));
  if (raw == nullptr) return nullptr;
  // Malloc may have moved it by less than a cache line.
  const std::size_t wanted = kAlignment - reinterpret_cast<std::uintptr_t>(raw) % kAlignment;
  if (wanted != offset) std::memmove(raw + wanted, raw + offset, nbytes);
  return Aligned(raw);
}

void AlignedFree(void* /*ctx*/, void* memory, std::size_t /*nbytes*/) {
  if (memory != nullptr) std::free(RawOf(memory));
}

}  // namespace reverie_py
