// Tables filled from what was saved, and from what was damaged.

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <set>

#include "table_scene.h"

namespace reverie_test {
namespace {

// Four items over ten steps.
TableState GoodState() {
  Stream stream(12);
  Table table(TableConfig(10), &stream.chunks);
  for (std::size_t i = 0; i < 4; ++i) stream.Insert(&table, 2 * i, 4);
  return stream.Save(&table);
}

TEST(WithoutKeysFreshOnesAreIssued) {
  Stream stream(12);
  TableState state = GoodState();
  state.items.key.clear();
  state.free_keys.clear();
  Table table(TableConfig(10), &stream.chunks);
  REQUIRE(Restore(&stream, &table, state, ChunksByRow(&stream, state)).ok());
  const TableState saved = stream.Save(&table);
  CHECK_EQ(std::set<std::uint64_t>(saved.items.key.begin(), saved.items.key.end()).size(), 4u);
  CHECK_EQ(saved.items.offset, state.items.offset);
}

TEST(AnEmptiedTableDoesNotIssueItsOldKeysAfterRestore) {
  Stream stream(12);
  Table table(TableConfig(10), &stream.chunks);
  for (std::size_t i = 0; i < 4; ++i) stream.Insert(&table, i, 2);
  const auto old = stream.Save(&table).items.key;
  Garbage garbage;
  Clear(&table, &garbage);
  Table restored(TableConfig(10), &stream.chunks);
  REQUIRE(Restore(&stream, &restored, stream.Save(&table), {}).ok());
  for (std::size_t i = 0; i < 6; ++i) stream.Insert(&restored, i, 2);
  for (const std::uint64_t key : stream.Save(&restored).items.key) {
    CHECK(std::find(old.begin(), old.end(), key) == old.end());
  }
}

TEST(EveryBrokenStateIsRefusedAndItsRowIsNamed) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  struct Case {
    const char* what;
    std::int64_t index;
    std::function<void(TableState*)> breaks;
  };
  const Case cases[] = {
      {"", 0, [](TableState*) {}},
      {"more items than max_size", -1,
       [](TableState* s) {
         s->items.key.assign(11, 0);
         s->items.offset.assign(11, 0);
       }},
      {"key malformed or used twice", 2, [](TableState* s) { s->items.key[2] = s->items.key[1]; }},
      {"key malformed or used twice", 4, [](TableState* s) { s->free_keys = {0}; }},
      {"first_generation out of range", -1, [](TableState* s) { s->first_generation = 3; }},
      {"first_generation out of range", -1,
       [](TableState* s) { s->first_generation = 0xfffffffeu; }},
      {"", 0, [](TableState* s) { s->first_generation = 0xfffffffcu; }},
      {"too many holes", 0, [](TableState* s) { s->holes = {1}; }},
      {"too many holes", 1,
       [](TableState* s) {
         s->holes.assign(20, 0xff);
         s->holes[0] = 0xfe;
       }},
      {"hole behind the last item", -1, [](TableState* s) { s->holes = {0x86}; }},
      {"hole behind the last item", -1, [](TableState* s) { s->holes = {0, 0, 1}; }},
      {"", 0, [](TableState* s) { s->holes = {0x16, 0}; }},
      {"chunk unknown", 3, [](TableState* s) { s->items.chunk_id[3] = 0; }},
      {"length is 0", 2, [](TableState* s) { s->items.length[2] = 0; }},
      {"offset past its chunk", 0, [](TableState* s) { s->items.offset[0] = 4; }},
      {"offset past its chunk", 0, [](TableState* s) { s->items.offset[0] = 0xffffffffu; }},
      {"priority out of range", 1, [](TableState* s) { s->items.priority[1] = -0.5; }},
      {"priority out of range", 1, [](TableState* s) { s->items.priority[1] = std::nan(""); }},
      {"priority out of range", 1, [](TableState* s) { s->items.priority[1] = kInf; }},
      {"times_sampled below 0", 2, [](TableState* s) { s->items.times_sampled[2] = -1; }},
      {"window past the end of its chunks", 3, [](TableState* s) { s->items.length[3] = 7; }},
      {"window past the end of its chunks", 3,
       [](TableState* s) { s->items.length[3] = 0xffffffffu; }},
      {"window past the end of its chunks", 2,  // into a chunk of another layout
       [](TableState* s) {
         s->items.chunk_id[2] = 3;
         s->items.length[2] = 5;
       }},
      {"counter out of range", -1, [](TableState* s) { s->counters.samples = -1; }},
      {"counter out of range", -1,
       [](TableState* s) { s->counters.inserts = std::numeric_limits<std::int64_t>::max(); }},
      {"RNG state is all zeros", -1, [](TableState* s) { s->rng = {0, 0, 0, 0}; }},
  };
  for (const Case& c : cases) {
    Stream stream(12);
    Chunk* foreign = stream.chunks.Create(StepLayout(), 4);
    stream.all.back()->next = foreign;
    TableState state = GoodState();
    c.breaks(&state);
    std::vector<Chunk*> rows;
    for (const std::uint64_t id : state.items.chunk_id) {
      rows.push_back(id == 0 ? nullptr : stream.all[id - 1]);
    }
    Table table(TableConfig(10, SelectorKind::kPrioritized), &stream.chunks);
    const Status status = Restore(&stream, &table, state, rows);
    CHECK_EQ(std::string(status.what), std::string(c.what));
    CHECK_EQ(status.code, *c.what == '\0' ? Code::kOk : Code::kInvalid);
    if (!status.ok()) CHECK_EQ(status.found, c.index);
  }
  // A run of cells of any size, which none but a damaged state has.
  Stream cells(12);
  const auto any_size = std::make_shared<RecordLayout>(std::vector<std::size_t>{kStepNbytes});
  for (Chunk* chunk : cells.all) chunk->layout = any_size;
  const TableState good = GoodState();
  Table refusing(TableConfig(10), &cells.chunks);
  CHECK_EQ(std::string(Restore(&cells, &refusing, good, ChunksByRow(&cells, good)).what),
           std::string("run of cells of any size"));
  Stream stream(12);
  Table heap(TableConfig(10, SelectorKind::kMinHeap), &stream.chunks);
  TableState negative = GoodState();
  negative.items.priority[1] = -kInf;  // which no weight can be
  CHECK(Restore(&stream, &heap, negative, ChunksByRow(&stream, negative)).ok());
  Table used(TableConfig(10), &stream.chunks);
  stream.Insert(&used, 0, 2);
  CHECK_EQ(std::string(Restore(&stream, &used, GoodState(), {}).what),
           std::string("table not fresh"));
}

// What a walk over its chunks finds.
std::uint32_t Walked(const Chunk* chunk, std::uint32_t offset, std::uint32_t length) {
  std::uint32_t touched = 1;
  const RecordLayout* const layout = chunk->layout.get();
  for (std::uint32_t here = chunk->count - offset; length > here; here = chunk->count, ++touched) {
    length -= here;
    chunk = chunk->next;
    if (chunk == nullptr || chunk->layout.get() != layout) return 0;
  }
  return touched;
}

TEST(HowFarAWindowReachesIsFoundAsByAWalk) {
  const std::shared_ptr<const RecordLayout> layouts[] = {StepLayout(), StepLayout()};
  Rng rng(7);
  for (int round = 0; round < 200; ++round) {
    Stream stream(0);
    std::unordered_map<std::uint64_t, Chunk*> all;
    std::vector<Chunk*> chunks;
    std::uint32_t records = 0;
    const std::uint32_t num_chunks = 1 + rng.Below(20);
    while (chunks.size() < num_chunks) {
      const std::uint32_t count = 1 + rng.Below(5);
      Chunk* const chunk = stream.chunks.Create(layouts[rng.Below(8) == 0], count);
      stream.chunks.Publish(chunk, count);
      records += count;
      chunks.push_back(chunk);
      all[chunk->id] = chunk;
    }
    std::size_t last = 0;
    for (std::size_t i = 0; i + 1 < chunks.size(); ++i) {  // each is followed, and follows, once
      if (rng.Below(6) == 0) continue;
      last = std::max(last + 1, i + 1 + rng.Below(3));
      if (last < chunks.size()) chunks[i]->next = chunks[last];
    }
    const RestoredStreams streams(all);
    for (Chunk* const chunk : chunks) {
      for (std::uint32_t offset = 0; offset < chunk->count; ++offset) {
        for (std::uint32_t length = 1; length <= records + 1; ++length) {
          CHECK_EQ(streams.Touched(*chunk, offset, length), Walked(chunk, offset, length));
        }
        CHECK_EQ(streams.Touched(*chunk, offset, 0xffffffffu), 0u);
      }
    }
    for (Chunk* const chunk : chunks) chunk->next = nullptr;
  }
}

TEST(ReferencesAreCountedBeforeTheyAreTaken) {
  Stream stream(12);
  TableState state = GoodState();  // windows of 4 from the steps 0, 2, 4, 6 on: 1 + 2 + 1 + 2
  for (const std::uint64_t allowed : {6u, 5u, 0u}) {
    Table table(TableConfig(10), &stream.chunks);
    const Status status = Restore(&stream, &table, state, ChunksByRow(&stream, state), allowed);
    CHECK_EQ(status.code, allowed == 6 ? Code::kOk : Code::kTooMany);
    CHECK_EQ(table.size(), allowed == 6 ? 4u : 0u);
  }
}

TEST(ASlotThatBeginsWithTheLastGenerationIsUsedOnce) {
  Stream stream(12);
  TableState state = GoodState();
  state.first_generation = ItemStore::kLastFirst;
  Table table(TableConfig(5), &stream.chunks);
  REQUIRE(Restore(&stream, &table, state, ChunksByRow(&stream, state)).ok());
  std::set<std::uint64_t> keys(state.items.key.begin(), state.items.key.end());
  for (std::size_t i = 0; i < 40; ++i) {
    stream.Insert(&table, i % 8, 2);
    CHECK(keys.insert(stream.Save(&table).items.key.back()).second);
  }
  CHECK_EQ(table.size(), 5u);
}

TEST(HolesComeBackWhereTheyWere) {
  Stream stream(100);
  Table table(TableConfig(200, SelectorKind::kUniform, SelectorKind::kUniform), &stream.chunks);
  for (std::size_t i = 0; i < 90; ++i) stream.Insert(&table, i, 4);
  const auto keys = stream.Save(&table).items.key;
  Garbage garbage;
  for (std::size_t i = 1; i < 89; i += 3) table.Delete(&keys[i], 1, &garbage);
  const TableState state = stream.Save(&table);
  CHECK_EQ(state.holes.size(), 12u);
  Table restored(table.config(), &stream.chunks);
  REQUIRE(Restore(&stream, &restored, state, ChunksByRow(&stream, state)).ok());
  CHECK(Same(stream.Save(&restored), state));
  TableState closed = state;  // without them other items are drawn
  closed.holes.clear();
  Table other(table.config(), &stream.chunks);
  REQUIRE(Restore(&stream, &other, closed, ChunksByRow(&stream, state)).ok());
  Batch batches[3] = {{50, 1}, {50, 1}, {50, 1}};
  BatchRows rows;
  REQUIRE(stream.Sample(&table, &batches[0], &rows, 4).ok());
  REQUIRE(stream.Sample(&restored, &batches[1], &rows, 4).ok());
  REQUIRE(stream.Sample(&other, &batches[2], &rows, 4).ok());
  CHECK_EQ(batches[0].key, batches[1].key);
  CHECK(batches[0].key != batches[2].key);
  // Where more than half of what comes is holes, they are closed as ever.
  for (Table* of : {&table, &restored}) {
    for (std::size_t i = 0; i < 88; i += 3) of->Delete(&keys[i], 1, &garbage);
  }
  CHECK(Same(stream.Save(&table), stream.Save(&restored)));
  CHECK(stream.Save(&table).holes.size() < 12);
}

TEST(TimesSampledStopsAtItsLargestValue) {
  Stream stream(12);
  TableState state = GoodState();
  constexpr std::int32_t kMost = std::numeric_limits<std::int32_t>::max();
  state.items.times_sampled[0] = kMost - 1;
  Table table(TableConfig(10, SelectorKind::kFifo), &stream.chunks);
  REQUIRE(Restore(&stream, &table, state, ChunksByRow(&stream, state)).ok());
  Batch batch(3, 1);
  BatchRows rows;
  REQUIRE(stream.Sample(&table, &batch, &rows, 4).ok());
  CHECK_EQ(batch.times_sampled, std::vector<std::int32_t>(3, kMost));
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
