#include "gather.h"

#include <algorithm>
#include <cstring>

#include "check.h"

namespace reverie_test {
namespace {

const std::vector<std::size_t> kWidths{1, 2, 3, 4, 8, 16, 97, 0};

// A stream of records of random bytes over chunks of random capacities.
struct Stream {
  std::shared_ptr<const RecordLayout> layout;
  ChunkStore chunks;
  std::vector<Row> steps;  // where each step lies
  std::vector<std::vector<std::uint8_t>> records;

  Stream(const std::vector<std::size_t>& widths, std::uint32_t num_steps,
         std::uint32_t max_capacity, std::uint64_t seed)
      : layout(std::make_shared<RecordLayout>(widths)) {
    Rng rng(seed);
    Chunk* last = nullptr;
    while (steps.size() < num_steps) {
      Chunk* chunk = chunks.Create(layout, 1 + rng.Below(max_capacity));
      if (last != nullptr) last->next = chunk;
      last = chunk;
      for (std::uint32_t i = 0; i < chunk->capacity; ++i) {
        std::vector<std::uint8_t> record(layout->record_nbytes());
        for (auto& byte : record) byte = static_cast<std::uint8_t>(rng.Next());
        std::copy(record.begin(), record.end(), chunk->record(i));
        steps.push_back({chunk, i});
        records.push_back(std::move(record));
      }
    }
  }
};

using Columns = std::vector<std::vector<std::uint8_t>>;

// The same batch, byte by byte.
Columns Expected(const Stream& stream, const std::vector<std::uint32_t>& starts,
                 std::uint32_t steps) {
  Columns columns;
  for (const auto& column : stream.layout->columns()) {
    std::vector<std::uint8_t> bytes;
    for (const std::uint32_t start : starts) {
      for (std::uint32_t t = start; t < start + steps; ++t) {
        for (std::size_t b = 0; b < column.nbytes; ++b) {
          bytes.push_back(stream.records[t][column.offset + b]);
        }
      }
    }
    columns.push_back(std::move(bytes));
  }
  return columns;
}

// With 16 bytes after each output that must not be touched.
Columns Gathered(const Stream& stream, const std::vector<std::uint32_t>& starts,
                 std::uint32_t steps, int max_threads) {
  std::vector<Row> rows;
  for (const std::uint32_t start : starts) rows.push_back(stream.steps[start]);
  Columns columns;
  std::vector<void*> outputs;
  for (const auto& column : stream.layout->columns()) {
    columns.emplace_back(starts.size() * steps * column.nbytes + 16, std::uint8_t{0xa5});
    outputs.push_back(columns.back().data());
  }
  Gather(*stream.layout, rows.data(), rows.size(), steps, outputs.data(), max_threads);
  for (auto& column : columns) {
    const std::vector<std::uint8_t> guard(column.end() - 16, column.end());
    CHECK_EQ(guard, std::vector<std::uint8_t>(16, 0xa5));
    column.resize(column.size() - 16);
  }
  return columns;
}

std::vector<std::uint32_t> Starts(std::size_t n, std::uint32_t below, std::uint64_t seed) {
  Rng rng(seed);
  std::vector<std::uint32_t> starts(n);
  for (auto& start : starts) start = rng.Below(below);
  return starts;
}

TEST(ColumnsOfAnyWidthComeWholeAcrossSeams) {
  for (const std::uint32_t max_capacity : {1u, 3u, 50u}) {
    const Stream stream(kWidths, 200, max_capacity, max_capacity);
    for (const std::uint32_t steps : {1u, 2u, 5u, 40u}) {
      for (const std::size_t n : {0u, 1u, 7u, 33u}) {
        const auto starts = Starts(n, 150, steps);
        CHECK(Gathered(stream, starts, steps, 1) == Expected(stream, starts, steps));
      }
    }
  }
}

TEST(SeveralThreadsGatherWhatOneDoes) {
  const Stream stream(kWidths, 500, 64, 9);
  for (const std::size_t n : {5000u, 5003u}) {  // 5 MiB: enough for all threads
    const auto starts = Starts(n, 490, 3);
    const Columns one = Gathered(stream, starts, 8, 1);
    for (const int threads : {-1, 0, 2, 3, 4, 7}) {
      CHECK(Gathered(stream, starts, 8, threads) == one);
    }
  }
}

TEST(FewRowsOfManyStepsMayHaveFewerThreadsThanAllowed) {
  const Stream stream({97}, 40000, 64, 9);
  const std::vector<std::uint32_t> starts{0, 5};  // 7 MiB in two rows
  CHECK(Gathered(stream, starts, 39000, 8) == Expected(stream, starts, 39000));
}

TEST(AdvanceRowGoesToTheStepAfter) {
  const Stream stream({4}, 100, 4, 5);
  for (std::uint32_t from = 0; from < 50; ++from) {
    for (std::uint32_t skip = 0; skip < 50; ++skip) {
      Row row = stream.steps[from];
      AdvanceRow(&row, skip);
      CHECK(row.chunk == stream.steps[from + skip].chunk);
      CHECK_EQ(row.offset, stream.steps[from + skip].offset);
    }
  }
}

TEST(OneColumnOfPartOfAWindowIsGathered) {
  const Stream stream(kWidths, 100, 4, 6);
  for (std::size_t c = 0; c < kWidths.size(); ++c) {
    for (const std::uint32_t start : {0u, 1u, 9u}) {
      for (const std::uint32_t length : {0u, 1u, 2u, 17u}) {
        std::vector<std::uint8_t> output(length * kWidths[c] + 1);
        GatherColumn(*stream.layout, c, stream.steps[30], start, length, output.data());
        output.pop_back();
        CHECK_EQ(output, Expected(stream, {30 + start}, length)[c]);
      }
    }
  }
}

TEST(AnEmptyPartAtTheEndOfTheStreamReadsNothing) {
  const Stream stream({8}, 10, 4, 6);
  const std::size_t last = stream.steps.size() - 1;
  std::uint64_t output = 1;
  GatherColumn(*stream.layout, 0, stream.steps[last], 1, 0, &output);
  CHECK_EQ(output, 1u);
}

TEST(TheCheckSeesTheNeighbouringStep) {
  const Stream stream(kWidths, 50, 4, 7);
  CHECK(Gathered(stream, {10, 20}, 3, 1) != Expected(stream, {10, 21}, 3));
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
