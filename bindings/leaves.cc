#include "leaves.h"

#define NO_IMPORT_ARRAY
#include <numpy/arrayobject.h>
#include <numpy/arrayscalars.h>

#include <cstring>
#include <type_traits>
#include <utility>

#include "casts.h"

namespace reverie_py {
namespace {

using reverie::Cast;
using reverie::Number;

static_assert(std::is_same_v<npy_intp, std::ptrdiff_t>);

// Axes of some cells.
class Extents {
 public:
  Extents(const std::vector<std::ptrdiff_t>& leading, const std::vector<std::ptrdiff_t>& cell)
      : leading_(leading), cell_(cell) {}

  std::size_t size() const { return leading_.size() + cell_.size(); }
  std::ptrdiff_t operator[](std::size_t axis) const {
    return axis < leading_.size() ? leading_[axis] : cell_[axis - leading_.size()];
  }
  std::size_t count() const {
    std::size_t found = 1;
    for (std::size_t axis = 0; axis < size(); ++axis) found *= (*this)[axis];
    return found;
  }
  // Whether an array has the axes from this one on.
  bool Are(PyArrayObject* array, std::size_t axis) const {
    if (static_cast<std::size_t>(PyArray_NDIM(array)) + axis != size()) return false;
    for (int i = 0; axis < size(); ++i, ++axis) {
      if (PyArray_DIM(array, i) != (*this)[axis]) return false;
    }
    return true;
  }

 private:
  const std::vector<std::ptrdiff_t>& leading_;
  const std::vector<std::ptrdiff_t>& cell_;
};

struct Element {
  Number number;
  alignas(16) std::uint8_t bytes[16];

  template <typename T>
  void Set(Number of, T value) {
    number = of;
    std::memcpy(bytes, &value, sizeof value);
  }
};

// What a scalar of this very type is: kNone if it is not one of NumPy's own.
Number NumberOfScalar(PyTypeObject* type) {
  static const auto* known = [] {
    auto* types = new std::vector<std::pair<PyTypeObject*, Number>>();
    for (int number = 0; number < NPY_NTYPES_LEGACY; ++number) {
      if (NumberOfType(number) == Number::kNone) continue;
      PyArray_Descr* const descr = PyArray_DescrFromType(number);
      types->emplace_back(descr->typeobj, NumberOfType(number));
      Py_DECREF(descr);
    }
    return types;
  }();
  for (const auto& [scalar, number] : *known) {
    if (scalar == type) return number;
  }
  return Number::kNone;
}

// A number of Python's or NumPy's; false if it is none, or one of more than 64 bits.
bool Read(PyObject* object, Element* element) {
  if (PyFloat_CheckExact(object)) {
    element->Set(Number::kFloat64, PyFloat_AS_DOUBLE(object));
    return true;
  }
  if (PyBool_Check(object)) {
    element->Set(Number::kBool, static_cast<std::uint8_t>(object == Py_True));
    return true;
  }
  if (PyLong_CheckExact(object)) {
    int overflow = 0;
    const long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (overflow == 0) {
      element->Set(Number::kInt64, static_cast<std::int64_t>(value));
      return true;
    }
    if (overflow < 0) return false;
    const unsigned long long large = PyLong_AsUnsignedLongLong(object);
    if (PyErr_Occurred() != nullptr) {
      PyErr_Clear();
      return false;
    }
    element->Set(Number::kUint64, static_cast<std::uint64_t>(large));
    return true;
  }
  if (PyComplex_CheckExact(object)) {
    element->Set(Number::kComplex128, PyComplex_AsCComplex(object));
    return true;
  }
  element->number = NumberOfScalar(Py_TYPE(object));
  if (element->number == Number::kNone) return false;
  PyArray_ScalarAsCtype(object, element->bytes);
  return true;
}

// The numbers of an array, dense; null if they are not NumPy's own in native order.
const void* Dense(PyArrayObject* array, LeafSpace* space) {
  if (NumberOfType(PyArray_TYPE(array)) == Number::kNone || !PyArray_ISNOTSWAPPED(array)) {
    return nullptr;
  }
  if (PyArray_IS_C_CONTIGUOUS(array)) return PyArray_DATA(array);
  void* const to = space->Room(PyArray_NBYTES(array));
  reverie::Gather(PyArray_DATA(array), PyArray_DIMS(array), PyArray_STRIDES(array),
                  PyArray_NDIM(array), PyArray_ITEMSIZE(array), to);
  return to;
}

// Where cells of one column come from, and how.
struct Way {
  const CellType& column;
  const Extents& extents;
  Taken taken;
  LeafSpace* space;

