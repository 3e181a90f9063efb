#ifndef REVERIE_STORAGE_ARENA_H_
#define REVERIE_STORAGE_ARENA_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

namespace reverie {

// Where a store's memory comes from: records, and what stands in pages (items, their
// order, the selectors' trees). Nobody else takes memory for them.
//
//   region   | block | block | free | block | never touched yet ...          |
//            base                           top          warm               end
//
// Blocks are cut from regions of address space by a two-level segregated fit (Masmano
// et al., TLSF, 2004): a free block is found, split and joined with its free neighbours
// in O(1), and each costs 8 bytes. A region that is used up is followed by one as large
// as all before it. The first ones have small pages, so that a small store costs little,
// until twice as much is in use; the others have huge ones, see region.h. Whole pages that are free
// go back to the system once they are more than a sixteenth of what is in use, and a quarter of a
// megabyte.
//
// Thread-safe: a mutex of its own, the last one in the order of locks. No page is touched
// while it is held but those of the blocks' own marks.
class Arena {
 public:
  static constexpr std::size_t kAlignment = 16;  // of every block

  Arena() = default;
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Throws std::bad_alloc with nothing changed.
  void* Allocate(std::size_t nbytes);
  void Free(void* block) noexcept;
  // Cuts the block to so many bytes, where it stands.
  void Shrink(void* block, std::size_t nbytes) noexcept;

  // Whether the pages that come next had better be touched before they are needed, at most
  // 12 % of what is in use; or the first, small ones had better be huge, as more is in use
  // than they were meant for.
  bool WantsAhead() const;
  // Sees to it, from any thread: to be called where nobody waits.
  void FaultAhead();

  // Called before each Allocate(), where a test has set it; may throw std::bad_alloc.
  static void (*before_allocating)();

  std::size_t used_nbytes() const;  // of all blocks, their marks included
  std::size_t held_nbytes() const;  // used, free and ahead: what may be resident

 private:
  struct Block;
  struct Region {
    char* base;
    std::size_t size;
    char* top;             // what is above has never been used, or was given back
    char* warm;            // what is above has never been touched; at least `top`
    std::size_t grain;     // what is given back to the system are multiples of this
    bool huge;             // it has been asked to have huge pages
    std::size_t returned;  // bytes of free blocks that the system has back
  };
  static constexpr std::size_t kSteps = 16;  // sizes of blocks within a power of two
  static constexpr std::size_t kPowers = 48;

  Block* Find(std::size_t size);
  Block* FromTop(std::size_t size);
  void Insert(Block* block) noexcept;
  void Take(Block* block) noexcept;
  Block* Release(Block* block) noexcept;
  void GiveBack(Block* block) noexcept;
  void Return(Block* block, Region* region) noexcept;
  void ReturnTop(Region* region) noexcept;
  void ReturnAll() noexcept;
  std::size_t Held() const;
  std::size_t Allowed() const;
  Region* RegionOf(const void* block);
  const Region* Ahead() const;
  const Region* Small() const;

  mutable std::mutex mutex_;
  std::vector<Region> regions_;
  std::size_t used_ = 0;
  std::size_t peak_ = 0;      // of used_ since all free blocks were looked at
  std::uint64_t powers_ = 0;  // which of them have free blocks
  std::array<std::uint32_t, kPowers> steps_{};
  std::array<std::array<Block*, kSteps>, kPowers> free_{};
};

// So that small objects come from one, too; it lives as long as any of them.
template <typename T>
struct ArenaAllocator {
  using value_type = T;

  explicit ArenaAllocator(std::shared_ptr<Arena> of) : arena(std::move(of)) {}
  template <typename U>
  ArenaAllocator(const ArenaAllocator<U>& other) : arena(other.arena) {}

  T* allocate(std::size_t n) { return static_cast<T*>(arena->Allocate(n * sizeof(T))); }
  void deallocate(T* block, std::size_t) noexcept { arena->Free(block); }

  friend bool operator==(const ArenaAllocator& a, const ArenaAllocator& b) {
    return a.arena == b.arena;
  }
  friend bool operator!=(const ArenaAllocator& a, const ArenaAllocator& b) { return !(a == b); }

  std::shared_ptr<Arena> arena;
};

}  // namespace reverie

#endif  // REVERIE_STORAGE_ARENA_H_
