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

struct TableSnapshotHandle {
  nb::dict items;
  nb::object free_keys;
  nb::dict counters;
  nb::object rng_state;
};

struct SnapshotHandle {
  std::shared_ptr<reverie::Snapshot> snapshot;  // without its arrays
  nb::dict chunks;
  nb::dict ends;
  nb::list layouts;
  nb::list tables;
};

// The records of a chunk as rows of bytes; the array keeps the chunk alive.
template <typename T>
nb::ndarray<nb::numpy, T, nb::ndim<2>> Bytes(const std::shared_ptr<reverie::Chunk>& chunk,
                                             std::uint32_t count) {
  auto* owned = new std::shared_ptr<reverie::Chunk>(chunk);
  nb::capsule owner(
      owned, [](void* p) noexcept { delete static_cast<std::shared_ptr<reverie::Chunk>*>(p); });
  return {chunk->data.get(), {count, chunk->layout->record_nbytes()}, owner};
}

template <typename T, typename Allocator>
void Read(nb::dict state, const char* name, std::vector<T, Allocator>* to) {
  const auto array = nb::cast<InVector<T>>(state[name]);
  to->assign(array.data(), array.data() + array.size());
}

nb::object TakeSnapshot(StoreHandle& self) {
  SnapshotHandle handle;
  {
    NoGil release;
    handle.snapshot = std::make_shared<reverie::Snapshot>(self.store->TakeSnapshot());
  }
  reverie::Snapshot& snapshot = *handle.snapshot;
  handle.chunks["id"] = ToNumpy(std::move(snapshot.chunks.id));
  handle.chunks["next"] = ToNumpy(std::move(snapshot.chunks.next));
  handle.chunks["count"] = ToNumpy(std::move(snapshot.chunks.count));
  handle.chunks["nbytes"] = ToNumpy(std::move(snapshot.chunks.nbytes));
  handle.chunks["sealed"] = ToNumpy(std::move(snapshot.chunks.sealed));
  handle.chunks["layout"] = ToNumpy(std::move(snapshot.chunks.layout));
  handle.ends["chunk"] = ToNumpy(std::move(snapshot.ends.chunk));
  handle.ends["step"] = ToNumpy(std::move(snapshot.ends.step));
  handle.ends["how"] = ToNumpy(std::move(snapshot.ends.how));
  for (const reverie::RecordLayout* layout : snapshot.layouts) {
    nb::list columns;
    for (std::size_t c = 0; layout != nullptr && c < layout->columns().size(); ++c) {
      columns.append(CellType::Of(layout->columns()[c].type).Describe());
    }
    handle.layouts.append(layout == nullptr ? nb::object(nb::none()) : columns);
  }
  for (auto& table : snapshot.tables) {
    TableSnapshotHandle entry;
    entry.items = ItemArrays(std::move(table.items));
    entry.free_keys = nb::cast(ToNumpy(std::move(table.free_keys)));
    entry.counters["inserts"] = table.counters.inserts;
    entry.counters["samples"] = table.counters.samples;
    entry.counters["deletes"] = table.counters.deletes;
    entry.counters["num_unique_samples"] = table.num_unique_samples;
    entry.counters["num_deleted_episodes"] = table.num_deleted_episodes;
    entry.rng_state =
        nb::cast(ToNumpy(std::vector<std::uint64_t>(table.rng.begin(), table.rng.end())));
    handle.tables.append(nb::cast(std::move(entry)));
  }
  return nb::cast(std::move(handle));
}

}  // namespace

nb::dict ItemArrays(reverie::ItemColumns&& items) {
  nb::dict result;
  result["key"] = ToNumpy(std::move(items.key));
  result["chunk"] = ToNumpy(std::move(items.chunk_id));
  result["offset"] = ToNumpy(std::move(items.offset));
  result["length"] = ToNumpy(std::move(items.length));
  result["priority"] = ToNumpy(std::move(items.priority));
  result["times_sampled"] = ToNumpy(std::move(items.times_sampled));
  result["touched"] = ToNumpy(std::move(items.touched));
  result["traj_item"] = ToNumpy(std::move(items.traj_item));
  result["traj_episode"] = ToNumpy(std::move(items.traj_episode));
  result["column_item"] = ToNumpy(std::move(items.column_item));
  result["column_field"] = ToNumpy(std::move(items.column_field));
  result["column_squeeze"] = ToNumpy(std::move(items.column_squeeze));
  result["column_pieces"] = ToNumpy(std::move(items.column_pieces));
  result["piece_chunk"] = ToNumpy(std::move(items.piece_chunk));
  result["piece_offset"] = ToNumpy(std::move(items.piece_offset));
  result["piece_length"] = ToNumpy(std::move(items.piece_length));
  return result;
}

