#ifndef REVERIE_BINDINGS_HANDLES_H_
#define REVERIE_BINDINGS_HANDLES_H_

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>

#include <cmath>
#include <memory>
#include <optional>

#include "errors.h"
#include "no_gil.h"
#include "store.h"

namespace reverie_py {

// What Python holds: each keeps its store alive.
struct StoreHandle {
  Spared<std::shared_ptr<reverie::Store>> store;
};

struct TableHandle {
  Spared<std::shared_ptr<reverie::Store>> store;
  std::shared_ptr<reverie::Table> table;
};

// Of an item that is written. None: the largest in its table when it gets there, which the
// core calls NaN; so a caller's NaN must not go on.
inline double AsPriority(std::optional<double> priority) {
  if (!priority) return reverie::kLargestPriority;
  if (std::isnan(*priority)) throw nb::value_error("a priority is NaN");
  return *priority;
}

// What every writer tells of its items that wait for a limiter.
template <typename WriterHandle>
void BindPending(nb::class_<WriterHandle>* writer) {
  writer
      ->def_prop_ro("pending",
                    [](const WriterHandle& self) {
                      return GilToSpare([&] { return self.writer->pending(); });
                    })
      .def(
          "wait_pending",
          [](WriterHandle& self, std::uint64_t at_most, double timeout_s) {
            const reverie::Status status = GilToSpare([&] {
              return self.store->WaitForInserts(self.writer->progress(), at_most, timeout_s);
            });
            Check(status);
            return status.ok();
          },
          nb::arg("at_most"), nb::arg("timeout_s"));
}

}  // namespace reverie_py

#endif  // REVERIE_BINDINGS_HANDLES_H_
