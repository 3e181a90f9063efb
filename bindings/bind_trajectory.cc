#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>

#include <cstring>
#include <deque>

#include "arrays.h"
#include "errors.h"
#include "handles.h"
#include "leaves.h"
#include "no_gil.h"
#include "writers/trajectory_writer.h"

namespace reverie_py {
namespace {

using namespace nb::literals;
using reverie::TrajectoryWriter;

struct TrajectoryWriterHandle {
  std::shared_ptr<reverie::Store> store;
  Spared<std::unique_ptr<TrajectoryWriter>> writer;
  // By column; none: cells of any size. Growing must not move what a call refers to.
  std::deque<std::optional<TypedLayout>> layouts;
};

void CheckColumn(const TrajectoryWriterHandle& self, std::uint32_t column) {
  if (column >= self.layouts.size()) throw nb::value_error("no such column");
}

int Append(TrajectoryWriterHandle& self, nb::sequence cells) {
  PyObject* const fast = cells.ptr();
  if (!PyList_CheckExact(fast) && !PyTuple_CheckExact(fast)) {
    throw nb::type_error("cells must be a list or a tuple");
  }
  const auto n = static_cast<std::size_t>(PySequence_Fast_GET_SIZE(fast));
  if (n != self.layouts.size()) throw nb::value_error("one cell, or None, per column");
  PyObject** const items = PySequence_Fast_ITEMS(fast);
  std::vector<TrajectoryWriter::Cell> found(n);
  LeafSpace space;
  static const std::uint8_t nothing = 0;  // the address of what has no bytes
  for (std::size_t i = 0; i < n; ++i) {
    if (items[i] == Py_None) continue;
    if (!self.layouts[i]) {
      if (!PyBytes_Check(items[i])) return static_cast<int>(i);
      found[i] = {PyBytes_AS_STRING(items[i]),
                  static_cast<std::size_t>(PyBytes_GET_SIZE(items[i]))};
      continue;
    }
    found[i].bytes = LeafBytes(self.layouts[i]->column(0), {}, Taken::kSame, items[i], &space);
    if (found[i].bytes == nullptr) return static_cast<int>(i);
    if (self.layouts[i]->layout()->record_nbytes() == 0) found[i].bytes = &nothing;
  }
  Check(GilToSpare([&] { return self.writer->Append(found.data(), n); }));
  return -1;
}

// The bytes of an array (n, *shape) of exactly the column's type; raises ValueError.
const void* CellBytes(const CellType& cell, PyObject* array, std::size_t* n, LeafSpace* space) {
  const Py_ssize_t length = PyObject_Length(array);
  if (length < 0) throw nb::python_error();
  *n = static_cast<std::size_t>(length);
  const void* const bytes = LeafBytes(cell, {length}, Taken::kSame, array, space);
  if (bytes == nullptr) throw nb::value_error("no array of the column's cells");
  return bytes;
}

std::uint64_t AppendCells(TrajectoryWriterHandle& self, std::uint32_t column, nb::object cells) {
  CheckColumn(self, column);
  if (self.layouts[column]) {
    LeafSpace space;
    std::size_t n;
    std::uint64_t first = 0;
    const void* const bytes = CellBytes(self.layouts[column]->column(0), cells.ptr(), &n, &space);
    Check(GilToSpare([&] { return self.writer->AppendCells(column, bytes, n, &first); }));
    return first;
  }
  const nb::tuple kept(cells);  // a list may change while the GIL is gone
  std::vector<TrajectoryWriter::Cell> found;
  for (const nb::handle text : kept) {
    if (!PyBytes_Check(text.ptr())) throw nb::value_error("cells of any size are bytes");
    found.push_back(
        {PyBytes_AS_STRING(text.ptr()), static_cast<std::size_t>(PyBytes_GET_SIZE(text.ptr()))});
  }
  std::uint64_t first = 0;
  Check(GilToSpare([&] {
    std::vector<TrajectoryWriter::Cell> row(column + std::size_t{1});
    first = self.writer->next(column);
    reverie::Status status;
    for (std::size_t i = 0; i < found.size() && status.ok(); ++i) {
      row[column] = found[i];
      status = self.writer->Append(row.data(), row.size());
    }
    return status;
  }));
  return first;
}

nb::object Read(TrajectoryWriterHandle& self, std::uint32_t column, std::uint64_t number) {
  CheckColumn(self, column);
  std::shared_ptr<reverie::Chunk> pin;
  const void* const bytes = GilToSpare([&] { return self.writer->Find(column, number, &pin); });
  if (bytes == nullptr) throw nb::key_error("expired");
  const std::size_t nbytes = pin->layout->record_nbytes();
  if (!self.layouts[column]) return nb::bytes(bytes, nbytes);
  void* to;
  nb::object array = self.layouts[column]->column(0).NewArray({}, &to);
  if (nbytes != 0) std::memcpy(to, bytes, nbytes);
  return array;
}

bool CreateItem(TrajectoryWriterHandle& self, TableHandle& table, std::optional<double> priority,
                InVector<std::uint32_t> run_column, InVector<std::uint64_t> run_start,
                InVector<std::uint32_t> run_length, InVector<std::uint32_t> runs_per_column,
                InVector<std::uint8_t> squeeze) {
  if (table.store != self.store) throw nb::value_error("a table of another store");
  const std::size_t n = run_column.size();
  if (run_start.size() != n || run_length.size() != n || runs_per_column.size() != squeeze.size()) {
    throw nb::value_error("vectors differ in length");
  }
  std::vector<TrajectoryWriter::Run> runs(n);
  for (std::size_t i = 0; i < n; ++i) {
    runs[i] = {run_column.data()[i], run_start.data()[i], run_length.data()[i]};
  }
  std::vector<TrajectoryWriter::OutputColumn> columns(squeeze.size());
  for (std::size_t i = 0; i < columns.size(); ++i) {
    columns[i] = {runs_per_column.data()[i], squeeze.data()[i] != 0};
  }
  const double number = AsPriority(priority);
  bool inserted = false;
  const reverie::Status status = GilToSpare([&] {
    return self.writer->CreateItem(table.table.get(), number, runs.data(), runs.size(),
                                   columns.data(), columns.size(), &inserted);
  });
  Check(status);
  return inserted;
}

}  // namespace

void BindTrajectory(nb::module_& m) {
  nb::class_<TrajectoryWriterHandle> writer(m, "TrajectoryWriter");
  BindPending(&writer);
  writer
      .def(
          "add_column",
          [](TrajectoryWriterHandle& self, std::optional<TypedLayout> layout, std::uint64_t keep) {
            if (layout && layout->num_columns() != 1) {
              throw nb::value_error("a column has a layout of one column");
            }
            self.layouts.push_back(layout);
            try {
              return GilToSpare([&] {
                return self.writer->AddColumn(layout ? layout->layout() : nullptr, keep);
              });
            } catch (...) {
              self.layouts.pop_back();
              throw;
            }
          },
          "layout"_a.none(), "keep"_a)
      .def(
          "set_keep",
          [](TrajectoryWriterHandle& self, std::uint32_t column, std::uint64_t keep) {
            CheckColumn(self, column);
            GilToSpare([&] { self.writer->SetKeep(column, keep); });
          },
          "column"_a, "keep"_a)
      .def("append", &Append, "cells"_a)
      .def("append_cells", &AppendCells, "column"_a, "cells"_a)
      .def(
          "drop_before",
          [](TrajectoryWriterHandle& self, std::uint32_t column, std::uint64_t number) {
            CheckColumn(self, column);
            GilToSpare([&] { self.writer->DropBefore(column, number); });
          },
          "column"_a, "number"_a)
      .def(
          "first_kept",
          [](const TrajectoryWriterHandle& self, std::uint32_t column) {
            CheckColumn(self, column);
            return GilToSpare([&] { return self.writer->first_kept(column); });
          },
          "column"_a)
      .def(
          "next_number",
          [](const TrajectoryWriterHandle& self, std::uint32_t column) {
            CheckColumn(self, column);
            return GilToSpare([&] { return self.writer->next(column); });
          },
          "column"_a)
      .def("read", &Read, "column"_a, "number"_a)
      .def("create_item", &CreateItem, "table"_a, "priority"_a.none(), "run_column"_a,
           "run_start"_a, "run_length"_a, "runs_per_column"_a, "squeeze"_a)
      .def(
          "end_episode",
          [](TrajectoryWriterHandle& self, bool clear) {
            GilInHand gil;
            self.writer->EndEpisode(clear);
          },
          "clear"_a)
      .def("close", [](TrajectoryWriterHandle& self) {
        GilInHand gil;
        self.writer->Close();
      });

  nb::object store = m.attr("Store");
  store.attr("create_trajectory_writer") = nb::cpp_function(
      [](StoreHandle& self) {
        return TrajectoryWriterHandle{
            self.store,
            GilToSpare([&] { return std::make_unique<TrajectoryWriter>(self.store); }),
            {}};
      },
      nb::name("create_trajectory_writer"), nb::scope(store), nb::is_method());
}

}  // namespace reverie_py
