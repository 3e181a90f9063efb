#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include "arrays.h"
#include "errors.h"
#include "handles.h"
#include "no_gil.h"
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
    NoGil release;
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
    NoGil release;
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
    NoGil release;
    reader.GatherRows(*layout.layout(), outputs.data());
  }
  std::vector<std::uint64_t> found = reader.keys();
  return nb::make_tuple(columns, ToNumpy(std::move(found)));
}

// One output column of an item: where its cells are, and the array they go to.
struct OutputColumn {
  std::size_t item;
  std::size_t column;       // of a run of whole steps
  std::size_t first_piece;  // of a trajectory
  std::size_t num_pieces;
  void* bytes;
};

// A column of cells of any size.
nb::object BytesColumn(const reverie::Piece* pieces, std::size_t n, bool squeeze) {
  const auto cell = [](const reverie::Piece& piece) {
    return nb::bytes(piece.chunk->record(piece.offset), piece.chunk->layout->record_nbytes());
  };
  if (squeeze) return cell(pieces[0]);
  nb::list cells;
  for (std::size_t i = 0; i < n; ++i) cells.append(cell(pieces[i]));
  return cells;
}

// New arrays for all columns of an item. What must be copied later is appended to
// `copies`; cells of any size are copied here.
nb::list NewColumns(const reverie::SampledItem& item, std::size_t index,
                    std::vector<OutputColumn>* copies) {
  nb::list columns;
  void* bytes;
  if (item.trajectory.columns.empty()) {
    if (item.row.chunk->layout->tag() == 0) {  // so may a damaged checkpoint have it
      throw nb::value_error("an item of whole steps over cells of any size");
    }
    const TypedLayout& layout = TypedLayout::Of(*item.row.chunk->layout);
    for (std::size_t c = 0; c < layout.num_columns(); ++c) {
      const std::uint32_t length = item.spans.empty() ? item.length : item.spans[c].length;
      columns.append(layout.NewArray(c, {length}, &bytes));
      copies->push_back({index, c, 0, 0, bytes});
    }
    return columns;
  }
  std::size_t p = 0;
  for (const reverie::Trajectory::Column& column : item.trajectory.columns) {
    const reverie::Piece* const pieces = &item.trajectory.pieces[p];
    const reverie::RecordLayout& layout = *pieces->chunk->layout;
    if (layout.tag() == 0) {
      columns.append(BytesColumn(pieces, column.num_pieces, column.squeeze));
    } else {
      std::vector<std::ptrdiff_t> leading;
      if (!column.squeeze) {
        leading.push_back(0);
        for (std::size_t i = 0; i < column.num_pieces; ++i) leading[0] += pieces[i].length;
      }
      columns.append(TypedLayout::Of(layout).NewArray(0, leading, &bytes));
      copies->push_back({index, 0, p, column.num_pieces, bytes});
    }
    p += column.num_pieces;
  }
  return columns;
}

// Copying less than this under the GIL is cheaper than dropping it.
constexpr std::size_t kKeepGilBelow = 64 * 1024;

void CopyColumns(const std::vector<reverie::SampledItem>& items,
                 const std::vector<OutputColumn>& copies) {
  for (const OutputColumn& copy : copies) {
    const reverie::SampledItem& item = items[copy.item];
    if (copy.num_pieces != 0) {
      reverie::GatherPieces(&item.trajectory.pieces[copy.first_piece], copy.num_pieces, copy.bytes);
    } else {
      const reverie::Span span =
          item.spans.empty() ? reverie::Span{0, item.length} : item.spans[copy.column];
      reverie::GatherColumn(*item.row.chunk->layout, copy.column, item.row, span.start, span.length,
                            copy.bytes);
    }
  }
}

nb::object SampleItems(TableHandle& self, std::size_t max_items) {
  if (max_items == 0) throw nb::value_error("max_items must be positive");
  reverie::Store::ItemReader reader(self.store);
  reverie::Status status;
  {
    NoGil release;
    status = reader.Sample(self.table.get(), max_items);
  }
  Check(status);
  if (!status.ok()) return nb::none();
  std::vector<OutputColumn> copies;
  std::size_t nbytes = 0;
  nb::list result;
  for (std::size_t i = 0; i < reader.items().size(); ++i) {
    const reverie::SampledItem& item = reader.items()[i];
    result.append(nb::make_tuple(item.key, item.probability, item.table_size, item.priority,
                                 item.times_sampled, NewColumns(item, i, &copies)));
    if (item.trajectory.columns.empty()) {
      nbytes += item.length * item.row.chunk->layout->record_nbytes();
    }
    for (const reverie::Piece& piece : item.trajectory.pieces) {
      nbytes += piece.length * piece.chunk->layout->record_nbytes();
    }
  }
  if (nbytes < kKeepGilBelow) {
    CopyColumns(reader.items(), copies);
  } else {
    NoGil release;
    CopyColumns(reader.items(), copies);
  }
  return result;
}

// One item whole, whatever its columns' lengths.
nb::list GatherItem(TableHandle& self, const TypedLayout& layout, std::uint64_t key) {
  reverie::Store::Reader reader(self.store);
  Check(reader.Find(self.table.get(), layout.layout().get(), key));
  nb::list columns;
  for (std::size_t i = 0; i < layout.num_columns(); ++i) {
    void* output;
    columns.append(layout.NewArray(i, {reader.span_length(i)}, &output));
    NoGil release;
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
  result["num_unique_samples"] = info.stats.num_unique_samples;
  result["num_episodes"] = info.stats.num_episodes;
  result["num_deleted_episodes"] = info.stats.num_deleted_episodes;
  result["pending"] = info.stats.pending;
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
      .def("sample_items", &SampleItems, "max_items"_a)
      .def(
          "can_sample",
          [](const TableHandle& self, std::int64_t n) {
            return self.store->CanSample(*self.table, n);
          },
          "n"_a)
      .def(
          "can_insert",
          [](const TableHandle& self, std::int64_t n) {
            return self.store->CanInsert(*self.table, n);
          },
          "n"_a)
      .def("gather", &Gather, "layout"_a, "keys"_a.none(), "steps"_a)
      .def("gather_item", &GatherItem, "layout"_a, "key"_a)
      .def("items",
           [](TableHandle& self) {
             reverie::TableState state;
             {
               NoGil release;
               state = self.store->table_state(*self.table);
             }
             return ItemArrays(std::move(state.items));
           })
      .def(
          "update_priorities",
          [](TableHandle& self, InVector<std::uint64_t> keys, InVector<double> priorities) {
            if (keys.size() != priorities.size()) throw nb::value_error("one priority per key");
            NoGil release;
            return self.store->UpdatePriorities(self.table.get(), keys.data(), priorities.data(),
                                                keys.size());
          },
          "keys"_a, "priorities"_a)
      .def(
          "delete",
          [](TableHandle& self, InVector<std::uint64_t> keys) {
            NoGil release;
            return self.store->Delete(self.table.get(), keys.data(), keys.size());
          },
          "keys"_a)
      .def("clear",
           [](TableHandle& self) {
             NoGil release;
             self.store->Clear(self.table.get());
           })
      .def(
          "wait",
          [](TableHandle& self, std::int64_t batch_size, double timeout_s) {
            reverie::Status status;
            {
              NoGil release;
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
              NoGil release;
              status = self.store->RestoreTable(self.table.get(), parsed);
            }
            Check(status);
          },
          "state"_a);
}

}  // namespace reverie_py
