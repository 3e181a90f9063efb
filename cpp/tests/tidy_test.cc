// What items hold of sparsely used chunks gets a new home, and nobody notices.

#include "tidy.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <set>
#include <thread>
#include <unordered_map>

#include "starve.h"
#include "tidy_scene.h"

namespace reverie_test {
namespace {

using Items = Writer::Items;

constexpr std::uint64_t kRarely = std::uint64_t{1} << 50;

// Neither the store's keeper nor a Tidy() looks again, until LookAgain().
void Quiet(Store* store) {
  Store::Locked locked = store->Lock();
  locked.chunks().Looked(/*in_vain=*/false, kRarely);
}

// Has the store tidied, whatever it has found lately: by this thread, or by the keeper,
// for which this one waits. Returns whether anything was moved.
bool TidyNow(Store* store) {
  std::uint64_t before;
  {
    Store::Locked locked = store->Lock();
    before = locked.chunks().last_id();
    locked.chunks().LookAgain();
  }
  store->Tidy();
  Quiet(store);
  return store->Lock().chunks().last_id() != before;
}

// What is counted of each chunk, and of all of them.
void CheckSums(Store* store, const std::vector<std::shared_ptr<Table>>& tables,
               bool keeper = false) {
  std::map<const Chunk*, std::uint32_t> refs;
  std::map<const Chunk*, std::set<std::uint32_t>> held;
  std::uint64_t num_chunks = 0, num_steps = 0, nbytes = 0, allocated = 0;
  const Store::Info info = store->info();
  Store::Locked locked = store->Lock();
  ChunkStore& chunks = locked.chunks();
  const auto hold = [&](const Chunk* chunk, std::uint32_t offset, std::uint32_t length) {
    CHECK(length != 0 && offset + length <= chunk->count);
    ++refs[chunk];
    for (std::uint32_t i = offset; i < offset + length; ++i) held[chunk].insert(i);
  };
  for (const auto& table : tables) {
    table->VisitSlots(
        0, table->num_slots(),
        [&](std::uint32_t, const Item& item, std::uint32_t length, const Trajectory* trajectory) {
          for (std::uint32_t p = 0; trajectory != nullptr && p < trajectory->num_pieces; ++p) {
            const Piece& piece = trajectory->pieces()[p];
            hold(piece.chunk, piece.offset, piece.length);
          }
          if (trajectory != nullptr) return;
          const Chunk* chunk = chunks.at(item.chunk);
          std::uint32_t offset = item.offset;
          for (std::uint32_t left = length; left != 0; offset = 0) {
            const std::uint32_t here = std::min<std::uint32_t>(left, chunk->capacity - offset);
            hold(chunk, offset, here);
            if ((left -= here) != 0) chunk = chunk->next;
          }
        });
  }
  for (std::uint32_t slot = 0; slot < chunks.num_slots(); ++slot) {
    const Chunk* const chunk = chunks.at(slot);
    if (chunk == nullptr) continue;
    const std::size_t record_nbytes = chunk->layout->record_nbytes();
    ++num_chunks;
    num_steps += chunk->count;
    nbytes += chunk->count * record_nbytes;
    allocated += chunk->capacity * record_nbytes;
    CHECK_EQ(chunk->slot, slot);
    CHECK_EQ(chunk->refs, chunk->writers + refs[chunk]);
    CHECK(!chunk->leaving);
    CHECK(chunk->count <= chunk->capacity);
    CHECK(chunk->sealed || chunk->writers != 0);
    // Items that leave while the keeper looks are told of the next time.
    if (chunk->writers == 0 && !keeper) CHECK(chunk->held <= held[chunk].size());
    CHECK(std::is_sorted(chunk->ends.begin(), chunk->ends.end(),
                         [](const auto& a, const auto& b) { return a.step < b.step; }));
    refs.erase(chunk);
  }
  CHECK(refs.empty());  // of chunks that are gone
  CHECK_EQ(info.num_chunks, num_chunks);
  CHECK_EQ(info.num_steps, num_steps);
  CHECK_EQ(info.record_nbytes, nbytes);
  CHECK_EQ(info.allocated_nbytes, allocated);
}

// Tables, writers into them and what was written, that change at random.
struct World {
  struct Options {
    bool waits = true;    // items of one table wait for its limiter
    bool keeper = false;  // the store's own thread may tidy at any time
  };
  struct Stream {
    std::uint64_t source;
    std::uint64_t next = 0;
  };
  struct Records {
    std::unique_ptr<Writer> writer;
    Writer::Config config;
    std::vector<Stream> streams;
  };
  struct Cells {
    std::unique_ptr<TrajectoryWriter> writer;
    std::uint64_t source;  // of its first column
  };
  struct Seen {
    Ids ids;
    WindowEnds ends;
    double priority;
  };
  using Contents_ = std::map<std::uint64_t, Seen>;  // by key

  const Options options;
  std::shared_ptr<Store> store;
  std::vector<Table::Config> configs;
  std::vector<std::shared_ptr<Table>> tables;
  std::vector<Records> records;
  std::vector<Cells> cells;
  Rng rng;
  std::uint64_t num_sources = 0;
  std::uint64_t num_priorities = 0;
  // Items' priorities tell what they are: windows up to one of these steps, or these cells.
  std::unordered_map<double, std::vector<std::uint64_t>> last;
  std::unordered_map<double, Ids> trajectories;
  std::unordered_map<std::uint64_t, How> ends;      // of steps
  std::map<std::uint64_t, std::size_t> columns_of;  // by source, of cells

