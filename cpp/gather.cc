#include "gather.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <thread>
#include <vector>

#include "copy_bytes.h"
#include "outer_lock.h"
#include "prefetch.h"
#include "stop.h"

namespace reverie {
namespace {

constexpr std::size_t kLine = 64;
constexpr std::size_t kRowsAhead = 32;
// Beyond this many lines the hardware's own prefetcher has caught the stream.
constexpr std::size_t kLinesAhead = 16;
// A thread costs some 20 us to start; below this it would not pay.
constexpr std::size_t kBytesPerThread = std::size_t{1} << 20;
// Copied between two looks at the clock.
constexpr std::size_t kBytesPerTick = std::size_t{1} << 18;
constexpr std::size_t kRowsPerTick = 1024;

struct Target {
  std::uint8_t* to;  // where this column's next value goes
  std::size_t offset;
  std::size_t nbytes;
};

void GatherRange(const RecordLayout& layout, const Row* rows, std::size_t begin, std::size_t end,
                 std::uint32_t steps, Target* targets) {
  Target* const targets_end = targets + layout.columns().size();
  const std::size_t record_nbytes = layout.record_nbytes();
  const std::size_t window_nbytes = std::min(kLinesAhead * kLine, record_nbytes * steps);
  const auto prefetch = [&](const Row& row) {
    const std::uint8_t* record = row.record;
    // From the line that holds the first byte to the one that holds the last.
    const std::size_t before = reinterpret_cast<std::uintptr_t>(record) % kLine;
    for (std::size_t at = 0; at < before + window_nbytes; at += kLine)
      Prefetch(record - before + at);
  };
  for (std::size_t i = begin; i < std::min(begin + kRowsAhead, end); ++i) prefetch(rows[i]);
  const std::size_t rows_per_tick = std::clamp<std::size_t>(
      kBytesPerTick / (std::max<std::size_t>(record_nbytes, 1) * std::max(steps, 1u)), 1,
      kRowsPerTick);
  std::size_t next_tick = begin + rows_per_tick;
  for (std::size_t i = begin; i < end; ++i) {
    if (i == next_tick) {
      OuterLock::Tick();
      if (Stop::Asked()) return;
      next_tick += rows_per_tick;
    }
    if (i + kRowsAhead < end) prefetch(rows[i + kRowsAhead]);
    Row row = rows[i];
    for (std::uint32_t left = steps; left != 0;) {
      const std::uint32_t run = std::min(left, row.here);
      const std::uint8_t* record = row.record;
      for (std::uint32_t t = 0; t < run; ++t, record += record_nbytes) {
        for (Target* target = targets; target != targets_end; ++target) {
          CopyBytes(target->to, record + target->offset, target->nbytes);
          target->to += target->nbytes;
        }
      }
      left -= run;
      if (left == 0) break;
      if (Stop::Asked()) return;
      row = Row::After(row);
    }
  }
}

// Copies one field of a piece; returns where the next cell goes.
std::uint8_t* CopyField(const Piece& piece, std::uint32_t field, std::uint8_t* to) {
  const RecordLayout& layout = *piece.chunk->layout;
  const RecordLayout::Column& column = layout.columns()[field];
  const std::size_t nbytes = piece.length * column.nbytes;
  if (nbytes == 0) return to;
  const std::uint8_t* from = piece.chunk->record(piece.offset) + column.offset;
  if (column.nbytes == layout.record_nbytes()) {
    std::memcpy(to, from, nbytes);
    return to + nbytes;
  }
  for (std::uint32_t t = 0; t < piece.length; ++t, from += layout.record_nbytes()) {
    CopyBytes(to, from, column.nbytes);
    to += column.nbytes;
  }
  return to;
}

// Copies a batch's row `index`, a trajectory, to its place in the outputs.
void GatherTrajectory(const BatchSpec& spec, const BatchRows::OfTrajectory& row, std::size_t index,
                      void* const* outputs) {
  const Piece* pieces = row.trajectory->pieces();
  for (std::size_t c = 0; c < row.trajectory->num_columns; ++c) {
    const Trajectory::Column& column = row.trajectory->columns()[c];
    auto left = static_cast<std::uint32_t>(std::max<std::int64_t>(1, spec.length(c)));
    auto* to =
        static_cast<std::uint8_t*>(outputs[c]) + index * left * spec.layout->columns()[c].nbytes;
    std::uint32_t skip = row.skip;
    for (std::uint32_t p = 0; p < column.num_pieces && left != 0; ++p) {
      Piece part = pieces[p];
      const std::uint32_t skipped = std::min(skip, part.length);
      skip -= skipped;
      part.offset += skipped;
      part.length = std::min(part.length - skipped, left);
      left -= part.length;
      to = CopyField(part, column.field(), to);
    }
    pieces += column.num_pieces;
  }
}

// How many threads are worth their while.
std::size_t NumParts(std::size_t num_rows, std::size_t nbytes, int max_threads) {
  return std::min<std::size_t>({static_cast<std::size_t>(std::max(1, max_threads)),
                                1 + nbytes / kBytesPerThread, std::max<std::size_t>(num_rows, 1)});
}

// Calls run(part, first row, last row) for all parts of the rows, in a thread each. It
// must not throw. Throws std::bad_alloc before anything runs; for want of a thread the
// caller's does the rest.
template <typename Run>
void InParts(std::size_t parts, std::size_t num_rows, const Run& run) {
  std::vector<std::thread> threads;
  threads.reserve(parts - 1);  // no thread may be left behind
  std::size_t part = 0;
  for (; part + 1 < parts; ++part) {
    const std::size_t first = num_rows * part / parts;
    const std::size_t last = num_rows * (part + 1) / parts;
    try {
      threads.emplace_back([&run, part, first, last, stop = Stop::current()] {
        const Stop::Scope scope(stop);
        run(part, first, last);
      });
    } catch (const std::exception&) {
      break;
    }
  }
  run(part, num_rows * part / parts, num_rows);
  if (!threads.empty()) OuterLock::Tick();
  for (auto& thread : threads) thread.join();
}

}  // namespace

BatchSpec::BatchSpec(const RecordLayout* records, std::uint32_t num_steps,
                     const std::int64_t* of_columns)
    : layout(records), steps(num_steps) {
  const std::size_t n = layout->columns().size();
  if (of_columns == nullptr || n == 0) return;
  if (of_columns[0] > 0 &&
      std::count(of_columns, of_columns + n, of_columns[0]) == static_cast<std::ptrdiff_t>(n)) {
    steps = static_cast<std::uint32_t>(of_columns[0]);
  } else {
    lengths = of_columns;
  }
}

void AdvanceRow(Row* row, std::uint32_t skip) {
  while (skip >= row->here) {
    skip -= row->here;
    *row = Row::After(*row);
  }
  row->record += skip * row->chunk->layout->record_nbytes();
  row->offset += skip;
  row->here -= skip;
}

void Gather(const RecordLayout& layout, const Row* rows, std::size_t num_rows, std::uint32_t steps,
            void* const* outputs, int max_threads) {
  const std::size_t nbytes = num_rows * steps * layout.record_nbytes();
  if (nbytes >= OuterLock::kLongNbytes) OuterLock::LetGo();
  const std::size_t parts = NumParts(num_rows, nbytes, max_threads);
  // All memory is taken before the first thread starts.
  const auto& columns = layout.columns();
  std::vector<Target> targets;
  targets.reserve(parts * columns.size());
  for (std::size_t part = 0; part < parts; ++part) {
    const std::size_t first = num_rows * part / parts * steps;
    for (std::size_t c = 0; c < columns.size(); ++c) {
      auto* to = static_cast<std::uint8_t*>(outputs[c]) + first * columns[c].nbytes;
      targets.push_back({to, columns[c].offset, columns[c].nbytes});
    }
  }
  InParts(parts, num_rows, [&](std::size_t part, std::size_t first, std::size_t last) {
    GatherRange(layout, rows, first, last, steps, targets.data() + part * columns.size());
  });
}

void Gather(const BatchSpec& spec, const BatchRows& batch, void* const* outputs, int max_threads) {
  if (batch.trajectories.empty()) {
    Gather(*spec.layout, batch.rows.data(), batch.rows.size(), spec.steps, outputs, max_threads);
    return;
  }
  const auto& columns = spec.layout->columns();
  std::size_t row_nbytes = 0;
  for (std::size_t c = 0; c < columns.size(); ++c) {
    const auto cells = static_cast<std::size_t>(std::max<std::int64_t>(1, spec.length(c)));
    row_nbytes += cells * columns[c].nbytes;
  }
  const std::size_t n = batch.rows.size();
  if (n * row_nbytes >= OuterLock::kLongNbytes) OuterLock::LetGo();
  const std::size_t parts = NumParts(n, n * row_nbytes, max_threads);
  std::vector<Target> targets(parts * columns.size());
  InParts(parts, n, [&](std::size_t part, std::size_t first, std::size_t last) {
    Target* const to = targets.data() + part * columns.size();
    for (std::size_t i = first; i < last; ++i) {
      if (i % kRowsPerTick == 0 || row_nbytes >= kBytesPerTick) {
        OuterLock::Tick();
        if (Stop::Asked()) return;
      }
      const Row& row = batch.rows[i];
      if (row.chunk == nullptr) {
        GatherTrajectory(spec, batch.trajectories[row.offset], i, outputs);
        continue;
      }
      for (std::size_t c = 0; c < columns.size(); ++c) {
        auto* const output = static_cast<std::uint8_t*>(outputs[c]);
        to[c] = {output + i * spec.steps * columns[c].nbytes, columns[c].offset, columns[c].nbytes};
      }
      GatherRange(*spec.layout, &row, 0, 1, spec.steps, to);
    }
  });
}

namespace {

// Without shifts there is not even a question whether a column has one.
template <bool kShifts>
void GatherColumns(const RecordLayout& layout, const BatchRows& batch,
                   const std::vector<ViewColumn>& columns, void* const* outputs, int max_threads,
                   std::size_t begin, std::size_t end_row) {
  const std::size_t n = end_row - begin, record_nbytes = layout.record_nbytes();
  std::size_t row_nbytes = 0;
  for (const ViewColumn& column : columns) {
    row_nbytes += column.steps * layout.columns()[column.field].nbytes;
  }
  if (n * row_nbytes >= OuterLock::kLongNbytes) OuterLock::LetGo();
  const auto copy_row = [&](std::size_t i) {
    const std::uint32_t records = batch.reach[i].records;
    for (std::size_t c = 0; c < columns.size(); ++c) {
      const ViewColumn& column = columns[c];
      const RecordLayout::Column& field = layout.columns()[column.field];
      auto* to = static_cast<std::uint8_t*>(outputs[c]) + i * column.steps * field.nbytes;
      if (column.first == ViewColumn::kOther) {
        CopyBytes(to, batch.others[i].record + field.offset, field.nbytes);
        continue;
      }
      const std::int64_t first = column.first < 0 ? records + column.first : column.first;
      const std::uint32_t end = records - std::min(records, column.spare);
      const bool has_some = first >= 0 && first < std::int64_t{end};
      std::uint32_t left =
          has_some ? std::min(column.steps, end - static_cast<std::uint32_t>(first)) : 0;
      const std::size_t missing = (column.steps - left) * field.nbytes;
      Row row = batch.rows[i];
      if (left != 0) AdvanceRow(&row, static_cast<std::uint32_t>(first));
      while (left != 0) {
        const std::uint32_t run = std::min(left, row.here);
        const std::uint8_t* from = row.record + field.offset;
        for (std::uint32_t t = 0; t < run; ++t, from += record_nbytes, to += field.nbytes) {
          if constexpr (kShifts) {
            if (column.shift.pad != 0) {
              column.shift.Copy(to, from, field.nbytes, column.shift.Of(batch.seed, i));
              continue;
            }
          }
          CopyBytes(to, from, field.nbytes);
        }
        left -= run;
        if (left != 0) row = Row::After(row);
      }
      if (missing != 0) std::memset(to, 0, missing);
    }
  };
  const std::size_t lines =
      std::min(kLinesAhead, 1 + row_nbytes / kLine);  // records stand side by side
  // Nothing else belongs in here: GCC 12 drops the calls of what only asks for memory, where it
  // has a branch, and a batch then takes twice as long.
  const auto prefetch = [&](std::size_t i) {
    for (std::size_t at = 0; at <= lines; ++at) Prefetch(batch.rows[i].record + at * kLine);
  };
  const std::size_t rows_per_tick = std::clamp<std::size_t>(
      kBytesPerTick / std::max<std::size_t>(row_nbytes, 1), 1, kRowsPerTick);
  InParts(NumParts(n, n * row_nbytes, max_threads), n,
          [&](std::size_t, std::size_t first, std::size_t last) {
            first += begin;
            last += begin;
            for (std::size_t i = first; i < std::min(first + kRowsAhead, last); ++i) prefetch(i);
            for (std::size_t i = first; i < last; ++i) {
              if ((i - first) % rows_per_tick == rows_per_tick - 1) {
                OuterLock::Tick();
                if (Stop::Asked()) return;
              }
              if (i + kRowsAhead < last) prefetch(i + kRowsAhead);
              copy_row(i);
            }
          });
}

}  // namespace

void GatherView(const RecordLayout& layout, const BatchRows& batch,
                const std::vector<ViewColumn>& columns, void* const* outputs, int max_threads,
                std::size_t first, std::size_t end) {
  const auto is_shifted = [](const ViewColumn& column) { return column.shift.pad != 0; };
  const bool shifts = std::any_of(columns.begin(), columns.end(), is_shifted);
  const auto gather = shifts ? &GatherColumns<true> : &GatherColumns<false>;
  gather(layout, batch, columns, outputs, max_threads, first, end);
}

void GatherPieces(const Piece* pieces, std::size_t n, std::uint32_t field, void* output) {
  auto* to = static_cast<std::uint8_t*>(output);
  for (std::size_t i = 0; i < n; ++i) {
    if (i % 64 == 63) {
      OuterLock::Tick();
      if (Stop::Asked()) return;
    }
    to = CopyField(pieces[i], field, to);
  }
}

}  // namespace reverie
