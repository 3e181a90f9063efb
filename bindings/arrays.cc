#include "arrays.h"

#include <numpy/arrayobject.h>
#include <numpy/arrayscalars.h>

#include <cstring>
#include <map>
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

// By number - 1, one for each dtype and shape ever asked for. Chunks outlive the handles
// that Python holds and are freed without the GIL, so what their layouts' types refer to
// stays for good.
std::vector<std::unique_ptr<CellType>>& KnownTypes() {
  static auto* known = new std::vector<std::unique_ptr<CellType>>();
  return *known;
}

std::uint32_t NumberOf(const CellType& type) {
  static PyObject* numbers = PyDict_New();
  nb::dict by_type = nb::borrow<nb::dict>(numbers);
  const nb::tuple key = type.Describe();
  if (by_type.contains(key)) return nb::cast<std::uint32_t>(nb::object(by_type[key]));
  KnownTypes().push_back(std::make_unique<CellType>(type));
  const auto number = static_cast<std::uint32_t>(KnownTypes().size());
  by_type[key] = number;
  return number;
}

// One layout for each list of types ever asked for: the core compares their addresses.
std::shared_ptr<const reverie::RecordLayout> LayoutOf(const std::vector<CellType>& columns) {
  using Known = std::map<std::vector<std::uint32_t>, std::shared_ptr<const reverie::RecordLayout>>;
  static auto* known = new Known();
  std::vector<std::uint32_t> types;
  std::vector<std::size_t> nbytes;
  for (const CellType& column : columns) {
    types.push_back(NumberOf(column));
    nbytes.push_back(column.nbytes);
  }
  auto& layout = (*known)[types];
  if (layout == nullptr) layout = std::make_shared<const reverie::RecordLayout>(nbytes, types);
  return layout;
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

nb::tuple NewInfo(const std::vector<std::ptrdiff_t>& shape, reverie::SampleInfo* info) {
  return nb::make_tuple(NewVector(shape, &info->key), NewVector(shape, &info->probability),
                        NewVector(shape, &info->table_size), NewVector(shape, &info->priority),
                        NewVector(shape, &info->times_sampled));
}

void InitNumpy() {
  if (_import_array() < 0) throw nb::python_error();
}

TypedLayout::TypedLayout(nb::sequence columns) {
  for (nb::handle entry : columns) {
    CellType column;
    column.dtype = nb::borrow(nb::object(entry[0]));
    if (!PyArray_DescrCheck(column.dtype.ptr())) throw nb::type_error("expected a numpy.dtype");
    auto* descr = reinterpret_cast<PyArray_Descr*>(column.dtype.ptr());
    // Of the types left out, two of one number may differ in bytes or in meaning; those
    // without a number are not NumPy's old kind of user-defined type, as ml_dtypes' are.
    const bool is_known = descr->type_num >= 0 && (descr->type_num < NPY_NTYPES_LEGACY ||
                                                   PyTypeNum_ISUSERDEF(descr->type_num));
    if (!is_known || PyTypeNum_ISFLEXIBLE(descr->type_num) ||
        PyTypeNum_ISDATETIME(descr->type_num) || PyDataType_REFCHK(descr) ||
        PyDataType_ELSIZE(descr) <= 0 || !PyArray_ISNBO(descr->byteorder)) {
      throw nb::value_error("dtype must be numeric, fixed-width and in native byte order");
    }
    column.type_num = descr->type_num;
    column.nbytes = static_cast<std::size_t>(PyDataType_ELSIZE(descr));
    for (nb::handle dim : nb::borrow<nb::sequence>(nb::object(entry[1]))) {
      const auto extent = nb::cast<std::ptrdiff_t>(dim);
      if (extent < 0) throw nb::value_error("shapes must not be negative");
      column.shape.push_back(extent);
      column.nbytes *= static_cast<std::size_t>(extent);
    }
    columns_.push_back(std::move(column));
  }
  layout_ = LayoutOf(columns_);
}

const CellType& CellType::Of(std::uint32_t number) { return *KnownTypes()[number - 1]; }

nb::tuple CellType::Describe() const {
  nb::list extents;
  for (const std::ptrdiff_t extent : shape) extents.append(extent);
  return nb::make_tuple(dtype, nb::tuple(extents));
}

nb::list TypedLayout::Describe() const {
  nb::list columns;
  for (const CellType& column : columns_) columns.append(column.Describe());
  return columns;
}

nb::object CellType::NewArray(const std::vector<std::ptrdiff_t>& leading, void** bytes) const {
  npy_intp dims[NPY_MAXDIMS];
  const std::size_t ndim = leading.size() + shape.size();
  if (ndim > NPY_MAXDIMS) throw nb::value_error("too many dimensions");
  for (std::size_t i = 0; i < ndim; ++i) {
    dims[i] = i < leading.size() ? leading[i] : shape[i - leading.size()];
  }
  auto* descr = reinterpret_cast<PyArray_Descr*>(dtype.ptr());
  Py_INCREF(descr);  // PyArray_Empty steals it
  PyObject* array = PyArray_Empty(static_cast<int>(ndim), dims, descr, 0);
  if (array == nullptr) throw nb::python_error();
  *bytes = PyArray_DATA(reinterpret_cast<PyArrayObject*>(array));
  return nb::steal(array);
}

void* TypedLayout::CheckArray(nb::handle array, std::size_t index,
                              const std::vector<std::ptrdiff_t>& leading) const {
  const CellType& column = columns_[index];
  auto* object = reinterpret_cast<PyArrayObject*>(array.ptr());
  if (!PyArray_Check(array.ptr()) || !SameType(object, column.type_num) ||
      !SameShape(object, leading, column.shape) || !PyArray_ISCARRAY(object)) {
    throw nb::value_error(("out[" + std::to_string(index) + "] has another dtype or shape, " +
                           "is not C-contiguous or not writeable")
                              .c_str());
  }
  return PyArray_DATA(object);
}

PyObject** TypedLayout::Items(nb::sequence leaves) const {
  PyObject* const fast = leaves.ptr();
  if (!PyList_CheckExact(fast) && !PyTuple_CheckExact(fast)) {
    throw nb::type_error("leaves must be a list or a tuple");
  }
  if (static_cast<std::size_t>(PySequence_Fast_GET_SIZE(fast)) != columns_.size()) {
    throw nb::value_error("wrong number of leaves");
  }
  return PySequence_Fast_ITEMS(fast);
}

int TypedLayout::LeafBytes(nb::sequence leaves, std::vector<const void*>* columns,
                           std::vector<std::uint8_t>* scratch) const {
  PyObject** const items = Items(leaves);
  columns->resize(columns_.size());
  scratch->resize(16 * columns_.size());  // the widest scalar: complex128
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    (*columns)[i] = Bytes(columns_[i], items[i], scratch->data() + 16 * i);
    if ((*columns)[i] == nullptr) return static_cast<int>(i);
  }
  return -1;
}

