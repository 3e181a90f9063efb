#ifndef REVERIE_STORAGE_REGION_H_
#define REVERIE_STORAGE_REGION_H_

#include <cstddef>

namespace reverie {

constexpr std::size_t kHugePage = std::size_t{1} << 21;

// The smallest piece of memory that the system takes back.
std::size_t SystemPage();

// Address space of the system's: memory that costs nothing until it is touched. Where
// `huge`, the system is asked for large pages, of which one is one page fault and one
// entry of the TLB instead of 512; where it has none, nothing is lost.
//
// Allocate: aligned for large pages; throws std::bad_alloc. The other functions are
// wishes: where the system has no such call they do nothing.
void* AllocateRegion(std::size_t nbytes, bool huge);
void FreeRegion(void* memory, std::size_t nbytes) noexcept;
// The bytes are nobody's and will be zero, or as they were, when next touched.
void ReturnPages(void* memory, std::size_t nbytes) noexcept;
// Makes large pages of what is there, as AllocateRegion() might have.
void MakeHuge(void* memory, std::size_t nbytes) noexcept;
// Touches the pages without changing them. Any thread, whoever writes there meanwhile.
void FaultAhead(void* memory, std::size_t nbytes) noexcept;

}  // namespace reverie

#endif  // REVERIE_STORAGE_REGION_H_
