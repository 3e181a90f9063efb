#include "store.h"

#include <chrono>
#include <future>
#include <limits>
#include <set>

#include "store_scene.h"
#include "writers/trajectory_writer.h"

namespace reverie_test {
namespace {

// A table of many items is emptied in another way than one of few.
TEST(ClearingManyItemsLeavesNothingOfThem) {
  for (const std::uint32_t items : {100u, 4096u, 4097u, 30000u}) {
    for (const bool seen : {false, true}) {
      Table::Config config =
          TableConfig(100000, SelectorKind::kPrioritized, SelectorKind::kMinHeap);
      config.max_times_sampled = 5;
      Scene scene(config);
      scene.Write(items + 2);
      TrajectoryWriter trajectories(scene.store);
      trajectories.AddColumn(
          std::make_shared<RecordLayout>(std::vector<std::size_t>{8}, std::vector{1u}), 9);
      for (std::uint64_t i = 0; i < 50; ++i) {
        const TrajectoryWriter::Cell cell{&i, 8};
        REQUIRE(trajectories.Append(&cell, 1).ok());
        const TrajectoryWriter::Run run{0, i, 1};
        const TrajectoryWriter::OutputColumn column{1, true};
        bool inserted;
        REQUIRE(
            trajectories.CreateItem(scene.table.get(), 1.0, &run, 1, &column, 1, &inserted).ok());
      }
      std::set<std::uint64_t> issued;
      const auto note = [&] {
        for (const std::uint64_t key : scene.store->table_state(scene.table).items.key) {
          CHECK(issued.insert(key).second);
        }
      };
      note();
      for (std::uint64_t key : {*issued.begin(), *issued.rbegin()}) {
        scene.store->Delete(scene.table.get(), &key, 1);
      }
      const std::uint64_t stale = *std::next(issued.begin());
      auto reader = std::make_unique<Store::Reader>(scene.store, BatchSpec(kLayout.get(), 3));
      REQUIRE(reader->Select(scene.table.get(), &stale, 1).ok());
      Settle(scene.store.get());
      auto before = seen ? Arranged(scene.store) : nullptr;
      auto late = seen ? scene.store->TakeSnapshot() : nullptr;
      const std::uint64_t used = scene.store->info().used_nbytes;
      scene.store->Clear(scene.table.get());
      CHECK_EQ(scene.table->size(), 0u);
      CHECK(!scene.table->CanSample(1));
      const Store::TableInfo info = scene.store->table_info(*scene.table);
      CHECK_EQ(info.counters.inserts + info.counters.samples + info.counters.deletes, 0);
      CHECK_EQ(info.stats.num_episodes + info.stats.num_deleted_episodes, 0);
      CHECK_EQ(Store::ItemReader(scene.store).Find(scene.table.get(), &stale).code,
               Code::kStaleKey);
      scene.writer->Close();
      trajectories.Close();
      Settle(scene.store.get());  // as the keeper looks after a Clear()
      CHECK_EQ(scene.store->info().num_chunks, 0u);
      CHECK_EQ(scene.store->info().allocated_nbytes, 0u);
      Batch batch(1, 3);
      reader->Gather(batch.outputs.data());
      CHECK(batch.Intact());
      reader.reset();
      for (int round = 0; round < 3; ++round) {  // keys are never issued again
        scene.Write(round == 1 ? items + 2 : 5);
        note();
        Store::ItemReader one(scene.store);
        REQUIRE(one.Sample(scene.table.get(), 2).ok());
        CHECK_EQ(one.items().size(), 2u);
        scene.store->Clear(scene.table.get());
        CHECK_EQ(scene.table->size(), 0u);
      }
      scene.writer->Close();
      Settle(scene.store.get());
      if (seen) {
        late->Arrange();
        CHECK(Same(*late, *before));
        CHECK_EQ(late->tables[0].items.key.size(), items + 48);
        late.reset();
        before.reset();
      }
      CHECK_EQ(scene.store->info().num_chunks, 0u);
      const std::uint64_t left = scene.store->info().used_nbytes;
      CHECK(items <= 4096 || left < used / 2);  // pages of few items, and slots of chunks, stay
    }
  }
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

TEST(WhatWasClosedIsServedAgainButNotItsWriters) {
  Scene scene;
  scene.Write(7);
  TrajectoryWriter trajectories(scene.store);
  trajectories.AddColumn(
      std::make_shared<RecordLayout>(std::vector<std::size_t>{8}, std::vector{1u}), 9);
  const std::uint64_t value = 1;
  const TrajectoryWriter::Cell cell{&value, 8};
  REQUIRE(trajectories.Append(&cell, 1).ok());
  scene.store->Close();
  Batch batch(4, 3);
  CHECK(scene.Sample(&batch).code == Code::kClosed);
  scene.store->Reopen();
  CHECK(scene.Contents() == Windows(0, 5));
  CHECK(scene.Sample(&batch).ok());
  CHECK(scene.writer->Append(Step(9).columns().data(), How::kGoesOn).code == Code::kClosed);
  CHECK(trajectories.Append(&cell, 1).code == Code::kClosed);
  scene.NewWriter(kLayout);
  scene.next = 5;
  scene.Write(3);
  CHECK(scene.Contents() == Windows(0, 6));
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
