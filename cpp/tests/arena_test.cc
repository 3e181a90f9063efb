#include "storage/arena.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <new>

#include "check.h"

namespace reverie_test {
namespace {

constexpr std::size_t kIdle = std::size_t{1} << 19;  // that may stay with an arena
constexpr std::size_t kMegabyte = std::size_t{1} << 20;
// Of three regions of huge pages, after five of small ones, as 48 MiB take.
constexpr std::size_t kLessThanPages = 8 * kMegabyte;

// An arena, and the blocks that it has given.
struct Modelled {
  struct Block {
    std::size_t nbytes;
    std::uint64_t mark;  // of which its bytes are made
  };
  Arena arena;
  std::map<std::uintptr_t, Block> blocks;  // by address
  std::size_t asked = 0;                   // bytes of all blocks
  std::size_t most_used = 0;
  std::uint64_t next_mark = 1;

  static std::uint8_t* At(std::uintptr_t address) {
    return reinterpret_cast<std::uint8_t*>(address);
  }
  // Every byte of a small block, and of a large one both ends and some between.
  template <typename Do>
  static void ForBytes(const Block& block, Do&& at) {
    const std::size_t step = block.nbytes <= 512 ? 1 : 509;
    for (std::size_t i = 0; i < block.nbytes; i += step) at(i, Byte(block.mark, i));
    for (std::size_t i = block.nbytes - std::min<std::size_t>(32, block.nbytes); i < block.nbytes;
         ++i) {
      at(i, Byte(block.mark, i));
    }
  }
  static std::uint8_t Byte(std::uint64_t mark, std::size_t i) {
    return static_cast<std::uint8_t>(mark * 7 + i * 13 + (i >> 8));
  }

  void Allocate(std::size_t nbytes) {
    const auto address = reinterpret_cast<std::uintptr_t>(arena.Allocate(nbytes));
    CHECK_EQ(address % Arena::kAlignment, 0u);
    const auto after = blocks.lower_bound(address);
    if (after != blocks.end()) CHECK(address + nbytes <= after->first);
    if (after != blocks.begin()) {
      CHECK(std::prev(after)->first + std::prev(after)->second.nbytes <= address);
    }
    const Block& block = blocks[address] = {nbytes, next_mark++};
    ForBytes(block, [&](std::size_t i, std::uint8_t byte) { At(address)[i] = byte; });
    asked += nbytes;
    CheckTotals();
  }
  void CheckBytes(std::uintptr_t address) const {
    bool kept = true;
    ForBytes(blocks.at(address),
             [&](std::size_t i, std::uint8_t byte) { kept = kept && At(address)[i] == byte; });
    CHECK(kept);
  }
  void Free(std::uintptr_t address) {
    CheckBytes(address);
    asked -= blocks[address].nbytes;
    blocks.erase(address);
    arena.Free(At(address));
    CheckTotals();
  }
  void Shrink(std::uintptr_t address, std::size_t nbytes) {
    CheckBytes(address);
    asked -= blocks[address].nbytes - nbytes;
    blocks[address].nbytes = nbytes;
    arena.Shrink(At(address), nbytes);
    ForBytes(blocks[address], [&](std::size_t i, std::uint8_t byte) { At(address)[i] = byte; });
    CheckTotals();
  }
  std::uintptr_t Any(Rng* rng) const {
    const auto after = blocks.lower_bound(
        blocks.begin()->first + rng->Next() % (blocks.rbegin()->first + 1 - blocks.begin()->first));
    return after->first;
  }
  void CheckTotals() {
    const std::size_t used = arena.used_nbytes();
    most_used = std::max(most_used, used);
    CHECK(used >= asked);
    // A block costs 8 bytes, and is rounded to 16, to 32 at least, or to a sixteenth.
    CHECK(used <= asked + asked / 8 + 40 * blocks.size());
    CHECK(arena.held_nbytes() >= used);
  }
  void CheckAllAndFree(Rng* rng) {
    for (const auto& block : blocks) CheckBytes(block.first);
    while (!blocks.empty()) Free(Any(rng));
    CHECK_EQ(arena.used_nbytes(), 0u);
  }
};

std::size_t SomeSize(Rng* rng, std::uint32_t largest) {
  const std::uint32_t power = rng->Below(largest);
  return (std::size_t{1} << power) + rng->Below(1u << power) - rng->Below(2);
}

void RunRandom(Modelled* both, std::uint64_t seed, std::uint32_t largest, int operations) {
  Rng rng(seed);
  for (int i = 0; i < operations; ++i) {
    const std::uint32_t dice = rng.Below(100);
    if (both->blocks.empty() || dice < (i / 1000 % 2 == 0 ? 60u : 35u)) {
      both->Allocate(SomeSize(&rng, largest));
    } else if (dice < 70) {
      const std::uintptr_t address = both->Any(&rng);
      const std::size_t nbytes = both->blocks[address].nbytes;
      both->Shrink(address, nbytes - rng.Next() % (nbytes + 1));
    } else {
      both->Free(both->Any(&rng));
    }
  }
}

TEST(BlocksAreApartAndKeepTheirBytes) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    for (const std::uint32_t largest : {6u, 13u, 21u}) {
      Modelled both;
      RunRandom(&both, seed, largest, largest == 21 ? 3000 : 8000);
      Rng rng(seed);
      both.CheckAllAndFree(&rng);
      // All that is left is what could stay idle beside the most that was ever in use.
      CHECK(both.arena.held_nbytes() <= kIdle + both.most_used / 16 + kLessThanPages);
      RunRandom(&both, seed + 1, largest, 1000);  // and it works as before
      both.CheckAllAndFree(&rng);
    }
  }
}