  World(std::uint64_t seed, const Options& how) : options(how), rng(seed) {
    const std::size_t sizes[] = {std::size_t{1} << 13, std::size_t{1} << 16, std::size_t{1} << 20};
    store = std::make_shared<Store>(Store::Options{sizes[seed % 3], 1});
    if (!options.keeper) Quiet(store.get());
    const auto add = [&](std::uint32_t size, SelectorKind sampler, SelectorKind remover) {
      configs.push_back(TableConfig(size, sampler, remover));
    };
    add(20 + rng.Below(100), SelectorKind::kUniform, SelectorKind::kFifo);
    add(60 + rng.Below(100), SelectorKind::kPrioritized, SelectorKind::kUniform);
    add(60 + rng.Below(100), SelectorKind::kMaxHeap, SelectorKind::kMinHeap);
    add(60 + rng.Below(100), SelectorKind::kFifo, SelectorKind::kLifo);
    add(5000, SelectorKind::kUniform, SelectorKind::kFifo);
    add(100, SelectorKind::kUniform, SelectorKind::kMaxHeap);
    configs.back().max_times_sampled = 3;
    if (options.waits) {
      add(30, SelectorKind::kFifo, SelectorKind::kFifo);
      configs.back().max_times_sampled = 1;
      configs.back().limiter = {1, 1.0, 0.0, 30.0};
    }
    for (const Table::Config& config : configs) tables.push_back(store->CreateTable(config));
    for (int i = 0; i < 2; ++i) NewRecords(records.emplace_back());
    for (int i = 0; i < 2; ++i) NewCells(cells.emplace_back());
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  std::uint32_t Below(std::size_t n) { return rng.Below(static_cast<std::uint32_t>(n)); }
  double NewPriority() {  // of no order, so that heaps keep some of all times
    return static_cast<double>(++num_priorities * 2654435761u & 0xffffffffu);
  }
  Table* AnyTable() { return tables[Below(tables.size())].get(); }

  void NewRecords(Records& of) {
    Close(&of);
    const auto items = static_cast<Items>(rng.Below(3));
    of.config = {1 + rng.Below(9),
                 1 + rng.Below(rng.Below(2) == 0 ? 1 : 12),
                 1.0,
                 rng.Below(2) == 0,
                 rng.Below(2) == 0,
                 LargePad(),
                 -1,
                 0,
                 items,
                 1 + rng.Below(3),
                 -1};
    if (items != Items::kWindows) of.config.pad_end = of.config.tile_end = false;
    std::vector<std::shared_ptr<Table>> into;
    for (const auto& table : tables) {
      const bool waits = options.waits && table == tables.back();
      if (rng.Below(waits ? 6 : 2) == 0) into.push_back(table);
    }
    if (into.empty()) into.push_back(tables[0]);
    of.writer = std::make_unique<Writer>(store, kLarge, into, of.config);
    of.streams.clear();
    for (std::uint32_t s = 0; s < of.config.num_streams; ++s) of.streams.push_back({++num_sources});
  }
  // Its open episodes are cut.
  void Close(Records* of) {
    if (of->writer == nullptr) return;
    for (std::uint32_t s = 0; s < of->streams.size(); ++s) Cut(of, s);
    if (rng.Below(2) == 0) of->writer->Close();
    of->writer.reset();
  }
  void Cut(Records* of, std::uint32_t stream) {
    if (of->writer->num_cached(stream) == 0) return;
    ends.try_emplace(Id(of->streams[stream].source, of->streams[stream].next - 1), How::kCut);
  }
  void NewCells(Cells& of) {
    of.writer = std::make_unique<TrajectoryWriter>(store);
    of.source = num_sources + 1;
    num_sources += 3;
    for (std::size_t c = 0; c < 3; ++c) {
      of.writer->AddColumn(CellLayout(c), 1 + rng.Below(12));
      columns_of[of.source + c] = c;
    }
  }

  void AddRecords() {
    Records& of = records[Below(records.size())];
    const double priority = NewPriority();
    of.writer->SetPriority(priority);
    const std::uint32_t stream = rng.Below(of.config.num_streams);
    if (rng.Below(40) == 0) {
      std::uint64_t uncovered;
      last[priority] = {Id(of.streams[stream].source, of.streams[stream].next - 1)};
      Cut(&of, stream);
      REQUIRE(of.writer->Reset(stream, rng.Below(2) == 0, &uncovered).ok());
      return;
    }
    std::vector<std::uint32_t> to{stream};
    if (rng.Below(4) == 0) {
      to.clear();
      for (std::uint32_t s = 0; s < of.config.num_streams; ++s) to.push_back(s);
    }
    std::vector<std::uint64_t> first;
    std::vector<std::uint8_t> rest;
    std::vector<std::uint8_t> hows;
    for (const std::uint32_t s : to) {
      const std::uint64_t id = Id(of.streams[s].source, of.streams[s].next);
      const Words words = WordsOf(id);
      first.push_back(words[0]);
      const auto* const bytes = reinterpret_cast<const std::uint8_t*>(&words[1]);
      rest.insert(rest.end(), bytes, bytes + kRecordNbytes - 8);
      hows.push_back(static_cast<std::uint8_t>(rng.Below(12) == 0 ? 1 + rng.Below(4) : 0));
    }
    const void* const columns[] = {first.data(), rest.data()};
    std::vector<Writer::Fate> fates(to.size());
    std::vector<bool> open;
    for (const std::uint32_t s : to) open.push_back(of.writer->num_cached(s) != 0);
    last[priority] = first;
    REQUIRE(
        of.writer->AppendBatch(columns, to.data(), to.size(), hows.data(), fates.data(), nullptr)
            .ok());
    for (std::size_t i = 0; i < to.size(); ++i) {
      Stream& stream_of = of.streams[to[i]];
      if (fates[i] == Writer::Fate::kStored) {
        ++stream_of.next;
        if (hows[i] != 0) ends[first[i]] = static_cast<How>(hows[i]);
      } else if (open[i]) {
        ends.try_emplace(first[i] - 1, How::kCut);
      }
    }
  }
  void AddCells() {
    Cells& of = cells[Below(cells.size())];
    TrajectoryWriter::Cell step[3];
    Words words[3];
    for (std::uint32_t c = 0; c < 3; ++c) {
      const std::uint64_t number = of.writer->next(c);
      if (rng.Below(4) == 0) continue;
      words[c] = WordsOf(Id(of.source + c, number));
      step[c] = {words[c].data(), 8 * CellWords(c, number)};
    }
    REQUIRE(of.writer->Append(step, 3).ok());
    if (rng.Below(60) == 0) of.writer->EndEpisode(rng.Below(2) == 0);
    if (rng.Below(2) == 0) return;
    std::vector<TrajectoryWriter::Run> runs;
    std::vector<TrajectoryWriter::OutputColumn> columns;
    Ids ids;
    for (std::uint32_t i = 1 + rng.Below(3); i != 0; --i) {
      const std::uint32_t c = rng.Below(3);
      const std::uint64_t first = of.writer->first_kept(c);
      const std::size_t kept = of.writer->next(c) - first;
      if (kept == 0) continue;
      const std::uint32_t num_runs = 1 + rng.Below(3);
      ids.emplace_back();
      for (std::uint32_t r = 0; r < num_runs; ++r) {
        const std::uint32_t at = Below(kept);
        runs.push_back({c, first + at, 1 + Below(kept - at)});
        for (std::uint32_t t = 0; t < runs.back().length; ++t) {
          ids.back().push_back(Id(of.source + c, runs.back().start + t));
        }
      }
      columns.push_back({num_runs, ids.back().size() == 1 && rng.Below(2) == 0});
    }
    if (columns.empty()) return;
    const double priority = NewPriority();
    trajectories[priority] = ids;
    bool inserted;
    REQUIRE(of.writer
                ->CreateItem(AnyTable(), priority, runs.data(), runs.size(), columns.data(),
                             columns.size(), &inserted)
                .ok());
  }
  void Sample(Table* table, std::size_t n) {
    Store::ItemReader reader(store);
    if (!reader.Sample(table, n).ok()) return;
    for (const SampledItem& item : reader.items()) CheckItem(item.priority, Read(item));
  }
  void Change() {
    if (rng.Below(3) == 0) {
      AddCells();
    } else {
      AddRecords();
    }
    if (rng.Below(20) == 0) Sample(AnyTable(), 1 + rng.Below(4));
    if (options.waits && rng.Below(30) == 0) Sample(tables.back().get(), 1 + rng.Below(9));
    const std::uint32_t dice = rng.Below(2000);
    if (dice < 40) {
      const std::size_t which = Below(tables.size());
      const auto keys = store->table_state(tables[which]).items.key;
      for (std::uint32_t i = rng.Below(20); i != 0 && !keys.empty(); --i) {
        store->Delete(tables[which].get(), &keys[Below(keys.size())], 1);
      }
    } else if (dice == 40) {
      store->Clear(AnyTable());
    } else if (dice < 46) {
      NewRecords(records[Below(records.size())]);
    } else if (dice < 49) {
      NewCells(cells[Below(cells.size())]);
    }
  }

  // Whether that may be the item: what it was made of, and nothing else.
  void CheckItem(double priority, const Ids& ids) const {
    const auto of_cells = trajectories.find(priority);
    if (of_cells != trajectories.end()) {
      CHECK(ids == of_cells->second);
      return;
    }
    REQUIRE(ids.size() == 1 && !ids[0].empty());
    std::size_t real = ids[0].size();
    while (real > 1 && ids[0][real - 1] == kPad) --real;
    const auto found = last.find(priority);
    REQUIRE(found != last.end());
    const std::vector<std::uint64_t>& may_be = found->second;
    CHECK(std::count(may_be.begin(), may_be.end(), ids[0][real - 1]) == 1);
    for (std::size_t t = 1; t < real; ++t) CHECK_EQ(ids[0][t], ids[0][t - 1] + 1);
  }
  // Whether the window's ends are where they were written. Its last step may be cut from
  // what comes to stand behind it; and where its episode is cut there later, when the step
  // stands in two places already, that is only told of the place that the writer has.
  void CheckEnds(const std::vector<std::uint64_t>& ids, const WindowEnds& of_window) const {
    for (std::uint32_t t = 0; t < ids.size(); ++t) {
      const bool is_last = t + 1 == ids.size();
      const auto here = of_window.find(t);
      const How found = here == of_window.end() ? How::kGoesOn : here->second;
      const auto written = ends.find(ids[t]);
      const bool may_be_cut =
          is_last && (found == How::kGoesOn || found == How::kCut) &&
          (ids[t] == kPad || written == ends.end() || written->second == How::kCut);
      if (may_be_cut) continue;
      CHECK_EQ(found, ids[t] == kPad || written == ends.end() ? How::kGoesOn : written->second);
    }
  }

  // All items of a table, each of which is checked.
  Contents_ Look(const std::shared_ptr<Table>& table) const {
    Contents_ seen;
    const TableState state = store->table_state(table);
    for (std::size_t row = 0; row < state.items.key.size(); ++row) {
      Store::ItemReader reader(store);
      REQUIRE(reader.Find(table.get(), &state.items.key[row]).ok());
      const SampledItem& item = reader.items()[0];
      Seen& one = seen[item.key];
      one.priority = item.priority;
      CHECK_EQ(item.priority, state.items.priority[row]);
      one.ids = Read(item);
      CheckItem(item.priority, one.ids);
      if (item.trajectory != nullptr) continue;
      Store::Locked locked = store->Lock();
      const Chunk* chunk = item.chunk;
      std::uint32_t offset = item.offset;
      for (std::uint32_t t = 0; t < item.length; ++t, ++offset) {
        if (offset == chunk->capacity) {
          chunk = chunk->next;
          offset = 0;
        }
        for (const Chunk::End& end : chunk->ends) {
          if (end.step == offset) one.ends[t] = end.how;
        }
      }
      CheckEnds(one.ids[0], one.ends);
    }
    CHECK_EQ(seen.size(), table->size());
    return seen;
  }
  std::vector<Contents_> Look() const {
    std::vector<Contents_> all;
    for (const auto& table : tables) all.push_back(Look(table));
    return all;
  }
  static bool Same(const std::vector<Contents_>& a, const std::vector<Contents_>& b) {
    const auto same = [](const auto& x, const auto& y) {
      return x.first == y.first && x.second.ids == y.second.ids &&
             x.second.priority == y.second.priority;
    };
    bool all = a.size() == b.size();
    for (std::size_t t = 0; t < a.size() && all; ++t) {
      all = std::equal(a[t].begin(), a[t].end(), b[t].begin(), b[t].end(), same);
    }
    return all;
  }
  // The same by way of a snapshot.
  void CheckSnapshot(const Snapshot& snapshot, const std::vector<Contents_>& all) const {
    for (std::size_t t = 0; t < all.size(); ++t) {
      const auto items = Decode(snapshot, t);
      CHECK_EQ(items.size(), all[t].size());
      for (const auto& [key, item] : items) {
        const auto found = all[t].find(key);
        if (!CHECK(found != all[t].end())) continue;
        CHECK(item.ids == found->second.ids);
        if (trajectories.count(found->second.priority) == 0) CheckEnds(item.ids[0], item.ends);
      }
    }
  }

  void CheckSums() const { reverie_test::CheckSums(store.get(), tables, options.keeper); }
  std::uint64_t Pending() const {
    std::uint64_t pending = 0;
    for (const auto& table : tables) pending += store->table_info(*table).stats.pending;
    return pending;
  }
  // What must be there: what items hold, each record once, and what the next ones may.
  std::uint64_t Held(const std::vector<Contents_>& all) const {
    std::set<std::pair<std::uint64_t, std::uint64_t>> ids;
    std::uint64_t nbytes = 0;
    for (const Contents_& table : all) {
      for (const auto& item : table) {
        for (const auto& column : item.second.ids) {
          std::uint64_t real = 0, pads = 0;  // which of those after this one
          for (const std::uint64_t id : column) {
            real = id != kPad ? id : real;
            pads = id != kPad ? 0 : pads + 1;
            if (!ids.insert({real, pads}).second) continue;
            const auto cell = columns_of.find(id >> 32);
            nbytes += cell == columns_of.end() ? kRecordNbytes
                                               : 8 * CellWords(cell->second, id & 0xffffffffu);
          }
        }
      }
    }
    return nbytes;
  }
  std::uint64_t Needed() const {
    std::uint64_t nbytes = 0;
    for (const Records& of : records) {
      for (std::uint32_t s = 0; s < of.config.num_streams; ++s) {
        const std::uint64_t cached = of.writer->num_cached(s);
        const std::uint64_t most =
            of.config.items == Items::kEpisodes ? cached : of.config.sequence_length;
        nbytes += std::min(cached, most) * kRecordNbytes + 2048;
      }
    }
    for (const Cells& of : cells) {
      for (std::uint32_t c = 0; c < 3; ++c) {
        nbytes += 2048;
        for (std::uint64_t n = of.writer->first_kept(c); n < of.writer->next(c); ++n) {
          nbytes += 8 * CellWords(c, n);
        }
      }
    }
    return nbytes;
  }
  // The most that may be stored where the store has just been tidied. Chunks of items that
  // wait are left as they are.
  std::uint64_t Bound(const std::vector<Contents_>& all) const {
    std::uint64_t waiting = 0;
    if (Pending() != 0) {
      Store::Locked locked = store->Lock();
      for (std::uint32_t slot = 0; slot < locked.chunks().num_slots(); ++slot) {
        const Chunk* const chunk = locked.chunks().at(slot);
        if (chunk == nullptr || chunk->writers == 0) continue;
        waiting += chunk->count * chunk->layout->record_nbytes();
      }
    }
    const std::uint64_t held = Held(all);
    return held + held / 4 + Needed() + waiting + 768 * 1024;
  }

  // A store restored from a snapshot holds the same, draws the same, and goes on to do so
  // when both are tidied.
  void CheckCopy() {
    const auto snapshot = Arranged(store);
    auto copy = std::make_shared<Store>(store->options());
    Quiet(copy.get());
    Load(Save(*snapshot), copy.get());
    std::vector<std::shared_ptr<Table>> to;
    for (std::size_t t = 0; t < tables.size(); ++t) {
      to.push_back(copy->CreateTable(configs[t]));
      REQUIRE(copy->RestoreTable(to[t].get(), snapshot->tables[t]).ok());
    }
    copy->SealRestore();
    for (int round = 0; round < 8; ++round) {
      if (round == 3) TidyNow(copy.get());
      if (round == 5) TidyNow(store.get());
      for (std::size_t t = 0; t < tables.size(); ++t) {
        if (store->table_info(*tables[t]).stats.pending != 0) continue;  // they go in here only
        Store::ItemReader one(store), other(copy);
        const Status status = one.Sample(tables[t].get(), 4);
        CHECK_EQ(other.Sample(to[t].get(), 4).code, status.code);
        if (!status.ok()) continue;
        REQUIRE(one.items().size() == other.items().size());
        for (std::size_t i = 0; i < one.items().size(); ++i) {
          const SampledItem& a = one.items()[i];
          const SampledItem& b = other.items()[i];
          CHECK_EQ(a.key, b.key);
          CHECK_EQ(a.priority, b.priority);
          CHECK_EQ(a.probability, b.probability);
          CHECK_EQ(a.times_sampled, b.times_sampled);
          const Ids ids = Read(a);
          CHECK(ids == Read(b));
          CheckItem(a.priority, ids);
        }
      }
    }
    for (const auto& table : to) copy->Clear(table.get());
    CHECK_EQ(copy->info().num_chunks + copy->info().allocated_nbytes, 0u);
  }

  // When all items and writers are gone, so is all that was taken for them.
  void Empty() {
    for (Records& of : records) Close(&of);
    cells.clear();
    for (int i = 0; i < 2; ++i) {  // items that waited come in where others have left
      for (const auto& table : tables) {
        while (store->table_info(*table).size != 0) store->Clear(table.get());
      }
    }
    store->Tidy();  // after the keeper's, if it is at work
    const Store::Info info = store->info();
    CHECK_EQ(info.num_chunks + info.num_steps + info.record_nbytes + info.allocated_nbytes, 0u);
    Store::Locked locked = store->Lock();
    CHECK_EQ(locked.chunks().arena()->used_nbytes(), 0u);
    // Pages of few items, and of slots of chunks, stay.
    std::size_t pages = 64 * locked.chunks().num_slots();
    for (const Table::Config& config : configs) {
      pages += 128 * config.max_size + 20 * PagePool::kPageNbytes;
    }
    CHECK(locked.chunks().item_arena()->used_nbytes() < pages);
    CHECK_EQ(locked.chunks().open().size(), 0u);
  }
};

struct Total {
  int tidied = 0;
  int moved = 0;
  int waited = 0;
  std::uint64_t freed = 0;
};

void RandomProgram(std::uint64_t seed, const World::Options& options, int steps, Total* total) {
  World world(seed, options);
  std::unique_ptr<Snapshot> kept;  // through some of it
  std::vector<World::Contents_> in_kept;
  std::vector<std::unique_ptr<Store::ItemReader>> readers;
  std::vector<Ids> expected;
  const auto check_readers = [&] {
    for (std::size_t i = 0; i < readers.size(); ++i) {
      CHECK(Read(readers[i]->items()[0]) == expected[i]);
    }
  };
  const auto fill = [&] {  // so that chunks become large
    for (int i = 0; i < 2500; ++i) world.AddRecords();
  };
  fill();
  for (int i = 1; i <= steps; ++i) {
    world.Change();
    if (i % 1000 == 0) {
      world.store->Clear(world.tables[4].get());
      if (world.rng.Below(2) == 0) fill();
    }
    if (i % 400 != 0) continue;
    const auto before = world.Look();
    world.CheckSums();
    check_readers();
    readers.clear();
    expected.clear();
    if (i % 800 == 0) {  // some that read what is about to be moved
      for (std::size_t t = 0; t < before.size(); ++t) {
        for (const auto& item : before[t]) {
          if (world.rng.Below(10) != 0) continue;
          readers.push_back(std::make_unique<Store::ItemReader>(world.store));
          REQUIRE(readers.back()->Find(world.tables[t].get(), &item.first).ok());
          expected.push_back(item.second.ids);
        }
      }
    }
    auto late = world.rng.Below(2) == 0 ? world.store->TakeSnapshot() : nullptr;
    const auto at_once = late != nullptr ? Arranged(world.store) : nullptr;
    const std::uint64_t stored = world.store->info().record_nbytes;
    const bool moved = TidyNow(world.store.get());
    ++total->tidied;
    total->moved += moved;
    total->waited += world.Pending() != 0;
    const std::uint64_t now = world.store->info().record_nbytes;
    CHECK(now <= stored || now - stored <= 64 * 1024);  // copies of windows that reach far
    if (now < stored) total->freed += stored - now;
    world.CheckSums();
    const auto after = world.Look();
    CHECK(World::Same(before, after));
    const std::uint64_t bound = world.Bound(after);
    CHECK(now <= bound);
    check_readers();
    world.CheckSnapshot(*Arranged(world.store), after);
    if (late != nullptr) {
      late->Arrange();
      CHECK(Same(*late, *at_once));
      world.CheckSnapshot(*late, before);
      CHECK(kept == nullptr || (world.CheckSnapshot(*kept, in_kept), true));
      kept = world.rng.Below(3) == 0 ? nullptr : std::move(late);
      in_kept = before;
    }
    if (i % 1600 == 0) world.CheckCopy();
  }
  if (kept != nullptr) world.CheckSnapshot(*kept, in_kept);
  check_readers();
  kept.reset();
  readers.clear();
  world.Empty();
}

TEST(NoItemChangesWhereverItsRecordsGo) {
  Total total;
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    RandomProgram(seed, {seed % 2 == 0, false}, 4800, &total);
  }
  CHECK(2 * total.moved > total.tidied && total.waited > 10);
  CHECK(total.freed > std::uint64_t{10} << 20);
}

// The store's own thread does it as well, when it will.
TEST(NoItemChangesWhileTheKeeperTidies) {
  Total total;
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    RandomProgram(seed + 100, {seed % 2 == 0, true}, 3200, &total);
  }
}

// A window of three steps and a trajectory of three pieces for every few steps of one
// stream; all others have been deleted.
struct Sparse {
  std::shared_ptr<Store> store = std::make_shared<Store>(Store::Options{1 << 16, 1});
  std::shared_ptr<Table> table = store->CreateTable(TableConfig(100000));
  std::unique_ptr<Writer> writer;
  std::unique_ptr<TrajectoryWriter> cells;
  std::uint64_t next = 0;
  std::vector<std::uint64_t> keys;  // of what is left
  std::map<std::uint64_t, Ids> expected;

