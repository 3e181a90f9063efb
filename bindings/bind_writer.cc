#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <limits>
#include <optional>

#include "arrays.h"
#include "errors.h"
#include "handles.h"
#include "interrupts.h"
#include "leaves.h"
#include "no_gil.h"
#include "writers/writer.h"

namespace reverie_py {
namespace {

using namespace nb::literals;
using reverie::How;
using reverie::Writer;

template <typename T>
using OutVector = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

struct WriterHandle {
  std::shared_ptr<reverie::Store> store;
  TypedLayout layout;
  Spared<std::unique_ptr<Writer>> writer;
};

std::uint32_t CheckStream(const WriterHandle& self, std::uint32_t stream) {
  if (stream >= self.writer->config().num_streams) throw nb::value_error("no such stream");
  return stream;
}

// What Append() and AppendBatch() return where no leaf is at fault.
constexpr int kStored = -1;
constexpr int kStoredButBlocked = -2;
constexpr int kTooLong = -3;
constexpr int kIgnored = -4;

int Append(WriterHandle& self, nb::sequence leaves, int last) {
  if (last < -1 || last > static_cast<int>(How::kCut)) throw nb::value_error("unknown `last`");
  LeafSpace space;
  const void** columns;
  const int mismatch = StepBytes(self.layout, leaves, {}, &space, &columns);
  if (mismatch >= 0) return mismatch;
  Writer::Fate fate = Writer::Fate::kStored;
  bool blocked = false;
  const auto how = last < 0 ? std::nullopt : std::make_optional(static_cast<How>(last));
  Check(GilToSpare([&] { return self.writer->Append(columns, how, &fate, &blocked); }));
  if (fate == Writer::Fate::kTooLong) return kTooLong;
  if (fate == Writer::Fate::kIgnored) return kIgnored;
  return blocked ? kStoredButBlocked : kStored;
}

std::vector<std::uint32_t> Streams(const InVector<std::int64_t>& streams) {
  constexpr std::int64_t kNone = std::numeric_limits<std::uint32_t>::max();  // is no stream
  std::vector<std::uint32_t> found(streams.size());
  std::transform(streams.data(), streams.data() + streams.size(), found.begin(),
                 [](std::int64_t id) {
                   return static_cast<std::uint32_t>(id < 0 || id > kNone ? kNone : id);
                 });
  return found;
}

int AppendBatch(WriterHandle& self, nb::sequence leaves, std::size_t n,
                std::optional<InVector<std::int64_t>> streams,
                std::optional<InVector<std::uint8_t>> lasts,
                std::optional<OutVector<std::uint8_t>> fates) {
  if ((streams && streams->size() != n) || (lasts && lasts->size() != n) ||
      (fates && fates->size() != n)) {
    throw nb::value_error("streams, lasts and fates must have n values");
  }
  LeafSpace space;
  const void** columns;
  const int mismatch =
      StepBytes(self.layout, leaves, {static_cast<std::ptrdiff_t>(n)}, &space, &columns);
  if (mismatch >= 0) return mismatch;
  static_assert(sizeof(Writer::Fate) == 1, "fates are written as bytes");
  auto* const fate = fates ? reinterpret_cast<Writer::Fate*>(fates->data()) : nullptr;
  std::vector<std::uint32_t> stream;
  if (streams) stream = Streams(*streams);
  const std::uint8_t* const last = lasts ? lasts->data() : nullptr;
  bool blocked = false;
  Check(GilToSpare([&] {
    return self.writer->AppendBatch(columns, streams ? stream.data() : nullptr, n, last, fate,
                                    &blocked);
  }));
  if (fate != nullptr && std::count(fate, fate + n, Writer::Fate::kTooLong) != 0) return kTooLong;
  return blocked ? kStoredButBlocked : kStored;
}

// Where not all of `before` are as their columns, the first that is not, counted behind
// those of `leaves`.
int AppendArrivals(WriterHandle& self, nb::sequence before, nb::sequence leaves, std::size_t n,
                   std::optional<InVector<std::int64_t>> streams, InVector<std::uint8_t> lasts,
                   OutVector<std::uint8_t> begun, bool alone) {
  if ((streams && streams->size() != n) || lasts.size() != n || begun.size() != n ||
      (alone && n != 1)) {
    throw nb::value_error("streams, lasts and begun must have n values");
  }
  LeafSpace space;
  const void** columns;
  const void** states;
  std::vector<std::ptrdiff_t> leading;
  if (!alone) leading.push_back(static_cast<std::ptrdiff_t>(n));
  int mismatch = StepBytes(self.layout, leaves, leading, &space, &columns);
  if (mismatch >= 0) return mismatch;
  mismatch = StepBytes(self.layout, before, leading, &space, &states, true);
  if (mismatch >= 0) return mismatch + static_cast<int>(self.layout.num_columns());
  using Begun = Writer::Begun;
  static_assert(sizeof(Begun) == 1, "written as bytes");
  std::vector<std::uint32_t> stream;
  if (streams) stream = Streams(*streams);
  bool blocked = false;
  Check(GilToSpare([&] {
    return self.writer->AppendArrivals(states, columns, streams ? stream.data() : nullptr, n,
                                       lasts.data(), reinterpret_cast<Begun*>(begun.data()),
                                       &blocked);
  }));
  return blocked ? kStoredButBlocked : kStored;
}

int AppendRuns(WriterHandle& self, nb::sequence leaves, std::uint32_t stream,
               InVector<std::uint64_t> lengths, InVector<std::uint8_t> lasts) {
  if (lengths.size() != lasts.size()) throw nb::value_error("one `last` for each length");
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < lengths.size(); ++i) total += lengths.data()[i];
  LeafSpace space;
  const void** columns;
  const int mismatch =
      StepBytes(self.layout, leaves, {static_cast<std::ptrdiff_t>(total)}, &space, &columns);
  if (mismatch >= 0) return mismatch;
  Check(Interruptible(total >= kLongItems, [&] {
    return self.writer->AppendRuns(columns, stream, lengths.data(), lasts.data(), lengths.size());
  }));
  return kStored;
}

}  // namespace

