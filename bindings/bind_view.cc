#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "arrays.h"
#include "errors.h"
#include "handles.h"
#include "interrupts.h"
#include "no_gil.h"

namespace reverie_py {
namespace {

using namespace nb::literals;
using reverie::Shift;
using reverie::ViewColumn;
using Reader = Spared<std::unique_ptr<reverie::Store::ViewReader>>;

using Other = reverie::BatchSpec::Other;

// (field, first record, from the end where negative, steps or 0: as many as the longest row
// has, spare, whether it has no time axis)
using Wanted = std::tuple<std::uint32_t, std::int64_t, std::uint32_t, std::uint32_t, bool>;

// (which of the columns, draw, pad, planes, height, width)
using Shifted =
    std::tuple<std::size_t, std::uint32_t, std::uint32_t, std::size_t, std::size_t, std::size_t>;

// What is gathered for a view.
struct ViewPlan {
  TypedLayout layout;
  std::vector<Wanted> columns;
  std::vector<Shift> shifts;  // of each column, or empty
  std::uint32_t most;         // records of a row
  std::uint32_t lead;         // of them, before the row's step
  Other other;

  Reader NewReader(const TableHandle& table) const {
    return Reader(std::make_unique<reverie::Store::ViewReader>(table.store, layout.layout().get(),
                                                               most, lead, other, !shifts.empty()));
  }
};

std::vector<Shift> NewShifts(const TypedLayout& layout, const std::vector<Wanted>& columns,
                             const std::vector<Shifted>& shifted) {
  std::vector<Shift> shifts(shifted.empty() ? 0 : columns.size());
  for (const auto& [index, draw, pad, planes, height, width] : shifted) {
    if (index >= columns.size() || std::get<1>(columns[index]) == ViewColumn::kOther || pad == 0 ||
        pad >= std::min({height, width, std::size_t{1} << 31}) || draw >= 1u << 31) {
      throw nb::value_error("no such shift of a column");
    }
    // Sides first, lest their product overflow.
    const std::size_t nbytes = layout.column(std::get<0>(columns[index])).nbytes;
    const std::size_t lines = nbytes / width;
    if (planes == 0 || nbytes % width != 0 || lines % height != 0 || lines / height % planes != 0 ||
        nbytes == 0) {
      throw nb::value_error("the column has no such images");
    }
    shifts[index] = {pad, draw, planes, height, width};
  }
  return shifts;
}

ViewPlan NewPlan(const TypedLayout& layout, std::vector<Wanted> columns, std::uint32_t most,
                 std::uint32_t lead, int other, const std::vector<Shifted>& shifted) {
  if (other < 0 || other > static_cast<int>(Other::kAny)) throw nb::value_error("unknown other");
  if (most <= lead) throw nb::value_error("a row has one record at least, and its lead");
  for (const auto& [field, first, steps, spare, squeeze] : columns) {
    const bool is_other = first == ViewColumn::kOther;
    if (field >= layout.num_columns() || first >= 0xffffffffLL || (squeeze && steps != 1) ||
        (is_other ? other == 0 || !squeeze : first <= -0xffffffffLL)) {
      throw nb::value_error("no such column of a view");
    }
  }
  std::vector<Shift> shifts = NewShifts(layout, columns, shifted);
  return {layout, std::move(columns), std::move(shifts), most, lead, static_cast<Other>(other)};
}

// New arrays, filled; how many steps each row has; whether the episode terminated, or was
// truncated, with the last of them.
nb::tuple Gathered(const Reader& reader, const ViewPlan& plan) {
  const auto n = static_cast<std::ptrdiff_t>(reader->reach().size());
  const std::int64_t longest = reader->longest();
  std::vector<ViewColumn> columns;
  columns.reserve(plan.columns.size());
  std::vector<void*> outputs;
  nb::list arrays;
  std::size_t nbytes = 0;
  for (const auto& [field, first, steps, spare, squeeze] : plan.columns) {
    std::uint32_t cells = steps;
    if (steps == 0) {
      const std::int64_t rest = (first < 0 ? -first : longest - first) - std::int64_t{spare};
      cells = static_cast<std::uint32_t>(std::clamp<std::int64_t>(rest, 0, longest));
    }
    const Shift shift = plan.shifts.empty() ? Shift() : plan.shifts[columns.size()];
    columns.push_back({field, first, cells, spare, shift});
    std::vector<std::ptrdiff_t> leading{n};
    if (!squeeze) leading.push_back(cells);
    const CellType& type = plan.layout.column(field);
    void* bytes = nullptr;
    arrays.append(type.NewArray(leading, &bytes));
    outputs.push_back(bytes);
    nbytes += static_cast<std::size_t>(n) * cells * type.nbytes;
  }
  std::int64_t* steps = nullptr;
  bool* terminated = nullptr;
  bool* truncated = nullptr;
  const nb::object all_steps = NewVector({n}, &steps);
  const nb::object all_terminated = NewVector({n}, &terminated);
  const nb::object all_truncated = NewVector({n}, &truncated);
  for (const reverie::ChunkStore::Reach& row : reader->reach()) {
    *steps++ = row.records <= plan.lead ? 0 : std::int64_t{row.records} - 1 - plan.lead;
    *terminated++ = row.how == reverie::How::kTerminated;
    *truncated++ = row.how != reverie::How::kGoesOn && row.how != reverie::How::kTerminated;
  }
  const bool is_long = static_cast<std::size_t>(n) >= kLongItems || nbytes >= kLongBytes;
  Check(Interruptible(is_long, [&] { return reader->Gather(columns, outputs.data()); }));
  return nb::make_tuple(arrays, all_steps, all_terminated, all_truncated);
}

nb::object SampleView(TableHandle& self, const ViewPlan& plan, std::uint32_t batch_size,
                      std::uint32_t newest) {
  if (batch_size == 0) throw nb::value_error("batch_size must be positive");
  const Reader reader = plan.NewReader(self);
  reverie::SampleInfo info{};
  info.repeat = 1;
  double least = 0;
  info.min_probability = &least;
  const nb::tuple infos = NewInfo({static_cast<std::ptrdiff_t>(batch_size)}, &info);
  const reverie::Status status = Interruptible(batch_size >= kLongItems, [&] {
    return reader->Sample(self.table.get(), batch_size, info, newest);
  });
  Check(status);
  if (!status.ok()) return nb::none();
  return nb::make_tuple(Gathered(reader, plan), infos, least);
}

nb::tuple GatherView(TableHandle& self, const ViewPlan& plan,
                     std::optional<InVector<std::uint64_t>> keys) {
  if (plan.other != Other::kNone || !plan.shifts.empty()) {
    throw nb::value_error("other records, and shifts, are drawn for samples");
  }
  const Reader reader = plan.NewReader(self);
  const std::size_t n = keys ? keys->size() : kLongItems;
  Check(Interruptible(n >= kLongItems, [&] {
    return reader->Select(self.table.get(), keys ? keys->data() : nullptr, keys ? keys->size() : 0);
  }));
  const nb::tuple found = Gathered(reader, plan);
  std::vector<std::uint64_t> of = reader->keys();
  std::vector<std::uint64_t> chunks;
  std::vector<std::uint32_t> steps;
  for (const reverie::ChunkStore::Reach& row : reader->reach()) {
    chunks.push_back(row.chunk);
    steps.push_back(row.step);
  }
  return nb::make_tuple(found, ToNumpy(std::move(of)),
                        nb::make_tuple(ToNumpy(std::move(chunks)), ToNumpy(std::move(steps))));
}

// (field, cells) of n rows, as many of each as it has in all.
using NewCells = std::pair<std::uint32_t, InVector<std::uint8_t>>;

nb::tuple Update(TableHandle& self, const TypedLayout& layout, InVector<std::uint64_t> keys,
                 std::uint32_t first, std::uint32_t steps, const std::vector<NewCells>& columns,
                 std::optional<InVector<std::uint8_t>> mask, std::optional<NewCells> version) {
  const std::size_t n = keys.size();
  reverie::Scatter scatter{layout.layout().get(), first, steps, {}};
  if (steps == 0 || first >= 0xffffffff - steps) throw nb::value_error("no such steps");
  const auto nbytes_of = [&](std::uint32_t field) {
    if (field >= layout.num_columns()) throw nb::value_error("no such column");
    return layout.column(field).nbytes;
  };
  for (const auto& [field, cells] : columns) {
    const std::size_t nbytes = nbytes_of(field) * n;
    const bool once = cells.size() == nbytes;
    if (!once && cells.size() != nbytes * steps) throw nb::value_error("one cell for each step");
    scatter.columns.push_back({field, once ? 1 : steps, cells.data()});
  }
  if (mask) {
    if (mask->size() != n * steps) throw nb::value_error("a mask of all steps");
    scatter.mask = mask->data();
  }
  if (version) {
    using reverie::Number;
    const auto& [field, cells] = *version;
    const std::size_t nbytes = nbytes_of(field);
    const CellType& type = layout.column(field);
    const bool is_signed = type.number >= Number::kInt8 && type.number <= Number::kInt64;
    if (!is_signed && (type.number < Number::kUint8 || type.number > Number::kUint64)) {
      throw nb::value_error("a version is an integer");
    }
    if (nbytes != type.item_nbytes || cells.size() != nbytes * n) {
      throw nb::value_error("one version for each row");
    }
    scatter.version = {field, is_signed, cells.data()};
  }
  reverie::Scattered counts;
  Check(Interruptible(n * steps >= kLongItems, [&] {
    return self.store->Update(self.table.get(), scatter, keys.data(), n, &counts);
  }));
  return nb::make_tuple(counts.updated, counts.stale, counts.rejected);
}

}  // namespace

void BindView(nb::module_& m) {
  nb::class_<ViewPlan>(m, "ViewPlan")
      .def(nb::new_(&NewPlan), "layout"_a, "columns"_a, "most"_a, "lead"_a = 0, "other"_a = 0,
           "shifts"_a = std::vector<Shifted>());
  m.attr("OTHER_LATER") = static_cast<int>(Other::kLater);
  m.attr("OTHER_OF_EPISODE") = static_cast<int>(Other::kEpisode);
  m.attr("OTHER_OF_ANY") = static_cast<int>(Other::kAny);
  m.attr("OTHER") = ViewColumn::kOther;

  nb::object table = m.attr("Table");
  table.attr("sample_view") =
      nb::cpp_function(&SampleView, nb::name("sample_view"), nb::scope(table), nb::is_method(),
                       "plan"_a, "batch_size"_a, "newest"_a = 0);
  table.attr("gather_view") =
      nb::cpp_function(&GatherView, nb::name("gather_view"), nb::scope(table), nb::is_method(),
                       "plan"_a, "keys"_a.none());
  table.attr("update") = nb::cpp_function(
      &Update, nb::name("update"), nb::scope(table), nb::is_method(), "layout"_a, "keys"_a,
      "first"_a, "steps"_a, "columns"_a, "mask"_a.none(), "version"_a.none());
}

}  // namespace reverie_py
