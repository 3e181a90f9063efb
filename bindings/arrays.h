#ifndef REVERIE_BINDINGS_ARRAYS_H_
#define REVERIE_BINDINGS_ARRAYS_H_

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <memory>
#include <utility>
#include <vector>

#include "casts.h"
#include "storage/record_layout.h"
#include "table.h"

namespace reverie_py {

namespace nb = nanobind;

// Memory of the caller's, such as a device's driver copies from, that the arrays of batches
// are cut from while a thread has entered it; those that do not fit have their own. Each
// array keeps the memory alive; entering it anew writes over them.
class OutputMemory {
 public:
  // A uint8 vector that begins at a multiple of 64 bytes; raises ValueError.
  explicit OutputMemory(nb::object memory);
  ~OutputMemory() { Exit(); }
  OutputMemory(const OutputMemory&) = delete;
  OutputMemory& operator=(const OutputMemory&) = delete;

  // A piece for so many bytes for each element of these axes, or null. Requires the GIL, as
  // everything here.
  void* Cut(std::size_t nbytes, const std::vector<std::ptrdiff_t>& leading);
  // Raises ValueError where the thread has entered another.
  void Enter();
  void Exit();

  const nb::object& memory() const { return memory_; }
  // Bytes cut since it was entered.
  std::size_t used() const { return used_; }

 private:
  nb::object memory_;
  std::uint8_t* begin_;
  std::size_t nbytes_;
  std::size_t used_ = 0;
};

// What the cells of a column are.
struct CellType {
  nb::object dtype;
  int type_num;
  reverie::Number number;  // kNone for those that NumPy has from other packages
  PyTypeObject* scalar;    // the type of NumPy's own scalars of the dtype; null for others
  std::vector<std::ptrdiff_t> shape;
  std::size_t item_nbytes;
  std::size_t nbytes;

  // The first one with this number, as in RecordLayout::Column, which must not be 0.
  // Requires the GIL, as everything here.
  static const CellType& Of(std::uint32_t number);

  // (dtype, shape)
  nb::tuple Describe() const;

  // Whether this is the type of an array, its byte order aside.
  bool IsTypeOf(PyObject* array) const;

  // A new array of shape (leading..., *shape), and its bytes: its own, which begin at a multiple
  // of 64, or a piece of the OutputMemory that this thread entered.
  nb::object NewArray(const std::vector<std::ptrdiff_t>& leading, void** bytes) const;
};

// A RecordLayout together with the NumPy dtype and shape of each column. Equal lists of
// those have one RecordLayout.
class TypedLayout {
 public:
  explicit TypedLayout(nb::sequence columns);

  const std::shared_ptr<const reverie::RecordLayout>& layout() const { return layout_; }
  std::size_t num_columns() const { return columns_.size(); }
  const CellType& column(std::size_t index) const { return columns_[index]; }

  // (dtype, shape) of each column.
  nb::list Describe() const;

  // The bytes of an array that must look just like NewArray()'s; raises ValueError.
  void* CheckArray(nb::handle array, std::size_t column,
                   const std::vector<std::ptrdiff_t>& leading) const;

 private:
  std::vector<CellType> columns_;
  std::shared_ptr<const reverie::RecordLayout> layout_;
};

// What NumPy's arrays with this number of a type hold.
reverie::Number NumberOfType(int type_num);

// Loads NumPy's C API; raises ImportError.
void InitNumpy();

template <typename T>
using Vector = nb::ndarray<nb::numpy, T, nb::ndim<1>>;

// A new array of this type, and its values.
nb::object NewVector(const std::vector<std::ptrdiff_t>& shape, std::uint64_t** values);
nb::object NewVector(const std::vector<std::ptrdiff_t>& shape, std::int64_t** values);
nb::object NewVector(const std::vector<std::ptrdiff_t>& shape, std::int32_t** values);
nb::object NewVector(const std::vector<std::ptrdiff_t>& shape, double** values);
nb::object NewVector(const std::vector<std::ptrdiff_t>& shape, bool** values);

// New arrays for the five facts about each of some items, and their values.
nb::tuple NewInfo(const std::vector<std::ptrdiff_t>& shape, reverie::SampleInfo* info);

// Arrays that callers pass in: any unit-stride vector of exactly this dtype.
template <typename T>
using InVector = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// A NumPy vector that owns what was in `values`; no copy.
template <typename T, typename Allocator>
Vector<T> ToNumpy(std::vector<T, Allocator>&& values) {
  using Owned = std::vector<T, Allocator>;
  auto* owned = new Owned(std::move(values));
  nb::capsule owner(owned, [](void* p) noexcept { delete static_cast<Owned*>(p); });
  return Vector<T>(owned->data(), {owned->size()}, owner);
}

}  // namespace reverie_py

#endif  // REVERIE_BINDINGS_ARRAYS_H_
