#include "errors.h"

#include <string>

namespace reverie_py {
namespace {

// Owned by the module, which lives as long as the interpreter.
PyObject* length_mismatch = nullptr;
PyObject* layout_mismatch = nullptr;
PyObject* closed = nullptr;
PyObject* too_many = nullptr;

}  // namespace

void Check(const reverie::Status& status) {
  using reverie::Code;
  switch (status.code) {
    case Code::kOk:
    case Code::kWouldBlock:
      return;
    case Code::kClosed:
      PyErr_SetString(closed, "the store was closed");
      break;
    case Code::kLengthMismatch:
      PyErr_SetObject(length_mismatch,
                      nb::make_tuple(status.key, status.column, status.found, status.wanted).ptr());
      break;
    case Code::kLayoutMismatch:
      PyErr_SetObject(layout_mismatch, nb::make_tuple(status.key, status.column).ptr());
      break;
    case Code::kStaleKey:
      PyErr_SetObject(PyExc_KeyError, nb::int_(status.key).ptr());
      break;
    case Code::kTooMany:
      PyErr_SetString(too_many, "more references on chunks than allowed");
      break;
    case Code::kInterrupted:  // Interruptible() has raised what interrupted it
      PyErr_SetString(PyExc_KeyboardInterrupt, "");
      break;
    case Code::kInvalid:
      PyErr_SetObject(
          PyExc_ValueError,
          nb::str(
              (std::string(status.what) + " (index " + std::to_string(status.found) + ")").c_str())
              .ptr());
      break;
  }
  throw nb::python_error();
}

void BindErrors(nb::module_& m) {
  length_mismatch = PyErr_NewException("reverie._core.LengthMismatch", nullptr, nullptr);
  layout_mismatch = PyErr_NewException("reverie._core.LayoutMismatch", PyExc_ValueError, nullptr);
  closed = PyErr_NewException("reverie._core.Closed", nullptr, nullptr);
  too_many = PyErr_NewException("reverie._core.TooManyReferences", nullptr, nullptr);
  m.attr("TooManyReferences") = nb::handle(too_many);
  m.attr("LengthMismatch") = nb::handle(length_mismatch);
  m.attr("LayoutMismatch") = nb::handle(layout_mismatch);
  m.attr("Closed") = nb::handle(closed);
}

}  // namespace reverie_py
