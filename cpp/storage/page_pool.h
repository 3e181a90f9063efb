#ifndef REVERIE_STORAGE_PAGE_POOL_H_
#define REVERIE_STORAGE_PAGE_POOL_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "storage/arena.h"
#include "storage/epochs.h"

namespace reverie {

// Pages of 4 KiB, for arrays that grow without moving and that snapshots share.
//
// A page that a snapshot shares is never changed: who wants to change it copies it first,
// and the old one is kept until the snapshots that might read it are gone.
// Not thread-safe: guarded by the store's mutex.
class PagePool {
 public:
  static constexpr std::size_t kPageNbytes = 4096;

  PagePool(std::shared_ptr<Arena> arena, Epochs* epochs)
      : arena_(std::move(arena)), epochs_(epochs) {}
  ~PagePool();
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;

  // An uninitialised page, aligned to 64 bytes. Throws std::bad_alloc with nothing changed.
  void* Take();
  // Sees to it that the next n Take() cannot fail, where pages may have to be copied: that
  // is, while there is a snapshot. Throws std::bad_alloc.
  void ReserveCopies(std::size_t n) {
    if (epochs_->shared() && num_spare_ < n) AddSpares(n);
  }
  // `shared`: whether a snapshot has seen the page.
  void Drop(void* page, bool shared) noexcept;

  // Whether any snapshot is alive.
  bool shared() const { return epochs_->shared(); }

 private:
  void AddSpares(std::size_t n);

  const std::shared_ptr<Arena> arena_;
  Epochs* const epochs_;
  Shed* spare_ = nullptr;
  std::size_t num_spare_ = 0;
};

}  // namespace reverie

#endif  // REVERIE_STORAGE_PAGE_POOL_H_
