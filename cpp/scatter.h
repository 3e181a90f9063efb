#ifndef REVERIE_SCATTER_H_
#define REVERIE_SCATTER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "gather.h"

namespace reverie {

// New values for cells of records that are there: a view's gather, the other way round.
//
//   a row's records   [ lead ... | state | step 0 | step 1 | ... | step T - 1 ]
//                       `first` of them  |  `steps`, or as many as the row has
struct Scatter {
  struct Column {
    std::uint32_t field;
    std::uint32_t steps;        // of each row, from its first step on, that get a value
    const std::uint8_t* cells;  // (rows, steps)
  };
  // An integer of each record, 1, 2, 4 or 8 bytes: a step whose own is not less than its
  // row's stays as it is, else it becomes that.
  struct Version {
    std::uint32_t field;
    bool is_signed;
    const std::uint8_t* cells;  // (rows)
  };

  const RecordLayout* layout;
  std::uint32_t first;
  std::uint32_t steps;
  std::vector<Column> columns;
  const std::uint8_t* mask = nullptr;  // (rows, steps): 0 leaves the step out; null: none is
  std::optional<Version> version{};
};

// Steps that were written, and such that had no older version; rows whose item has left.
struct Scattered {
  std::size_t updated = 0;
  std::size_t stale = 0;
  std::size_t rejected = 0;
};

// Writes the `index`-th row's values, whose item begins at `row` and of which `records`
// records are there. Requires the records' lock, and the store's. O(bytes).
void ScatterRow(const Scatter& scatter, std::size_t index, Row row, std::uint32_t records,
                Scattered* counts);

}  // namespace reverie

#endif  // REVERIE_SCATTER_H_
