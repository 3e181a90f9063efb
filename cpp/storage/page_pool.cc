#include "storage/page_pool.h"

#include <new>

namespace reverie {
namespace {

constexpr std::size_t kLine = 64;

// A page's Shed stands right before it.
Shed* ShedOf(void* page) {
  return reinterpret_cast<Shed*>(static_cast<char*>(page) - sizeof(Shed));
}
void* PageOf(Shed* shed) { return reinterpret_cast<char*>(shed) + sizeof(Shed); }

Shed* NewPage(Arena* arena) {
  void* const block =
      arena->Allocate(PagePool::kPageNbytes + sizeof(Shed) + kLine - Arena::kAlignment);
  const auto first = reinterpret_cast<std::uintptr_t>(block) + sizeof(Shed);
  const std::size_t skip = (kLine - first % kLine) % kLine;
  return ::new (static_cast<char*>(block) + skip) Shed{nullptr, 0, arena, block};
}

}  // namespace

PagePool::~PagePool() {
  while (spare_ != nullptr) arena_->Free(std::exchange(spare_, spare_->behind)->block);
}

void PagePool::AddSpares(std::size_t n) {
  while (num_spare_ < n) {
    Shed* const page = NewPage(arena_.get());
    page->behind = std::exchange(spare_, page);
    ++num_spare_;
  }
}

void* PagePool::Take() {
  if (spare_ == nullptr) return PageOf(NewPage(arena_.get()));
  --num_spare_;
  return PageOf(std::exchange(spare_, spare_->behind));
}

void PagePool::Drop(void* page, bool shared) noexcept {
  Shed* const shed = ShedOf(page);
  if (shared && epochs_->shared()) {
    epochs_->Keep(shed);
  } else {
    arena_->Free(shed->block);
  }
}

}  // namespace reverie
