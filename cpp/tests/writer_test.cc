#include "writers/writer.h"

#include <algorithm>

#include "check.h"
#include "starve.h"

namespace reverie_test {
namespace {

enum class Padding { kNone, kEnd, kTile };
enum class Ending { kLast, kColumn, kReset, kDrop };

const std::shared_ptr<const RecordLayout> kLayout = StepLayout();

Writer::Config WriterConfig(std::uint32_t length, std::uint32_t stride,
                            Padding padding = Padding::kNone) {
  return {length,
          stride,
          1.0,
          padding != Padding::kNone,
          padding == Padding::kTile,
          PadRecord(*kLayout),
          3,
          kLastType};
}

Status Append(Writer* writer, std::uint64_t counter, Writer::Last last = Writer::Last::kNo,
              std::int32_t type = 1) {
  return writer->Append(Step(counter, type).columns().data(), last);
}

struct Ended {
  std::uint64_t uncovered = 0;
};

// Writes steps first, first + 1 ... as one episode.
Ended WriteEpisode(Writer* writer, std::uint64_t first, std::uint32_t steps, Ending ending) {
  Ended ended;
  for (std::uint32_t i = 0; i < steps; ++i) {
    const bool end = i + 1 == steps;
    CHECK_EQ(writer->num_cached(), i);
    if (end && ending == Ending::kLast) {
      CHECK(Append(writer, first + i, Writer::Last::kYes).ok());
    } else if (ending == Ending::kColumn) {
      CHECK(Append(writer, first + i, Writer::Last::kAskColumn, end ? kLastType : 1).ok());
    } else {
      CHECK(Append(writer, first + i).ok());
    }
  }
  if (ending == Ending::kReset || ending == Ending::kDrop) {
    CHECK(writer->Reset(ending == Ending::kReset, &ended.uncovered).ok());
  }
  CHECK_EQ(writer->num_cached(), 0u);
  return ended;
}

// The windows of that episode, one after the other, by the counters of their steps.
std::vector<std::uint64_t> Windows(std::uint64_t first, std::uint32_t steps, std::uint32_t length,
                                   std::uint32_t stride, Padding padding) {
  std::vector<std::uint64_t> padded;
  for (std::uint32_t i = 0; i < steps; ++i) padded.push_back(first + i);
  if (steps != 0 && padding == Padding::kEnd) {
    padded.resize(std::max<std::size_t>(steps, length), kPad);
  } else if (steps != 0 && padding == Padding::kTile) {
    padded.resize(steps + length - 1, kPad);
  }
  std::vector<std::uint64_t> windows;
  for (std::size_t end = length; end <= padded.size(); end += stride) {
    windows.insert(windows.end(), padded.begin() + static_cast<std::ptrdiff_t>(end - length),
                   padded.begin() + static_cast<std::ptrdiff_t>(end));
  }
  return windows;
}

// The counts promised in writer.h.
std::uint32_t ClosedForm(std::uint32_t n, std::uint32_t length, std::uint32_t stride,
                         Padding padding) {
  if (n == 0) return 0;
  if (padding == Padding::kTile) return (n - 1) / stride + 1;
  if (n < length) return padding == Padding::kEnd ? 1 : 0;
  return (n - length) / stride + 1;
}

// The steps of all items of a table, in order; checks that no step is torn.
std::vector<std::uint64_t> Contents(const std::shared_ptr<Store>& store, Table* table) {
  Store::Reader reader(store);
  REQUIRE(reader.Select(table, kLayout.get(), nullptr, 0, 0).ok());
  Batch batch(reader.keys().size(), std::max(1u, reader.steps()));
  if (!reader.keys().empty()) reader.GatherRows(*kLayout, batch.outputs.data());
  CHECK(reader.keys().empty() || batch.Intact());
  return batch.counter;
}

TEST(EpisodesOfAnyLengthGiveTheWindowsOfTheClosedForm) {
  for (const std::size_t capacity : {1u, 2u, 3u, 200u}) {
    for (const Padding padding : {Padding::kNone, Padding::kEnd, Padding::kTile}) {
      for (std::uint32_t length = 1; length <= 5; ++length) {
        for (std::uint32_t stride = 1; stride <= 4; ++stride) {
          const auto store = std::make_shared<Store>(Store::Options{capacity * kStepNbytes, 1});
          const auto table = store->CreateTable(TableConfig(1000));
          Writer writer(store, kLayout, {table}, WriterConfig(length, stride, padding));
          std::vector<std::uint64_t> expected;
          std::uint32_t count = 0;
          std::uint64_t first = 0;
          for (const Ending ending :
               {Ending::kLast, Ending::kColumn, Ending::kReset, Ending::kDrop}) {
            for (std::uint32_t n = 0; n <= 12; ++n) {
              const Padding padded = ending == Ending::kDrop ? Padding::kNone : padding;
              const Ended ended = WriteEpisode(&writer, first, n, ending);
              const auto windows = Windows(first, n, length, stride, padded);
              CHECK_EQ(windows.size() / length, ClosedForm(n, length, stride, padded));
              if (ending == Ending::kReset && padding == Padding::kNone) {
                const std::uint64_t end = windows.empty() ? first : windows.back() + 1;
                CHECK_EQ(ended.uncovered, first + n - end);
              } else {
                CHECK_EQ(ended.uncovered, 0u);
              }
              expected.insert(expected.end(), windows.begin(), windows.end());
              count += ClosedForm(n, length, stride, padded);
              first += n;
            }
          }
          CHECK_EQ(Contents(store, table.get()), expected);
          CHECK_EQ(store->table_info(*table).size, count);
          CHECK_EQ(store->table_info(*table).counters.inserts, count);
        }
      }
    }
  }
}

TEST(TheCheckSeesAWrongStride) {
  const auto store = std::make_shared<Store>(Store::Options{3 * kStepNbytes, 1});
  const auto table = store->CreateTable(TableConfig(1000));
  Writer writer(store, kLayout, {table}, WriterConfig(3, 2));
  WriteEpisode(&writer, 0, 10, Ending::kLast);
  CHECK(Contents(store, table.get()) == Windows(0, 10, 3, 2, Padding::kNone));
  CHECK(Contents(store, table.get()) != Windows(0, 10, 3, 1, Padding::kNone));
  CHECK(Contents(store, table.get()) != Windows(1, 10, 3, 2, Padding::kNone));
}

TEST(AnItemIsVisibleWhenTheStepThatCompletesItReturns) {
  const auto store = std::make_shared<Store>(Store::Options{4096, 1});
  const auto table = store->CreateTable(TableConfig(1000));
  const auto other = store->CreateTable(TableConfig(5));
  Writer writer(store, kLayout, {table, other}, WriterConfig(3, 2));
  for (std::uint64_t i = 0; i < 50; ++i) {
    REQUIRE(Append(&writer, i).ok());
    const auto expected = Windows(0, static_cast<std::uint32_t>(i) + 1, 3, 2, Padding::kNone);
    CHECK(Contents(store, table.get()) == expected);
    CHECK_EQ(store->table_info(*other).counters.inserts, expected.size() / 3);
    CHECK_EQ(store->table_info(*other).size, std::min<std::size_t>(5, expected.size() / 3));
  }
}

TEST(StreamsNeverShareAChunk) {
  const auto store = std::make_shared<Store>(Store::Options{5 * kStepNbytes, 1});
  const auto left = store->CreateTable(TableConfig(1000));
  const auto right = store->CreateTable(TableConfig(1000));
  Writer a(store, kLayout, {left}, WriterConfig(4, 1));
  Writer b(store, kLayout, {right}, WriterConfig(4, 1));
  for (std::uint64_t i = 0; i < 40; ++i) {
    REQUIRE(Append(&a, i).ok());
    REQUIRE(Append(&b, 1000 + i).ok());
  }
  CHECK(Contents(store, left.get()) == Windows(0, 40, 4, 1, Padding::kNone));
  CHECK(Contents(store, right.get()) == Windows(1000, 40, 4, 1, Padding::kNone));
}

TEST(ChunksGoWithTheirItems) {
  const auto store = std::make_shared<Store>(Store::Options{4 * kStepNbytes, 1});
  const auto table = store->CreateTable(TableConfig(10));
  Writer writer(store, kLayout, {table}, WriterConfig(3, 1));
  for (std::uint64_t i = 0; i < 10002; ++i) {
    REQUIRE(Append(&writer, i).ok());
    CHECK(store->info().num_chunks <= 4);  // 12 steps over chunks of four
  }
  CHECK_EQ(Contents(store, table.get()), Windows(10002 - 12, 12, 3, 1, Padding::kNone));
  store->Clear(table.get());
  CHECK_EQ(store->info().num_chunks, 1u);  // the writer's: two steps for its next window
  writer.Close();
  CHECK_EQ(store->info().num_chunks, 0u);
  CHECK_EQ(store->info().num_steps + store->info().allocated_nbytes, 0u);
}

TEST(StepsThatNoWindowWillTakeAreNotKept) {
  const auto store = std::make_shared<Store>(Store::Options{2 * kStepNbytes, 1});
  const auto table = store->CreateTable(TableConfig(10));
  Writer writer(store, kLayout, {table}, WriterConfig(5, 1));
  for (std::uint64_t i = 0; i < 500; ++i) {  // episodes too short for an item
    REQUIRE(Append(&writer, i, i % 4 == 3 ? Writer::Last::kYes : Writer::Last::kNo).ok());
    CHECK(store->info().num_chunks <= 3);
  }
  CHECK_EQ(store->table_info(*table).counters.inserts, 0);
}

TEST(ChunksGrowWithTheStream) {
  constexpr std::size_t kChunk = std::size_t{1} << 16;
  const auto store = std::make_shared<Store>(Store::Options{kChunk, 1});
  const auto table = store->CreateTable(TableConfig(100000));
  Writer writer(store, kLayout, {table}, WriterConfig(2, 1));
  REQUIRE(Append(&writer, 0).ok());
  CHECK(store->info().allocated_nbytes <= 4096);
  for (std::uint64_t i = 1; i < 20000; ++i) {
    REQUIRE(Append(&writer, i).ok());
    const Store::Info info = store->info();
    CHECK(info.allocated_nbytes <=
          std::max<std::size_t>(4096, 2 * info.record_nbytes + kChunk / 8));
  }
  CHECK(store->info().num_chunks < 16);
  std::uint64_t largest = 0;
  for (const auto& ref : store->TakeSnapshot().chunks) {
    largest = std::max<std::uint64_t>(largest, ref.chunk->capacity);
  }
  CHECK_EQ(largest, kChunk / kStepNbytes);
}

TEST(AClosedWriterLeavesASealedChunkAndMayStartANewStream) {
  const auto store = std::make_shared<Store>(Store::Options{4096, 1});
  const auto table = store->CreateTable(TableConfig(100));
  Writer writer(store, kLayout, {table}, WriterConfig(2, 1, Padding::kTile));
  REQUIRE(Append(&writer, 0).ok());
  REQUIRE(Append(&writer, 1).ok());
  CHECK(!store->TakeSnapshot().chunks[0].sealed);
  writer.Close();
  writer.Close();
  CHECK_EQ(writer.num_cached(), 0u);
  CHECK(store->TakeSnapshot().chunks[0].sealed);
  REQUIRE(Append(&writer, 2).ok());
  REQUIRE(Append(&writer, 3).ok());
  CHECK_EQ(store->TakeSnapshot().chunks.size(), 2u);
  CHECK_EQ(Contents(store, table.get()), (std::vector<std::uint64_t>{0, 1, 2, 3}));  // no padding
}

TEST(NothingIsStoredOnceTheStoreIsClosed) {
  const auto store = std::make_shared<Store>(Store::Options{2 * kStepNbytes, 1});
  const auto table = store->CreateTable(TableConfig(100));
  Writer writer(store, kLayout, {table}, WriterConfig(2, 1));
  Writer fresh(store, kLayout, {table}, WriterConfig(2, 1));
  for (std::uint64_t i = 0; i < 4; ++i) REQUIRE(Append(&writer, i).ok());
  store->Close();
  const Store::Info before = store->info();
  CHECK_EQ(Append(&writer, 4).code, Code::kClosed);  // a new chunk would be needed
  CHECK_EQ(Append(&fresh, 5).code, Code::kClosed);
  CHECK_EQ(store->info().num_chunks, before.num_chunks);
  CHECK_EQ(store->info().num_steps, before.num_steps);
  CHECK_EQ(writer.num_cached(), 4u);
  CHECK_EQ(Contents(store, table.get()), Windows(0, 4, 2, 1, Padding::kNone));
}

// Running out of memory.

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
              stored = writer->Append(columns.data(), Writer::Last::kNo).ok();
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
  ChunkStore chunks;
  Chunk* chunk = chunks.Create(kLayout, 10);
  chunks.Publish(chunk, 10);
  for (const std::uint32_t size : {0u, 1u, 1023u, 1024u}) {
    for (long k = 0;; ++k) {
      Table table(TableConfig(1024), &chunks);
      Garbage garbage;
      for (std::uint32_t i = 0; i < size; ++i) table.Insert(chunk, 0, 2, 1.0, &garbage);
      const TableState before = table.Save();
      const std::uint32_t refs = chunk->refs;
      const bool starved = Starved(k, 1, [&] { table.Insert(chunk, 1, 3, 2.0, &garbage); });
      failed += starved;
      if (starved) {
        CHECK_EQ(table.Save().items.key, before.items.key);
        CHECK_EQ(table.Save().free_keys, before.free_keys);
        CHECK_EQ(chunk->refs, refs);
        CHECK_EQ(table.limiter().counters().inserts, size);
        table.Insert(chunk, 1, 3, 2.0, &garbage);
      }
      const TableState after = table.Save();
      CHECK_EQ(after.items.key.size(), std::min(size + 1, 1024u));
      CHECK_EQ(after.items.length.back(), 3u);
      CHECK_EQ(after.items.priority.back(), 2.0);
      table.Clear(&garbage);
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
      chunk = store->TakeSnapshot().chunks[0].chunk;
      Batch batch(3000, 50);  // 3 MiB: for several threads, which may not be had
      const auto sample = [&] {
        CHECK(
            store
                ->Sample(table.get(), kLayout.get(), 3000, 50, 50, batch.outputs.data(), batch.info)
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
    failed += Starved(k, 1, [&] { scene.store->TakeSnapshot(); });
    failed += Starved(k, 1, [&] {
      Store::Reader reader(scene.store);
      CHECK(reader.Select(scene.large.get(), kLayout.get(), nullptr, 0, 0).ok());
    });
    const std::uint64_t key = scene.store->table_state(*scene.odd).items.key[0];
    const double priority = 3.0;
    failed += Starved(
        k, 1, [&] { scene.store->UpdatePriorities(scene.large.get(), &key, &priority, 1); });
    CHECK_EQ(scene.Sizes(), before);
    scene.CheckAndEmpty(100);
  }
  CHECK(failed > 30);
}

TEST(ARestoreThatFailsLeaksNothing) {
  int failed = 0;
  Scene scene;
  for (std::uint64_t i = 0; i < 100; ++i) REQUIRE(Append(&scene.three, i).ok());
  const Snapshot snapshot = scene.store->TakeSnapshot();
  for (long k = 0;; ++k) {
    const auto store = std::make_shared<Store>(Store::Options{4096, 1});
    const auto table = store->CreateTable(TableConfig(1000));
    const bool starved = Starved(k, 1, [&] {
      for (const auto& ref : snapshot.chunks) {
        CHECK(store->RestoreChunk(kLayout, ref.chunk->id, ref.count) != nullptr);
      }
      for (const auto& ref : snapshot.chunks) {
        if (ref.next_id != 0) CHECK(store->LinkChunk(ref.chunk->id, ref.next_id).ok());
      }
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
