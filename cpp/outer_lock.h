#ifndef REVERIE_OUTER_LOCK_H_
#define REVERIE_OUTER_LOCK_H_

#include <cstddef>
#include <mutex>

namespace reverie {

// A lock outside the core that the calling thread holds and other threads want, such as an
// interpreter's. Getting it back may take a thousand times as long as a short call, so the
// core keeps it; but nobody waits for a lock of the core with it in hand, and work that
// turns out to be long goes on without it. The core never takes one back: once let go, it
// is gone for the rest of the call, and who holds a core lock never waits for it.
//
// One exists for the length of a call, in the thread that holds the lock; none where the
// caller has nothing to let go. Not nested.
class OuterLock {
 public:
  // Work of so many bytes, or rows, is known to be long beforehand.
  static constexpr std::size_t kLongNbytes = std::size_t{1} << 25;
  static constexpr std::size_t kLongRows = std::size_t{1} << 16;

  OuterLock() noexcept { held_ = this; }
  virtual ~OuterLock() { held_ = nullptr; }
  OuterLock(const OuterLock&) = delete;
  OuterLock& operator=(const OuterLock&) = delete;

  // Whether this thread has one in hand.
  static bool held() noexcept { return held_ != nullptr; }

  // Lets go of this thread's, if it has one. Core locks may be held.
  static void LetGo() noexcept {
    OuterLock* const lock = held_;
    if (lock == nullptr) return;
    held_ = nullptr;
    lock->Release();
  }

  // To be called now and then by work that may be long, with at most some 0.1 ms between
  // two calls: lets go once its owner finds that it was kept long enough.
  static void Tick() noexcept {
    if (held_ != nullptr && held_->Overdue()) LetGo();
  }

 private:
  // Must neither wait nor throw.
  virtual void Release() noexcept = 0;
  // Whether it was kept long enough; the core has no clock.
  virtual bool Overdue() noexcept = 0;

  inline static thread_local OuterLock* held_ = nullptr;
};

// A mutex of the core. Who finds it taken tries again for some microseconds, as most holds
// are as short, and then waits without the outer lock.
class Mutex {
 public:
  void lock() {
    if (mutex_.try_lock()) return;
    if (OuterLock::held()) {
      for (int i = 0; i < kTries; ++i) {
        if (mutex_.try_lock()) return;
      }
      OuterLock::LetGo();
    }
    mutex_.lock();
  }
  bool try_lock() { return mutex_.try_lock(); }
  void unlock() { mutex_.unlock(); }

  // For condition variables, by who has let go of the outer lock.
  std::mutex& bare() { return mutex_; }

 private:
  static constexpr int kTries = 1000;

  std::mutex mutex_;
};

}  // namespace reverie

#endif  // REVERIE_OUTER_LOCK_H_
