// A writer, its tables and their store where memory runs out.

#include <algorithm>

#include "saved.h"
#include "starve.h"
#include "writer_scene.h"

namespace reverie_test {
namespace {

// Two writers with unequal windows into three tables, one of which evicts.
struct Scene {
  std::shared_ptr<Store> store = std::make_shared<Store>(Store::Options{64 * kStepNbytes, 1});
  std::shared_ptr<Table> large = store->CreateTable(TableConfig(10000));
  std::shared_ptr<Table> small = store->CreateTable(TableConfig(7));
  std::shared_ptr<Table> odd =
      store->CreateTable(TableConfig(10000, SelectorKind::kUniform, SelectorKind::kLifo));
  Writer two{store, kLayout, {large, small, odd}, WriterConfig(2, 1, Padding::kEnd)};
  Writer three{store, kLayout, {odd}, [] {
                 Writer::Config config = WriterConfig(3, 1);
                 config.priority = 2.0;
                 return config;
               }()};

  std::vector<std::uint64_t> Sizes() const {
    const Store::Info info = store->info();
    std::vector<std::uint64_t> sizes{info.num_steps, info.record_nbytes, two.num_cached(),
                                     three.num_cached()};
    for (const auto& table : {large, small, odd}) {
      const Store::TableInfo of = store->table_info(*table);
      sizes.push_back(of.size);
      sizes.push_back(static_cast<std::uint64_t>(of.counters.inserts));
      sizes.push_back(static_cast<std::uint64_t>(of.counters.deletes));
    }
    return sizes;
  }
  // Every window still leads to its steps, and all memory goes when all items go.
  void CheckAndEmpty(std::uint64_t steps) {
    CHECK_EQ(Contents(store, large.get()),
             Windows(0, static_cast<std::uint32_t>(steps), 2, 1, Padding::kNone));
    CHECK_EQ(Contents(store, small.get()), Windows(steps - 8, 8, 2, 1, Padding::kNone));
    CHECK_EQ(store->table_info(*odd).size, 2 * steps - 3);
    two.Close();
    three.Close();
    for (const auto& table : {large, small, odd}) store->Clear(table.get());
    CHECK_EQ(store->info().num_chunks + store->info().num_steps, 0u);
    CHECK_EQ(store->info().allocated_nbytes, 0u);
  }
};

TEST(AStepIsStoredWithAllItsItemsOrNotAtAll) {
  constexpr std::uint64_t kSteps = 1100;  // past a page of items and of their order
  int failed = 0;
  for (const long burst : {1L, 3L}) {
    for (long k = 0;; ++k) {
      Scene scene;
      long left = k;  // allocations until the one that fails
      long bad = burst;
      for (std::uint64_t i = 0; i < kSteps; ++i) {
        for (Writer* writer : {&scene.two, &scene.three}) {
          const Step step(i);
          const auto columns = step.columns();
          const auto before = bad > 0 ? scene.Sizes() : std::vector<std::uint64_t>();
          allocations_left = left;
          failing = bad;
          for (bool stored = false; !stored;) {
            try {
              stored = writer->Append(columns.data(), How::kGoesOn).ok();
            } catch (const std::bad_alloc&) {
              ++failed;
              --bad;
              const long resume = allocations_left;
              allocations_left = -1;
              CHECK_EQ(scene.Sizes(), before);
              allocations_left = resume;
            }
          }
          left = allocations_left;
          allocations_left = -1;
        }
      }
      const bool all_tried = left > 0;
      scene.CheckAndEmpty(kSteps);
      if (all_tried) break;
    }
  }
  CHECK(failed > 100);
}

TEST(NoChunkIsLostWhereTheWriterCannotHoldIt) {
  int failed = 0;
  for (long k = 0;; ++k) {
    const auto store = std::make_shared<Store>(Store::Options{kStepNbytes, 1});
    const auto table = store->CreateTable(TableConfig(1));
    Writer writer(store, kLayout, {table}, WriterConfig(1, 1));
    std::uint64_t next = 0;
    const bool starved = Starved(k, 1, [&] {
      for (; next < 200; ++next) Append(&writer, next);
    });
    for (; next < 200; ++next) CHECK(Append(&writer, next).ok());
    failed += starved;
    writer.Close();
    store->Clear(table.get());
    CHECK_EQ(store->info().num_chunks, 0u);
    if (!starved) break;
  }
  CHECK(failed > 400);
}

TEST(AnEpisodeWhosePaddingFailsIsOver) {
  int failed = 0;
  for (long k = 0;; ++k) {
    const auto store = std::make_shared<Store>(Store::Options{2 * kStepNbytes, 1});
    const auto table = store->CreateTable(TableConfig(100));
    Writer writer(store, kLayout, {table}, WriterConfig(5, 1, Padding::kTile));
    for (std::uint64_t i = 0; i < 5; ++i) REQUIRE(Append(&writer, i).ok());
    std::uint64_t uncovered;
    const bool starved = Starved(k, 1, [&] { writer.Reset(true, &uncovered); });
    failed += starved;
    CHECK_EQ(writer.num_cached(), 0u);
    // What there is of the first episode is right, and the next one is whole.
    std::vector<std::uint64_t> expected = Windows(0, 5, 5, 1, Padding::kTile);
    const std::vector<std::uint64_t> first = Contents(store, table.get());
    CHECK(starved ? first.size() < expected.size() : first == expected);
    CHECK(std::equal(first.begin(), first.end(), expected.begin()));
    WriteEpisode(&writer, 100, 7, Ending::kLast);
    const std::vector<std::uint64_t> all = Contents(store, table.get());
    const std::vector<std::uint64_t> second = Windows(100, 7, 5, 1, Padding::kTile);
    REQUIRE(all.size() == first.size() + second.size());
    CHECK(std::equal(second.rbegin(), second.rend(), all.rbegin()));
    if (!starved) break;
  }
  CHECK(failed > 3);
}

TEST(AnInsertThatFailsChangesNothing) {
  int failed = 0;
  const auto store = std::make_shared<Store>(Store::Options{4096, 1});
  ChunkStore& chunks = store->Lock().chunks();
  Chunk* chunk = chunks.Create(kLayout, 10);
  chunks.Publish(chunk, 10);
  for (const std::uint32_t size : {0u, 1u, 1023u, 1024u}) {
    for (long k = 0;; ++k) {
      Table table(TableConfig(1024), &chunks);
      const auto save = [&] {
        return store->table_state(std::shared_ptr<Table>(std::shared_ptr<void>(), &table));
      };
      Garbage garbage;
      for (std::uint32_t i = 0; i < size; ++i) Insert(&table, chunk, 0, 2, 1.0, &garbage);
      const TableState before = save();
      const std::uint32_t refs = chunk->refs;
      const bool starved = Starved(k, 1, [&] { Insert(&table, chunk, 1, 3, 2.0, &garbage); });
      failed += starved;
      if (starved) {
        CHECK_EQ(save().items.key, before.items.key);
        CHECK_EQ(save().free_keys, before.free_keys);
        CHECK_EQ(chunk->refs, refs);
        CHECK_EQ(table.limiter().counters().inserts, size);
        Insert(&table, chunk, 1, 3, 2.0, &garbage);
      }
      const TableState after = save();
      CHECK_EQ(after.items.key.size(), std::min(size + 1, 1024u));
      CHECK_EQ(after.items.length.back(), 3u);
      CHECK_EQ(after.items.priority.back(), 2.0);
      std::unique_ptr<Table::Contents> none;
      table.Clear(&none, &garbage);
      CHECK_EQ(chunk->refs, 1u);
      if (!starved) break;
    }
  }
  CHECK(failed > 8);
}

TEST(ASampleThatFailsPinsNothing) {
  int failed = 0;
  for (long k = 0;; ++k) {
    const auto store = std::make_shared<Store>(Store::Options{4096, 4});
    const auto table = store->CreateTable(TableConfig(1000));
    std::weak_ptr<Chunk> chunk;
    bool starved;
    {
      Writer writer(store, kLayout, {table}, WriterConfig(50, 1));
      for (std::uint64_t i = 0; i < 100; ++i) REQUIRE(Append(&writer, i).ok());
      chunk = std::const_pointer_cast<Chunk>(Arranged(store)->whole(0));
      Batch batch(3000, 50);  // 3 MiB: for several threads, which may not be had
      const auto sample = [&] {
        CHECK(store
                  ->Sample(table.get(), {kLayout.get(), 50}, 3000, 50, batch.outputs.data(),
                           batch.info)
                  .ok());
      };
      starved = Starved(k, 1, sample);
      failed += starved;
      if (starved) sample();
      const std::int64_t counted = store->table_info(*table).counters.samples;
      CHECK(counted == 3000 || (starved && counted == 6000));  // chosen, but not gathered
      CHECK(batch.Intact());
    }
    store->Clear(table.get());
    CHECK(chunk.expired());
    if (!starved && k > 12) break;  // without threads it takes fewer and fails no more
  }
  CHECK(failed >= 3);
}

TEST(AStoreThatCannotBeReadForWantOfMemoryStaysUsable) {
  int failed = 0;
  for (long k = 0; k < 60; ++k) {
    Scene scene;
    for (std::uint64_t i = 0; i < 100; ++i) {
      REQUIRE(Append(&scene.two, i).ok());
      REQUIRE(Append(&scene.three, i).ok());
    }
    const auto before = scene.Sizes();
    failed += Starved(k, 1, [&] { scene.store->TakeSnapshot()->Arrange(); });
    failed += Starved(k, 1, [&] {
      Store::Reader reader(scene.store, {kLayout.get(), 0});
      CHECK(reader.Select(scene.large.get(), nullptr, 0).ok());
    });
    const std::uint64_t key = scene.store->table_state(scene.odd).items.key[0];
    const double priority = 3.0;
    failed += Starved(
        k, 1, [&] { scene.store->UpdatePriorities(scene.large.get(), &key, &priority, 1); });
    CHECK_EQ(scene.Sizes(), before);
    scene.CheckAndEmpty(100);
  }
  CHECK(failed > 30);
}

TEST(ArraysThatFailAreMadeAgain) {
  int failed = 0;
  Scene scene;
  for (std::uint64_t i = 0; i < 100; ++i) {
    REQUIRE(Append(&scene.two, i, i % 7 == 6 ? How::kEnded : How::kGoesOn).ok());
    REQUIRE(Append(&scene.three, i).ok());
  }
  const auto right = Arranged(scene.store);
  for (long k = 0;; ++k) {
    const auto snapshot = scene.store->TakeSnapshot();
    const bool starved = Starved(k, 1, [&] { snapshot->Arrange(); });
    failed += starved;
    snapshot->Arrange();
    CHECK(Same(*snapshot, *right));
    if (!starved) break;
  }
  CHECK(failed > 20);
}

TEST(ARestoreThatFailsLeaksNothing) {
  int failed = 0;
  Scene scene;
  for (std::uint64_t i = 0; i < 100; ++i) REQUIRE(Append(&scene.three, i).ok());
  const auto arranged = Arranged(scene.store);
  const Snapshot& snapshot = *arranged;
  const Saved saved = Save(snapshot);
  for (long k = 0;; ++k) {
    const auto store = std::make_shared<Store>(Store::Options{4096, 1});
    const auto table = store->CreateTable(TableConfig(1000));
    const bool starved = Starved(k, 1, [&] {
      Load(saved, store.get());
      CHECK(store->RestoreTable(table.get(), snapshot.tables[2]).ok());
    });
    failed += starved;
    store->SealRestore();
    if (!starved) break;
  }
  CHECK(failed > 8);
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
