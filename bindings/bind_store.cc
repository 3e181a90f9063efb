#include <nanobind/nanobind.h>
#include <nanobind/stl/vector.h>

#include <cmath>

#include "arrays.h"
#include "errors.h"
#include "handles.h"
#include "interrupts.h"
#include "no_gil.h"

namespace reverie_py {

using namespace nb::literals;
using reverie::SelectorKind;

void BindStore(nb::module_& m) {
  m.attr("UNIFORM") = static_cast<int>(SelectorKind::kUniform);
  m.attr("FIFO") = static_cast<int>(SelectorKind::kFifo);
  m.attr("LIFO") = static_cast<int>(SelectorKind::kLifo);
  m.attr("PRIORITIZED") = static_cast<int>(SelectorKind::kPrioritized);
  m.attr("MIN_HEAP") = static_cast<int>(SelectorKind::kMinHeap);
  m.attr("MAX_HEAP") = static_cast<int>(SelectorKind::kMaxHeap);
  m.attr("RESERVOIR") = static_cast<int>(SelectorKind::kReservoir);

  nb::class_<TypedLayout>(m, "RecordLayout")
      .def(nb::init<nb::sequence>(), "columns"_a)
      .def_prop_ro("record_nbytes",
                   [](const TypedLayout& self) { return self.layout()->record_nbytes(); })
      .def_prop_ro("columns", &TypedLayout::Describe)
      .def(
          "__eq__",
          [](const TypedLayout& self, nb::handle other) {
            const TypedLayout* layout;
            return nb::try_cast(other, layout) && layout != nullptr &&
                   layout->layout() == self.layout();
          },
          "other"_a.none())
      .def("__hash__", [](const TypedLayout& self) {
        return reinterpret_cast<std::intptr_t>(self.layout().get());
      });

  nb::class_<StoreHandle>(m, "Store")
      .def(
          "__init__",
          [](StoreHandle* self, std::size_t chunk_nbytes, int gather_threads) {
            new (self) StoreHandle{std::make_shared<reverie::Store>(
                reverie::Store::Options{chunk_nbytes, gather_threads})};
          },
          nb::kw_only(), "chunk_nbytes"_a = std::size_t{1} << 20, "gather_threads"_a = 1)
      .def(
          "create_table",
          [](StoreHandle& self, std::uint32_t max_size, int sampler, int remover,
             std::int64_t min_size_to_sample, double samples_per_insert, double min_diff,
             double max_diff, std::uint64_t seed, double sampler_exponent, double remover_exponent,
             std::int32_t max_times_sampled) {
            if (sampler < 0 || sampler > 5 || remover < 0 || remover > 6) {
              throw nb::value_error("unknown selector");
            }
            if (!std::isfinite(sampler_exponent) || !std::isfinite(remover_exponent) ||
                max_size == 0 || max_times_sampled < 0) {
              throw nb::value_error("a table setting is out of range");
            }
            const reverie::Table::Config config{
                max_size,
                {static_cast<SelectorKind>(sampler), sampler_exponent},
                {static_cast<SelectorKind>(remover), remover_exponent},
                {min_size_to_sample, samples_per_insert, min_diff, max_diff},
                seed,
                max_times_sampled};
            return TableHandle{self.store,
                               GilToSpare([&] { return self.store->CreateTable(config); })};
          },
          nb::kw_only(), "max_size"_a, "sampler"_a, "remover"_a, "min_size_to_sample"_a,
          "samples_per_insert"_a, "min_diff"_a, "max_diff"_a, "seed"_a, "sampler_exponent"_a = 1.0,
          "remover_exponent"_a = 1.0, "max_times_sampled"_a = 0)
      .def(
          "allow_updates",
          [](StoreHandle& self, bool shared) {
            using Updates = reverie::Store::Updates;
            GilInHand gil;
            self.store->Allow(shared ? Updates::kShared : Updates::kOwn);
          },
          "shared"_a)
      .def("close",
           [](StoreHandle& self) {
             GilInHand gil;
             self.store->Close();
           })
      .def("reopen",
           [](StoreHandle& self) {
             GilInHand gil;
             self.store->Reopen();
           })
      .def("tidy", [](StoreHandle& self) { Interruptible(true, [&] { self.store->Tidy(); }); })
      .def("info", [](const StoreHandle& self) {
        const auto info = GilToSpare([&] { return self.store->info(); });
        nb::dict result;
        result["num_chunks"] = info.num_chunks;
        result["num_steps"] = info.num_steps;
        result["record_nbytes_total"] = info.record_nbytes;
        result["allocated_nbytes"] = info.allocated_nbytes;
        result["used_nbytes"] = info.used_nbytes;
        result["held_nbytes"] = info.held_nbytes;
        return result;
      });
}

}  // namespace reverie_py
