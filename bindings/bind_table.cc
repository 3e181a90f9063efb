#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include "arrays.h"
#include "errors.h"
#include "handles.h"
#include "states.h"

namespace reverie_py {
namespace {

using namespace nb::literals;

nb::object Sample(TableHandle& self, const TypedLayout& layout, std::uint32_t batch_size,
                  std::uint32_t steps, std::uint32_t piece, bool repeat_info, nb::object out) {
  if (batch_size == 0 || steps == 0 || piece == 0 || steps % piece != 0) {
    throw nb::value_error("batch_size and steps must be positive, piece a divisor of steps");
  }
  const std::vector<std::ptrdiff_t> leading{batch_size, piece};
  nb::list columns;
  std::vector<void*> outputs(layout.num_columns());
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (out.is_none()) {
      columns.append(layout.NewArray(i, leading, &outputs[i]));
    } else {
      outputs[i] = layout.CheckArray(out[i], i, leading);
      columns.append(out[i]);
    }
  }
  reverie::SampleInfo info{};
  info.repeat = repeat_info ? piece : 1;
  std::vector<std::ptrdiff_t> info_shape{batch_size};
  if (repeat_info) info_shape.push_back(piece);
  nb::tuple infos =
      nb::make_tuple(NewVector(info_shape, &info.key), NewVector(info_shape, &info.probability),
                     NewVector(info_shape, &info.table_size), NewVector(info_shape, &info.priority),
                     NewVector(info_shape, &info.times_sampled));
  reverie::Status status;
  {
    nb::gil_scoped_release release;
    status = self.store->Sample(self.table.get(), layout.layout().get(), batch_size, steps, piece,
                                outputs.data(), info);
  }
  Check(status);
  if (!status.ok()) return nb::none();
  return nb::make_tuple(columns, infos);
}

nb::object Gather(TableHandle& self, const TypedLayout& layout,
                  std::optional<InVector<std::uint64_t>> keys, std::uint32_t steps) {
  reverie::Store::Reader reader(self.store);
  reverie::Status status;
  {
    nb::gil_scoped_release release;
    status = reader.Select(self.table.get(), layout.layout().get(), keys ? keys->data() : nullptr,
                           keys ? keys->size() : 0, steps);
  }
  Check(status);
  const auto n = static_cast<std::ptrdiff_t>(reader.keys().size());
  nb::list columns;
  std::vector<void*> outputs(layout.num_columns());
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    columns.append(layout.NewArray(i, {n, reader.steps()}, &outputs[i]));
  }
  {
    nb::gil_scoped_release release;
    reader.GatherRows(*layout.layout(), outputs.data());
  }
  std::vector<std::uint64_t> found = reader.keys();
  return nb::make_tuple(columns, ToNumpy(std::move(found)));
}

// One item whole, whatever its columns' lengths.
nb::list GatherItem(TableHandle& self, const TypedLayout& layout, std::uint64_t key) {
  reverie::Store::Reader reader(self.store);
  Check(reader.Find(self.table.get(), layout.layout().get(), key));
  nb::list columns;
  for (std::size_t i = 0; i < layout.num_columns(); ++i) {
    void* output;
    columns.append(layout.NewArray(i, {reader.span_length(i)}, &output));
    nb::gil_scoped_release release;
    reader.GatherSpan(*layout.layout(), i, output);
  }
  return columns;
}

nb::dict Info(const TableHandle& self) {
  const auto info = self.store->table_info(*self.table);
  nb::dict result;
  result["size"] = info.size;
  result["max_size"] = info.max_size;
  result["min_size_to_sample"] = info.limiter.min_size_to_sample;
  result["samples_per_insert"] = info.limiter.samples_per_insert;
  result["min_diff"] = info.limiter.min_diff;
  result["max_diff"] = info.limiter.max_diff;
  result["inserts"] = info.counters.inserts;
  result["samples"] = info.counters.samples;
  result["deletes"] = info.counters.deletes;
  return result;
}

}  // namespace

void BindTable(nb::module_& m) {
  nb::class_<TableHandle>(m, "Table")
      .def_prop_ro("size",
                   [](const TableHandle& self) { return self.store->table_info(*self.table).size; })
      .def_prop_ro("max_size",
                   [](const TableHandle& self) { return self.table->config().max_size; })
      .def("info", &Info)
      .def("sample", &Sample, "layout"_a, "batch_size"_a, "steps"_a, "piece"_a, "repeat_info"_a,
           "out"_a.none())
      .def("gather", &Gather, "layout"_a, "keys"_a.none(), "steps"_a)
      .def("gather_item", &GatherItem, "layout"_a, "key"_a)
      .def("items",
           [](TableHandle& self) {
             reverie::TableState state;
             {
               nb::gil_scoped_release release;
               state = self.store->table_state(*self.table);
             }
             return ItemArrays(std::move(state.items));
           })
      .def(
          "update_priorities",
          [](TableHandle& self, InVector<std::uint64_t> keys, InVector<double> priorities) {
            if (keys.size() != priorities.size()) throw nb::value_error("one priority per key");
            nb::gil_scoped_release release;
            return self.store->UpdatePriorities(self.table.get(), keys.data(), priorities.data(),
                                                keys.size());
          },
          "keys"_a, "priorities"_a)
      .def(
          "delete",
          [](TableHandle& self, InVector<std::uint64_t> keys) {
            nb::gil_scoped_release release;
            return self.store->Delete(self.table.get(), keys.data(), keys.size());
          },
          "keys"_a)
      .def("clear",
           [](TableHandle& self) {
             nb::gil_scoped_release release;
             self.store->Clear(self.table.get());
           })
      .def(
          "wait",
          [](TableHandle& self, std::int64_t batch_size, double timeout_s) {
            reverie::Status status;
            {
              nb::gil_scoped_release release;
              status = self.store->WaitToSample(self.table.get(), batch_size, timeout_s);
            }
            Check(status);
            return status.ok();
          },
          "batch_size"_a, "timeout_s"_a)
      .def(
          "restore",
          [](TableHandle& self, nb::dict state) {
            const reverie::TableState parsed = ParseTableState(state);
            reverie::Status status;
            {
              nb::gil_scoped_release release;
              status = self.store->RestoreTable(self.table.get(), parsed);
            }
            Check(status);
          },
          "state"_a);
}

}  // namespace reverie_py
