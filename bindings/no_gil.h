#ifndef REVERIE_BINDINGS_NO_GIL_H_
#define REVERIE_BINDINGS_NO_GIL_H_

#include <Python.h>

#include <chrono>
#include <cstddef>
#include <thread>

namespace reverie_py {

// Drops the GIL until the end of the scope.
//
// Up to Python 3.13 a daemon thread that wants the GIL back while the interpreter
// exits is ended by pthread_exit(), which unwinds the stack: through C++ frames that
// must not throw, and so the whole process aborts. Here such a thread stays where it
// is, as it does by itself from Python 3.14 on; the process ends without it.
class NoGil {
 public:
  NoGil() : state_(PyEval_SaveThread()) {}
  ~NoGil() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {
      for (;;) std::this_thread::sleep_for(std::chrono::hours(1));
    }
  }
  NoGil(const NoGil&) = delete;
  NoGil& operator=(const NoGil&) = delete;

 private:
  PyThreadState* const state_;
};

template <typename Run>
auto WithoutGil(Run&& run) {
  NoGil release;
  return run();
}

// The same for what copies bytes, few of which are copied sooner than the GIL is dropped.
// Nobody who holds a core mutex ever waits for the GIL, so keeping it cannot deadlock.
template <typename Run>
auto Copying(std::size_t nbytes, Run&& run, std::size_t keep_gil_below = 16 * 1024) {
  return nbytes < keep_gil_below ? run() : WithoutGil(run);
}

}  // namespace reverie_py

#endif  // REVERIE_BINDINGS_NO_GIL_H_