TEST(NothingIsLostByEmptyBlocks) {
  Modelled both;
  for (int i = 0; i < 100; ++i) both.Allocate(0);
  for (int i = 0; i < 100; ++i) both.Allocate(static_cast<std::size_t>(i));
  Rng rng(1);
  both.CheckAllAndFree(&rng);
}

TEST(WhatIsFreedIsUsedAgain) {
  Arena arena;
  std::vector<void*> blocks;
  for (int i = 0; i < 10000; ++i) blocks.push_back(arena.Allocate(1000));
  const std::size_t held = arena.held_nbytes();
  const std::size_t used = arena.used_nbytes();
  CHECK(held < used + used / 10);
  Rng rng(1);
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 5000; ++i) {
      std::swap(blocks[rng.Below(static_cast<std::uint32_t>(blocks.size()))], blocks.back());
      arena.Free(blocks.back());
      blocks.pop_back();
    }
    while (blocks.size() < 10000) blocks.push_back(arena.Allocate(1000));
    CHECK_EQ(arena.used_nbytes(), used);
    CHECK(arena.held_nbytes() <= held + kIdle);
  }
  std::sort(blocks.begin(), blocks.end());
  std::vector<void*> others(blocks.begin(), blocks.begin() + 5000);
  blocks.erase(blocks.begin(), blocks.begin() + 5000);
  for (void* block : others) arena.Free(block);  // neighbours, which become one again
  for (int i = 0; i < 50; ++i) blocks.push_back(arena.Allocate(80000));
  CHECK(arena.held_nbytes() <= held + kMegabyte);
  for (void* block : blocks) arena.Free(block);
  CHECK_EQ(arena.used_nbytes(), 0u);
}

// A queue of blocks, as a store has that removes first in, first out.
TEST(AQueueOfBlocksHoldsLittleMoreThanItUses) {
  for (const std::size_t nbytes : {std::size_t{100}, std::size_t{5000}, std::size_t{300000}}) {
    Arena arena;
    std::vector<void*> queue;
    const std::size_t length = 32 * kMegabyte / nbytes;
    for (std::size_t i = 0; i < 4 * length; ++i) {
      queue.push_back(arena.Allocate(nbytes));
      if (i >= length) arena.Free(queue[i - length]);
    }
    CHECK(arena.used_nbytes() >= 32 * kMegabyte - nbytes);
    CHECK(arena.held_nbytes() <= arena.used_nbytes() + arena.used_nbytes() / 8 + kIdle);
    for (std::size_t i = 3 * length; i < 4 * length; ++i) arena.Free(queue[i]);
    CHECK_EQ(arena.used_nbytes(), 0u);
  }
}

TEST(MemoryThatIsFreeGoesBack) {
  for (const std::size_t nbytes : {std::size_t{400}, std::size_t{70000}, 3 * kMegabyte}) {
    for (const bool newest_first : {true, false}) {
      Arena arena;
      std::vector<void*> blocks;
      for (std::size_t i = 0; i < 48 * kMegabyte / nbytes; ++i) {
        blocks.push_back(arena.Allocate(nbytes));
        std::memset(blocks.back(), 1, nbytes);
      }
      const std::size_t used = arena.used_nbytes();
      const std::size_t held = arena.held_nbytes();
      CHECK(held >= used && used >= 45 * kMegabyte);
      if (newest_first) std::reverse(blocks.begin(), blocks.end());
      for (std::size_t i = 0; i < blocks.size(); ++i) {
        arena.Free(blocks[i]);
        // Of what is free at most a sixteenth of what was in use has stayed, but for what
        // is less than a whole page: of each region at its begin, and about the last block.
        const std::size_t now = arena.used_nbytes();
        CHECK(arena.held_nbytes() <= now + kIdle + used / 16 + kLessThanPages);
      }
      CHECK_EQ(arena.used_nbytes(), 0u);
      CHECK(arena.held_nbytes() <= kIdle + used / 16 + kLessThanPages);
      // And it can be had again.
      for (void*& block : blocks) std::memset(block = arena.Allocate(nbytes), 2, nbytes);
      CHECK_EQ(arena.used_nbytes(), used);
      for (void* block : blocks) arena.Free(block);
      CHECK_EQ(arena.used_nbytes(), 0u);
    }
  }
}

