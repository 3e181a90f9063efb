#ifndef REVERIE_BINDINGS_HANDLES_H_
#define REVERIE_BINDINGS_HANDLES_H_

#include <memory>

#include "store.h"

namespace reverie_py {

// What Python holds: each keeps its store alive.
struct StoreHandle {
  std::shared_ptr<reverie::Store> store;
};

struct TableHandle {
  std::shared_ptr<reverie::Store> store;
  std::shared_ptr<reverie::Table> table;
};

}  // namespace reverie_py

#endif  // REVERIE_BINDINGS_HANDLES_H_