  Sparse() { Quiet(store.get()); }
  void NewWriters() {
    writer = std::make_unique<Writer>(
        store, kLarge, std::vector<std::shared_ptr<Table>>{table},
        Writer::Config{3, 1, 1.0, false, false, LargePad(), -1, 0, Writer::Items::kStream});
    cells = std::make_unique<TrajectoryWriter>(store);
    cells->AddColumn(CellLayout(0), 5);
  }
  void Write(std::uint64_t steps, std::uint64_t every) {
    if (writer == nullptr) NewWriters();
    for (const std::uint64_t end = next + steps; next < end; ++next) {
      const Words words = WordsOf(Id(1, next));
      const void* const columns[] = {&words[0], &words[1]};
      REQUIRE(writer->Append(columns, next % 10 == 9 ? How::kTruncated : How::kGoesOn).ok());
      if (next % 3 != 0) continue;
      const std::uint64_t number = cells->next(0);
      const Words of_cell = WordsOf(Id(2, number));
      const TrajectoryWriter::Cell cell{of_cell.data(), kRecordNbytes};
      REQUIRE(cells->Append(&cell, 1).ok());
      if (next / 3 % every != 4 % every) continue;
      const std::uint64_t first = std::max<std::uint64_t>(cells->first_kept(0), 1);
      if (number < first + 3) continue;
      const TrajectoryWriter::Run runs[] = {{0, first + 1, 3}, {0, first, 1}, {0, number, 1}};
      const TrajectoryWriter::OutputColumn columns_of[] = {{2, false}, {1, true}};
      bool inserted;
      REQUIRE(cells->CreateItem(table.get(), 2.0, runs, 3, columns_of, 2, &inserted).ok());
    }
    const TableState state = store->table_state(table);
    std::vector<std::uint64_t> gone;
    for (std::size_t row = keys.size(); row < state.items.key.size(); ++row) {
      const std::uint64_t key = state.items.key[row];
      (state.items.priority[row] == 2.0 || row % every == 0 ? keys : gone).push_back(key);
    }
    REQUIRE(store->Delete(table.get(), gone.data(), gone.size()) == 0);
    expected = Contents();
  }
  std::map<std::uint64_t, Ids> Contents() const {
    std::map<std::uint64_t, Ids> contents;
    for (const std::uint64_t key : keys) {
      Store::ItemReader reader(store);
      REQUIRE(reader.Find(table.get(), &key).ok());
      contents[key] = Read(reader.items()[0]);
    }
    return contents;
  }
  void Check() const {
    CHECK(Contents() == expected);
    CHECK_EQ(store->table_info(*table).size, keys.size());
    CheckSums(store.get(), {table});
  }
  // Of what is left, each once.
  std::uint64_t Held() const {
    std::set<std::uint64_t> ids;
    for (const auto& item : expected) {
      for (const auto& column : item.second) ids.insert(column.begin(), column.end());
    }
    return ids.size() * kRecordNbytes;
  }
  void Empty() {
    writer.reset();
    cells.reset();
    store->Clear(table.get());
    keys.clear();
    const Store::Info info = store->info();
    CHECK_EQ(info.num_chunks + info.num_steps + info.record_nbytes + info.allocated_nbytes, 0u);
    CHECK_EQ(store->Lock().chunks().arena()->used_nbytes(), 0u);
  }
};

TEST(AFewItemsOfTheLongPastDoNotKeepAllThatWasAroundThem) {
  for (const std::uint64_t every : {10u, 50u, 300u}) {
    Sparse scene;
    scene.Write(9000, every);
    // The writers' own chunks, of which little is needed, as well.
    const std::uint64_t held = scene.Held();
    CHECK(every == 10 || scene.store->info().record_nbytes > held + held / 4 + 800 * 1024);
    CHECK(TidyNow(scene.store.get()));
    const Store::Info info = scene.store->info();
    const std::uint64_t needed = 2 * 2048 + 7 * kRecordNbytes;
    CHECK(info.record_nbytes >= held);
    CHECK(info.record_nbytes <= held + held / 4 + needed + 768 * 1024);
    CHECK(info.allocated_nbytes <= held + held / 4 + needed + 768 * 1024);
    scene.Check();
    // And again, as more comes.
    scene.Write(3000, every);
    TidyNow(scene.store.get());
    scene.Check();
    scene.Empty();
  }
}

TEST(WhatIsDenseOrSmallIsLeftWhereItIs) {
  Sparse dense, small;
  dense.Write(3000, 1);
  small.Write(200, 30);
  for (const Sparse* scene : {&dense, &small}) {
    CHECK(!TidyNow(scene->store.get()));
    scene->Check();
  }
}

// Without anyone asking for it.
TEST(TheKeeperTidiesByItself) {
  Sparse scene;
  scene.Write(6000, 50);
  const std::uint64_t before = scene.store->info().record_nbytes;
  {
    Store::Locked locked = scene.store->Lock();
    locked.chunks().LookAgain();
  }
  const auto start = std::chrono::steady_clock::now();
  while (scene.store->info().record_nbytes > before / 2) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
    REQUIRE(std::chrono::steady_clock::now() - start < std::chrono::seconds(60));
  }
  scene.store->Tidy();  // waits for it
  scene.Check();
  scene.Empty();
}

