#include "snapshot.h"

#include <algorithm>
#include <limits>
#include <set>

#include "store_scene.h"
#include "writers/trajectory_writer.h"

namespace reverie_test {
namespace {

TEST(ASnapshotIsAPointInTimeWhileTheWriterGoesOn) {
  Scene scene;
  scene.Write(30);
  const auto arranged = Arranged(scene.store);
  const Snapshot& snapshot = *arranged;
  const std::vector<SavedChunk> then = Save(snapshot).chunks;
  const auto keys = snapshot.tables[0].items.key;
  scene.Write(500);  // all items of the snapshot are evicted, and its open chunk goes on
  scene.store->Clear(scene.table.get());
  scene.writer->Close();
  CHECK_EQ(scene.store->info().num_chunks, 0u);
  const std::vector<SavedChunk> now = Save(snapshot).chunks;
  REQUIRE(now.size() == then.size());
  for (std::size_t i = 0; i < now.size(); ++i) {
    CHECK_EQ(now[i].count, then[i].count);
    CHECK(now[i].bytes == then[i].bytes);
  }
  CHECK_EQ(snapshot.tables[0].items.key, keys);
  Scene loaded = Load(Save(snapshot), snapshot.tables[0], TableConfig(20));
  CHECK_EQ(loaded.Contents(), Windows(8, 20));
}

// A store of many kinds of tables, with writers into them, that changes at random.
struct Varied {
  std::shared_ptr<Store> store = std::make_shared<Store>(Store::Options{40 * kStepNbytes, 1});
  std::vector<std::shared_ptr<Table>> tables;
  std::unique_ptr<Writer> writers[2];
  std::unique_ptr<TrajectoryWriter> trajectories;
  std::uint64_t next = 0;
  Rng rng;

