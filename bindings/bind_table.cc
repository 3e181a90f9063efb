#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include "arrays.h"
#include "errors.h"
#include "handles.h"
#include "interrupts.h"
#include "new_columns.h"
#include "no_gil.h"
#include "states.h"

namespace reverie_py {
namespace {

using namespace nb::literals;

using reverie::BatchSpec;
using Lengths = std::optional<std::vector<std::int64_t>>;  // by column

const std::int64_t* CheckLengths(const TypedLayout& layout, const Lengths& lengths) {
  if (!lengths) return nullptr;
  if (lengths->size() != layout.num_columns()) throw nb::value_error("one length per column");
  for (const std::int64_t length : *lengths) {
    if (length != BatchSpec::kSqueezed && (length < 1 || length > 0xffffffff)) {
      throw nb::value_error("lengths must be positive, or -1");
    }
  }
  return lengths->data();
}

// New arrays for a batch of n items, or those of `out`, and their bytes.
nb::list Outputs(const TypedLayout& layout, std::ptrdiff_t n, const BatchSpec& spec, nb::object out,
                 std::vector<void*>* outputs) {
  nb::list columns;
  std::vector<std::ptrdiff_t> leading{n, 0};
  outputs->resize(layout.num_columns());
  for (std::size_t i = 0; i < outputs->size(); ++i) {
    const bool squeezed = spec.length(i) == BatchSpec::kSqueezed;
    leading.resize(squeezed ? 1 : 2);
    if (!squeezed) leading[1] = spec.length(i);
    if (out.is_none()) {
      columns.append(layout.column(i).NewArray(leading, &(*outputs)[i]));
    } else {
      (*outputs)[i] = layout.CheckArray(out[i], i, leading);
      columns.append(out[i]);
    }
  }
  return columns;
}

std::uint32_t SizeOf(const TableHandle& self) {
  return GilToSpare([&] { return self.store->table_info(*self.table).size; });
}

nb::object Sample(TableHandle& self, const TypedLayout& layout, std::uint32_t batch_size,
                  std::uint32_t steps, std::uint32_t piece, bool repeat_info, nb::object out,
                  const Lengths& lengths) {
  if (batch_size == 0 || steps == 0 || piece == 0 || steps % piece != 0 ||
      (lengths && piece != steps)) {
    throw nb::value_error("batch_size and steps must be positive, piece a divisor of steps");
  }
  const auto* const of_columns = CheckLengths(layout, lengths);
  std::vector<void*> outputs;
  const BatchSpec result(layout.layout().get(), piece, of_columns);
  nb::list columns = Outputs(layout, batch_size, result, out, &outputs);
  reverie::SampleInfo info{};
  info.repeat = repeat_info ? piece : 1;
  std::vector<std::ptrdiff_t> info_shape{batch_size};
  if (repeat_info) info_shape.push_back(piece);
  const nb::tuple infos = NewInfo(info_shape, &info);
  const std::size_t nbytes = batch_size * layout.layout()->record_nbytes() * piece;
  const bool is_long = batch_size >= kLongItems || nbytes >= kLongBytes;
  const reverie::Status status = Interruptible(is_long, [&] {
    return self.store->Sample(self.table.get(), {result.layout, steps, of_columns}, batch_size,
                              lengths ? 0 : piece, outputs.data(), info);
  });
  Check(status);
  if (!status.ok()) return nb::none();
  return nb::make_tuple(columns, infos);
}

nb::object Gather(TableHandle& self, const TypedLayout& layout,
                  std::optional<InVector<std::uint64_t>> keys, std::uint32_t steps,
                  const Lengths& lengths) {
  const BatchSpec spec(layout.layout().get(), steps, CheckLengths(layout, lengths));
  const Spared reader(std::make_unique<reverie::Store::Reader>(self.store, spec));
  const std::size_t most = keys ? keys->size() : SizeOf(self);
  const reverie::Status status = Interruptible(most >= kLongItems, [&] {
    return reader->Select(self.table.get(), keys ? keys->data() : nullptr, keys ? keys->size() : 0);
  });
  Check(status);
  std::vector<void*> outputs;
  const auto n = static_cast<std::ptrdiff_t>(reader->keys().size());
  nb::list columns = Outputs(layout, n, reader->spec(), nb::none(), &outputs);
  const std::size_t nbytes =
      static_cast<std::size_t>(n) * layout.layout()->record_nbytes() * reader->spec().steps;
  const bool is_long = reader->keys().size() >= kLongItems || nbytes >= kLongBytes;
  Check(Interruptible(is_long, [&] { return reader->Gather(outputs.data()); }));
  std::vector<std::uint64_t> found = reader->keys();
  return nb::make_tuple(columns, ToNumpy(std::move(found)));
}

using OwnItems = Spared<std::unique_ptr<reverie::Store::ItemReader>>;

// Whether there were any.
bool Sampled(TableHandle& self, std::size_t max_items, const OwnItems& reader) {
  if (max_items == 0) throw nb::value_error("max_items must be positive");
  const reverie::Status status =
      GilToSpare([&] { return reader->Sample(self.table.get(), max_items); });
  Check(status);
  return status.ok();
}

nb::object SampleItems(TableHandle& self, std::size_t max_items) {
  const Spared reader(std::make_unique<reverie::Store::ItemReader>(self.store));
  if (!Sampled(self, max_items, reader)) return nb::none();
  NewColumns columns;
  nb::list result;
  for (const reverie::SampledItem& item : reader->items()) {
    const std::size_t before = columns.size();
    columns.Add(item);
    result.append(nb::make_tuple(item.key, item.probability, item.table_size, item.priority,
                                 item.times_sampled, columns.Arrays(columns.size() - before)));
  }
  columns.Copy(*reader);
  return result;
}

nb::object SampleRuns(TableHandle& self, std::size_t max_items) {
  const Spared reader(std::make_unique<reverie::Store::ItemReader>(self.store));
  if (!Sampled(self, max_items, reader)) return nb::none();
  struct Run {
    std::size_t num_columns, items;
  };
  NewColumns columns;
  std::vector<Run> runs;
  for (const reverie::SampledItem& item : reader->items()) {
    const std::size_t before = columns.size();
    if (columns.Add(item)) {
      ++runs.back().items;
    } else {
      runs.push_back({columns.size() - before, 1});
    }
  }
  nb::list result;
  auto item = reader->items().begin();
  for (const Run& run : runs) {
    const std::vector<std::ptrdiff_t> shape{static_cast<std::ptrdiff_t>(run.items)};
    reverie::SampleInfo info{};
    const nb::tuple infos = NewInfo(shape, &info);
    for (std::size_t i = 0; i < run.items; ++i, ++item) {
      info.key[i] = item->key;
      info.probability[i] = item->probability;
      info.table_size[i] = item->table_size;
      info.priority[i] = item->priority;
      info.times_sampled[i] = item->times_sampled;
    }
    result.append(nb::make_tuple(infos, columns.Stacked(run.num_columns, run.items)));
  }
  columns.Copy(*reader);
  return result;
}

nb::list ItemOf(TableHandle& self, std::uint64_t key) {
  const Spared reader(std::make_unique<reverie::Store::ItemReader>(self.store));
  Check(GilToSpare([&] { return reader->Find(self.table.get(), &key); }));
  NewColumns columns;
  columns.Add(reader->items()[0]);
  nb::list result = columns.Arrays(columns.size());
  columns.Copy(*reader);
  return result;
}

nb::object Describe(TableHandle& self, std::optional<std::uint64_t> key) {
  const Spared reader(std::make_unique<reverie::Store::ItemReader>(self.store));
  const reverie::Status status =
      GilToSpare([&] { return reader->Find(self.table.get(), key ? &*key : nullptr); });
  Check(status);
  if (!status.ok()) return nb::none();
  reverie::ColumnCopies item;
  item.Add(reader->items()[0]);
  nb::list result;
  for (const auto& column : item.columns()) {
    const auto length = column.squeeze ? -1 : static_cast<std::ptrdiff_t>(column.length);
    if (column.type == 0) {
      result.append(nb::make_tuple(nb::none(), nb::make_tuple(), length));
    } else {
      const nb::tuple type = CellType::Of(column.type).Describe();
      result.append(nb::make_tuple(type[0], type[1], length));
    }
  }
  return result;
}

nb::dict Info(const TableHandle& self) {
  const auto info = GilToSpare([&] { return self.store->table_info(*self.table); });
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
  result["num_unique_samples"] = info.stats.num_unique_samples;
  result["num_episodes"] = info.stats.num_episodes;
  result["num_deleted_episodes"] = info.stats.num_deleted_episodes;
  result["pending"] = info.stats.pending;
  return result;
}

}  // namespace

void BindTable(nb::module_& m) {
  nb::class_<TableHandle>(m, "Table")
      .def_prop_ro("size", [](const TableHandle& self) { return SizeOf(self); })
      .def_prop_ro("max_size", [](const TableHandle& self) { return self.table->max_size(); })
      .def("info", &Info)
      .def("sample", &Sample, "layout"_a, "batch_size"_a, "steps"_a, "piece"_a, "repeat_info"_a,
           "out"_a.none(), "lengths"_a = nb::none())
      .def("sample_items", &SampleItems, "max_items"_a)
      .def("sample_runs", &SampleRuns, "max_items"_a)
      .def("min_probability",
           [](const TableHandle& self) {
             return GilToSpare([&] { return self.store->MinProbability(*self.table); });
           })
      .def(
          "can_sample",
          [](const TableHandle& self, std::int64_t n) {
            return GilToSpare([&] { return self.store->CanSample(*self.table, n); });
          },
          "n"_a)
      .def(
          "can_insert",
          [](const TableHandle& self, std::int64_t n) {
            return GilToSpare([&] { return self.store->CanInsert(*self.table, n); });
          },
          "n"_a)
      .def("gather", &Gather, "layout"_a, "keys"_a.none(), "steps"_a, "lengths"_a = nb::none())
      .def("item", &ItemOf, "key"_a)
      .def("describe", &Describe, "key"_a = nb::none())
      .def("items",
           [](TableHandle& self) {
             reverie::TableState state = Interruptible(
                 SizeOf(self) >= kLongItems, [&] { return self.store->table_state(self.table); });
             return ItemArrays(std::move(state.items));
           })
      .def(
          "update_priorities",
          [](TableHandle& self, InVector<std::uint64_t> keys, InVector<double> priorities) {
            if (keys.size() != priorities.size()) throw nb::value_error("one priority per key");
            return Interruptible(keys.size() >= kLongItems, [&] {
              return self.store->UpdatePriorities(self.table.get(), keys.data(), priorities.data(),
                                                  keys.size());
            });
          },
          "keys"_a, "priorities"_a)
      .def(
          "delete",
          [](TableHandle& self, InVector<std::uint64_t> keys) {
            return Interruptible(keys.size() >= kLongItems, [&] {
              return self.store->Delete(self.table.get(), keys.data(), keys.size());
            });
          },
          "keys"_a)
      .def(
          "resize",
          [](TableHandle& self, std::uint32_t max_size) {
            if (max_size == 0) throw nb::value_error("max_size must be positive");
            Check(Interruptible(SizeOf(self) >= kLongItems,
                                [&] { return self.store->Resize(self.table.get(), max_size); }));
          },
          "max_size"_a)
      .def("clear",
           [](TableHandle& self) {
             Check(Interruptible(SizeOf(self) >= kLongItems,
                                 [&] { return self.store->Clear(self.table.get()); }));
           })
      .def(
          "wait",
          [](TableHandle& self, std::int64_t batch_size, double timeout_s) {
            const reverie::Status status = GilToSpare(
                [&] { return self.store->WaitToSample(self.table.get(), batch_size, timeout_s); });
            Check(status);
            return status.ok();
          },
          "batch_size"_a, "timeout_s"_a)
      .def(
          "restore",
          [](TableHandle& self, nb::dict state, std::uint64_t max_references) {
            const reverie::TableState parsed = ParseTableState(state);
            std::uint64_t left = max_references;
            Check(Interruptible(
                true, [&] { return self.store->RestoreTable(self.table.get(), parsed, &left); }));
            return max_references - left;
          },
          "state"_a, "max_references"_a = ~std::uint64_t{0});
}

}  // namespace reverie_py
