#ifndef REVERIE_RECORDS_LOCK_H_
#define REVERIE_RECORDS_LOCK_H_

#include <atomic>
#include <mutex>
#include <shared_mutex>
#include <thread>

#include "outer_lock.h"

namespace reverie {

// Between those who copy records, any number at once, and one who changes some.
//
// Whoever wants to change any shuts the gate first: nobody begins to copy from then on, so
// that it waits only for those who copy already. Who waits has let go of the outer lock.
class RecordsLock {
 public:
  void lock_shared() {
    if (!gate_.try_lock()) {
      queueing_.fetch_add(1, std::memory_order_relaxed);
      gate_.lock();
      queueing_.fetch_sub(1, std::memory_order_relaxed);
    }
    copying_.lock_shared();  // at once: who changes records has the gate
    gate_.unlock();
  }
  void unlock_shared() { copying_.unlock_shared(); }

  void lock() {
    gate_.lock();
    if (copying_.try_lock()) return;
    OuterLock::LetGo();
    copying_.lock();
  }
  void unlock() {
    copying_.unlock();
    gate_.unlock();
  }

  // For who takes it again and again: lets those go first who queue to copy.
  void GiveWay() const {
    constexpr int kMostYields = 256;
    for (int i = 0; i < kMostYields && queueing_.load(std::memory_order_relaxed) != 0; ++i) {
      std::this_thread::yield();
    }
  }

 private:
  Mutex gate_;
  std::shared_mutex copying_;
  std::atomic<int> queueing_{0};
};

}  // namespace reverie

#endif  // REVERIE_RECORDS_LOCK_H_