  explicit Varied(std::uint64_t seed) : rng(seed) {
    for (int kind = 0; kind < 6; ++kind) {
      const auto remover = static_cast<SelectorKind>((kind + seed) % 6);
      tables.push_back(store->CreateTable(
          TableConfig(kind % 2 == 0 ? 300 : 3000, static_cast<SelectorKind>(kind), remover)));
    }
    Table::Config config = TableConfig(500);
    config.max_times_sampled = 2;
    tables.push_back(store->CreateTable(config));
    NewWriters();
  }
  void NewWriters() {
    for (std::uint32_t w = 0; w < 2; ++w) {
      writers[w] =
          std::make_unique<Writer>(store, kLayout, tables,
                                   Writer::Config{3 + w, 1, 1.0, false, false, PadRecord(*kLayout),
                                                  -1, 0, Writer::Items::kStream});
    }
    trajectories = std::make_unique<TrajectoryWriter>(store);
    trajectories->AddColumn(
        std::make_shared<RecordLayout>(std::vector<std::size_t>{8}, std::vector{1u}), 9);
    trajectories->AddColumn(nullptr, 9);
  }
  void Add() {
    const auto how = static_cast<How>(rng.Below(20) == 0 ? 1 + rng.Below(4) : 0);
    writers[rng.Below(2)]->SetPriority(rng.Below(5));
    REQUIRE(writers[rng.Below(2)]->Append(Step(next++).columns().data(), how).ok());
    const TrajectoryWriter::Cell cells[] = {{&next, 8}, {"12345678", next % 9}};
    REQUIRE(trajectories->Append(cells, 2).ok());
    if (rng.Below(30) == 0) trajectories->EndEpisode(rng.Below(2) == 0);
    const std::uint64_t cell = trajectories->next(0) - 1;
    const std::uint64_t first =
        std::max(trajectories->first_kept(0), cell - std::min(cell, next % 5));
    if (first > cell) return;
    const TrajectoryWriter::Run runs[] = {{0, first, static_cast<std::uint32_t>(cell + 1 - first)},
                                          {1, cell, 1}};
    const TrajectoryWriter::OutputColumn columns[] = {{1, false}, {1, true}};
    bool inserted;
    REQUIRE(
        trajectories
            ->CreateItem(tables[rng.Below(7)].get(), rng.Below(5), runs, 2, columns, 2, &inserted)
            .ok());
  }
  void Change() {
    Add();
    const auto& table = tables[rng.Below(7)];
    const std::uint32_t dice = rng.Below(400);
    if (dice < 20) {
      Store::ItemReader reader(store);
      reader.Sample(table.get(), 5);
    } else if (dice < 40) {
      const auto keys = store->table_state(table).items.key;
      for (int i = 0; i < 20 && !keys.empty(); ++i) {
        const std::uint64_t key = keys[rng.Below(static_cast<std::uint32_t>(keys.size()))];
        const double priority = rng.Below(5);
        store->UpdatePriorities(table.get(), &key, &priority, 1);
        if (i % 4 == 0) store->Delete(table.get(), &key, 1);
      }
    } else if (dice == 41) {
      store->Clear(table.get());
    } else if (dice == 42) {
      NewWriters();
    }
  }
};

TEST(ASnapshotIsWhatItWasHoweverLateItIsLookedAt) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    Varied world(seed);
    std::size_t trajectories = 0, touched = 0, holes = 0, packed = 0;
    std::vector<std::unique_ptr<Snapshot>> late, at_once;
    for (int i = 0; i < 8000; ++i) {
      world.Change();
      if (i % 700 != 699) continue;
      Settle(world.store.get());  // so that the keeper moves nothing between the two
      late.push_back(world.store->TakeSnapshot());
      at_once.push_back(Arranged(world.store));
      for (const TableState& state : at_once.back()->tables) {
        trajectories += state.items.traj_item.size();
        touched += state.items.touched.size();
        holes += state.holes.size();
      }
      if (late.size() < 4) continue;
      late.front()->Arrange();
      CHECK(Same(*late.front(), *at_once.front()));
      for (std::size_t row = 0; row < late.front()->num_chunks(); ++row) {
        packed += late.front()->whole(row) == nullptr;
      }
      late.erase(late.begin());
      at_once.erase(at_once.begin());
    }
    CHECK(trajectories > 1000 && touched > 1000 && holes > 100 && packed > 0);
    for (const auto& table : world.tables) world.store->Clear(table.get());
    for (auto& writer : world.writers) writer.reset();
    world.trajectories.reset();
    CHECK_EQ(world.store->info().num_chunks, 0u);
    CHECK(!Same(*Arranged(world.store), *at_once.back()));  // the comparison can fail
    for (std::size_t i = 0; i < late.size(); ++i) {
      late[i]->Arrange();
      CHECK(Same(*late[i], *at_once[i]));
      ++late[i]->tables[0].items.times_sampled[0];
      CHECK(!Same(*late[i], *at_once[i]));
    }
    const std::uint64_t kept = world.store->info().used_nbytes;
    late.clear();
    at_once.clear();
    CHECK(world.store->info().used_nbytes < kept / 2);
  }
}

TEST(AStoreRestoredFromALateLookDrawsWhatItsOriginDrew) {
  for (int sampler = 0; sampler < 6; ++sampler) {
    for (const SelectorKind remover : {SelectorKind::kFifo, SelectorKind::kUniform}) {
      const Table::Config config = TableConfig(400, static_cast<SelectorKind>(sampler), remover);
      Scene scene(config);
      scene.Write(700);
      Rng rng(sampler);
      const auto keys = scene.store->table_state(scene.table).items.key;
      for (int i = 0; i < 150; ++i) {
        const std::uint64_t key = keys[rng.Below(400)];
        const double priority = rng.Below(4);
        scene.store->UpdatePriorities(scene.table.get(), &key, &priority, 1);
        if (i % 2 == 0) scene.store->Delete(scene.table.get(), &keys[rng.Below(400)], 1);
      }
      const auto snapshot = scene.store->TakeSnapshot();
      std::vector<std::vector<std::uint64_t>> drawn;
      const auto draw = [](Scene* from) {
        Batch batch(9, 3);
        REQUIRE(from->Sample(&batch).ok());
        CHECK(batch.Intact());
        std::vector<std::uint64_t> found = batch.counter;
        found.insert(found.end(), batch.key.begin(), batch.key.end());
        found.insert(found.end(), batch.times_sampled.begin(), batch.times_sampled.end());
        return found;
      };
      scene.NewWriter(kLayout);
      for (int i = 0; i < 300; ++i) {
        drawn.push_back(draw(&scene));
        scene.Write(i % 4);
      }
      scene.store->Clear(scene.table.get());
      snapshot->Arrange();
      CHECK(!snapshot->tables[0].holes.empty());
      Scene loaded = Load(Save(*snapshot), snapshot->tables[0], config);
      loaded.next = 700;
      for (int i = 0; i < 300; ++i) {
        CHECK_EQ(draw(&loaded), drawn[static_cast<std::size_t>(i)]);
        loaded.Write(i % 4);
      }
    }
  }
}

