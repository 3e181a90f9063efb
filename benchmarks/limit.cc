// The floor under every sampler: plain loops that pick records at random and
// copy their columns out, with nothing else around them. One file, no library,
// so that it can be read in a minute and trusted as a yardstick. The records may lie on
// pages of 2 MiB: then finding the page costs next to nothing.
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

namespace {

constexpr std::uint64_t kAhead = 8;  // records that are asked for before they are copied

inline std::uint64_t Draw(std::uint64_t* state, std::uint64_t count) {
  *state = *state * 6364136223846793005ull + 1442695040888963407ull;
  return ((*state >> 33) * count) >> 31;
}

inline void Prefetch(const std::uint8_t* record, std::uint64_t nbytes) {
  for (std::uint64_t byte = 0; byte < nbytes; byte += 64) __builtin_prefetch(record + byte);
}

inline void CopyColumn(std::uint8_t* to, const std::uint8_t* from, std::uint64_t nbytes) {
  switch (nbytes) {
    case 1:
      *to = *from;
      break;
    case 4:
      std::memcpy(to, from, 4);
      break;
    case 8:
      std::memcpy(to, from, 8);
      break;
    default:
      std::memcpy(to, from, nbytes);
  }
}

}  // namespace

// Windows: `steps` records in a row.
extern "C" void limit_gather(const std::uint8_t* records, std::uint64_t num_records,
                             std::uint64_t record_nbytes, const std::uint64_t* column_nbytes,
                             std::uint64_t num_columns, std::uint64_t batch, std::uint64_t steps,
                             std::uint64_t* state, std::uint8_t** outputs) {
  std::uint64_t ring[kAhead];
  const auto draw = [&] {
    const std::uint64_t first = Draw(state, num_records - steps);
    Prefetch(records + first * record_nbytes, steps * record_nbytes);
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
        CopyColumn(to, record, nbytes);
        record += nbytes;
      }
    }
  }
}

// Transitions: a record is a state, its first column, and what led to it; an episode has one
// record more than it has steps. Out come the state of a record, and all of the next one.
extern "C" void limit_transitions(const std::uint8_t* records, std::uint64_t num_episodes,
                                  std::uint64_t episode, std::uint64_t record_nbytes,
                                  const std::uint64_t* column_nbytes, std::uint64_t num_columns,
                                  std::uint64_t batch, std::uint64_t* state,
                                  std::uint8_t** outputs) {
  std::uint64_t ring[kAhead];
  const auto draw = [&] {
    const std::uint64_t item = Draw(state, num_episodes * episode);
    const std::uint64_t first = item + item / episode;
    Prefetch(records + first * record_nbytes, 2 * record_nbytes);
    return first;
  };
  for (auto& entry : ring) entry = draw();
  for (std::uint64_t b = 0; b < batch; ++b) {
    const std::uint8_t* record = records + ring[b % kAhead] * record_nbytes;
    ring[b % kAhead] = draw();
    const std::uint64_t state_nbytes = column_nbytes[0];
    CopyColumn(outputs[0] + b * state_nbytes, record, state_nbytes);
    record += record_nbytes;
    for (std::uint64_t c = 0; c < num_columns; ++c) {
      CopyColumn(outputs[c + 1] + b * column_nbytes[c], record, column_nbytes[c]);
      record += column_nbytes[c];
    }
  }
}