// Writing, thinning out, tidying and emptying leave no byte more behind than they did before.
TEST(RoundsOfTidyingLeaveNothingBehind) {
  Sparse scene;
  std::vector<std::uint64_t> used;
  for (int round = 0; round < 6; ++round) {
    scene.Write(3000, 40);
    auto snapshot = round % 2 == 0 ? Arranged(scene.store) : nullptr;
    CHECK(TidyNow(scene.store.get()));
    scene.Check();
    snapshot.reset();
    scene.Empty();
    used.push_back(scene.store->info().used_nbytes);
  }
  CHECK_EQ(used[4], used[2]);
  CHECK_EQ(used[5], used[3]);
}

// Streams that were given large chunks while the store was large give them up.
TEST(WritersGiveUpChunksThatAreTooLargeForThem) {
  constexpr std::uint32_t kStreams = 40;
  for (const Items items : {Items::kWindows, Items::kStream, Items::kEpisodes}) {
    const auto store = std::make_shared<Store>(Store::Options{1 << 20, 1});
    Quiet(store.get());
    const auto table = store->CreateTable(TableConfig(100000));
    Writer::Config config{4, 1, 1.0, false, false, LargePad(), -1, 0, items, kStreams, -1};
    Writer writer(store, kLarge, {table}, config);
    std::uint64_t next = 0;
    const auto write = [&](std::uint64_t steps) {
      for (const std::uint64_t end = next + steps; next < end; ++next) {
        for (std::uint32_t s = 0; s < kStreams; ++s) {
          const Words words = WordsOf(Id(1 + s, next));
          const void* const columns[] = {&words[0], &words[1]};
          const auto how = static_cast<std::uint8_t>(next % 4 == 3 ? 2 : 0);
          REQUIRE(writer.AppendBatch(columns, &s, 1, &how, nullptr, nullptr).ok());
        }
      }
    };
    write(602);  // 24 MB
    store->Clear(table.get());
    const Store::Info before = store->info();
    CHECK(before.allocated_nbytes > 700 * 1024);
    TidyNow(store.get());
    const Store::Info info = store->info();
    CHECK(info.record_nbytes <= kStreams * 3 * kRecordNbytes);
    CHECK(info.allocated_nbytes <= kStreams * (2048 + 3 * kRecordNbytes));
    CheckSums(store.get(), {table});
    for (std::uint32_t s = 0; s < kStreams; ++s)
      CHECK_EQ(writer.num_cached(s), items == Items::kStream ? 602u : 2u);
    write(10);  // the next windows begin among the steps that went elsewhere
    std::map<std::uint64_t, std::uint64_t> from;  // by stream: the next window
    const TableState state = store->table_state(table);
    for (const std::uint64_t key : state.items.key) {
      Store::ItemReader reader(store);
      REQUIRE(reader.Find(table.get(), &key).ok());
      const std::vector<std::uint64_t> ids = Read(reader.items()[0])[0];
      std::uint64_t& first =
          from.try_emplace(ids[0] >> 32, items == Items::kStream ? 599 : 600).first->second;
      CHECK_EQ(ids.size(), 4u);
      for (std::size_t t = 0; t < ids.size(); ++t) CHECK_EQ(ids[t] & 0xffffffffu, first + t);
      first += items == Items::kStream ? 1 : 4;
    }
    CHECK_EQ(from.size(), kStreams);
    CHECK_EQ(state.items.key.size(), kStreams * (items == Items::kStream ? 10 : 3));
    // What the episodes ended with went along.
    const auto snapshot = Arranged(store);
    for (const auto& [key, item] : Decode(*snapshot, 0)) {
      for (std::uint32_t t = 0; t < 3; ++t) {
        CHECK_EQ(item.ends.count(t), item.ids[0][t] % 4 == 3);
      }
    }
  }
}

