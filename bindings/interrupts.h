#ifndef REVERIE_BINDINGS_INTERRUPTS_H_
#define REVERIE_BINDINGS_INTERRUPTS_H_

#include <nanobind/nanobind.h>

#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>

#include "no_gil.h"
#include "status.h"
#include "stop.h"

namespace reverie_py {

namespace nb = nanobind;

// Work of so many items or bytes may take so long that Ctrl-C should not wait for it.
constexpr std::size_t kLongItems = std::size_t{1} << 18;
constexpr std::size_t kLongBytes = std::size_t{1} << 28;

// Runs `run()`, which gives a Status, and answers signals meanwhile: what a handler raises, as
// KeyboardInterrupt, is raised here, once the work has ended early. Call it with the GIL; the
// work has none.
//
// Signals are Python's to handle, in its main thread and with the GIL, which nobody may wait
// for with a core lock in hand; and a call seldom knows which locks it holds. So the work is
// another thread's, and this one only waits and looks. A thread costs some 50 us: what is
// not `is_long` runs here, as by GilToSpare().
template <typename Run>
reverie::Status Interruptible(bool is_long, const Run& run) {
  if (!is_long) return GilToSpare(run);
  using namespace std::chrono_literals;
  reverie::Stop stop;
  std::optional<reverie::Status> status;
  std::exception_ptr error;
  bool done = false;
  std::mutex mutex;
  std::condition_variable ended;
  const auto work = [&] {
    {
      const reverie::Stop::Scope scope(&stop);
      try {
        status = run();
      } catch (...) {
        error = std::current_exception();
      }
    }
    const std::lock_guard<std::mutex> lock(mutex);
    done = true;
    ended.notify_all();
  };
  std::thread worker;
  try {
    worker = std::thread(work);
  } catch (const std::system_error&) {
    return WithoutGil(run);
  }
  bool raised = false;
  for (bool waiting = true; waiting;) {
    {
      NoGil release;
      std::unique_lock<std::mutex> lock(mutex);
      waiting = !ended.wait_for(lock, 50ms, [&] { return done; });
      lock.unlock();
      if (!waiting) worker.join();
    }
    if (waiting && !raised && PyErr_CheckSignals() != 0) {
      raised = true;
      stop.Ask();
    }
  }
  if (raised) throw nb::python_error();
  if (error != nullptr) std::rethrow_exception(error);
  return *status;
}

}  // namespace reverie_py

#endif  // REVERIE_BINDINGS_INTERRUPTS_H_
