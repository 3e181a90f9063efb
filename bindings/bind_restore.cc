#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include "arrays.h"
#include "errors.h"
#include "handles.h"
#include "interrupts.h"
#include "no_gil.h"
#include "snapshot.h"
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

// Its arrays are made when the first of them is asked for.
struct SnapshotHandle {
  Spared<std::shared_ptr<reverie::Snapshot>> snapshot;  // then without its arrays
  bool arranged = false;
  nb::dict chunks;
  nb::dict ends;
  nb::list layouts;
  nb::list tables;

  void Arrange();
};

// `count` records of `record_nbytes` bytes as rows; the array keeps `owned` alive.
template <typename T, typename Owned>
nb::ndarray<nb::numpy, T, nb::ndim<2>> Rows(Owned owner, T* data, std::size_t count,
                                            std::size_t record_nbytes) {
  auto* owned = new Owned(std::move(owner));
  nb::capsule capsule(owned, [](void* p) noexcept { delete static_cast<Owned*>(p); });
  return {data, {count, record_nbytes}, capsule};
}

nb::ndarray<nb::numpy, const std::uint8_t, nb::ndim<2>> Data(SnapshotHandle& self,
                                                             std::size_t row) {
  reverie::Snapshot& snapshot = *self.snapshot;
  self.Arrange();
  if (row >= snapshot.num_chunks()) throw nb::index_error("no such chunk");
  const std::size_t count = snapshot.count(row);
  const std::size_t record_nbytes = snapshot.record_nbytes(row);
  if (auto chunk = snapshot.whole(row)) {
    const std::uint8_t* const data = chunk->data;
    return Rows<const std::uint8_t>(std::move(chunk), data, count, record_nbytes);
  }
  std::unique_ptr<std::uint8_t[]> packed(new std::uint8_t[count * record_nbytes]);
  WithoutGil([&] { snapshot.Copy(row, packed.get()); });
  const std::uint8_t* const data = packed.get();
  return Rows<const std::uint8_t>(std::move(packed), data, count, record_nbytes);
}

template <typename T, typename Allocator>
void Read(nb::dict state, const char* name, std::vector<T, Allocator>* to) {
  // What is new comes page by page, at a millisecond or two for so much.
  constexpr std::size_t kLongNbytes = std::size_t{1} << 22;
  const auto array = nb::cast<InVector<T>>(state[name]);
  GilToSpare([&] {
    if (array.size() * sizeof(T) >= kLongNbytes) reverie::OuterLock::LetGo();
    to->assign(array.data(), array.data() + array.size());
  });
  if (PyErr_CheckSignals() != 0) throw nb::python_error();
}