TEST(WhereMemoryRunsOutNothingIsLost) {
  int failed = 0;
  for (const bool seen : {false, true}) {  // whether pages must be copied
    for (const long burst : {1L, 1000000L}) {
      bool reached = true;
      for (long k = 0; reached; k += burst == 1 ? 1 : 7) {
        Sparse scene;
        scene.Write(3000, 60);
        const auto snapshot = seen ? scene.store->TakeSnapshot() : nullptr;
        const auto then = seen ? Arranged(scene.store) : nullptr;
        const std::uint64_t most = scene.Held() + scene.Held() / 4 + 768 * 1024;
        CHECK(scene.store->info().record_nbytes > most + 200 * 1024);
        ChunkStore& chunks = scene.store->Lock().chunks();
        chunks.LookAgain();  // without a lock, as that would wake the keeper first
        const bool starved = Starved(k, burst, [&] { scene.store->Tidy(); });
        reached = failing != burst;
        failed += starved;
        Quiet(scene.store.get());
        scene.store->Tidy();  // waits for the keeper
        Quiet(scene.store.get());
        scene.Check();
        if (seen && k % 8 == 0) {
          snapshot->Arrange();
          CHECK(Same(*snapshot, *then));
        }
        TidyNow(scene.store.get());
        scene.Check();
        CHECK(scene.store->info().record_nbytes <= most);
        scene.Write(20, 1);  // the writers go on from where they were
        scene.Check();
        for (const auto& item : scene.Contents()) {
          for (std::size_t t = 1; item.second.size() == 1 && t < 3; ++t) {
            CHECK_EQ(item.second[0][t], item.second[0][t - 1] + 1);
          }
        }
        if (!seen) scene.Empty();
      }
    }
  }
  CHECK(failed > 600);
}

