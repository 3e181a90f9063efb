#ifndef REVERIE_TESTS_QUIET_H_
#define REVERIE_TESTS_QUIET_H_

// The store's own thread, kept from moving what a test looks at.

#include "store.h"

namespace reverie_test {

using namespace reverie;  // NOLINT: a header of tests only

// Neither the store's keeper nor a Tidy() looks again, until LookAgain() or a Clear().
inline void Quiet(Store* store) {
  Store::Locked locked = store->Lock();
  locked.chunks().LookNoMore();
}

// The same, once what tidies now, if anything does, is done.
inline void Settle(Store* store) {
  Quiet(store);
  store->Tidy();  // waits for the keeper, which set anew when to look
  Quiet(store);
}

}  // namespace reverie_test

#endif  // REVERIE_TESTS_QUIET_H_
