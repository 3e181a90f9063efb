#include "storage/arena.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "storage/region.h"

namespace reverie {
namespace {

constexpr std::size_t kFirstRegion = kHugePage;
constexpr std::size_t kHugeFrom = std::size_t{8} << 20;  // bytes of all regions before
// Blocks from here on have one of 16 sizes within a power of two, so that one which is
// freed suits the next of about its size.
constexpr std::size_t kRounded = std::size_t{1} << 14;
constexpr std::size_t kIdle = std::size_t{1} << 18;
constexpr std::size_t kLargestRegion = std::size_t{1} << 30;
constexpr std::size_t kFree = 1;        // the block is free
constexpr std::size_t kBeforeFree = 2;  // so is the one before it
constexpr std::size_t kReturned = 4;    // it is free, and the system has its whole pages
constexpr std::size_t kFlags = 15;
constexpr std::size_t kMark = sizeof(std::size_t);
constexpr std::size_t kSmallest = 32;
constexpr std::size_t kMost = std::size_t{1} << 46;  // more than any system has

std::size_t PowerOf(std::size_t size) {
#if defined(__GNUC__) || defined(__clang__)
  return 63 - static_cast<std::size_t>(__builtin_clzll(size));
#else
  std::size_t power = 0;
  while (size >>= 1) ++power;
  return power;
#endif
}

std::size_t LowestBit(std::uint64_t bits) {
#if defined(__GNUC__) || defined(__clang__)
  return static_cast<std::size_t>(__builtin_ctzll(bits));
#else
  std::size_t bit = 0;
  while ((bits >> bit & 1) == 0) ++bit;
  return bit;
#endif
}

char* Up(char* address, std::size_t grain) {
  const std::size_t past = reinterpret_cast<std::uintptr_t>(address) % grain;
  return past == 0 ? address : address + (grain - past);
}

// With its mark, no smaller than any block and a multiple of what blocks are aligned to.
std::size_t Exactly(std::size_t nbytes) {
  return std::max(kSmallest, (nbytes + kMark + 15) / 16 * 16);
}

std::size_t SizeFor(std::size_t nbytes) {
  if (nbytes > kMost) throw std::bad_alloc();
  const std::size_t size = Exactly(nbytes);
  if (size < kRounded) return size;
  const std::size_t step = std::size_t{1} << (PowerOf(size) - 4);
  return (size + step - 1) / step * step;
}

}  // namespace

// A block's mark is its size and flags. A free one has its neighbours in its list behind
// it, and its size once more at its end, where the block after it finds it.
struct Arena::Block {
  std::size_t mark;
  Block* next;
  Block* before;

