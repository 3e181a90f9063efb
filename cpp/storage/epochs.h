#ifndef REVERIE_STORAGE_EPOCHS_H_
#define REVERIE_STORAGE_EPOCHS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "storage/arena.h"

namespace reverie {

// What nobody needs any more: a chunk, or a block of the arena. Linked through itself, so
// that putting it aside cannot fail.
struct Shed {
  Shed* behind = nullptr;
  std::uint64_t at = 0;    // the epoch in which it was put aside
  Arena* arena = nullptr;  // null: a chunk
  void* block = nullptr;   // of that arena
};

// A queue of it.
class ShedQueue {
 public:
  ShedQueue() = default;
  ~ShedQueue() { Free(); }
  ShedQueue(const ShedQueue&) = delete;
  ShedQueue& operator=(const ShedQueue&) = delete;

  const Shed* front() const { return first_; }  // null: none
  void Push(Shed* shed) noexcept {
    shed->behind = nullptr;
    (first_ == nullptr ? first_ : last_->behind) = shed;
    last_ = shed;
  }
  Shed* Pop() noexcept { return std::exchange(first_, first_->behind); }
  // For good: one by one, as a chain that frees itself would recurse.
  void Free() noexcept;

 private:
  Shed* first_ = nullptr;
  Shed* last_ = nullptr;
};

// To be freed by the caller once it has dropped the store's mutex: returning megabytes to
// the system is no work for a critical section.
using Garbage = ShedQueue;

// Who may still read what was put aside: gathers under way, which read records and
// trajectories, and snapshots, which read the pages that they share as well.
//
// Not thread-safe: guarded by the store's mutex. O(readers and snapshots).
class Epochs {
 public:
  // Brackets a gather. Enter() throws std::bad_alloc with nothing changed.
  std::uint64_t Enter() { return Open(&readers_); }
  void Leave(std::uint64_t epoch, Garbage* garbage) { Close(&readers_, epoch, garbage); }
  // Brackets the life of a snapshot.
  std::uint64_t Share() { return Open(&snapshots_); }
  void Unshare(std::uint64_t epoch, Garbage* garbage) { Close(&snapshots_, epoch, garbage); }
  bool shared() const { return !snapshots_.empty(); }

  // It is freed as soon as no reader can have it. `shared`: nor any snapshot.
  void Retire(Shed* shed, bool shared, Garbage* garbage) noexcept {
    if (shared && !snapshots_.empty()) {
      Keep(shed);
    } else if (!readers_.empty()) {
      shed->at = epoch_;
      retired_.Push(shed);
    } else {
      garbage->Push(shed);
    }
  }
  // Of what snapshots have, where there are any.
  void Keep(Shed* shed) noexcept {
    shed->at = epoch_;
    kept_.Push(shed);
  }

 private:
  std::uint64_t Open(std::vector<std::uint64_t>* who) {
    who->push_back(epoch_ + 1);
    return ++epoch_;
  }
  void Close(std::vector<std::uint64_t>* who, std::uint64_t epoch, Garbage* garbage) {
    who->erase(std::find(who->begin(), who->end(), epoch));
    const std::uint64_t reader = Oldest(readers_);
    Release(&retired_, reader, garbage);
    Release(&kept_, std::min(reader, Oldest(snapshots_)), garbage);
  }
  std::uint64_t Oldest(const std::vector<std::uint64_t>& who) const {
    return who.empty() ? epoch_ + 1 : *std::min_element(who.begin(), who.end());
  }
  static void Release(ShedQueue* queue, std::uint64_t oldest, Garbage* garbage) {
    while (queue->front() != nullptr && queue->front()->at < oldest) garbage->Push(queue->Pop());
  }

  std::uint64_t epoch_ = 0;
  std::vector<std::uint64_t> readers_;
  std::vector<std::uint64_t> snapshots_;
  ShedQueue retired_;  // readers that entered at or before `at` may still read
  ShedQueue kept_;     // those, or snapshots that were taken then
};

}  // namespace reverie

#endif  // REVERIE_STORAGE_EPOCHS_H_
