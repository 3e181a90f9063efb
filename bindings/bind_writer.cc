#include <nanobind/nanobind.h>
#include <nanobind/stl/vector.h>

#include "arrays.h"
#include "errors.h"
#include "handles.h"

namespace reverie_py {
namespace {

using namespace nb::literals;
using reverie::Writer;

// Copying less than this under the GIL is cheaper than dropping it. Nobody who
// holds a core mutex ever waits for the GIL, so keeping it cannot deadlock.
constexpr std::size_t kKeepGilBelow = 16 * 1024;

struct WriterHandle {
  TypedLayout layout;
  std::unique_ptr<Writer> writer;
};

int Append(WriterHandle& self, nb::sequence leaves, int last) {
  // Scratch on the stack of each thread: several may append at once.
  thread_local std::vector<const void*> columns;
  thread_local std::vector<std::uint8_t> scratch;
  const int mismatch = self.layout.LeafBytes(leaves, &columns, &scratch);
  if (mismatch >= 0) return mismatch;
  reverie::Status status;
  if (self.layout.layout()->record_nbytes() < kKeepGilBelow) {
    status = self.writer->Append(columns.data(), static_cast<Writer::Last>(last));
  } else {
    nb::gil_scoped_release release;
    status = self.writer->Append(columns.data(), static_cast<Writer::Last>(last));
  }
  Check(status);
  return -1;
}

}  // namespace

void BindWriter(nb::module_& m) {
  nb::class_<WriterHandle>(m, "Writer")
      .def_prop_ro("num_cached", [](const WriterHandle& self) { return self.writer->num_cached(); })
      .def("append", &Append, "leaves"_a, "last"_a)
      .def(
          "reset",
          [](WriterHandle& self, bool write_cached_steps) {
            std::uint64_t uncovered = 0;
            reverie::Status status;
            {
              nb::gil_scoped_release release;
              status = self.writer->Reset(write_cached_steps, &uncovered);
            }
            Check(status);
            return uncovered;
          },
          "write_cached_steps"_a)
      .def("close", [](WriterHandle& self) {
        nb::gil_scoped_release release;
        self.writer->Close();
      });

  nb::object store = m.attr("Store");
  store.attr("create_writer") = nb::cpp_function(
      [](StoreHandle& self, const TypedLayout& layout, std::vector<TableHandle*> tables,
         std::uint32_t sequence_length, std::uint32_t stride_length, double priority, bool pad_end,
         bool tile_end, nb::bytes pad_record, std::int64_t boundary_column,
         std::int32_t boundary_value) {
        const auto num_columns = static_cast<std::int64_t>(layout.num_columns());
        if (sequence_length == 0 || stride_length == 0 || boundary_column >= num_columns ||
            pad_record.size() != layout.layout()->record_nbytes() ||
            (boundary_column >= 0 &&
             layout.layout()->columns()[static_cast<std::size_t>(boundary_column)].nbytes != 4)) {
          throw nb::value_error("a writer setting is out of range");
        }
        const auto* pad = static_cast<const std::uint8_t*>(pad_record.data());
        std::vector<std::shared_ptr<reverie::Table>> targets;
        for (const TableHandle* table : tables) targets.push_back(table->table);
        const Writer::Config config{sequence_length, stride_length, priority,
                                    pad_end,         tile_end,      {pad, pad + pad_record.size()},
                                    boundary_column, boundary_value};
        return WriterHandle{layout, std::make_unique<Writer>(self.store, layout.layout(),
                                                             std::move(targets), config)};
      },
      nb::name("create_writer"), nb::scope(store), nb::is_method(), "layout"_a, "tables"_a,
      nb::kw_only(), "sequence_length"_a, "stride_length"_a, "priority"_a, "pad_end"_a,
      "tile_end"_a, "pad_record"_a, "boundary_column"_a, "boundary_value"_a);
}

}  // namespace reverie_py
