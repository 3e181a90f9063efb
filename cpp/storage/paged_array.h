#ifndef REVERIE_STORAGE_PAGED_ARRAY_H_
#define REVERIE_STORAGE_PAGED_ARRAY_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#include "storage/page_pool.h"

namespace reverie {

// Pages as a snapshot shares them: read-only, whatever becomes of the array.
template <typename T>
class PagedView {
 public:
  static constexpr std::size_t kPerPage = PagePool::kPageNbytes / sizeof(T);

  // Null: there is no page with it.
  const T* Find(std::uint64_t index) const {
    const std::uint64_t page = index / kPerPage - first_;
    if (page >= entries_.size()) return nullptr;
    const auto* const values = reinterpret_cast<const T*>(entries_[page] & ~std::uintptr_t{1});
    return values == nullptr ? nullptr : values + index % kPerPage;
  }
  const T& operator[](std::uint64_t index) const { return *Find(index); }

 private:
  template <typename>
  friend class PagedArray;
  std::vector<std::uintptr_t> entries_;
  std::uint64_t first_ = 0;
};

// An array of plain values in pages that never move, for O(1) growth. Pages may be left
// out, and dropped at both ends. Values of a new page are all zero bytes.
// Not thread-safe.
template <typename T>
class PagedArray {
  static_assert(std::is_trivially_copyable_v<T> && PagePool::kPageNbytes % sizeof(T) == 0);

 public:
  static constexpr std::size_t kPerPage = PagePool::kPageNbytes / sizeof(T);

  explicit PagedArray(PagePool* pool) : pool_(pool) {}
  ~PagedArray() { Clear(); }
  PagedArray(PagedArray&& other) noexcept
      : pool_(other.pool_), entries_(std::move(other.entries_)), first_(other.first_) {
    other.entries_.clear();
  }
  PagedArray& operator=(PagedArray&& other) noexcept {
    std::swap(entries_, other.entries_);
    std::swap(first_, other.first_);
    return *this;
  }

  // The page of the value must be there.
  const T& operator[](std::uint64_t index) const {
    return Values(entries_[index / kPerPage - first_])[index % kPerPage];
  }
  const T* address(std::uint64_t index) const { return &(*this)[index]; }
  // Null: there is no page with it.
  const T* Find(std::uint64_t index) const {
    const std::uint64_t page = index / kPerPage - first_;
    if (page >= entries_.size() || entries_[page] == 0) return nullptr;
    return Values(entries_[page]) + index % kPerPage;
  }
  bool has(std::uint64_t index) const { return Find(index) != nullptr; }
  // Of the last page that there is room for.
  std::uint64_t end() const { return (first_ + entries_.size()) * kPerPage; }

  // To be changed: copies the page first where a snapshot shares it. Throws
  // std::bad_alloc with nothing changed, but not after PagePool::ReserveCopies().
  T& Edit(std::uint64_t index) {
    std::uintptr_t& entry = entries_[index / kPerPage - first_];
    if ((entry & 1) != 0) Unshare(&entry);
    return Values(entry)[index % kPerPage];
  }
  void Own(std::uint64_t index) { static_cast<void>(Edit(index)); }

  // Makes the page with this index, if it is not there, and room for the entries of those
  // before it. Amortised O(1). Throws std::bad_alloc with nothing changed.
  void Make(std::uint64_t index) {
    const std::uint64_t page = index / kPerPage;
    if (entries_.empty()) first_ = std::min(first_, page);
    const std::size_t wanted = page - first_ + 1;
    if (wanted <= entries_.size() && entries_[page - first_] != 0) return;
    if (entries_.capacity() < wanted) {
      entries_.reserve(std::max(wanted, entries_.capacity() + entries_.capacity() / 2 + 8));
    }
    void* const values = pool_->Take();
    std::memset(values, 0, PagePool::kPageNbytes);
    if (entries_.size() < wanted) entries_.resize(wanted);
    entries_[page - first_] = reinterpret_cast<std::uintptr_t>(values);
  }

  // Drops whole pages before this index: their numbers are never used again.
  void DropBefore(std::uint64_t index) {
    const std::uint64_t first = index / kPerPage;
    if (first <= first_) return;
    const auto n =
        static_cast<std::ptrdiff_t>(std::min<std::uint64_t>(first - first_, entries_.size()));
    for (auto entry = entries_.begin(); entry != entries_.begin() + n; ++entry) Drop(*entry);
    entries_.erase(entries_.begin(), entries_.begin() + n);
    first_ = first;
  }
  // Drops whole pages from this index on.
  void DropFrom(std::uint64_t index) {
    const std::uint64_t end = (index + kPerPage - 1) / kPerPage;
    while (!entries_.empty() && first_ + entries_.size() > end) {
      Drop(entries_.back());
      entries_.pop_back();
    }
  }
  // Drops the page with this index.
  void DropPage(std::uint64_t index) noexcept {
    Drop(std::exchange(entries_[index / kPerPage - first_], std::uintptr_t{0}));
  }
  void Clear() noexcept {
    for (const std::uintptr_t entry : entries_) Drop(entry);
    entries_ = {};
    first_ = 0;
  }
  // At most n pages, from the last on; true: there are none left.
  bool ClearSome(std::size_t n) noexcept {
    for (; n != 0 && !entries_.empty(); --n) {
      Drop(entries_.back());
      entries_.pop_back();
    }
    return entries_.empty();
  }

  // All values as they are now. O(pages).
  PagedView<T> Share() {
    for (std::uintptr_t& entry : entries_) entry |= entry != 0;
    PagedView<T> view;
    view.entries_ = entries_;
    view.first_ = first_;
    return view;
  }

 private:
  static T* Values(std::uintptr_t entry) {
    return reinterpret_cast<T*>(entry & ~std::uintptr_t{1});
  }
  void Drop(std::uintptr_t entry) noexcept {
    if (entry != 0) pool_->Drop(Values(entry), (entry & 1) != 0);
  }
  void Unshare(std::uintptr_t* entry) {
    T* const shared = Values(*entry);
    if (pool_->shared()) {
      void* const own = pool_->Take();
      std::memcpy(own, shared, PagePool::kPageNbytes);
      *entry = reinterpret_cast<std::uintptr_t>(own);
      pool_->Drop(shared, true);
    } else {
      *entry = reinterpret_cast<std::uintptr_t>(shared);
    }
  }

  PagePool* pool_;
  std::vector<std::uintptr_t> entries_;  // addresses; the lowest bit: a snapshot has seen it
  std::uint64_t first_ = 0;              // number of the first entry's page
};

}  // namespace reverie

#endif  // REVERIE_STORAGE_PAGED_ARRAY_H_
