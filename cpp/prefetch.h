#ifndef REVERIE_PREFETCH_H_
#define REVERIE_PREFETCH_H_

#if defined(_MSC_VER) && (defined(_M_X64) || defined(_M_IX86))
#include <intrin.h>
#endif

namespace reverie {

// Asks for the cache line at `address`, to be read soon. Never faults.
inline void Prefetch(const void* address) {
#if defined(__GNUC__) || defined(__clang__)
  __builtin_prefetch(address, 0, 3);
#elif defined(_MSC_VER) && (defined(_M_X64) || defined(_M_IX86))
  _mm_prefetch(static_cast<const char*>(address), _MM_HINT_T0);
#else
  (void)address;
#endif
}

}  // namespace reverie

#endif  // REVERIE_PREFETCH_H_
