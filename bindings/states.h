#ifndef REVERIE_BINDINGS_STATES_H_
#define REVERIE_BINDINGS_STATES_H_

#include <nanobind/nanobind.h>

#include "table.h"

namespace reverie_py {

namespace nb = nanobind;

// A table's items as a dict of NumPy vectors, without a copy.
nb::dict ItemArrays(reverie::ItemColumns&& items);

// The inverse, and the rest of a table's state; raises ValueError or TypeError.
reverie::TableState ParseTableState(nb::dict state);

}  // namespace reverie_py

#endif  // REVERIE_BINDINGS_STATES_H_
