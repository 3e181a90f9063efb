// Long work that its caller wants to end.

#include "stop.h"

#include <algorithm>
#include <thread>

#include "snapshot.h"
#include "store_scene.h"

namespace reverie_test {
namespace {

// What runs here finds that its end is wanted.
template <typename Run>
auto Unwanted(const Run& run) {
  reverie::Stop stop;
  stop.Ask();
  const reverie::Stop::Scope scope(&stop);
  return run();
}

TEST(OnlyWhoWorksForWhoAsksIsTold) {
  reverie::Stop one, other;
  one.Ask();
  CHECK(!reverie::Stop::Asked());
  {
    const reverie::Stop::Scope scope(&one);
    CHECK(reverie::Stop::Asked());
    {
      const reverie::Stop::Scope inner(&other);
      CHECK(!reverie::Stop::Asked());
      std::thread([] { CHECK(reverie::Stop::current() == nullptr); }).join();
    }
    CHECK(reverie::Stop::Asked());
  }
  CHECK(!reverie::Stop::Asked());
}

TEST(AnInterruptedSampleCountsNothingIfItHasNotChosen) {
  constexpr std::size_t kMany = (std::size_t{1} << 18) + 1;
  Scene scene;
  scene.Write(20);
  Batch batch(kMany, 3);
  const TableState before = scene.store->table_state(scene.table);
  CHECK_EQ(Unwanted([&] { return scene.Sample(&batch); }).code, Code::kInterrupted);
  CHECK(Same(scene.store->table_state(scene.table), before));
  REQUIRE(scene.Sample(&batch).ok());
  CHECK(batch.Intact());
}

TEST(AnInterruptedGatherSaysSo) {
  Scene scene;
  scene.Write(20);
  Store::Reader reader(scene.store, {kLayout.get(), 3});
  CHECK_EQ(Unwanted([&] { return reader.Select(scene.table.get(), nullptr, 0); }).code,
           Code::kInterrupted);
  Store::Reader again(scene.store, {kLayout.get(), 3});
  REQUIRE(again.Select(scene.table.get(), nullptr, 0).ok());
  Batch batch(again.keys().size(), 3);
  CHECK_EQ(Unwanted([&] { return again.Gather(batch.outputs.data()); }).code, Code::kInterrupted);
  CHECK(again.Gather(batch.outputs.data()).ok());
  CHECK(batch.Intact());
}

TEST(AnInterruptedSnapshotIsArrangedByWhoAsksNext) {
  Scene scene;
  scene.Write(20);
  const auto snapshot = scene.store->TakeSnapshot();
  CHECK_EQ(Unwanted([&] { return snapshot->Arrange(); }).code, Code::kInterrupted);
  CHECK(snapshot->Arrange().ok());
  const auto other = scene.store->TakeSnapshot();
  CHECK(other->Arrange().ok());
  CHECK(Same(*snapshot, *other));
}

TEST(AnInterruptedRestoreLeavesAnEmptyTable) {
  Scene scene;
  scene.Write(20);
  const auto snapshot = scene.store->TakeSnapshot();
  CHECK(snapshot->Arrange().ok());
  const Saved saved = Save(*snapshot);
  Scene copy;
  Load(saved, copy.store.get());
  const auto restore = [&] {
    return copy.store->RestoreTable(copy.table.get(), snapshot->tables[0]);
  };
  CHECK_EQ(Unwanted(restore).code, Code::kInterrupted);
  CHECK_EQ(copy.store->table_info(*copy.table).size, 0u);
  REQUIRE(restore().ok());
  CHECK_EQ(Unwanted([&] {
             const std::uint64_t id = 1;
             return copy.store->LinkChunks(&id, &id, 1);
           }).code,
           Code::kInterrupted);
  CHECK(copy.store->SealRestore().ok());
  CHECK_EQ(copy.Contents(), scene.Contents());
}

TEST(ARefusedRestoreLetsItsChunksGo) {
  Scene scene;
  scene.Write(20);
  const auto snapshot = scene.store->TakeSnapshot();
  REQUIRE(snapshot->Arrange().ok());
  Scene copy;
  Load(Save(*snapshot), copy.store.get());
  TableState broken = snapshot->tables[0];
  broken.items.length.back() = 1000;
  CHECK_EQ(copy.store->RestoreTable(copy.table.get(), broken).code, Code::kInvalid);
  std::uint64_t references = 5;
  CHECK_EQ(copy.store->RestoreTable(copy.table.get(), snapshot->tables[0], &references).code,
           Code::kTooMany);
  CHECK_EQ(copy.store->table_info(*copy.table).size, 0u);
  CHECK(copy.store->info().num_chunks != 0);
  REQUIRE(copy.store->SealRestore().ok());
  CHECK_EQ(copy.store->info().num_chunks, 0u);
}

TEST(WhatAnInterruptedClearLeavesIsTheKeepers) {
  constexpr std::uint64_t kMany = 10000;
  Scene scene(TableConfig(kMany));
  scene.Write(kMany);
  CHECK_EQ(Unwanted([&] { return scene.store->Clear(scene.table.get()); }).code,
           Code::kInterrupted);
  CHECK_EQ(scene.store->table_info(*scene.table).size, 0u);
  scene.Write(10);
  for (int i = 0; i < 3000 && scene.store->info().num_chunks > 100; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  CHECK(scene.store->info().num_chunks <= 100);
  CHECK_EQ(scene.store->table_info(*scene.table).size, 10u);
}

TEST(AnInterruptedUpdateHasDoneAPart) {
  Scene scene(TableConfig(10000));
  scene.Write(3000);
  const auto keys = scene.store->table_state(scene.table).items.key;
  const std::vector<double> priorities(keys.size(), 5.0);
  Unwanted([&] {
    return scene.store->UpdatePriorities(scene.table.get(), keys.data(), priorities.data(),
                                         keys.size());
  });
  const auto found = scene.store->table_state(scene.table).items.priority;
  CHECK(std::count(found.begin(), found.end(), 5.0) == 255);
  Unwanted([&] { return scene.store->Delete(scene.table.get(), keys.data(), keys.size()); });
  CHECK_EQ(scene.store->table_info(*scene.table).size, keys.size() - 255);
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