int TypedLayout::BatchBytes(nb::sequence leaves, std::ptrdiff_t n,
                            std::vector<const void*>* columns, bool some) const {
  PyObject** const items = Items(leaves);
  const std::vector<std::ptrdiff_t> leading{n};
  columns->resize(columns_.size());
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    (*columns)[i] = nullptr;
    if (some && items[i] == Py_None) continue;
    auto* array = reinterpret_cast<PyArrayObject*>(items[i]);
    if (!PyArray_CheckExact(items[i]) || !SameType(array, columns_[i].type_num) ||
        !SameShape(array, leading, columns_[i].shape) || !PyArray_ISCARRAY_RO(array)) {
      return static_cast<int>(i);
    }
    (*columns)[i] = PyArray_DATA(array);
  }
  return -1;
}

const void* TypedLayout::Bytes(const CellType& column, PyObject* leaf, std::uint8_t* scratch) {
  // A subclass may mean more than its bytes say, as a masked array does.
  if (PyArray_CheckExact(leaf)) {
    auto* array = reinterpret_cast<PyArrayObject*>(leaf);
    if (!SameType(array, column.type_num) || !SameShape(array, {}, column.shape) ||
        !PyArray_ISCARRAY_RO(array)) {
      return nullptr;
    }
    return PyArray_DATA(array);
  }
  // Where a scalar keeps its value is known of NumPy's own types alone: of others, as
  // bfloat16, PyArray_ScalarAsCtype() copies an address.
  if (PyArray_IsScalar(leaf, Generic) && column.shape.empty() && column.type_num < NPY_USERDEF &&
      column.nbytes <= 16 &&
      Py_TYPE(leaf) == reinterpret_cast<PyArray_Descr*>(column.dtype.ptr())->typeobj) {
    PyArray_ScalarAsCtype(leaf, scratch);
    return scratch;
  }
  return nullptr;
}

}  // namespace reverie_py
