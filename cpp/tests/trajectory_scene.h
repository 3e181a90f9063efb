#ifndef REVERIE_TESTS_TRAJECTORY_SCENE_H_
#define REVERIE_TESTS_TRAJECTORY_SCENE_H_

// A trajectory writer whose cells tell which they are.

#include <cstdint>
#include <memory>
#include <vector>

#include "check.h"
#include "writers/trajectory_writer.h"

namespace reverie_test {

using Cell = TrajectoryWriter::Cell;
using Run = TrajectoryWriter::Run;
using Output = TrajectoryWriter::OutputColumn;
using Bytes = std::vector<std::uint8_t>;

inline Bytes Value(std::uint32_t column, std::uint64_t number, std::size_t nbytes) {
  Bytes value(nbytes);
  Rng rng(1000 * number + column);
  for (auto& byte : value) byte = static_cast<std::uint8_t>(rng.Next());
  return value;
}

constexpr std::size_t kNbytes[] = {4, 12, 0};  // of columns 0 to 2; 3 has cells of any size

inline std::size_t CellNbytes(std::uint32_t column, std::uint64_t number) {
  return column < 3 ? kNbytes[column] : number % 9;
}

// A store, a table, a writer of four columns, and how many cells each has had.
struct Scene {
  std::shared_ptr<Store> store;
  std::shared_ptr<Table> table;
  std::unique_ptr<TrajectoryWriter> writer;
  std::uint64_t next[4] = {};

  explicit Scene(const Table::Config& config = TableConfig(1000), std::uint64_t keep = 20) {
    store = std::make_shared<Store>(Store::Options{64, 1});
    table = store->CreateTable(config);
    writer = std::make_unique<TrajectoryWriter>(store);
    for (const std::size_t nbytes : kNbytes) {
      writer->AddColumn(
          std::make_shared<RecordLayout>(std::vector{nbytes},
                                         std::vector{static_cast<std::uint32_t>(nbytes + 1)}),
          keep);
    }
    writer->AddColumn(nullptr, keep);
  }

  // Appends a cell to each column of the mask.
  Status Append(unsigned mask = 15) {
    Bytes values[4];
    Cell cells[4];
    static const std::uint8_t nothing = 0;
    for (std::uint32_t c = 0; c < 4; ++c) {
      if ((mask >> c & 1) == 0) continue;
      values[c] = Value(c, next[c], CellNbytes(c, next[c]));
      cells[c] = {values[c].empty() ? &nothing : values[c].data(), values[c].size()};
    }
    const Status status = writer->Append(cells, 4);
    for (std::uint32_t c = 0; status.ok() && c < 4; ++c) next[c] += mask >> c & 1;
    return status;
  }

  Status Item(const std::vector<Run>& runs, const std::vector<Output>& columns,
              bool* inserted = nullptr, double priority = 1.0) {
    bool ignored;
    return writer->CreateItem(table.get(), priority, runs.data(), runs.size(), columns.data(),
                              columns.size(), inserted == nullptr ? &ignored : inserted);
  }
  // An item over the latest cell of column 0.
  Status Latest(bool* inserted = nullptr, double priority = 1.0) {
    return Item({{0, next[0] - 1, 1}}, {{1, true}}, inserted, priority);
  }
};

// The bytes of each output column.
inline std::vector<Bytes> Columns(const Trajectory& trajectory) {
  std::vector<Bytes> columns;
  std::size_t piece = 0;
  for (std::size_t c = 0; c < trajectory.num_columns; ++c) {
    const Trajectory::Column& column = trajectory.columns()[c];
    std::size_t nbytes = 0;
    for (std::size_t i = 0; i < column.num_pieces; ++i) {
      const Piece& p = trajectory.pieces()[piece + i];
      nbytes += p.length * p.chunk->layout->record_nbytes();
    }
    columns.emplace_back(nbytes);
    GatherPieces(trajectory.pieces() + piece, column.num_pieces, column.field(),
                 columns.back().data());
    piece += column.num_pieces;
  }
  return columns;
}

inline std::vector<Bytes> Expected(const std::vector<Run>& runs,
                                   const std::vector<Output>& columns) {
  std::vector<Bytes> expected;
  std::size_t r = 0;
  for (const Output& column : columns) {
    Bytes all;
    for (const std::size_t end = r + column.num_runs; r < end; ++r) {
      for (std::uint32_t i = 0; i < runs[r].length; ++i) {
        const std::uint64_t number = runs[r].start + i;
        const Bytes value = Value(runs[r].column, number, CellNbytes(runs[r].column, number));
        all.insert(all.end(), value.begin(), value.end());
      }
    }
    expected.push_back(all);
  }
  return expected;
}

inline Table::Config QueueConfig(std::uint32_t size) {
  Table::Config config = TableConfig(size, SelectorKind::kFifo);
  config.limiter = {1, 1.0, 0.0, static_cast<double>(size)};
  config.max_times_sampled = 1;
  return config;
}

}  // namespace reverie_test

#endif  // REVERIE_TESTS_TRAJECTORY_SCENE_H_