TEST(TheChecksSeeAnItemThatWentAstray) {
  World world(7, {false, false});
  for (int i = 0; i < 2500; ++i) world.AddRecords();
  for (int i = 0; i < 1000; ++i) world.Change();
  world.store->Clear(world.tables[4].get());
  CHECK(TidyNow(world.store.get()));
  const auto check = [&] {
    return Fails([&] {
      world.CheckSums();
      world.Look();
      world.CheckSnapshot(*Arranged(world.store), world.Look());
    });
  };
  CHECK_EQ(check(), 0);
  // The first window, or trajectory, that `damages`, is damaged, found out and mended.
  const auto sees = [&](auto damages) {
    std::function<void()> mend;
    {
      Store::Locked locked = world.store->Lock();
      for (const auto& table : world.tables) {
        table->VisitSlots(0, table->num_slots(),
                          [&](std::uint32_t, const Item& item, std::uint32_t length,
                              const Trajectory* trajectory) {
                            if (mend != nullptr) return;
                            Chunk* const chunk =
                                trajectory != nullptr ? nullptr : locked.chunks().at(item.chunk);
                            mend = damages(const_cast<Item*>(&item), chunk, length,
                                           const_cast<Trajectory*>(trajectory));
                          });
      }
    }
    REQUIRE(mend != nullptr);
    const int failed = check();
    mend();
    CHECK_EQ(check(), 0);
    return failed > 0;
  };
  using Mend = std::function<void()>;
  const auto crosses = [](const Item* item, const Chunk* chunk, std::uint32_t length) {
    return chunk != nullptr && item->offset + length > chunk->capacity;
  };
  CHECK(sees([](Item* item, Chunk* chunk, std::uint32_t length, Trajectory*) -> Mend {
    if (chunk == nullptr || item->offset + length >= chunk->count) return nullptr;
    ++item->offset;
    return [=] { --item->offset; };
  }));
  CHECK(sees([](Item* item, Chunk* chunk, std::uint32_t, Trajectory*) -> Mend {
    if (chunk == nullptr || item->offset == 0) return nullptr;
    --item->offset;
    return [=] { ++item->offset; };
  }));
  CHECK(sees([](Item*, Chunk*, std::uint32_t, Trajectory* trajectory) -> Mend {
    if (trajectory == nullptr) return nullptr;
    Piece* const piece = trajectory->pieces();
    if (piece->offset + piece->length >= piece->chunk->count) return nullptr;
    ++piece->offset;
    return [=] { --piece->offset; };
  }));
  CHECK(sees([](Item* item, Chunk* chunk, std::uint32_t, Trajectory*) -> Mend {
    if (chunk == nullptr) return nullptr;
    std::uint8_t* const byte = chunk->record(item->offset) + 500;
    *byte ^= 1;
    return [=] { *byte ^= 1; };
  }));
  CHECK(sees([](Item*, Chunk* chunk, std::uint32_t, Trajectory*) -> Mend {
    if (chunk == nullptr) return nullptr;
    ++chunk->refs;
    return [=] { --chunk->refs; };
  }));
  CHECK(sees([](Item*, Chunk* chunk, std::uint32_t, Trajectory*) -> Mend {
    if (chunk == nullptr || chunk->writers != 0) return nullptr;
    chunk->held += 1000;
    return [=] { chunk->held -= 1000; };
  }));
  CHECK(sees([&](Item* item, Chunk* chunk, std::uint32_t length, Trajectory*) -> Mend {
    if (!crosses(item, chunk, length)) return nullptr;
    Chunk* const next = chunk->next;
    chunk->next = chunk;
    return [=] { chunk->next = next; };
  }));
  CHECK(sees([](Item* item, Chunk* chunk, std::uint32_t length, Trajectory*) -> Mend {
    if (chunk == nullptr) return nullptr;
    for (std::size_t e = 0; e < chunk->ends.size(); ++e) {
      const Chunk::End end = chunk->ends[e];
      if (end.step < item->offset || end.step + 1 >= item->offset + length) continue;
      chunk->ends.erase(chunk->ends.begin() + static_cast<std::ptrdiff_t>(e));
      return [=] { chunk->ends.insert(chunk->ends.begin() + static_cast<std::ptrdiff_t>(e), end); };
    }
    return nullptr;
  }));
  CHECK(sees([](Item* item, Chunk* chunk, std::uint32_t length, Trajectory*) -> Mend {
    if (chunk == nullptr || !chunk->ends.empty() || length < 3) return nullptr;
    chunk->ends.push_back({item->offset, How::kEnded});
    return [=] { chunk->ends.clear(); };
  }));
  world.Empty();
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