  // Null: the numbers are none that it takes.
  Cast Find(Number from, bool whole) const {
    if (taken == Taken::kSame && from != column.number) return nullptr;
    return reverie::FindCast(from, column.number, whole);
  }
  const void* CastAll(Number from, const void* values, bool whole) const {
    const Cast cast = Find(from, whole);
    if (cast == nullptr) return nullptr;
    const std::size_t count = extents.count();
    void* const to = space->Room(count * column.item_nbytes);
    return cast(values, to, count) ? to : nullptr;
  }
};

const void* ArrayBytes(const Way& way, PyObject* leaf) {
  auto* array = reinterpret_cast<PyArrayObject*>(leaf);
  if (!way.extents.Are(array, 0)) return nullptr;
  if (way.column.IsTypeOf(leaf) && PyArray_ISCARRAY_RO(array)) return PyArray_DATA(array);
  const Number from = NumberOfType(PyArray_TYPE(array));
  if (way.Find(from, false) == nullptr) return nullptr;
  const void* const values = Dense(array, way.space);
  return values == nullptr ? nullptr : way.CastAll(from, values, false);
}

constexpr unsigned Bit(Number number) { return 1u << static_cast<unsigned>(number); }
constexpr unsigned kPythons =
    Bit(Number::kBool) | Bit(Number::kInt64) | Bit(Number::kFloat64) | Bit(Number::kComplex128);

// A list or tuple of numbers, lists of them, or arrays.
class List {
 public:
  List(const Extents& extents, LeafSpace* space) : extents_(extents), space_(space) {}

  // Dense, as NumPy would make an array of them; null where that is not plain, as where
  // they have no common dtype.
  const void* Read(PyObject* list, Number* number) {
    if (extents_.count() == 0 || !Look(list, 0)) return nullptr;
    *number = number_ = Common();
    if (number_ == Number::kNone) return nullptr;
    void* const to = space_->Room(extents_.count() * reverie::NbytesOf(number_));
    to_ = static_cast<std::uint8_t*>(to);
    return Fill(list) ? to : nullptr;
  }

 private:
  static bool IsList(PyObject* node) { return PyList_CheckExact(node) || PyTuple_CheckExact(node); }

  // Whether all is of the right shape; notes which numbers there are.
  bool Look(PyObject* node, std::size_t axis) {
    if (PyArray_CheckExact(node)) {
      auto* array = reinterpret_cast<PyArrayObject*>(node);
      has_arrays_ = true;
      return extents_.Are(array, axis) && Note(NumberOfType(PyArray_TYPE(array)));
    }
    if (axis == extents_.size()) {
      Element element;
      return reverie_py::Read(node, &element) && Note(element.number);
    }
    if (!IsList(node) || PySequence_Fast_GET_SIZE(node) != extents_[axis]) return false;
    PyObject** const items = PySequence_Fast_ITEMS(node);
    for (std::ptrdiff_t i = 0; i < extents_[axis]; ++i) {
      if (!Look(items[i], axis + 1)) return false;
    }
    return true;
  }

  bool Note(Number number) {
    seen_ |= Bit(number);
    return number != Number::kNone;
  }

  // The dtype that NumPy gives them all: that of one kind, or the last of Python's own.
  Number Common() const {
    const bool are_pythons = !has_arrays_ && (seen_ & ~kPythons) == 0;
    for (std::size_t last = reverie::kNumbers; last-- != 0;) {
      const unsigned bit = 1u << last;
      if ((seen_ & bit) != 0) {
        return seen_ == bit || are_pythons ? static_cast<Number>(last) : Number::kNone;
      }
    }
    return Number::kNone;
  }

  bool Fill(PyObject* node) {
    if (IsList(node)) {
      PyObject** const items = PySequence_Fast_ITEMS(node);
      const Py_ssize_t size = PySequence_Fast_GET_SIZE(node);
      for (Py_ssize_t i = 0; i < size; ++i) {
        if (!Fill(items[i])) return false;
      }
      return true;
    }
    if (PyArray_CheckExact(node)) {
      auto* array = reinterpret_cast<PyArrayObject*>(node);
      const void* const values = Dense(array, space_);
      if (values == nullptr) return false;
      const std::size_t nbytes = PyArray_NBYTES(array);
      std::memcpy(to_, values, nbytes);
      to_ += nbytes;
      return true;
    }
    Element element;
    if (!reverie_py::Read(node, &element)) return false;
    if (!reverie::FindCast(element.number, number_, true)(element.bytes, to_, 1)) return false;
    to_ += reverie::NbytesOf(number_);
    return true;
  }