void BindWriter(nb::module_& m) {
  nb::class_<WriterHandle> writer(m, "Writer");
  BindPending(&writer);
  writer
      .def_prop_ro("num_cached",
                   [](const WriterHandle& self) {
                     return GilToSpare([&] { return self.writer->num_cached(); });
                   })
      .def(
          "num_cached_of",
          [](const WriterHandle& self, std::uint32_t stream) {
            CheckStream(self, stream);
            return GilToSpare([&] { return self.writer->num_cached(stream); });
          },
          "stream"_a)
      .def(
          "set_priority",
          [](WriterHandle& self, std::optional<double> priority) {
            const double number = AsPriority(priority);
            GilToSpare([&] { self.writer->SetPriority(number); });
          },
          "priority"_a.none())
      .def("take_ended",
           [](WriterHandle& self) {
             nb::list result;
             for (Writer::Ended& ended : GilToSpare([&] { return self.writer->TakeEnded(); })) {
               result.append(nb::make_tuple(ended.total, ToNumpy(std::move(ended.keys))));
             }
             return result;
           })
      .def("append", &Append, "leaves"_a, "last"_a)
      .def("append_arrivals", &AppendArrivals, "before"_a, "leaves"_a, "n"_a, "streams"_a.none(),
           "lasts"_a, "begun"_a, "alone"_a = false)
      .def("append_runs", &AppendRuns, "leaves"_a, "stream"_a, "lengths"_a, "lasts"_a)
      .def("append_batch", &AppendBatch, "leaves"_a, "n"_a, "streams"_a.none(), "lasts"_a.none(),
           "fates"_a.none())
      .def(
          "reset",
          [](WriterHandle& self, bool write_cached_steps, std::uint32_t stream) {
            CheckStream(self, stream);
            std::uint64_t uncovered = 0;
            const reverie::Status status = GilToSpare(
                [&] { return self.writer->Reset(stream, write_cached_steps, &uncovered); });
            Check(status);
            return uncovered;
          },
          "write_cached_steps"_a, "stream"_a = 0)
      .def("close", [](WriterHandle& self) {
        GilInHand gil;
        self.writer->Close();
      });

  m.attr("WINDOWS") = static_cast<int>(Writer::Items::kWindows);
  m.attr("STREAM") = static_cast<int>(Writer::Items::kStream);
  m.attr("EPISODES") = static_cast<int>(Writer::Items::kEpisodes);
  m.attr("ANCHORS") = static_cast<int>(Writer::Items::kAnchors);
  m.attr("ENDED") = static_cast<int>(How::kEnded);
  m.attr("TERMINATED") = static_cast<int>(How::kTerminated);
  m.attr("TRUNCATED") = static_cast<int>(How::kTruncated);
  m.attr("CUT") = static_cast<int>(How::kCut);
  m.attr("STORED") = kStored;
  m.attr("STORED_BUT_BLOCKED") = kStoredButBlocked;
  m.attr("TOO_LONG") = kTooLong;
  m.attr("IGNORED") = kIgnored;

  nb::object store = m.attr("Store");
  store.attr("create_writer") = nb::cpp_function(
      [](StoreHandle& self, const TypedLayout& layout, std::vector<TableHandle*> tables,
         std::uint32_t sequence_length, std::uint32_t stride_length, std::optional<double> priority,
         bool pad_end, bool tile_end, nb::bytes pad_record, std::int64_t boundary_column,
         std::int32_t boundary_value, int items, std::uint32_t num_streams,
         std::int64_t discount_column, std::uint32_t lead, bool lead_is_zero, bool tells_ended,
         std::int64_t return_column) {
        const auto is_four_bytes = [&layout](std::int64_t column) {  // or none
          if (column < 0) return true;
          const auto& columns = layout.layout()->columns();
          const auto index = static_cast<std::size_t>(column);
          return index < columns.size() && columns[index].nbytes == 4;
        };
        const auto is_number = [&layout](std::int64_t column) {  // or none
          if (column < 0) return true;
          const auto index = static_cast<std::size_t>(column);
          if (index >= layout.num_columns()) return false;
          const CellType& type = layout.column(index);
          return type.nbytes == type.item_nbytes && (type.nbytes == 4 || type.nbytes == 8);
        };
        if (sequence_length == 0 || stride_length == 0 || num_streams == 0 || items < 0 ||
            items > 3 || pad_record.size() != layout.layout()->record_nbytes() ||
            !is_four_bytes(boundary_column) || !is_four_bytes(discount_column) ||
            (tells_ended && tables.size() != 1) || !is_number(return_column)) {
          throw nb::value_error("a writer setting is out of range");
        }
        const auto* pad = static_cast<const std::uint8_t*>(pad_record.data());
        std::vector<std::shared_ptr<reverie::Table>> targets;
        for (const TableHandle* table : tables) {
          if (table == nullptr || table->store != self.store) {
            throw nb::value_error("a table of another store");
          }
          targets.push_back(table->table);
        }
        const Writer::Config config{
            sequence_length, stride_length,   AsPriority(priority),
            pad_end,         tile_end,        {pad, pad + pad_record.size()},
            boundary_column, boundary_value,  static_cast<Writer::Items>(items),
            num_streams,     discount_column, lead,
            lead_is_zero,    tells_ended,     return_column};
        return WriterHandle{self.store, layout, GilToSpare([&] {
                              return std::make_unique<Writer>(self.store, layout.layout(),
                                                              std::move(targets), config);
                            })};
      },
      nb::name("create_writer"), nb::scope(store), nb::is_method(), "layout"_a, "tables"_a,
      nb::kw_only(), "sequence_length"_a, "stride_length"_a, "priority"_a.none(), "pad_end"_a,
      "tile_end"_a, "pad_record"_a, "boundary_column"_a, "boundary_value"_a, "items"_a = 0,
      "num_streams"_a = 1, "discount_column"_a = -1, "lead"_a = 0, "lead_is_zero"_a = false,
      "tells_ended"_a = false, "return_column"_a = -1);
}

}  // namespace reverie_py
