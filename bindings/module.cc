// The module's table of contents.
#include <nanobind/nanobind.h>

#include "arrays.h"
#include "errors.h"

namespace reverie_py {

void BindStore(nb::module_& m);
void BindTable(nb::module_& m);
void BindView(nb::module_& m);
void BindWriter(nb::module_& m);
void BindTrajectory(nb::module_& m);
void BindRestore(nb::module_& m);
void BindOutputMemory(nb::module_& m);

}  // namespace reverie_py

NB_MODULE(_core, m) {
  // A table may outlive the interpreter on purpose: in a forked child, which must not
  // touch its copy, or in a TensorFlow function. That is no leak to report.
  nanobind::set_leak_warnings(false);
  reverie_py::InitNumpy();
  reverie_py::BindErrors(m);
  reverie_py::BindStore(m);
  reverie_py::BindTable(m);
  reverie_py::BindView(m);
  reverie_py::BindWriter(m);
  reverie_py::BindTrajectory(m);
  reverie_py::BindRestore(m);
  reverie_py::BindOutputMemory(m);
}
