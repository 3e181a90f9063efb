// New items that are to have the largest priority of their table, and what a batch tells of
// its least chance.

#include <algorithm>
#include <cmath>
#include <vector>

#include "saved.h"
#include "starve.h"
#include "trajectory_scene.h"
#include "writer_scene.h"

namespace reverie_test {
namespace {

constexpr SelectorKind kByWeight = SelectorKind::kPrioritized;

Writer::Config Largest(std::uint32_t length = 1) {
  Writer::Config config = WriterConfig(length, 1);
  config.priority = kLargestPriority;
  return config;
}

// Of the table's items, the oldest first; none is NaN.
std::vector<double> Priorities(Store* store, const std::shared_ptr<Table>& table) {
  const auto of = store->table_state(table).items.priority;
  CHECK(std::none_of(of.begin(), of.end(), [](double priority) { return std::isnan(priority); }));
  return {of.begin(), of.end()};
}

void Update(Store* store, const std::shared_ptr<Table>& table, std::size_t row, double priority) {
  const std::uint64_t key = store->table_state(table).items.key[row];
  CHECK_EQ(store->UpdatePriorities(table.get(), &key, &priority, 1), 0u);
}

void Delete(Store* store, const std::shared_ptr<Table>& table, std::size_t row) {
  const std::uint64_t key = store->table_state(table).items.key[row];
  CHECK_EQ(store->Delete(table.get(), &key, 1), 0u);
}

TEST(ANewItemHasTheLargestPriorityOfItsTableAndThatFalls) {
  const auto store = std::make_shared<Store>(Store::Options{4096, 1});
  const auto sampled = store->CreateTable(TableConfig(100, kByWeight));
  const auto removed = store->CreateTable(TableConfig(100, SelectorKind::kUniform, kByWeight));
  const auto uniform = store->CreateTable(TableConfig(100));
  const auto heap = store->CreateTable(TableConfig(100, SelectorKind::kMaxHeap));
  const std::vector<std::shared_ptr<Table>> tables{sampled, removed, uniform, heap};
  Writer writer(store, kLayout, tables, Largest());
  const auto expect = [&](const std::vector<std::vector<double>>& wanted) {
    for (std::size_t i = 0; i < tables.size(); ++i) {
      CHECK_EQ(Priorities(store.get(), tables[i]), wanted[i]);
    }
  };
  REQUIRE(Append(&writer, 0).ok());
  expect({{1}, {1}, {1}, {1}});
  Update(store.get(), sampled, 0, 5);
  Update(store.get(), removed, 0, 0.25);
  Update(store.get(), uniform, 0, 9);
  Update(store.get(), heap, 0, 9);
  REQUIRE(Append(&writer, 1).ok());
  expect({{5, 5}, {0.25, 0.25}, {9, 1}, {9, 1}});
  Update(store.get(), sampled, 0, 2);
  Update(store.get(), sampled, 1, 3);
  REQUIRE(Append(&writer, 2).ok());
  expect({{2, 3, 3}, {0.25, 0.25, 0.25}, {9, 1, 1}, {9, 1, 1}});
  writer.SetPriority(4);
  REQUIRE(Append(&writer, 3).ok());
  writer.SetPriority(kLargestPriority);
  for (int row = 3; row > 0; --row) Delete(store.get(), sampled, row);
  REQUIRE(Append(&writer, 4).ok());
  expect({{2, 2}, {0.25, 0.25, 0.25, 4, 4}, {9, 1, 1, 4, 1}, {9, 1, 1, 4, 1}});
  Update(store.get(), sampled, 0, 0);
  Update(store.get(), sampled, 1, 0);
  REQUIRE(Append(&writer, 5).ok());
  CHECK_EQ(Priorities(store.get(), sampled), (std::vector<double>{0, 0, 0}));
  store->Clear(sampled.get());
  REQUIRE(Append(&writer, 6).ok());
  CHECK_EQ(Priorities(store.get(), sampled), (std::vector<double>{1}));
}

TEST(TheLargestFallsWhenItIsEvicted) {
  const auto store = std::make_shared<Store>(Store::Options{4096, 1});
  const auto table = store->CreateTable(TableConfig(3, kByWeight));
  Writer writer(store, kLayout, {table}, WriterConfig(1, 1));
  for (const double priority : {8.0, 2.0, 3.0, 1.0}) {
    writer.SetPriority(priority);
    REQUIRE(Append(&writer, 0).ok());
  }
  writer.SetPriority(kLargestPriority);
  REQUIRE(Append(&writer, 0).ok());
  CHECK_EQ(Priorities(store.get(), table), (std::vector<double>{3, 1, 3}));
}

TEST(WhatWaitsHasTheLargestOfWhenItGoesIn) {
  Table::Config config = TableConfig(100, kByWeight);
  config.limiter = {1, 1.0, -1e18, 1.0};  // one item, then a sample before each next one
  Scene scene(config);
  bool inserted;
  REQUIRE(scene.Append().ok());
  CHECK(scene.Latest(&inserted, kLargestPriority).ok() && inserted);
  CHECK(scene.Latest(&inserted, kLargestPriority).ok() && !inserted);
  CHECK(scene.Latest(&inserted, kLargestPriority).ok() && !inserted);
  CHECK_EQ(Priorities(scene.store.get(), scene.table), (std::vector<double>{1}));
  const auto sample = [&] {
    return Store::ItemReader(scene.store).Sample(scene.table.get(), 1).ok();
  };
  Update(scene.store.get(), scene.table, 0, 7);
  CHECK(sample());
  CHECK_EQ(Priorities(scene.store.get(), scene.table), (std::vector<double>{7, 7}));
}

TEST(WhatCannotGoInForWantOfMemoryHasTheLargestOfLater) {
  constexpr std::size_t kItems = PagedArray<Item>::kPerPage;  // the next one needs a page
  Table::Config config = TableConfig(1000, kByWeight);
  config.limiter = {1, 1.0, -1e18, static_cast<double>(kItems)};
  int later = 0;
  for (long k = 0;; ++k) {
    Scene scene(config);
    REQUIRE(scene.Append().ok());
    bool inserted;
    for (std::size_t i = 0; i <= kItems; ++i) {
      REQUIRE(scene.Latest(&inserted, kLargestPriority).ok());
      CHECK_EQ(inserted, i < kItems);
    }
    const auto sample = [&] {
      CHECK(Store::ItemReader(scene.store).Sample(scene.table.get(), 1).ok());
    };
    const auto size = [&] { return scene.store->table_info(*scene.table).size; };
    Update(scene.store.get(), scene.table, 0, 7);
    const bool starved = Starved(k, 1, sample);
    double wanted = 7;
    if (size() == kItems) {
      later += !starved;  // it was sampled, and then let nobody in
      Update(scene.store.get(), scene.table, 0, wanted = 3);
      sample();
    }
    CHECK_EQ(size(), kItems + 1);
    CHECK_EQ(Priorities(scene.store.get(), scene.table).back(), wanted);
    if (!starved && wanted == 7) break;
  }
  CHECK(later > 0);
}

// What can fail comes first, also where the priority is one that only the table knows.
TEST(AStepIsStoredInAllTablesOrInNone) {
  int failed = 0;
  for (long k = 0;; ++k) {
    const auto store = std::make_shared<Store>(Store::Options{4096, 1});
    const auto first = store->CreateTable(TableConfig(5000, kByWeight));
    const auto second = store->CreateTable(TableConfig(5000, kByWeight));
    Writer writer(store, kLayout, {first, second}, Largest());
    for (std::uint64_t i = 0; i < 512; ++i) REQUIRE(Append(&writer, i).ok());  // a page of numbers
    Update(store.get(), second, 3, 6);
    const bool starved = Starved(k, 1, [&] { CHECK(Append(&writer, 512).ok()); });
    failed += starved;
    CHECK_EQ(Priorities(store.get(), first), std::vector<double>(starved ? 512 : 513, 1.0));
    CHECK_EQ(Priorities(store.get(), second).size(), starved ? 512u : 513u);
    if (starved) REQUIRE(Append(&writer, 512).ok());
    CHECK_EQ(Priorities(store.get(), second)[512], 6.0);
    if (!starved) break;
  }
  CHECK(failed > 2);
}

TEST(TheLargestTakesTheMemoryOfItsNumber) {
  const auto used = [](double priority, SelectorKind sampler) {
    const auto store = std::make_shared<Store>(Store::Options{4096, 1});
    const auto table = store->CreateTable(TableConfig(5000, sampler));
    const auto second = store->CreateTable(TableConfig(5000, sampler));
    Writer::Config config = WriterConfig(1, 1);
    config.priority = priority;
    Writer writer(store, kLayout, {table, second}, config);
    for (std::uint64_t i = 0; i < 3000; ++i) REQUIRE(Append(&writer, i).ok());
    return store->info().used_nbytes;
  };
  for (const SelectorKind sampler : {SelectorKind::kUniform, kByWeight}) {
    CHECK_EQ(used(kLargestPriority, sampler), used(1.0, sampler));
  }
}

TEST(ARestoredTableKnowsItsLargest) {
  const auto store = std::make_shared<Store>(Store::Options{4096, 1});
  const auto table = store->CreateTable(TableConfig(100, kByWeight));
  Writer writer(store, kLayout, {table}, Largest());
  for (std::uint64_t i = 0; i < 20; ++i) {
    REQUIRE(Append(&writer, i).ok());
    Update(store.get(), table, i, static_cast<double>((7 * i) % 20));
  }
  Delete(store.get(), table, 17);  // of priority 19
  const auto restored = std::make_shared<Store>(Store::Options{4096, 1});
  const auto twin = restored->CreateTable(TableConfig(100, kByWeight));
  const auto snapshot = Arranged(store);
  Load(Save(*snapshot), restored.get());
  REQUIRE(restored->RestoreTable(twin.get(), snapshot->tables[0]).ok());
  CHECK_EQ(twin->LargestPriority(), 18.0);
  CHECK_EQ(twin->MinProbability(), table->MinProbability());
  CHECK_EQ(twin->MinProbability(), 1.0 / 171);
}

TEST(ABatchTellsTheLeastChanceOfAnyItem) {
  const auto store = std::make_shared<Store>(Store::Options{4096, 1});
  const auto least = [&](const std::shared_ptr<Table>& table, std::size_t n) {
    Batch batch(n, 1);
    double told = -1;
    batch.info.min_probability = &told;
    CHECK(store->Sample(table.get(), {kLayout.get(), 1}, n, 1, batch.outputs.data(), batch.info)
              .ok());
    for (const double probability : batch.probability) CHECK(probability >= told);
    return told;
  };
  for (const auto& [kind, wanted] :
       {std::pair(SelectorKind::kUniform, 0.2), {SelectorKind::kFifo, 1.0}, {kByWeight, 0.1}}) {
    const auto table = store->CreateTable(TableConfig(100, kind));
    CHECK_EQ(table->MinProbability(), 0.0);
    Writer writer(store, kLayout, {table}, WriterConfig(1, 1));
    for (const double priority : {1.0, 0.0, 2.0, 3.0, 4.0}) {
      writer.SetPriority(priority);
      REQUIRE(Append(&writer, 0).ok());
    }
    CHECK_EQ(least(table, 3), wanted);
    CHECK_EQ(store->MinProbability(*table), wanted);
  }
  // The only one with weight leaves with its first sample, and all others are equal then.
  Table::Config config = TableConfig(100, kByWeight);
  config.max_times_sampled = 1;
  const auto table = store->CreateTable(config);
  Writer writer(store, kLayout, {table}, WriterConfig(1, 1));
  for (const double priority : {1.0, 0.0, 0.0}) {
    writer.SetPriority(priority);
    REQUIRE(Append(&writer, 0).ok());
  }
  CHECK_EQ(least(table, 3), 0.5);
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
