#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <tuple>

#include "arrays.h"
#include "errors.h"
#include "handles.h"
#include "interrupts.h"
#include "no_gil.h"

namespace reverie_py {
namespace {

using namespace nb::literals;
using reverie::ViewColumn;
using Reader = Spared<std::unique_ptr<reverie::Store::ViewReader>>;

// (field, first record or -1: the last, steps or 0: as many as the longest row has, spare,
// whether it has no time axis)
using Wanted = std::tuple<std::uint32_t, std::int64_t, std::uint32_t, std::uint32_t, bool>;

void CheckWanted(const TypedLayout& layout, const std::vector<Wanted>& wanted) {
  for (const auto& [field, first, steps, spare, squeeze] : wanted) {
    if (field >= layout.num_columns() || first < -1 || first >= 0xffffffff ||
        (squeeze && steps != 1)) {
      throw nb::value_error("no such column of a view");
    }
  }
}

// New arrays, filled; how many records each row has; how its episode ended with the last.
nb::tuple Gathered(const Reader& reader, const TypedLayout& layout,
                   const std::vector<Wanted>& wanted) {
  const auto n = static_cast<std::ptrdiff_t>(reader->reach().size());
  const std::uint32_t longest = reader->longest();
  std::vector<ViewColumn> columns;
  std::vector<void*> outputs;
  nb::list arrays;
  std::size_t nbytes = 0;
  for (const auto& [field, first, steps, spare, squeeze] : wanted) {
    const auto from = first < 0 ? ViewColumn::kLast : static_cast<std::uint32_t>(first);
    std::uint32_t cells = steps;
    if (steps == 0) {
      const std::uint32_t without = spare + (first < 0 ? longest - 1 : from);
      cells = longest > without ? longest - without : 0;
    }
    columns.push_back({field, from, cells, spare});
    std::vector<std::ptrdiff_t> leading{n};
    if (!squeeze) leading.push_back(cells);
    const CellType& type = layout.column(field);
    void* bytes = nullptr;
    arrays.append(type.NewArray(leading, &bytes));
    outputs.push_back(bytes);
    nbytes += static_cast<std::size_t>(n) * cells * type.nbytes;
  }
  std::int64_t* records = nullptr;
  nb::object reached = NewVector({n}, &records);
  std::int32_t* hows = nullptr;
  nb::object ended = NewVector({n}, &hows);
  for (const reverie::ChunkStore::Reach& row : reader->reach()) {
    *records++ = row.records;
    *hows++ = static_cast<std::int32_t>(row.how);
  }
  const bool is_long = static_cast<std::size_t>(n) >= kLongItems || nbytes >= kLongBytes;
  Check(Interruptible(is_long, [&] { return reader->Gather(columns, outputs.data()); }));
  return nb::make_tuple(arrays, reached, ended);
}

Reader NewReader(const TableHandle& self, const TypedLayout& layout, std::uint32_t most) {
  if (most == 0) throw nb::value_error("a row has one record at least");
  return Reader(
      std::make_unique<reverie::Store::ViewReader>(self.store, layout.layout().get(), most));
}

nb::object SampleView(TableHandle& self, const TypedLayout& layout, std::uint32_t batch_size,
                      std::uint32_t most, const std::vector<Wanted>& wanted) {
  if (batch_size == 0) throw nb::value_error("batch_size must be positive");
  CheckWanted(layout, wanted);
  const Reader reader = NewReader(self, layout, most);
  reverie::SampleInfo info{};
  info.repeat = 1;
  double least = 0;
  info.min_probability = &least;
  const nb::tuple infos = NewInfo({static_cast<std::ptrdiff_t>(batch_size)}, &info);
  const reverie::Status status = Interruptible(
      batch_size >= kLongItems, [&] { return reader->Sample(self.table.get(), batch_size, info); });
  Check(status);
  if (!status.ok()) return nb::none();
  const nb::tuple found = Gathered(reader, layout, wanted);
  return nb::make_tuple(found[0], infos, found[1], found[2], least);
}

nb::tuple GatherView(TableHandle& self, const TypedLayout& layout,
                     std::optional<InVector<std::uint64_t>> keys, std::uint32_t most,
                     const std::vector<Wanted>& wanted) {
  CheckWanted(layout, wanted);
  const Reader reader = NewReader(self, layout, most);
  const std::size_t n = keys ? keys->size() : kLongItems;
  Check(Interruptible(n >= kLongItems, [&] {
    return reader->Select(self.table.get(), keys ? keys->data() : nullptr, keys ? keys->size() : 0);
  }));
  const nb::tuple found = Gathered(reader, layout, wanted);
  std::vector<std::uint64_t> of = reader->keys();
  std::vector<std::uint64_t> chunks;
  std::vector<std::uint32_t> steps;
  for (const reverie::ChunkStore::Reach& row : reader->reach()) {
    chunks.push_back(row.chunk);
    steps.push_back(row.step);
  }
  return nb::make_tuple(found[0], ToNumpy(std::move(of)), found[1], found[2],
                        nb::make_tuple(ToNumpy(std::move(chunks)), ToNumpy(std::move(steps))));
}

}  // namespace

void BindView(nb::module_& m) {
  nb::object table = m.attr("Table");
  table.attr("sample_view") =
      nb::cpp_function(&SampleView, nb::name("sample_view"), nb::scope(table), nb::is_method(),
                       "layout"_a, "batch_size"_a, "most"_a, "columns"_a);
  table.attr("gather_view") =
      nb::cpp_function(&GatherView, nb::name("gather_view"), nb::scope(table), nb::is_method(),
                       "layout"_a, "keys"_a.none(), "most"_a, "columns"_a);
}

}  // namespace reverie_py