  const Extents& extents_;
  LeafSpace* const space_;
  unsigned seen_ = 0;  // a bit for each Number
  bool has_arrays_ = false;
  Number number_ = Number::kNone;
  std::uint8_t* to_ = nullptr;
};

// What NumPy makes of an object that says how; null where it does not, or if that fails.
nb::object AsArray(PyObject* object) {
  static PyObject* const array = PyUnicode_InternFromString("__array__");
  static PyObject* const description = PyUnicode_InternFromString("__array_interface__");
  static PyObject* const structure = PyUnicode_InternFromString("__array_struct__");
  const auto has = [object](PyObject* name) {
    return _PyType_Lookup(Py_TYPE(object), name) != nullptr;
  };
  const bool has_buffer = PyObject_CheckBuffer(object) != 0;
  if (PyArray_Check(object) || !(has_buffer || has(array))) return {};
  PyObject* found;
  if (has_buffer || has(description) || has(structure)) {
    found = PyArray_FromAny(object, nullptr, 0, 0, NPY_ARRAY_ENSUREARRAY, nullptr);
  } else {  // which NumPy would find, too, after it has looked for all the others
    found = PyObject_CallMethodNoArgs(object, array);
  }
  if (found == nullptr) {
    if (PyErr_ExceptionMatches(PyExc_Exception) == 0) throw nb::python_error();
    PyErr_Clear();
  }
  return nb::steal(found);
}

}  // namespace

void* LeafSpace::Room(std::size_t nbytes) {
  constexpr std::size_t kStep = alignof(std::max_align_t);
  if (nbytes <= sizeof near_ - used_) {
    void* const room = near_ + used_;
    used_ += (nbytes + kStep - 1) / kStep * kStep;
    return room;
  }
  far_.emplace_back(new std::uint8_t[nbytes]);
  return far_.back().get();
}

const void* LeafBytes(const CellType& column, const std::vector<std::ptrdiff_t>& leading,
                      Taken taken, PyObject* leaf, LeafSpace* space) {
  const Extents extents(leading, column.shape);
  const Way way{column, extents, taken, space};
  if (PyArray_CheckExact(leaf)) return ArrayBytes(way, leaf);
  if (Py_TYPE(leaf) == column.scalar && extents.size() == 0) {
    void* const to = space->Room(column.item_nbytes);
    PyArray_ScalarAsCtype(leaf, to);
    return to;
  }
  Element element;
  if (Read(leaf, &element)) {
    if (extents.size() != 0) return nullptr;
    return way.CastAll(element.number, element.bytes, PyLong_CheckExact(leaf));
  }
  if (taken == Taken::kSame) return nullptr;
  if (PyList_CheckExact(leaf) || PyTuple_CheckExact(leaf)) {
    Number number = Number::kNone;
    const void* const values = List(extents, space).Read(leaf, &number);
    return values == nullptr ? nullptr : way.CastAll(number, values, true);
  }
  const nb::object held = nb::borrow(leaf);  // whatever its own code does
  nb::object array = AsArray(leaf);
  if (!array.is_valid() || !PyArray_CheckExact(array.ptr())) return nullptr;
  const void* const bytes = ArrayBytes(way, array.ptr());
  space->Keep(std::move(array));
  return bytes;
}

int StepBytes(const TypedLayout& layout, nb::sequence leaves,
              const std::vector<std::ptrdiff_t>& leading, LeafSpace* space, const void*** columns,
              bool some) {
  PyObject* const fast = leaves.ptr();
  if (!PyList_CheckExact(fast) && !PyTuple_CheckExact(fast)) {
    throw nb::type_error("leaves must be a list or a tuple");
  }
  const std::size_t count = layout.num_columns();
  const auto check = [&] {
    if (static_cast<std::size_t>(PySequence_Fast_GET_SIZE(fast)) != count) {
      throw nb::value_error("wrong number of leaves");
    }
  };
  check();
  *columns = static_cast<const void**>(space->Room(count * sizeof(void*)));
  for (std::size_t i = 0; i < count; ++i) {
    check();  // foreign code may have run since
    PyObject* const leaf = PySequence_Fast_GET_ITEM(fast, i);
    if (some && leaf == Py_None) {
      (*columns)[i] = nullptr;
      continue;
    }
    (*columns)[i] = LeafBytes(layout.column(i), leading, Taken::kCast, leaf, space);
    if ((*columns)[i] == nullptr) return static_cast<int>(i);
  }
  return -1;
}

}  // namespace reverie_py
