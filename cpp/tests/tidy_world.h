#ifndef REVERIE_TESTS_TIDY_WORLD_H_
#define REVERIE_TESTS_TIDY_WORLD_H_

// A store that changes at random, of which all that is in it can be checked at any time.

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tidy_scene.h"

namespace reverie_test {

// Tables, writers into them and what was written, that change at random.
struct World {
  using Items = Writer::Items;
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

}  // namespace reverie_test

#endif  // REVERIE_TESTS_TIDY_WORLD_H_
