#ifndef REVERIE_TESTS_PAGES_SCENE_H_
#define REVERIE_TESTS_PAGES_SCENE_H_

// Pages as a store has them, for what stands in pages. Nobody else uses its arena.

#include <memory>

#include "storage/page_pool.h"

namespace reverie_test {

struct Pages {
  std::shared_ptr<reverie::Arena> arena = std::make_shared<reverie::Arena>();
  reverie::Epochs epochs;
  reverie::PagePool pool{arena, &epochs};

  void Unshare(std::uint64_t epoch) {
    reverie::Garbage garbage;
    epochs.Unshare(epoch, &garbage);
  }
};

}  // namespace reverie_test

#endif  // REVERIE_TESTS_PAGES_SCENE_H_
