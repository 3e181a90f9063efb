#include "store.h"

#include <algorithm>
#include <chrono>
#include <future>
#include <limits>
#include <set>

#include "check.h"
#include "saved.h"
#include "writers/writer.h"

namespace reverie_test {
namespace {

const std::shared_ptr<const RecordLayout> kLayout = StepLayout();

// A store whose writer makes windows of three steps over chunks of four.
struct Scene {
  std::shared_ptr<Store> store = std::make_shared<Store>(Store::Options{4 * kStepNbytes, 1});
  std::shared_ptr<Table> table;
  std::unique_ptr<Writer> writer;
  std::uint64_t next = 0;

  explicit Scene(const Table::Config& config = TableConfig(20))
      : table(store->CreateTable(config)) {
    NewWriter(kLayout);
  }
  void NewWriter(const std::shared_ptr<const RecordLayout>& layout) {
    writer = std::make_unique<Writer>(
        store, layout, std::vector<std::shared_ptr<Table>>{table},
        Writer::Config{3, 1, 1.0, false, false, PadRecord(*layout), -1, 0});
  }
  void Write(std::uint64_t steps) {
    for (; steps != 0; --steps, ++next) {
      REQUIRE(writer->Append(Step(next).columns().data(), How::kGoesOn).ok());
    }
  }
  Status Sample(Batch* batch) {
    return store->Sample(table.get(), {kLayout.get(), 3}, batch->key.size(), 3,
                         batch->outputs.data(), batch->info);
  }
  std::vector<std::uint64_t> Contents() {
    Store::Reader reader(store, {kLayout.get(), 3});
    REQUIRE(reader.Select(table.get(), nullptr, 0).ok());
    Batch batch(reader.keys().size(), 3);
    reader.Gather(batch.outputs.data());
    CHECK(batch.Intact());
    return batch.counter;
  }
};

std::vector<std::uint64_t> Windows(std::uint64_t first, std::uint64_t items) {
  std::vector<std::uint64_t> counters;
  for (std::uint64_t i = first; i < first + items; ++i) {
    for (std::uint64_t t = 0; t < 3; ++t) counters.push_back(i + t);
  }
  return counters;
}

Scene Load(const Saved& saved, const TableState& state, const Table::Config& config) {
  Scene scene(config);
  Load(saved, scene.store.get());
  REQUIRE(scene.store->RestoreTable(scene.table.get(), state).ok());
  scene.store->SealRestore();
  return scene;
}

TEST(ASnapshotIsAPointInTimeWhileTheWriterGoesOn) {
  Scene scene;
  scene.Write(30);
  const auto arranged = Arranged(scene.store);
  const Snapshot& snapshot = *arranged;
  const std::vector<SavedChunk> then = Save(snapshot).chunks;
  const std::vector<std::uint64_t> keys = snapshot.tables[0].items.key;
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

TEST(ASnapshotHoldsTheChunksOfItsItemsAndNoOthers) {
  Scene scene;
  CHECK_EQ(Arranged(scene.store)->num_chunks(), 0u);
  scene.Write(2);  // no item yet
  CHECK_EQ(Arranged(scene.store)->num_chunks(), 0u);
  scene.Write(28);
  const auto arranged = Arranged(scene.store);
  const Snapshot& snapshot = *arranged;
  std::uint64_t steps = 0;
  const Snapshot::Chunks& chunks = snapshot.chunks;
  for (std::size_t i = 0; i < snapshot.num_chunks(); ++i) {
    const bool last = i + 1 == snapshot.num_chunks();
    CHECK_EQ(chunks.next[i], last ? 0 : chunks.id[i + 1]);
    CHECK_EQ(chunks.sealed[i], !last);
    CHECK_EQ(chunks.count[i], last ? 2u : 4u);
    CHECK_EQ(chunks.nbytes[i], chunks.count[i] * kStepNbytes);
    CHECK_EQ(chunks.layout[i], 0u);
    steps += chunks.count[i];
  }
  CHECK_EQ(snapshot.layouts, std::vector<const RecordLayout*>{kLayout.get()});
  CHECK_EQ(steps, 22u);  // items over steps 8 .. 29
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

TEST(ReadersKeepRowsThatAreEvictedMeanwhile) {
  Scene scene;
  scene.Write(30);
  Store::Reader all(scene.store, {kLayout.get(), 0});
  Store::ItemReader one(scene.store), oldest(scene.store);
  REQUIRE(all.Select(scene.table.get(), nullptr, 0).ok());
  const std::uint64_t key = all.keys()[5];
  REQUIRE(one.Find(scene.table.get(), &key).ok());
  REQUIRE(oldest.Find(scene.table.get(), nullptr).ok());
  scene.store->Clear(scene.table.get());
  scene.writer->Close();
  scene.Write(50);
  Batch batch(20, 3);
  all.Gather(batch.outputs.data());
  CHECK(batch.Intact());
  CHECK_EQ(batch.counter, Windows(8, 20));
  const auto window = [](const Store::ItemReader& reader) {
    ColumnCopies copies;
    copies.Add(reader.items()[0]);
    REQUIRE(copies.columns().size() == 4 && copies.columns()[0].length == 3);
    CHECK_EQ(copies.nbytes(), 3 * kStepNbytes);
    std::vector<std::uint64_t> counters(3);
    void* const outputs[] = {counters.data(), nullptr, nullptr, nullptr};
    copies.Copy(outputs);
    return counters;
  };
  CHECK_EQ(window(one), Windows(13, 1));
  CHECK_EQ(window(oldest), Windows(8, 1));
  Store::ItemReader stale(scene.store);
  CHECK_EQ(stale.Find(scene.table.get(), &key).code, Code::kStaleKey);
  Store::Reader stale_too(scene.store, {kLayout.get(), 3});
  CHECK_EQ(stale_too.Select(scene.table.get(), &key, 1).code, Code::kStaleKey);
  CHECK_EQ(scene.store->table_info(*scene.table).counters.samples, 0);
  scene.store->Clear(scene.table.get());
  CHECK_EQ(Store::ItemReader(scene.store).Find(scene.table.get(), nullptr).code, Code::kWouldBlock);
}

TEST(PiecesComeFromWithinTheirItem) {
  Scene scene;
  scene.Write(30);
  Batch batch(300, 1);
  REQUIRE(
      scene.store
          ->Sample(scene.table.get(), {kLayout.get(), 3}, 300, 1, batch.outputs.data(), batch.info)
          .ok());
  CHECK(batch.Intact());
  const std::set<std::uint64_t> seen(batch.counter.begin(), batch.counter.end());
  CHECK_EQ(seen.size(), 22u);
  CHECK_EQ(*seen.begin(), 8u);
}

TEST(TheLimiterAllowsWhatItsRuleSays) {
  for (const double ratio : {0.5, 1.0, 3.0}) {
    RateLimiter limiter({3, ratio, 1.0, 9.0});
    Rng rng(4);
    std::int64_t inserts = 0, samples = 0, deletes = 0;
    for (int i = 0; i < 3000; ++i) {
      const std::int64_t n = 1 + rng.Below(4);
      const double diff = static_cast<double>(inserts) * ratio - static_cast<double>(samples);
      const bool sample = inserts - deletes >= 3 && diff - static_cast<double>(n) >= 1.0;
      CHECK_EQ(limiter.CanSample(n), sample);
      CHECK_EQ(limiter.CanInsert(n),
               inserts + n - deletes <= 3 || diff + static_cast<double>(n) * ratio <= 9.0);
      if (sample) {
        limiter.Sampled(n);
        samples += n;
      } else {
        limiter.Inserted();
        ++inserts;
        if (rng.Below(3) == 0) {
          limiter.Deleted();
          ++deletes;
        }
      }
    }
    CHECK(samples > 0);
  }
}

TEST(TheLimitersArithmeticDoesNotOverflow) {
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  RateLimiter limiter({1, 1.0, 0.0, 5.0});
  limiter.Inserted();
  CHECK(!limiter.CanInsert(kMost));
  CHECK(!limiter.CanSample(kMost));
  constexpr double kFloat = std::numeric_limits<double>::max();
  RateLimiter unlimited({1, 1.0, -kFloat, kFloat});
  unlimited.Inserted();
  CHECK(unlimited.CanInsert(kMost));
  CHECK(unlimited.CanSample(kMost));
}

TEST(ChunksAreOfAsManyRecordsAsTheyCanCount) {
  const Store store(Store::Options{std::numeric_limits<std::size_t>::max(), 1});
  CHECK(store.options().chunk_nbytes <= std::numeric_limits<std::uint32_t>::max());
}

TEST(TheLimiterAndAnEmptyTableForbidSampling) {
  Table::Config config = TableConfig(20);
  config.limiter = {5, 2.0, 0.0, 1e18};
  Scene scene(config);
  Batch batch(1, 3);
  const auto code = [&] { return scene.Sample(&batch).code; };
  CHECK_EQ(code(), Code::kWouldBlock);
  scene.Write(6);  // four items
  CHECK_EQ(code(), Code::kWouldBlock);
  scene.Write(1);
  for (int i = 0; i < 10; ++i) CHECK_EQ(code(), Code::kOk);  // two samples per insert
  CHECK_EQ(code(), Code::kWouldBlock);
  CHECK_EQ(scene.store->table_info(*scene.table).counters.samples, 10);
  config.limiter = {0, 0.0, -1e18, 1e18};
  Scene empty(config);
  CHECK_EQ(empty.Sample(&batch).code, Code::kWouldBlock);
}

TEST(ManyItemsOverOneStepSurviveItsWriter) {
  Scene scene;
  scene.Write(10);
  scene.writer.reset();
  CHECK_EQ(scene.Contents(), Windows(0, 8));
  const auto arranged = Arranged(scene.store);
  const Snapshot& snapshot = *arranged;
  CHECK(snapshot.chunks.sealed.back());
}

// Long before the waiter's own 60 seconds are over.
bool IsReadySoon(std::future<Code>* waiter, Code code) {
  const bool soon = waiter->wait_for(std::chrono::seconds(20)) == std::future_status::ready;
  return soon && waiter->get() == code;
}

TEST(WaitingEndsWithTheItemTheTimeoutOrTheStore) {
  Scene scene;
  const auto wait = [&](double seconds) {
    return scene.store->WaitToSample(scene.table.get(), 1, seconds).code;
  };
  CHECK_EQ(wait(0.0), Code::kWouldBlock);
  CHECK_EQ(wait(0.01), Code::kWouldBlock);
  CHECK_EQ(wait(-1.0), Code::kWouldBlock);
  auto first = std::async(std::launch::async, wait, 60.0);
  auto second = std::async(std::launch::async, wait, 60.0);
  scene.Write(2);
  CHECK(first.wait_for(std::chrono::milliseconds(30)) == std::future_status::timeout);
  scene.Write(1);
  CHECK(IsReadySoon(&first, Code::kOk));
  CHECK(IsReadySoon(&second, Code::kOk));
  CHECK_EQ(wait(60.0), Code::kOk);
}

TEST(CloseWakesAllWaitersAndEndsSampling) {
  Scene scene;
  scene.Write(2);
  std::vector<std::future<Code>> waiters;
  for (int i = 0; i < 3; ++i) {
    waiters.push_back(std::async(std::launch::async, [&] {
      return scene.store->WaitToSample(scene.table.get(), 1, 60.0).code;
    }));
  }
  CHECK(waiters[0].wait_for(std::chrono::milliseconds(30)) == std::future_status::timeout);
  scene.store->Close();
  scene.store->Close();
  for (auto& waiter : waiters) CHECK(IsReadySoon(&waiter, Code::kClosed));
  Batch batch(1, 3);
  CHECK_EQ(scene.Sample(&batch).code, Code::kClosed);
  CHECK_EQ(scene.store->WaitToSample(scene.table.get(), 1, 60.0).code, Code::kClosed);
  CHECK_EQ(scene.writer->Append(Step(2).columns().data(), How::kGoesOn).code, Code::kClosed);
  scene.store->Clear(scene.table.get());  // looking and emptying still work
  CHECK_EQ(Arranged(scene.store)->tables.size(), 1u);
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
