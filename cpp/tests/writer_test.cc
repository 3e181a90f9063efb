#include "writers/writer.h"

#include <algorithm>

#include "saved.h"
#include "writer_scene.h"

namespace reverie_test {
namespace {

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
    REQUIRE(Append(&writer, i, i % 4 == 3 ? How::kEnded : How::kGoesOn).ok());
    CHECK(store->info().num_chunks <= 3);
  }
  CHECK_EQ(store->table_info(*table).counters.inserts, 0);
}

// A stream's first chunk has 64 bytes, and each next one at most twice as many, up to a
// kilobyte or a sixteenth of what is stored, shared by all open streams; but no more than the
// store's chunks may have.
TEST(ChunksGrowWithTheStreamAndTheStore) {
  constexpr std::size_t kChunk = std::size_t{1} << 13;
  for (const std::uint32_t num_streams : {1u, 7u}) {
    const auto store = std::make_shared<Store>(Store::Options{kChunk, 1});
    const auto table = store->CreateTable(TableConfig(1000000));
    Writer::Config config = WriterConfig(2, 1);
    config.num_streams = num_streams;
    Writer writer(store, kLayout, {table}, config);
    const ChunkStore& chunks = store->Lock().chunks();  // of one thread
    std::vector<std::size_t> before(num_streams);       // the stream's last chunk
    std::vector<std::uint32_t> left(num_streams);       // free places in it
    std::uint64_t stored = 0;
    std::size_t largest = 0;
    for (std::uint64_t i = 0; i < 20000u * num_streams; ++i) {
      const std::uint32_t stream = static_cast<std::uint32_t>(i % num_streams);
      const std::uint64_t id = chunks.last_id();
      REQUIRE(
          writer.AppendBatch(Step(i).columns().data(), &stream, 1, nullptr, nullptr, nullptr).ok());
      if (chunks.last_id() != id) {
        CHECK_EQ(left[stream], 0u);  // not before the last one was full
        const Chunk* const chunk = chunks.at(chunks.num_slots() - 1);
        CHECK_EQ(chunk->id, id + 1);
        const std::size_t nbytes = chunk->capacity * kStepNbytes;
        const std::size_t share = std::max<std::size_t>(1024, stored / (16 * num_streams));
        CHECK(nbytes <= std::min(kChunk, share));
        if (before[stream] == 0) CHECK_EQ(chunk->capacity, 64 / kStepNbytes);
        // It is no smaller than it may be, but for the rounding to few sizes and records.
        if (before[stream] != 0) {
          CHECK(nbytes <= 2 * before[stream] + 2 * kStepNbytes);
          const std::size_t least = std::min({2 * before[stream], kChunk, share / 4});
          CHECK(nbytes + kStepNbytes >= least);
        }
        before[stream] = nbytes;
        left[stream] = chunk->capacity;
        largest = std::max(largest, nbytes);
      }
      --left[stream];
      stored += kStepNbytes;
    }
    const Store::Info info = store->info();
    CHECK_EQ(info.record_nbytes, stored);  // all of them are held
    CHECK(info.allocated_nbytes <= stored + std::max(1024u * num_streams, unsigned(stored / 16)));
    CHECK_EQ(largest, kChunk / kStepNbytes * kStepNbytes);
  }
}

TEST(AClosedWriterLeavesASealedChunkAndMayStartANewStream) {
  const auto store = std::make_shared<Store>(Store::Options{4096, 1});
  const auto table = store->CreateTable(TableConfig(100));
  Writer writer(store, kLayout, {table}, WriterConfig(2, 1, Padding::kTile));
  REQUIRE(Append(&writer, 0).ok());
  REQUIRE(Append(&writer, 1).ok());
  CHECK(!Arranged(store)->chunks.sealed[0]);
  writer.Close();
  writer.Close();
  CHECK_EQ(writer.num_cached(), 0u);
  CHECK(Arranged(store)->chunks.sealed[0]);
  REQUIRE(Append(&writer, 2).ok());
  REQUIRE(Append(&writer, 3).ok());
  CHECK_EQ(Arranged(store)->num_chunks(), 2u);
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

}  // namespace
}  // namespace reverie_test

TEST_MAIN