// Nor does a table that is cleared, filled, saved and loaded again.
TEST(KeysGoOnAfterAClearThatWasSaved) {
  Scene scene(TableConfig(6000));
  std::set<std::uint64_t> issued;
  scene.Write(5002);
  const auto note = [&](const Scene& of) {
    for (const std::uint64_t key : of.store->table_state(of.table).items.key) {
      CHECK(issued.insert(key).second);
    }
  };
  note(scene);
  scene.store->Clear(scene.table.get());
  for (const std::uint64_t steps : {0u, 10u}) {
    scene.Write(steps);
    const auto snapshot = Arranged(scene.store);
    CHECK_EQ(snapshot->tables[0].first_generation, 2u);
    Scene loaded = Load(Save(*snapshot), snapshot->tables[0], TableConfig(6000));
    CHECK(Same(loaded.store->table_state(loaded.table), snapshot->tables[0]));
    loaded.store->Clear(loaded.table.get());
    const std::set<std::uint64_t> before = issued;
    if (steps != 0) note(scene);
    loaded.Write(5500);
    note(loaded);
    issued = before;
  }
}

// Chunks of which items hold nearly all records are those of the store. Of others a
// snapshot may have what is held alone: then no record is in it that no item needs.
TEST(ASnapshotHoldsTheRecordsOfItsItemsAndNoOthers) {
  Scene scene;
  CHECK_EQ(Arranged(scene.store)->num_chunks(), 0u);
  scene.Write(2);  // no item yet
  CHECK_EQ(Arranged(scene.store)->num_chunks(), 0u);
  for (const std::uint64_t end : {30u, 31u, 32u, 33u}) {  // wherever the first chunk begins
    scene.Write(end - scene.next);
    const auto arranged = Arranged(scene.store);
    const Snapshot& snapshot = *arranged;
    const Snapshot::Chunks& chunks = snapshot.chunks;
    std::vector<std::uint64_t> counters;
    for (std::size_t i = 0; i < snapshot.num_chunks(); ++i) {
      const bool last = i + 1 == snapshot.num_chunks();
      CHECK_EQ(chunks.next[i], last ? 0 : chunks.id[i + 1]);
      CHECK_EQ(chunks.nbytes[i], chunks.count[i] * kStepNbytes);
      CHECK_EQ(chunks.layout[i], 0u);
      // All but the first are wholly held; the last one may be open.
      if (i != 0) CHECK(snapshot.whole(i) != nullptr);
      CHECK(i == 0 || last || chunks.count[i] == 4);
      CHECK(last || chunks.sealed[i]);
      const std::vector<std::uint8_t> bytes = BytesOf(snapshot, i);
      for (std::size_t record = 0; record < chunks.count[i]; ++record) {
        std::uint64_t counter;
        std::memcpy(&counter, &bytes[record * kStepNbytes], sizeof(counter));
        counters.push_back(counter);
      }
    }
    std::vector<std::uint64_t> expected;  // of 20 items
    for (std::uint64_t step = end - 22; step < end; ++step) expected.push_back(step);
    CHECK_EQ(counters, expected);
    CHECK_EQ(snapshot.layouts, std::vector<const RecordLayout*>{kLayout.get()});
  }
  CHECK(!Arranged(scene.store)->chunks.sealed.back());  // the writer's
  scene.writer->Close();
  CHECK(Arranged(scene.store)->chunks.sealed.back());
}