  std::size_t size() const { return mark & ~kFlags; }
  char* begin() { return reinterpret_cast<char*>(this); }
  char* end() { return begin() + size(); }
  Block* after() { return reinterpret_cast<Block*>(end()); }
  void WriteEnd() {
    const std::size_t nbytes = size();
    std::memcpy(end() - kMark, &nbytes, kMark);
  }
  Block* free_before() {
    std::size_t nbytes;
    std::memcpy(&nbytes, begin() - kMark, kMark);
    return reinterpret_cast<Block*>(begin() - nbytes);
  }
  // The whole pages in it that hold none of its marks.
  char* first_page(std::size_t grain) { return Up(begin() + sizeof(Block), grain); }
  std::size_t whole_pages_nbytes(std::size_t grain) {
    char* const last = end() - kMark;
    char* const limit = last - reinterpret_cast<std::uintptr_t>(last) % grain;
    char* const first = first_page(grain);
    return limit > first ? static_cast<std::size_t>(limit - first) : 0;
  }
};

void (*Arena::before_allocating)() = nullptr;

Arena::~Arena() {
  for (const Region& region : regions_) FreeRegion(region.base, region.size);
}

Arena::Region* Arena::RegionOf(const void* block) {
  const auto after = std::upper_bound(
      regions_.begin(), regions_.end(), static_cast<const char*>(block),
      [](const char* wanted, const Region& region) { return wanted < region.base; });
  return &*(after - 1);
}

void Arena::Insert(Block* block) noexcept {
  const std::size_t power = PowerOf(block->size());
  const std::size_t step = block->size() >> (power - 4) & (kSteps - 1);
  Block*& first = free_[power][step];
  block->next = first;
  block->before = nullptr;
  if (first != nullptr) first->before = block;
  first = block;
  powers_ |= std::uint64_t{1} << power;
  steps_[power] |= 1u << step;
  block->WriteEnd();
}

void Arena::Take(Block* block) noexcept {
  if ((block->mark & kReturned) != 0) {
    Region* const region = RegionOf(block);
    region->returned -= block->whole_pages_nbytes(region->grain);
    block->mark &= ~kReturned;
  }
  if (block->next != nullptr) block->next->before = block->before;
  if (block->before != nullptr) {
    block->before->next = block->next;
    return;
  }
  const std::size_t power = PowerOf(block->size());
  const std::size_t step = block->size() >> (power - 4) & (kSteps - 1);
  free_[power][step] = block->next;
  if (block->next != nullptr) return;
  steps_[power] &= ~(1u << step);
  if (steps_[power] == 0) powers_ &= ~(std::uint64_t{1} << power);
}

// A free block of at least this size, if there is one: from the first list in which every
// block is large enough.
Arena::Block* Arena::Find(std::size_t size) {
  const std::size_t own = PowerOf(size);
  Block* const like = free_[own][size >> (own - 4) & (kSteps - 1)];
  if (like != nullptr && like->size() >= size) return like;
  const std::size_t rounded = size + (std::size_t{1} << (own - 4)) - 1;
  const std::size_t power = PowerOf(rounded);
  const std::size_t step = rounded >> (power - 4) & (kSteps - 1);
  if (power >= kPowers) return nullptr;
  const std::uint32_t here = steps_[power] & ~0u << step;
  if (here != 0) return free_[power][LowestBit(here)];
  const std::uint64_t larger = powers_ & ~std::uint64_t{0} << (power + 1);
  if (larger == 0) return nullptr;
  const std::size_t first = LowestBit(larger);
  return free_[first][LowestBit(steps_[first])];
}

Arena::Block* Arena::FromTop(std::size_t size) {
  const auto fits = [size](const Region& region) {
    return static_cast<std::size_t>(region.base + region.size - region.top) >= size;
  };
  auto region = std::find_if(regions_.begin(), regions_.end(), fits);
  if (region == regions_.end()) {
    std::size_t total = 0;
    for (const Region& other : regions_) total += other.size;
    std::size_t wanted = std::max({kFirstRegion, std::min(total, kLargestRegion), size + 16});
    const bool huge = total >= kHugeFrom;
    const std::size_t grain = huge ? kHugePage : SystemPage();
    wanted = (wanted + kHugePage - 1) / kHugePage * kHugePage;
    regions_.reserve(regions_.size() + 1);
    auto* const base = static_cast<char*>(AllocateRegion(wanted, huge));
    // So that what follows a block's mark is aligned.
    char* const top = base + kAlignment - kMark;
    const Region added{base, wanted, top, top, grain, huge, 0};
    region = regions_.insert(
        std::upper_bound(regions_.begin(), regions_.end(), added,
                         [](const Region& a, const Region& b) { return a.base < b.base; }),
        added);
  }
  auto* const block = reinterpret_cast<Block*>(region->top);
  region->top += size;
  region->warm = std::max(region->warm, region->top);
  block->mark = size;
  return block;
}

// The block, which is in no list, is free from now on. Returns where it is then, joined
// with its neighbours: also where that is the region's top.
Arena::Block* Arena::Release(Block* block) noexcept {
  Region* const region = RegionOf(block);
  if ((block->mark & kBeforeFree) != 0) {
    Block* const before = block->free_before();
    Take(before);
    before->mark = (before->size() + block->size()) | (before->mark & kBeforeFree);
    block = before;
  }
  if (block->end() == region->top) {
    region->top = block->begin();
    return block;
  }
  Block* const after = block->after();
  if ((after->mark & kFree) != 0) {
    Take(after);
    block->mark = (block->size() + after->size()) | (block->mark & kBeforeFree);
  }
  block->mark |= kFree;
  block->after()->mark |= kBeforeFree;  // what is before the top is never free
  Insert(block);
  return block;
}

void* Arena::Allocate(std::size_t nbytes) {
  if (before_allocating != nullptr) before_allocating();
  const std::size_t size = SizeFor(nbytes);
  const std::lock_guard<std::mutex> lock(mutex_);
  Block* block = Find(size);
  if (block != nullptr) {
    const bool returned = (block->mark & kReturned) != 0;
    Take(block);
    block->mark &= ~kFree;
    block->after()->mark &= ~kBeforeFree;
    const std::size_t rest = block->size() - size;
    if (rest >= kSmallest) {
      block->mark = size | (block->mark & kBeforeFree);
      Block* const other = block->after();
      other->mark = rest | kFree | (returned ? kReturned : 0);
      other->after()->mark |= kBeforeFree;
      if (returned) RegionOf(other)->returned += other->whole_pages_nbytes(RegionOf(other)->grain);
      Insert(other);
    }
  } else {
    block = FromTop(size);
  }
  used_ += block->size();
  peak_ = std::max(peak_, used_);
  return block->begin() + kMark;
}

void Arena::Free(void* memory) noexcept {
  auto* const block = reinterpret_cast<Block*>(static_cast<char*>(memory) - kMark);
  const std::lock_guard<std::mutex> lock(mutex_);
  used_ -= block->size();
  GiveBack(Release(block));
}

void Arena::Shrink(void* memory, std::size_t nbytes) noexcept {
  auto* const block = reinterpret_cast<Block*>(static_cast<char*>(memory) - kMark);
  const std::lock_guard<std::mutex> lock(mutex_);
  const std::size_t size = Exactly(nbytes);
  if (size + kSmallest > block->size()) return;
  const std::size_t rest = block->size() - size;
  block->mark = size | (block->mark & kBeforeFree);
  Block* const other = block->after();
  other->mark = rest;
  used_ -= rest;
  GiveBack(Release(other));
}

// After a block was freed: gives its whole pages back to the system if more are idle than
// allowed; those of all others as well where they have become too many meanwhile.
void Arena::GiveBack(Block* block) noexcept {
  if (Held() <= used_ + Allowed()) return;
  Region* const region = RegionOf(block);
  if (block->begin() != region->top) {
    Return(block, region);
  } else {
    ReturnTop(region);
  }
  if (used_ < peak_ - peak_ / 8 && Held() > used_ + 2 * Allowed()) ReturnAll();
}

// What is above a region's top; of an empty one, all of it: it is no region any more.
void Arena::ReturnTop(Region* region) noexcept {
  if (region->top == region->base + kAlignment - kMark) {
    FreeRegion(region->base, region->size);
    regions_.erase(regions_.begin() + (region - regions_.data()));
    return;
  }
  char* const first = Up(region->top, region->grain);
  if (first >= region->warm) return;
  ReturnPages(first, static_cast<std::size_t>(region->warm - first));
  region->warm = first;
}

void Arena::Return(Block* block, Region* region) noexcept {
  const std::size_t nbytes = block->whole_pages_nbytes(region->grain);
  if (nbytes == 0 || (block->mark & kReturned) != 0) return;
  ReturnPages(block->first_page(region->grain), nbytes);
  block->mark |= kReturned;
  region->returned += nbytes;
}

void Arena::ReturnAll() noexcept {
  peak_ = used_;
  if (used_ < kHugeFrom) {  // too little for huge pages: the parts of them that are idle, too
    for (Region& region : regions_) {
      if (region.grain == kHugePage) region.returned = 0;
    }
    for (std::size_t power = PowerOf(kHugePage); power < kPowers; ++power) {
      for (Block* block : free_[power]) {
        for (; block != nullptr; block = block->next) {
          if (RegionOf(block)->grain == kHugePage) block->mark &= ~kReturned;
        }
      }
    }
    for (Region& region : regions_) region.grain = SystemPage();
  }
  for (std::size_t i = regions_.size(); i-- > 0;) ReturnTop(&regions_[i]);
  for (std::size_t power = PowerOf(SystemPage()); power < kPowers; ++power) {
    for (std::uint32_t steps = steps_[power]; steps != 0; steps &= steps - 1) {
      for (Block* block = free_[power][LowestBit(steps)]; block != nullptr; block = block->next) {
        Return(block, RegionOf(block));
      }
    }
  }
}

std::size_t Arena::Allowed() const { return std::max(kIdle, used_ / 16); }

std::size_t Arena::Held() const {
  std::size_t held = 0;
  for (const Region& one : regions_) {
    held += static_cast<std::size_t>(one.warm - one.base) - one.returned;
  }
  return held;
}

// The region with huge pages whose next ones are to be touched; null: none.
const Arena::Region* Arena::Ahead() const {
  const std::size_t limit = std::min(used_ / 9, 16 * kHugePage);
  std::size_t ahead = 0;
  const Region* next = nullptr;
  for (const Region& region : regions_) {
    ahead += static_cast<std::size_t>(region.warm - region.top);
    const bool room = region.grain == kHugePage && region.warm < region.base + region.size;
    if (next == nullptr && room) next = &region;
  }
  return ahead < limit / 2 && ahead + kHugePage <= limit ? next : nullptr;
}

// A region with small pages, where more is in use than such are for; null: none.
const Arena::Region* Arena::Small() const {
  if (used_ < 2 * kHugeFrom) return nullptr;
  for (const Region& region : regions_) {
    if (!region.huge) return &region;
  }
  return nullptr;
}

bool Arena::WantsAhead() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return Ahead() != nullptr || Small() != nullptr;
}

void Arena::FaultAhead() {
  char* from = nullptr;
  char* to = nullptr;
  {
    std::unique_lock<std::mutex> lock(mutex_);
    if (const Region* const small = Small()) {
      const Region region = *small;
      RegionOf(region.base)->huge = true;
      lock.unlock();
      return MakeHuge(region.base, region.size);
    }
    const Region* const region = Ahead();
    if (region == nullptr) return;
    from = region->warm;
    to = std::min(Up(from + 1, kHugePage), region->base + region->size);
  }
  const std::size_t past = reinterpret_cast<std::uintptr_t>(from) % SystemPage();
  reverie::FaultAhead(from - past, static_cast<std::size_t>(to - from) + past);
  const std::lock_guard<std::mutex> lock(mutex_);
  for (Region& region : regions_) {  // unless it was given back meanwhile
    if (region.base < from && to <= region.base + region.size) {
      region.warm = std::max(region.warm, to);
    }
  }
}

std::size_t Arena::used_nbytes() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return used_;
}

std::size_t Arena::held_nbytes() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return Held();
}

}  // namespace reverie