TEST(WhatIsCutOffABlockIsFree) {
  Arena arena;
  std::vector<void*> blocks;
  for (int i = 0; i < 40; ++i) blocks.push_back(arena.Allocate(kMegabyte));
  const std::size_t held = arena.held_nbytes();
  for (void* block : blocks) {
    std::memset(block, 3, 1000);
    arena.Shrink(block, 1000);
  }
  CHECK(arena.used_nbytes() <= 40 * 1016);
  CHECK(arena.held_nbytes() < held);
  arena.Shrink(blocks[0], 1000);  // to what it is
  arena.Shrink(blocks[0], 0);
  for (int i = 0; i < 40; ++i) blocks.push_back(arena.Allocate(kMegabyte / 2));
  CHECK(arena.held_nbytes() <= held);  // in between the others
  for (std::size_t i = 1; i < 40; ++i) CHECK_EQ(static_cast<std::uint8_t*>(blocks[i])[999], 3u);
  for (void* block : blocks) arena.Free(block);
  CHECK_EQ(arena.used_nbytes(), 0u);
}

TEST(PagesAheadAreFewAndCountAsHeld) {
  Arena arena;
  std::vector<void*> blocks;
  arena.FaultAhead();
  CHECK(!arena.WantsAhead());
  int ahead = 0, huge = 0;  // calls
  for (int i = 0; i < 64; ++i) {
    blocks.push_back(arena.Allocate(2 * kMegabyte));
    while (arena.WantsAhead()) {
      const std::size_t before = arena.held_nbytes();
      arena.FaultAhead();
      CHECK(arena.held_nbytes() >= before);
      ++(arena.held_nbytes() > before ? ahead : huge);
      REQUIRE(huge <= 3);  // each of the first regions once: of two, two and four megabytes
    }
    const std::size_t used = arena.used_nbytes();
    CHECK(arena.held_nbytes() <= used + used / 8 + kIdle + 2 * kMegabyte);
  }
  CHECK(ahead > 0 && huge > 0);
  for (void* block : blocks) arena.Free(block);
  CHECK_EQ(arena.used_nbytes(), 0u);
}

TEST(WhatCannotBeHadIsRefusedWithNothingChanged) {
  Arena arena;
  void* const block = arena.Allocate(100);
  const std::size_t used = arena.used_nbytes();
  const std::size_t held = arena.held_nbytes();
  for (const std::size_t nbytes :
       {~std::size_t{0}, ~std::size_t{0} - 7, ~std::size_t{0} / 2, std::size_t{1} << 60}) {
    bool refused = false;
    try {
      arena.Allocate(nbytes);
    } catch (const std::bad_alloc&) {
      refused = true;
    }
    CHECK(refused);
  }
  CHECK_EQ(arena.used_nbytes(), used);
  CHECK_EQ(arena.held_nbytes(), held);
  arena.Free(block);
  CHECK_EQ(arena.used_nbytes(), 0u);
}

TEST(TheCheckSeesBytesThatChangeAndBlocksThatOverlap) {
  const auto run = [](void (*damage)(Modelled*)) {
    return Fails([&] {
      Modelled both;
      RunRandom(&both, 5, 10, 500);
      damage(&both);
      RunRandom(&both, 6, 10, 500);
      Rng rng(7);
      both.CheckAllAndFree(&rng);
    });
  };
  CHECK_EQ(run([](Modelled*) {}), 0);
  CHECK(run([](Modelled* both) { ++*Modelled::At(both->blocks.begin()->first); }));
  for (const std::size_t more : {0, 40}) {  // as if a block were larger than it was asked to be
    const int failed = Fails([more] {
      Modelled both;
      for (int i = 0; i < 3; ++i) both.Allocate(16);
      both.Free(std::next(both.blocks.begin())->first);
      both.blocks.begin()->second.nbytes += more;
      both.Allocate(16);
    });
    CHECK_EQ(failed != 0, more != 0);
  }
  CHECK(Fails([] {  // a block that is never given back
    Modelled both;
    both.Allocate(100);
    both.blocks.clear();
    Rng rng(7);
    both.CheckAllAndFree(&rng);
  }));
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
