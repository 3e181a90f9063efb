#ifndef REVERIE_BINDINGS_INTERRUPTS_H_
#define REVERIE_BINDINGS_INTERRUPTS_H_

#include <nanobind/nanobind.h>

#include <chrono>
#include <cstddef>
#include <future>
#include <system_error>

#include "no_gil.h"
#include "outer_lock.h"
#include "stop.h"

namespace reverie_py {

// Work of so many items or bytes may take so long that Ctrl-C should not wait for it.
constexpr std::size_t kLongItems = 4 * reverie::OuterLock::kLongRows;
constexpr std::size_t kLongBytes = 8 * reverie::OuterLock::kLongNbytes;

// As GilToSpare(), and answers signals meanwhile: what a handler raises, as that of Ctrl-C
// does, is raised here, once the work has ended early.
//
// Signals are Python's to handle, in its main thread and with the GIL, which nobody may wait
// for with a core lock in hand; and a call seldom knows which locks it holds. So the work is
// another thread's, and this one only waits and looks. A thread costs some 50 us: what is
// not `is_long` has none.
template <typename Run>
auto Interruptible(bool is_long, const Run& run) {
  if (!is_long) return GilToSpare(run);
  reverie::Stop stop;
  std::future<decltype(run())> result;
  try {
    result = std::async(std::launch::async, [&] {
      const reverie::Stop::Scope scope(&stop);
      return run();
    });
  } catch (const std::system_error&) {  // no thread is to be had
    return WithoutGil(run);
  }
  const auto ended = [&result] {
    return result.wait_for(std::chrono::milliseconds(50)) == std::future_status::ready;
  };
  bool raised = false;
  while (!WithoutGil(ended)) {
    if (raised || PyErr_CheckSignals() == 0) continue;
    raised = true;
    stop.Ask();
  }
  if (raised) throw nanobind::python_error();
  return result.get();
}

}  // namespace reverie_py

#endif  // REVERIE_BINDINGS_INTERRUPTS_H_
