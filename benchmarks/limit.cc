// The floor under every sampler: a plain loop that picks records at random and
// copies their columns out, with nothing else around it. One file, no library,
// so that it can be read in a minute and trusted as a yardstick. Its records may lie on
// pages of 2 MiB: then finding the page costs it next to nothing.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#if __has_include(<sys/mman.h>)
#include <sys/mman.h>
#endif

// Zeros at a multiple of 2 MiB, on pages of that size where the system gives such; null
// where there is no memory. They are there until the process ends.
extern "C" void* limit_records(std::uint64_t nbytes) {
  constexpr std::uint64_t kPage = 2 << 20;
  const std::uint64_t size = (nbytes + kPage - 1) / kPage * kPage + kPage;
#ifdef MAP_ANONYMOUS
  void* const raw = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) return nullptr;
#else
  void* const raw = std::calloc(size, 1);
  if (raw == nullptr) return nullptr;
#endif
  const auto address = reinterpret_cast<std::uintptr_t>(raw);
  void* const aligned = reinterpret_cast<void*>((address + kPage - 1) / kPage * kPage);
#ifdef MADV_HUGEPAGE
  madvise(aligned, size - kPage, MADV_HUGEPAGE);  // advice: a refusal changes nothing
#endif
  return aligned;
}

extern "C" void limit_gather(const std::uint8_t* records, std::uint64_t num_records,
                             std::uint64_t record_nbytes, const std::uint64_t* column_nbytes,
                             std::uint64_t num_columns, std::uint64_t batch, std::uint64_t steps,
                             std::uint64_t* state, std::uint8_t** outputs) {
  constexpr std::uint64_t kAhead = 8;
  std::uint64_t ring[kAhead];
  const auto draw = [&] {
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    const std::uint64_t first = ((*state >> 33) * (num_records - steps)) >> 31;
    const std::uint8_t* record = records + first * record_nbytes;
    for (std::uint64_t byte = 0; byte < steps * record_nbytes; byte += 64) {
      __builtin_prefetch(record + byte);
    }
    return first;
  };
  for (auto& entry : ring) entry = draw();
  for (std::uint64_t b = 0; b < batch; ++b) {
    const std::uint8_t* record = records + ring[b % kAhead] * record_nbytes;
    ring[b % kAhead] = draw();
    for (std::uint64_t t = 0; t < steps; ++t) {
      for (std::uint64_t c = 0; c < num_columns; ++c) {
        const std::uint64_t nbytes = column_nbytes[c];
        std::uint8_t* to = outputs[c] + (b * steps + t) * nbytes;
        switch (nbytes) {
          case 1:
            *to = *record;
            break;
          case 4:
            std::memcpy(to, record, 4);
            break;
          case 8:
            std::memcpy(to, record, 8);
            break;
          default:
            std::memcpy(to, record, nbytes);
        }
        record += nbytes;
      }
    }
  }
}
