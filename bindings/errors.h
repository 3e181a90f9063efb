#ifndef REVERIE_BINDINGS_ERRORS_H_
#define REVERIE_BINDINGS_ERRORS_H_

#include <nanobind/nanobind.h>

#include "status.h"

namespace reverie_py {

namespace nb = nanobind;

// Raises the Python exception for `status`; returns for kOk and kWouldBlock.
void Check(const reverie::Status& status);

void BindErrors(nb::module_& m);

}  // namespace reverie_py

#endif  // REVERIE_BINDINGS_ERRORS_H_
