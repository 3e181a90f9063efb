#include "arrays.h"

#include <numpy/arrayobject.h>

#include <map>
#include <string>
#include <type_traits>

#include "aligned_memory.h"

namespace reverie_py {
namespace tracing {

// Up to Python 3.12 its header has it as a function of C++.
extern "C" int PyTraceMalloc_Track(unsigned domain, std::uintptr_t memory, std::size_t nbytes);

}  // namespace tracing

namespace {

using reverie::Number;

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

template <typename T>
constexpr Number Integer() {
  constexpr bool is_signed = std::is_signed_v<T>;
  switch (sizeof(T)) {
    case 1:
      return is_signed ? Number::kInt8 : Number::kUint8;
    case 2:
      return is_signed ? Number::kInt16 : Number::kUint16;
    case 4:
      return is_signed ? Number::kInt32 : Number::kUint32;
    default:
      return is_signed ? Number::kInt64 : Number::kUint64;
  }
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

PyObject* AlignedHandler() {
  static PyDataMem_Handler handler = {
      "reverie_aligned", 1, {nullptr, AlignedMalloc, AlignedCalloc, AlignedRealloc, AlignedFree}};
  static PyObject* const capsule = PyCapsule_New(&handler, "mem_handler", nullptr);
  if (capsule == nullptr) throw nb::python_error();
  return capsule;
}

constexpr unsigned kTraceDomain = 389047;  // numpy.lib.tracemalloc_domain

// What PyArray_Empty() makes, from our allocator, which the array remembers. To set that as
// NumPy's for as long, PyDataMem_SetHandler(), takes longer than a small batch's arrays do.
// Steals `descr`.
PyObject* NewAligned(PyArray_Descr* descr, int ndim, npy_intp* dims) {
  nb::object handler = nb::borrow(AlignedHandler());
  const auto cells = static_cast<std::size_t>(PyArray_OverflowMultiplyList(dims, ndim));
  const auto item_nbytes = static_cast<std::size_t>(PyDataType_ELSIZE(descr));
  const bool fits = cells <= PTRDIFF_MAX / item_nbytes;  // -1 does not
  const std::size_t nbytes = cells * item_nbytes;
  void* const bytes = fits ? AlignedMalloc(nullptr, nbytes) : nullptr;
  if (bytes == nullptr) return PyArray_Empty(ndim, dims, descr, 0);  // which knows what to say
  PyObject* const object = PyArray_NewFromDescr(&PyArray_Type, descr, ndim, dims, nullptr, bytes,
                                                NPY_ARRAY_CARRAY, nullptr);
  if (object == nullptr) {
    AlignedFree(nullptr, bytes, nbytes);
    return nullptr;
  }
  tracing::PyTraceMalloc_Track(kTraceDomain, reinterpret_cast<std::uintptr_t>(bytes), nbytes);
  PyArray_ENABLEFLAGS(reinterpret_cast<PyArrayObject*>(object), NPY_ARRAY_OWNDATA);
  reinterpret_cast<PyArrayObject_fields*>(object)->mem_handler = handler.release().ptr();
  return object;
}

// The memory that new arrays of this thread are cut from, if any; an OutputMemory.
thread_local OutputMemory* in_use = nullptr;

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

nb::object NewVector(const std::vector<std::ptrdiff_t>& shape, bool** values) {
  static_assert(sizeof(bool) == 1);
  return NewOf(NPY_BOOL, shape, values);
}

nb::tuple NewInfo(const std::vector<std::ptrdiff_t>& shape, reverie::SampleInfo* info) {
  return nb::make_tuple(NewVector(shape, &info->key), NewVector(shape, &info->probability),
                        NewVector(shape, &info->table_size), NewVector(shape, &info->priority),
                        NewVector(shape, &info->times_sampled));
}

Number NumberOfType(int type_num) {
  switch (type_num) {
    case NPY_BOOL:
      return Number::kBool;
    case NPY_BYTE:
      return Integer<npy_byte>();
    case NPY_UBYTE:
      return Integer<npy_ubyte>();
    case NPY_SHORT:
      return Integer<npy_short>();
    case NPY_USHORT:
      return Integer<npy_ushort>();
    case NPY_INT:
      return Integer<npy_int>();
    case NPY_UINT:
      return Integer<npy_uint>();
    case NPY_LONG:
      return Integer<npy_long>();
    case NPY_ULONG:
      return Integer<npy_ulong>();
    case NPY_LONGLONG:
      return Integer<npy_longlong>();
    case NPY_ULONGLONG:
      return Integer<npy_ulonglong>();
    case NPY_HALF:
      return Number::kFloat16;
    case NPY_FLOAT:
      return Number::kFloat32;
    case NPY_DOUBLE:
      return Number::kFloat64;
    case NPY_CFLOAT:
      return Number::kComplex64;
    case NPY_CDOUBLE:
      return Number::kComplex128;
    default:
      return Number::kNone;
  }
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
    column.number = NumberOfType(descr->type_num);
    column.scalar = column.number == Number::kNone ? nullptr : descr->typeobj;
    column.item_nbytes = static_cast<std::size_t>(PyDataType_ELSIZE(descr));
    column.nbytes = column.item_nbytes;
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

// NumPy has two numbers for the same integer where C has two names for it (long
// and long long, or int and long); the bytes are the same.
bool CellType::IsTypeOf(PyObject* array) const {
  const int found = PyArray_TYPE(reinterpret_cast<PyArrayObject*>(array));
  return found == type_num || PyArray_EquivTypenums(found, type_num);
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
  Py_INCREF(descr);  // both ways steal it
  PyObject* array = nullptr;
  if (void* const piece = in_use == nullptr ? nullptr : in_use->Cut(nbytes, leading)) {
    array = PyArray_NewFromDescr(&PyArray_Type, descr, static_cast<int>(ndim), dims, nullptr, piece,
                                 NPY_ARRAY_CARRAY, nullptr);
    if (array == nullptr) throw nb::python_error();
    PyArray_SetBaseObject(reinterpret_cast<PyArrayObject*>(array),
                          in_use->memory().inc_ref().ptr());
  } else {
    array = NewAligned(descr, static_cast<int>(ndim), dims);
    if (array == nullptr) throw nb::python_error();
  }
  *bytes = PyArray_DATA(reinterpret_cast<PyArrayObject*>(array));
  return nb::steal(array);
}

void* TypedLayout::CheckArray(nb::handle array, std::size_t index,
                              const std::vector<std::ptrdiff_t>& leading) const {
  const CellType& column = columns_[index];
  auto* object = reinterpret_cast<PyArrayObject*>(array.ptr());
  if (!PyArray_Check(array.ptr()) || !column.IsTypeOf(array.ptr()) ||
      !SameShape(object, leading, column.shape) || !PyArray_ISCARRAY(object)) {
    throw nb::value_error(("out[" + std::to_string(index) + "] has another dtype or shape, " +
                           "is not C-contiguous or not writeable")
                              .c_str());
  }
  return PyArray_DATA(object);
}

OutputMemory::OutputMemory(nb::object memory) : memory_(std::move(memory)) {
  auto* array = reinterpret_cast<PyArrayObject*>(memory_.ptr());
  if (!PyArray_Check(memory_.ptr()) || PyArray_TYPE(array) != NPY_UINT8 ||
      PyArray_NDIM(array) != 1 || !PyArray_ISCARRAY(array)) {
    throw nb::value_error("memory must be a writeable vector of uint8");
  }
  begin_ = static_cast<std::uint8_t*>(PyArray_DATA(array));
  nbytes_ = static_cast<std::size_t>(PyArray_DIM(array, 0));
  if (reinterpret_cast<std::uintptr_t>(begin_) % kAlignment != 0) {
    throw nb::value_error("memory must begin at a multiple of 64 bytes");
  }
}

void* OutputMemory::Cut(std::size_t nbytes, const std::vector<std::ptrdiff_t>& leading) {
  for (const std::ptrdiff_t extent : leading) nbytes *= static_cast<std::size_t>(extent);
  if (nbytes > nbytes_ - used_) return nullptr;
  void* const piece = begin_ + used_;
  const std::size_t whole = (nbytes + kAlignment - 1) / kAlignment * kAlignment;
  used_ = whole > nbytes_ - used_ ? nbytes_ : used_ + whole;
  return piece;
}

void OutputMemory::Enter() {
  if (in_use != nullptr) throw nb::value_error("this thread's arrays have a memory already");
  used_ = 0;
  in_use = this;
}

void OutputMemory::Exit() {
  if (in_use == this) in_use = nullptr;
}

void BindOutputMemory(nb::module_& m) {
  nb::class_<OutputMemory>(m, "OutputMemory")
      .def(nb::init<nb::object>(), nb::arg("memory"))
      .def_prop_ro("used", &OutputMemory::used)
      .def("enter", &OutputMemory::Enter)
      .def("exit", &OutputMemory::Exit);
}

}  // namespace reverie_py
