#ifndef REVERIE_BINDINGS_ALIGNED_MEMORY_H_
#define REVERIE_BINDINGS_ALIGNED_MEMORY_H_

#include <cstddef>

namespace reverie_py {

// Memory that begins at a cache line, as JAX wants it of arrays that it takes without a copy.
// In the form of NumPy's allocators, so that arrays may own it; null where there is none.
// Of the system's malloc, which keeps small pieces at hand and has no cheap aligned ones.
constexpr std::size_t kAlignment = 64;

void* AlignedMalloc(void* ctx, std::size_t nbytes);
void* AlignedCalloc(void* ctx, std::size_t count, std::size_t size);
void* AlignedRealloc(void* ctx, void* memory, std::size_t nbytes);
void AlignedFree(void* ctx, void* memory, std::size_t nbytes);

}  // namespace reverie_py

#endif  // REVERIE_BINDINGS_ALIGNED_MEMORY_H_