TEST(ArraysOfASnapshotHoldWhatIsWrittenHoweverLarge) {
  constexpr std::size_t kEdge = LargeAllocator<std::uint64_t>::kLarge / 8;
  for (const std::size_t n :
       {std::size_t{0}, std::size_t{1}, kEdge - 1, kEdge, kEdge + 1, 8 * kEdge, 8 * kEdge + 1}) {
    LargeVector<std::uint64_t> at_once(n);
    LargeVector<std::uint64_t> one_by_one;
    std::vector<std::uint64_t> plain;
    for (std::size_t i = 0; i < n; ++i) {
      at_once[i] = Hash(i);
      one_by_one.push_back(Hash(i));
      plain.push_back(Hash(i));
    }
    CHECK(at_once == one_by_one);
    CHECK_EQ(at_once, plain);
    const LargeVector<std::uint64_t> moved = std::move(at_once);
    CHECK(moved == one_by_one);
    one_by_one.push_back(7);
    CHECK(moved != one_by_one);
    one_by_one.resize(n / 2);
    one_by_one.shrink_to_fit();
    plain.resize(n / 2);
    CHECK_EQ(one_by_one, plain);
  }
  bool refused = false;
  try {
    LargeVector<std::uint64_t> none;
    none.get_allocator().allocate(std::numeric_limits<std::size_t>::max() / 4);
  } catch (const std::bad_alloc&) {
    refused = true;
  }
  CHECK(refused);
  // So does a snapshot of as many items.
  constexpr std::uint32_t kItems = kEdge + 100;
  Scene scene(TableConfig(kItems));
  scene.Write(kItems + 2);
  const auto arranged = Arranged(scene.store);
  const ItemColumns& items = arranged->tables[0].items;
  REQUIRE(items.key.size() == kItems && items.offset.size() == kItems);
  CHECK(std::set<std::uint64_t>(items.key.begin(), items.key.end()).size() == kItems);
  Scene loaded = Load(Save(*arranged), arranged->tables[0], TableConfig(kItems));
  CHECK(loaded.Contents() == Windows(0, kItems));
}

TEST(ARestoredStoreGoesOnWithTheVerySameSamples) {
  for (const SelectorKind sampler :
       {SelectorKind::kUniform, SelectorKind::kFifo, SelectorKind::kLifo}) {
    const Table::Config config = TableConfig(20, sampler, SelectorKind::kUniform);
    Scene scene(config);
    scene.Write(100);
    Batch batch(7, 3);
    REQUIRE(scene.Sample(&batch).ok());
    const std::uint64_t gone = scene.store->table_state(scene.table).items.key[3];
    scene.store->Delete(scene.table.get(), &gone, 1);
    const auto arranged = Arranged(scene.store);
    const Snapshot& snapshot = *arranged;
    Scene loaded = Load(Save(snapshot), snapshot.tables[0], config);
    scene.NewWriter(kLayout);  // as a loaded store starts a new stream, too
    loaded.next = scene.next;
    for (int i = 0; i < 100; ++i) {
      Batch other(7, 3);
      REQUIRE(scene.Sample(&batch).ok());
      REQUIRE(loaded.Sample(&other).ok());
      CHECK(other.Intact());
      CHECK(batch.counter == other.counter && batch.key == other.key);
      CHECK(batch.times_sampled == other.times_sampled && batch.table_size == other.table_size);
      scene.Write(i % 3);
      loaded.Write(i % 3);
    }
    CHECK_EQ(scene.Contents(), loaded.Contents());
    // Another random state would not: the comparison can fail.
    if (sampler != SelectorKind::kUniform) continue;
    TableState state = snapshot.tables[0];
    ++state.rng[0];
    Scene wrong = Load(Save(snapshot), state, config);
    Scene right = Load(Save(snapshot), snapshot.tables[0], config);
    Batch other(7, 3);
    REQUIRE(wrong.Sample(&other).ok());
    REQUIRE(right.Sample(&batch).ok());
    CHECK(batch.key != other.key);
  }
}

