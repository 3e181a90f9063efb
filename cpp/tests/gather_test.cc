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
        steps.push_back(Row::Of(chunks.place(chunk->slot), i));
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
      CHECK(row.record == stream.steps[from + skip].record);
      CHECK_EQ(row.here, stream.steps[from + skip].here);
    }
  }
}

// The pieces of a window.
std::vector<Piece> Pieces(const Stream& stream, std::uint32_t start, std::uint32_t length) {
  std::vector<Piece> pieces;
  for (std::uint32_t t = start; t < start + length; ++t) {
    auto* const chunk = const_cast<Chunk*>(stream.steps[t].chunk);
    if (pieces.empty() || pieces.back().chunk != chunk) {
      pieces.push_back({chunk, stream.steps[t].offset, 0});
    }
    ++pieces.back().length;
  }
  return pieces;
}

TEST(AnyFieldOfPiecesIsGathered) {
  for (const auto& widths : {kWidths, std::vector<std::size_t>{8}}) {
    const Stream stream(widths, 100, 4, 6);
    for (std::uint32_t c = 0; c < widths.size(); ++c) {
      for (const std::uint32_t length : {0u, 1u, 2u, 17u}) {
        std::vector<std::uint8_t> output(length * widths[c] + 1, 0xa5);
        const auto pieces = Pieces(stream, 31, length);
        GatherPieces(pieces.data(), pieces.size(), c, output.data());
        CHECK_EQ(output.back(), 0xa5u);
        output.pop_back();
        CHECK_EQ(output, Expected(stream, {31}, length)[c]);
      }
    }
  }
}

TEST(TrajectoriesAreGatheredAmongRuns) {
  // Columns of unequal lengths, the last one squeezed: of trajectories alone.
  const Stream stream(kWidths, 3000, 7, 8);
  const std::vector<std::int64_t> uneven{2, 1, 5, 5, 9, 1, 3, BatchSpec::kSqueezed};
  for (const bool even : {true, false}) {
    const BatchSpec spec(stream.layout.get(), 5, even ? nullptr : uneven.data());
    const auto starts = Starts(2000, 2900, 4);  // 1.3 MiB and more: for two threads
    for (const std::uint32_t skip : {0u, 3u}) {
      Arena arena;
      std::vector<OwnTrajectory> trajectories;
      BatchRows rows;
      Columns columns, expected;
      std::vector<void*> outputs;
      for (std::size_t i = 0; i < starts.size(); ++i) {
        const std::uint32_t first = starts[i];
        if (even && i % 3 == 0) {
          rows.rows.push_back(stream.steps[first + skip]);
          continue;
        }
        std::vector<Piece> all;
        std::vector<Trajectory::Column> of_columns;
        for (std::uint32_t c = 0; c < kWidths.size(); ++c) {
          const auto cells = static_cast<std::uint32_t>(std::max<std::int64_t>(1, spec.length(c)));
          // Two stretches that meet, so that pieces of one chunk follow each other.
          auto pieces = Pieces(stream, first, 2);
          const auto more = Pieces(stream, first + 2, skip + cells - std::min(2u, skip + cells));
          if (skip + cells == 1) pieces = Pieces(stream, first, 1);
          pieces.insert(pieces.end(), more.begin(), more.end());
          all.insert(all.end(), pieces.begin(), pieces.end());
          of_columns.push_back(
              {static_cast<std::uint32_t>(pieces.size()), c << 1 | (spec.length(c) < 0 ? 1u : 0u)});
        }
        auto trajectory = Trajectory::New(&arena, 1, of_columns.size(), all.size());
        std::uninitialized_copy(all.begin(), all.end(), trajectory->pieces());
        std::uninitialized_copy(of_columns.begin(), of_columns.end(), trajectory->columns());
        rows.rows.push_back(
            {nullptr, nullptr, static_cast<std::uint32_t>(rows.trajectories.size()), 0});
        rows.trajectories.push_back({trajectory.get(), skip});
        trajectories.push_back(std::move(trajectory));
      }
      for (std::uint32_t c = 0; c < kWidths.size(); ++c) {
        const auto cells = static_cast<std::uint32_t>(std::max<std::int64_t>(1, spec.length(c)));
        std::vector<std::uint32_t> from = starts;
        for (std::uint32_t& start : from) start += skip;
        expected.push_back(Expected(stream, from, cells)[c]);
        columns.emplace_back(expected.back().size() + 16, std::uint8_t{0xa5});
        outputs.push_back(columns.back().data());
      }
      for (const int threads : {1, 4}) {
        Gather(spec, rows, outputs.data(), threads);
        for (std::size_t c = 0; c < kWidths.size(); ++c) {
          const std::vector<std::uint8_t> guard(columns[c].end() - 16, columns[c].end());
          CHECK_EQ(guard, std::vector<std::uint8_t>(16, 0xa5));
          CHECK(std::equal(expected[c].begin(), expected[c].end(), columns[c].begin()));
          // A byte of another step would be seen.
          if (!expected[c].empty()) {
            expected[c][7] ^= 1;
            CHECK(!std::equal(expected[c].begin(), expected[c].end(), columns[c].begin()));
            expected[c][7] ^= 1;
          }
        }
        for (auto& column : columns) std::fill(column.begin(), column.end(), 0xa5);
      }
    }
  }
}

TEST(EqualLengthsOfColumnsAreMereSteps) {
  const Stream stream({4, 8}, 10, 4, 6);
  const std::vector<std::int64_t> even{3, 3}, uneven{3, 2}, squeezed{-1, -1};
  CHECK_EQ(BatchSpec(stream.layout.get(), 1, even.data()).steps, 3u);
  CHECK(BatchSpec(stream.layout.get(), 1, even.data()).lengths == nullptr);
  CHECK_EQ(BatchSpec(stream.layout.get(), 1, uneven.data()).length(1), 2);
  CHECK_EQ(BatchSpec(stream.layout.get(), 1, squeezed.data()).length(1), -1);
}

TEST(TheCheckSeesTheNeighbouringStep) {
  const Stream stream(kWidths, 50, 4, 7);
  CHECK(Gathered(stream, {10, 20}, 3, 1) != Expected(stream, {10, 21}, 3));
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