void SnapshotHandle::Arrange() {
  if (arranged) return;
  Check(Interruptible(true, [&] { return snapshot->Arrange(); }));
  if (arranged) return;  // by another thread, meanwhile
  arranged = true;
  chunks["id"] = ToNumpy(std::move(snapshot->chunks.id));
  chunks["next"] = ToNumpy(std::move(snapshot->chunks.next));
  chunks["count"] = ToNumpy(std::move(snapshot->chunks.count));
  chunks["nbytes"] = ToNumpy(std::move(snapshot->chunks.nbytes));
  chunks["sealed"] = ToNumpy(std::move(snapshot->chunks.sealed));
  chunks["layout"] = ToNumpy(std::move(snapshot->chunks.layout));
  ends["chunk"] = ToNumpy(std::move(snapshot->ends.chunk));
  ends["step"] = ToNumpy(std::move(snapshot->ends.step));
  ends["how"] = ToNumpy(std::move(snapshot->ends.how));
  for (const reverie::RecordLayout* layout : snapshot->layouts) {
    nb::list columns;
    for (std::size_t c = 0; layout != nullptr && c < layout->columns().size(); ++c) {
      columns.append(CellType::Of(layout->columns()[c].type).Describe());
    }
    layouts.append(layout == nullptr ? nb::object(nb::none()) : columns);
  }
  for (auto& table : snapshot->tables) {
    TableSnapshotHandle entry;
    entry.items = ItemArrays(std::move(table.items));
    entry.items["holes"] = ToNumpy(std::move(table.holes));
    entry.free_keys = nb::cast(ToNumpy(std::move(table.free_keys)));
    entry.counters["inserts"] = table.counters.inserts;
    entry.counters["samples"] = table.counters.samples;
    entry.counters["deletes"] = table.counters.deletes;
    entry.counters["num_unique_samples"] = table.num_unique_samples;
    entry.counters["num_deleted_episodes"] = table.num_deleted_episodes;
    entry.counters["first_generation"] = table.first_generation;
    entry.counters["next_slot"] = table.next_slot;
    entry.rng_state =
        nb::cast(ToNumpy(std::vector<std::uint64_t>(table.rng.begin(), table.rng.end())));
    tables.append(nb::cast(std::move(entry)));
  }
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
  if (state.contains("holes")) Read(state, "holes", &parsed.holes);
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
  const auto number = [&](const char* name, std::uint32_t* to) {
    std::int64_t value = *to;
    optional(name, &value);
    if (value < 0 || value > 0xffffffff) throw nb::value_error("a counter is out of range");
    *to = static_cast<std::uint32_t>(value);
  };
  number("first_generation", &parsed.first_generation);
  number("next_slot", &parsed.next_slot);
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

  const auto part = [](auto member) {
    return [member](SnapshotHandle& self) {
      self.Arrange();
      return self.*member;
    };
  };
  nb::class_<SnapshotHandle>(m, "Snapshot")
      .def_prop_ro("chunks", part(&SnapshotHandle::chunks))
      .def_prop_ro("layouts", part(&SnapshotHandle::layouts))
      .def_prop_ro("ends", part(&SnapshotHandle::ends))
      .def_prop_ro("tables", part(&SnapshotHandle::tables))
      .def("data", &Data, "row"_a);

  nb::object store = m.attr("Store");
  const auto method = [&](const char* name, auto&& function, const auto&... extra) {
    store.attr(name) =
        nb::cpp_function(function, nb::name(name), nb::scope(store), nb::is_method(), extra...);
  };
  method("snapshot", [](StoreHandle& self) {
    SnapshotHandle handle;
    handle.snapshot =
        std::shared_ptr<reverie::Snapshot>(GilToSpare([&] { return self.store->TakeSnapshot(); }));
    return handle;
  });
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
        std::uint8_t* const data = chunk->data;
        const std::size_t record_nbytes = chunk->layout->record_nbytes();
        return Rows<std::uint8_t>(chunk, data, count, record_nbytes);
      },
      "layout"_a.none(), "chunk_id"_a, "count"_a, "nbytes"_a = std::size_t{0});
  method(
      "link_chunks",
      [](StoreHandle& self, InVector<std::uint64_t> ids, InVector<std::uint64_t> next_ids) {
        if (ids.size() != next_ids.size()) throw nb::value_error("one next_id per id");
        Check(Interruptible(ids.size() >= kLongItems, [&] {
          return self.store->LinkChunks(ids.data(), next_ids.data(), ids.size());
        }));
      },
      "ids"_a, "next_ids"_a);
  method(
      "restore_ends",
      [](StoreHandle& self, InVector<std::uint64_t> chunk, InVector<std::uint32_t> step,
         InVector<std::uint8_t> how) {
        if (step.size() != chunk.size() || how.size() != chunk.size()) {
          throw nb::value_error("vectors differ in length");
        }
        Check(Interruptible(chunk.size() >= kLongItems, [&] {
          return self.store->RestoreEnds(chunk.data(), step.data(), how.data(), chunk.size());
        }));
      },
      "chunk"_a, "step"_a, "how"_a);
  method("seal_restore", [](StoreHandle& self) {
    Check(Interruptible(true, [&] { return self.store->SealRestore(); }));
  });
}

}  // namespace reverie_py