TEST(RestoredTotalsCountWhatItemsNeed) {
  Scene scene;
  scene.Write(30);
  const auto arranged = Arranged(scene.store);
  const Snapshot& snapshot = *arranged;
  Saved saved = Save(snapshot);
  const std::vector<std::uint8_t> bytes(4 * kStepNbytes);
  saved.chunks.push_back({kLayout, 1000, 0, 4, bytes});  // of no item
  Scene loaded = Load(saved, snapshot.tables[0], TableConfig(20));
  CHECK_EQ(loaded.store->info().num_chunks, snapshot.num_chunks());
  CHECK_EQ(loaded.store->info().num_steps, 22u);
  CHECK_EQ(loaded.store->info().record_nbytes, 22 * kStepNbytes);
  loaded.store->Clear(loaded.table.get());
  CHECK_EQ(loaded.store->info().num_chunks, 0u);
  loaded.Write(3);
  CHECK_EQ(Arranged(loaded.store)->chunks.id[0], 1001u);  // ids count on
}

TEST(RestoreRefusesChunksThatCannotBe) {
  Store store({4096, 1});
  CHECK(store.RestoreChunk(kLayout, 5, 2) != nullptr);
  CHECK(store.RestoreChunk(kLayout, 9, 2) != nullptr);
  CHECK(store.RestoreChunk(kLayout, 5, 2) == nullptr);
  CHECK(store.RestoreChunk(kLayout, 0, 2) == nullptr);
  CHECK(store.RestoreChunk(kLayout, 6, 0) == nullptr);
  CHECK(store.RestoreChunk(kLayout, std::numeric_limits<std::uint64_t>::max(), 2) == nullptr);
  const auto refused = [&](std::vector<std::uint64_t> ids, std::vector<std::uint64_t> next) {
    const Status status = store.LinkChunks(ids.data(), next.data(), ids.size());
    CHECK_EQ(status.code == Code::kInvalid, !status.ok());
    return status.ok() ? -1 : status.found;
  };
  CHECK_EQ(refused({9}, {5}), 0);  // not in a stream's order
  CHECK_EQ(refused({5}, {5}), 0);
  CHECK_EQ(refused({5}, {7}), 0);
  CHECK_EQ(refused({7}, {9}), 0);
  CHECK_EQ(refused({}, {}), -1);
  CHECK_EQ(refused({5, 5}, {9, 9}), 1);  // once is enough
  CHECK_EQ(refused({5}, {9}), 0);
  CHECK_EQ(store.info().num_chunks, 2u);
  store.SealRestore();
  store.SealRestore();
  CHECK_EQ(store.info().num_chunks, 0u);
}

TEST(EndsOfEpisodesAreRestoredWhereTheyCanBe) {
  Store store({4096, 1});
  REQUIRE(store.RestoreChunk(kLayout, 5, 3) != nullptr);
  REQUIRE(store.RestoreChunk(kLayout, 9, 3) != nullptr);
  const auto refused = [&](std::vector<std::uint64_t> chunk, std::vector<std::uint32_t> step,
                           std::vector<std::uint8_t> how) {
    const Status status = store.RestoreEnds(chunk.data(), step.data(), how.data(), chunk.size());
    CHECK_EQ(status.code == Code::kInvalid, !status.ok());
    return status.ok() ? -1 : status.found;
  };
  CHECK_EQ(refused({7}, {0}, {1}), 0);           // no such chunk
  CHECK_EQ(refused({9, 9}, {1, 3}, {1, 1}), 1);  // no such record
  CHECK_EQ(refused({9}, {2}, {0}), 0);           // no end
  CHECK_EQ(refused({9}, {2}, {5}), 0);           // unknown
  CHECK_EQ(refused({9}, {1}, {1}), 0);           // there already, from above
  CHECK_EQ(refused({9}, {0}, {1}), 0);           // before it
  CHECK_EQ(refused({5, 5, 9}, {0, 2, 2}, {4, 2, 3}), -1);
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
