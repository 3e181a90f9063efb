#ifndef REVERIE_BINDINGS_LEAVES_H_
#define REVERIE_BINDINGS_LEAVES_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "arrays.h"

namespace reverie_py {

// Where leaves that were cast lie until they are stored. One for each call, on its stack: a
// leaf may be an object whose way to become an array stores a step itself.
class LeafSpace {
 public:
  LeafSpace() = default;
  LeafSpace(const LeafSpace&) = delete;
  LeafSpace& operator=(const LeafSpace&) = delete;

  // Room for so many bytes, for numbers of any kind; it stays where it is.
  void* Room(std::size_t nbytes);
  // Keeps an object for as long as this.
  void Keep(nb::object object) { kept_.push_back(std::move(object)); }

 private:
  alignas(std::max_align_t) std::uint8_t near_[1024];
  std::size_t used_ = 0;
  std::vector<std::unique_ptr<std::uint8_t[]>> far_;
  std::vector<nb::object> kept_;
};

// Which leaves have bytes: all that can be cast, or numbers and arrays of the column's very
// dtype alone.
enum class Taken { kCast, kSame };

// The bytes of a leaf as cells (leading..., *shape) of the column, in `space` or where the
// leaf has them. Null where it is no such number or array of numbers, where a value does not
// fit, and wherever that is not plain: then nests.casts.convert() decides, which casts or says
// why not. What is cast here is cast just as there, see tests/properties/test_casts.py.
//
// Cast are Python's own numbers, NumPy's own scalars, arrays (no subclass, which may mean more
// than its bytes say, as a masked array does) of its own dtypes, lists and tuples of all these,
// and what NumPy makes such an array of by __array__ or the buffer protocol. May run Python
// code in the last case; raises what is no Exception.
const void* LeafBytes(const CellType& column, const std::vector<std::ptrdiff_t>& leading,
                      Taken taken, PyObject* leaf, LeafSpace* space);

// Those of all leaves, one for each column, cast. Returns -1, or the first leaf without bytes.
// `some`: a leaf may be None, and then has none. Raises ValueError or TypeError where `leaves`
// are no such list or tuple.
int StepBytes(const TypedLayout& layout, nb::sequence leaves,
              const std::vector<std::ptrdiff_t>& leading, LeafSpace* space, const void*** columns,
              bool some = false);

}  // namespace reverie_py

#endif  // REVERIE_BINDINGS_LEAVES_H_
