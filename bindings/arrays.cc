#include "arrays.h"

#include <numpy/arrayobject.h>
#include <numpy/arrayscalars.h>

#include <cstring>
#include <string>

namespace reverie_py {
namespace {

bool SameShape(PyArrayObject* array, const std::vector<std::ptrdiff_t>& leading,
               const std::vector<std::ptrdiff_t>& shape) {
  const std::size_t ndim = leading.size() + shape.size();
  if (static_cast<std::size_t>(PyArray_NDIM(array)) != ndim) return false;
  const npy_intp* dims = PyArray_DIMS(array);
  for (std::size_t i = 0; i < ndim; ++i) {
    if (dims[i] != (i < leading.size() ? leading[i] : shape[i - leading.size()])) return false;
  }
  return true;
}

// NumPy has two numbers for the same integer where C has two names for it (long
// and long long, or int and long); the bytes are the same.
bool SameType(PyArrayObject* array, int type_num) {
  return PyArray_TYPE(array) == type_num || PyArray_EquivTypenums(PyArray_TYPE(array), type_num);
}

template <typename T>
nb::object NewOf(int type_num, const std::vector<std::ptrdiff_t>& shape, T** values) {
  npy_intp dims[2];
  for (std::size_t i = 0; i < shape.size(); ++i) dims[i] = shape[i];
  PyObject* array = PyArray_SimpleNew(static_cast<int>(shape.size()), dims, type_num);
  if (array == nullptr) throw nb::python_error();
  *values = static_cast<T*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(array)));
  return nb::steal(array);
}

}  // namespace

nb::object NewVector(const std::vector<std::ptrdiff_t>& shape, std::uint64_t** values) {
  return NewOf(NPY_UINT64, shape, values);
}
nb::object NewVector(const std::vector<std::ptrdiff_t>& shape, std::int64_t** values) {
  return NewOf(NPY_INT64, shape, values);
}
nb::object NewVector(const std::vector<std::ptrdiff_t>& shape, std::int32_t** values) {
  return NewOf(NPY_INT32, shape, values);
}
nb::object NewVector(const std::vector<std::ptrdiff_t>& shape, double** values) {
  return NewOf(NPY_DOUBLE, shape, values);
}

void InitNumpy() {
  if (_import_array() < 0) throw nb::python_error();
}

TypedLayout::TypedLayout(nb::sequence columns) {
  std::vector<std::size_t> column_nbytes;
  for (nb::handle entry : columns) {
    Column column;
    column.dtype = nb::borrow(nb::object(entry[0]));
    if (!PyArray_DescrCheck(column.dtype.ptr())) throw nb::type_error("expected a numpy.dtype");
    auto* descr = reinterpret_cast<PyArray_Descr*>(column.dtype.ptr());
    if (PyDataType_REFCHK(descr) || PyDataType_ELSIZE(descr) <= 0 ||
        !PyArray_ISNBO(descr->byteorder)) {
      throw nb::value_error("dtype must be plain, fixed-width and in native byte order");
    }
    column.type_num = descr->type_num;
    column.nbytes = static_cast<std::size_t>(PyDataType_ELSIZE(descr));
    for (nb::handle dim : nb::borrow<nb::sequence>(nb::object(entry[1]))) {
      const auto extent = nb::cast<std::ptrdiff_t>(dim);
      if (extent < 0) throw nb::value_error("shapes must not be negative");
      column.shape.push_back(extent);
      column.nbytes *= static_cast<std::size_t>(extent);
    }
    column_nbytes.push_back(column.nbytes);
    columns_.push_back(std::move(column));
  }
  layout_ = std::make_shared<const reverie::RecordLayout>(column_nbytes);
  if (layout_->record_nbytes() == 0) throw nb::value_error("a record needs at least one byte");
}

nb::object TypedLayout::NewArray(std::size_t index, const std::vector<std::ptrdiff_t>& leading,
                                 void** bytes) const {
  const Column& column = columns_[index];
  npy_intp dims[NPY_MAXDIMS];
  const std::size_t ndim = leading.size() + column.shape.size();
  if (ndim > NPY_MAXDIMS) throw nb::value_error("too many dimensions");
  for (std::size_t i = 0; i < ndim; ++i) {
    dims[i] = i < leading.size() ? leading[i] : column.shape[i - leading.size()];
  }
  auto* descr = reinterpret_cast<PyArray_Descr*>(column.dtype.ptr());
  Py_INCREF(descr);  // PyArray_Empty steals it
  PyObject* array = PyArray_Empty(static_cast<int>(ndim), dims, descr, 0);
  if (array == nullptr) throw nb::python_error();
  *bytes = PyArray_DATA(reinterpret_cast<PyArrayObject*>(array));
  return nb::steal(array);
}

void* TypedLayout::CheckArray(nb::handle array, std::size_t index,
                              const std::vector<std::ptrdiff_t>& leading) const {
  const Column& column = columns_[index];
  auto* object = reinterpret_cast<PyArrayObject*>(array.ptr());
  if (!PyArray_Check(array.ptr()) || !SameType(object, column.type_num) ||
      !SameShape(object, leading, column.shape) || !PyArray_ISCARRAY(object)) {
    throw nb::value_error(("out[" + std::to_string(index) + "] has another dtype or shape, " +
                           "is not C-contiguous or not writeable")
                              .c_str());
  }
  return PyArray_DATA(object);
}

int TypedLayout::LeafBytes(nb::sequence leaves, std::vector<const void*>* columns,
                           std::vector<std::uint8_t>* scratch) const {
  PyObject** items;
  PyObject* const fast = leaves.ptr();
  if (PyList_CheckExact(fast) || PyTuple_CheckExact(fast)) {
    if (static_cast<std::size_t>(PySequence_Fast_GET_SIZE(fast)) != columns_.size()) {
      throw nb::value_error("wrong number of leaves");
    }
    items = PySequence_Fast_ITEMS(fast);
  } else {
    throw nb::type_error("leaves must be a list or a tuple");
  }
  columns->resize(columns_.size());
  scratch->resize(16 * columns_.size());  // the widest scalar: complex128
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    const Column& column = columns_[i];
    if (PyArray_Check(items[i])) {
      auto* array = reinterpret_cast<PyArrayObject*>(items[i]);
      if (!SameType(array, column.type_num) || !SameShape(array, {}, column.shape) ||
          !PyArray_ISCARRAY_RO(array)) {
        return static_cast<int>(i);
      }
      (*columns)[i] = PyArray_DATA(array);
    } else if (PyArray_IsScalar(items[i], Generic) && column.shape.empty() && column.nbytes <= 16 &&
               Py_TYPE(items[i]) == reinterpret_cast<PyArray_Descr*>(column.dtype.ptr())->typeobj) {
      void* bytes = scratch->data() + 16 * i;
      PyArray_ScalarAsCtype(items[i], bytes);
      (*columns)[i] = bytes;
    } else {
      return static_cast<int>(i);
    }
  }
  return -1;
}

}  // namespace reverie_py