reverie::TableState ParseTableState(nb::dict state) {
  reverie::TableState parsed;
  reverie::ItemColumns& items = parsed.items;
  if (!state["key"].is_none()) Read(state, "key", &items.key);
  Read(state, "chunk", &items.chunk_id);
  Read(state, "offset", &items.offset);
  Read(state, "length", &items.length);
  Read(state, "priority", &items.priority);
  Read(state, "times_sampled", &items.times_sampled);
  if (state.contains("touched")) Read(state, "touched", &items.touched);
  if (state.contains("traj_item")) {
    Read(state, "traj_item", &items.traj_item);
    Read(state, "traj_episode", &items.traj_episode);
    Read(state, "column_item", &items.column_item);
    Read(state, "column_field", &items.column_field);
    Read(state, "column_squeeze", &items.column_squeeze);
    Read(state, "column_pieces", &items.column_pieces);
    Read(state, "piece_chunk", &items.piece_chunk);
    Read(state, "piece_offset", &items.piece_offset);
    Read(state, "piece_length", &items.piece_length);
  }
  Read(state, "free_keys", &parsed.free_keys);
  const std::size_t n = items.chunk_id.size();
  std::vector<std::uint64_t> rng;
  Read(state, "rng_state", &rng);
  if (rng.size() != 4 || (!items.key.empty() && items.key.size() != n) ||
      items.offset.size() != n || items.length.size() != n || items.priority.size() != n ||
      items.times_sampled.size() != n || (!items.touched.empty() && items.touched.size() != n) ||
      items.traj_episode.size() != items.traj_item.size() ||
      items.column_field.size() != items.column_item.size() ||
      items.column_squeeze.size() != items.column_item.size() ||
      items.column_pieces.size() != items.column_item.size() ||
      items.piece_offset.size() != items.piece_chunk.size() ||
      items.piece_length.size() != items.piece_chunk.size()) {
    throw nb::value_error("state arrays differ in length");
  }
  for (std::size_t i = 0; i < 4; ++i) parsed.rng[i] = rng[i];
  nb::dict counters = nb::cast<nb::dict>(state["counters"]);
  parsed.counters.inserts = nb::cast<std::int64_t>(counters["inserts"]);
  parsed.counters.samples = nb::cast<std::int64_t>(counters["samples"]);
  parsed.counters.deletes = nb::cast<std::int64_t>(counters["deletes"]);
  const auto optional = [&](const char* name, std::int64_t* to) {
    if (counters.contains(name)) *to = nb::cast<std::int64_t>(counters[name]);
  };
  optional("num_unique_samples", &parsed.num_unique_samples);
  optional("num_deleted_episodes", &parsed.num_deleted_episodes);
  return parsed;
}

void BindRestore(nb::module_& m) {
  nb::class_<TableSnapshotHandle>(m, "TableSnapshot")
      .def_prop_ro("items", [](const TableSnapshotHandle& self) { return self.items; })
      .def_prop_ro("free_keys", [](const TableSnapshotHandle& self) { return self.free_keys; })
      .def_prop_ro("counters", [](const TableSnapshotHandle& self) { return self.counters; })
      .def_prop_ro("rng_state", [](const TableSnapshotHandle& self) { return self.rng_state; });

  nb::class_<SnapshotHandle>(m, "Snapshot")
      .def_prop_ro("chunks", [](const SnapshotHandle& self) { return self.chunks; })
      .def_prop_ro("layouts", [](const SnapshotHandle& self) { return self.layouts; })
      .def_prop_ro("ends", [](const SnapshotHandle& self) { return self.ends; })
      .def(
          "data",
          [](const SnapshotHandle& self, std::size_t row) {
            if (row >= self.snapshot->num_chunks()) throw nb::index_error("no such chunk");
            return Bytes<const std::uint8_t>(self.snapshot->chunk(row), self.snapshot->count(row));
          },
          "row"_a)
      .def_prop_ro("tables", [](const SnapshotHandle& self) { return self.tables; });

  nb::object store = m.attr("Store");
  const auto method = [&](const char* name, auto&& function, const auto&... extra) {
    store.attr(name) =
        nb::cpp_function(function, nb::name(name), nb::scope(store), nb::is_method(), extra...);
  };
  method("snapshot", &TakeSnapshot);
  method(
      "restore_chunk",
      [](StoreHandle& self, std::optional<const TypedLayout*> layout, std::uint64_t chunk_id,
         std::uint32_t count, std::size_t nbytes) {
        if (!layout && count != 1) throw nb::value_error("a chunk of one cell has one");
        const std::shared_ptr<reverie::Chunk> chunk = self.store->RestoreChunk(
            layout
                ? (*layout)->layout()
                : std::make_shared<const reverie::RecordLayout>(std::vector<std::size_t>{nbytes}),
            chunk_id, count);
        if (chunk == nullptr) throw nb::value_error("chunk_id in use or 0, or count is 0");
        return Bytes<std::uint8_t>(chunk, count);
      },
      "layout"_a.none(), "chunk_id"_a, "count"_a, "nbytes"_a = std::size_t{0});
  method(
      "link_chunks",
      [](StoreHandle& self, InVector<std::uint64_t> ids, InVector<std::uint64_t> next_ids) {
        if (ids.size() != next_ids.size()) throw nb::value_error("one next_id per id");
        Check(self.store->LinkChunks(ids.data(), next_ids.data(), ids.size()));
      },
      "ids"_a, "next_ids"_a);
  method(
      "restore_ends",
      [](StoreHandle& self, InVector<std::uint64_t> chunk, InVector<std::uint32_t> step,
         InVector<std::uint8_t> how) {
        if (step.size() != chunk.size() || how.size() != chunk.size()) {
          throw nb::value_error("vectors differ in length");
        }
        Check(self.store->RestoreEnds(chunk.data(), step.data(), how.data(), chunk.size()));
      },
      "chunk"_a, "step"_a, "how"_a);
  method("seal_restore", [](StoreHandle& self) {
    NoGil release;
    self.store->SealRestore();
  });
}

}  // namespace reverie_py
