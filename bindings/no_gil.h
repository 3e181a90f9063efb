#ifndef REVERIE_BINDINGS_NO_GIL_H_
#define REVERIE_BINDINGS_NO_GIL_H_

#include <Python.h>

#include <chrono>
#include <thread>
#include <utility>

#include "outer_lock.h"

namespace reverie_py {

// Takes the GIL back.
//
// Up to Python 3.13 a daemon thread that wants the GIL back while the interpreter
// exits is ended by pthread_exit(), which unwinds the stack: through C++ frames that
// must not throw, and so the whole process aborts. Here such a thread stays where it
// is, as it does by itself from Python 3.14 on; the process ends without it.
inline void TakeGilBack(PyThreadState* state) noexcept {
  try {
    PyEval_RestoreThread(state);
  } catch (...) {
    for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
  }
}

// The GIL as the core's outer lock, until the end of the scope: kept while the work is short,
// gone once the core waits or has worked for 2 ms. Nothing of Python may be touched in it.
//
// So a call that then waits the 5 ms that a busy thread keeps the GIL still has a quarter of
// its speed, and nobody waits longer for the GIL than for a thread that only computes.
class GilInHand final : public reverie::OuterLock {
 public:
  GilInHand() = default;
  ~GilInHand() override {
    if (state_ != nullptr) TakeGilBack(state_);
  }

 private:
  using Clock = std::chrono::steady_clock;

  void Release() noexcept override { state_ = PyEval_SaveThread(); }

  // Counts from the first question, so that short calls read no clock.
  bool Overdue() noexcept override {
    const Clock::time_point now = Clock::now();
    if (!asked_) {
      asked_ = true;
      since_ = now;
    }
    return now - since_ > std::chrono::milliseconds(2);
  }

  PyThreadState* state_ = nullptr;
  bool asked_ = false;
  Clock::time_point since_;
};

// Runs what the core may wait in, or be long at: it knows best when to let the GIL go.
template <typename Run>
auto GilToSpare(Run&& run) {
  GilInHand gil;
  return run();
}

// Runs what is long without a lock of the core's, so that it need not know of any.
template <typename Run>
auto WithoutGil(Run&& run) {
  GilInHand gil;
  reverie::OuterLock::LetGo();
  return run();
}

// A smart pointer to what takes core locks when it goes.
template <typename Pointer>
struct Spared : Pointer {
  Spared() = default;
  Spared(Pointer pointer) : Pointer(std::move(pointer)) {}
  Spared(const Spared&) = default;
  Spared(Spared&&) noexcept = default;
  Spared& operator=(const Spared&) = default;
  Spared& operator=(Spared&&) noexcept = default;
  ~Spared() {
    if (*this == nullptr) return;
    GilInHand gil;
    this->reset();
  }
};

}  // namespace reverie_py

#endif  // REVERIE_BINDINGS_NO_GIL_H_
