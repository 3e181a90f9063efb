#include "gather.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <thread>
#include <vector>

#include "prefetch.h"

namespace reverie {
namespace {

constexpr std::size_t kLine = 64;
constexpr std::size_t kRowsAhead = 12;
// Beyond this many lines the hardware's own prefetcher has caught the stream.
constexpr std::size_t kLinesAhead = 16;
// A thread costs some 20 us to start; below this it would not pay.
constexpr std::size_t kBytesPerThread = std::size_t{1} << 20;

void CopyBytes(std::uint8_t* to, const std::uint8_t* from, std::size_t nbytes) {
  switch (nbytes) {  // a copy of known size is one or two instructions
    case 1:
      *to = *from;
      break;
    case 2:
      std::memcpy(to, from, 2);
      break;
    case 4:
      std::memcpy(to, from, 4);
      break;
    case 8:
      std::memcpy(to, from, 8);
      break;
    case 16:
      std::memcpy(to, from, 16);
      break;
    default:
      std::memcpy(to, from, nbytes);
  }
}

struct Target {
  std::uint8_t* to;  // where this column's next value goes
  std::size_t offset;
  std::size_t nbytes;
};

void GatherRange(const RecordLayout& layout, const Row* rows, std::size_t begin, std::size_t end,
                 std::uint32_t steps, Target* targets) {
  Target* const targets_end = targets + layout.columns().size();
  const std::size_t record_nbytes = layout.record_nbytes();
  const auto address = [record_nbytes](const Row& row) {
    return row.chunk->data.get() + row.offset * record_nbytes;
  };
  const std::size_t window_nbytes = std::min(kLinesAhead * kLine, record_nbytes * steps);
  const auto prefetch = [&](const Row& row) {
    const std::uint8_t* record = address(row);
    // From the line that holds the first byte to the one that holds the last.
    const std::size_t before = reinterpret_cast<std::uintptr_t>(record) % kLine;
    for (std::size_t at = 0; at < before + window_nbytes; at += kLine)
      Prefetch(record - before + at);
  };
  for (std::size_t i = begin; i < std::min(begin + kRowsAhead, end); ++i) prefetch(rows[i]);
  for (std::size_t i = begin; i < end; ++i) {
    if (i + kRowsAhead < end) prefetch(rows[i + kRowsAhead]);
    Row row = rows[i];
    for (std::uint32_t left = steps; left != 0;) {
      const std::uint32_t run = std::min(left, row.chunk->capacity - row.offset);
      const std::uint8_t* record = address(row);
      for (std::uint32_t t = 0; t < run; ++t, record += record_nbytes) {
        for (Target* target = targets; target != targets_end; ++target) {
          CopyBytes(target->to, record + target->offset, target->nbytes);
          target->to += target->nbytes;
        }
      }
      left -= run;
      if (left != 0) row = {row.chunk->next, 0};
    }
  }
}

}  // namespace

void AdvanceRow(Row* row, std::uint32_t skip) {
  while (skip >= row->chunk->capacity - row->offset) {
    skip -= row->chunk->capacity - row->offset;
    row->chunk = row->chunk->next;
    row->offset = 0;
  }
  row->offset += skip;
}

void Gather(const RecordLayout& layout, const Row* rows, std::size_t num_rows, std::uint32_t steps,
            void* const* outputs, int max_threads) {
  const std::size_t total = num_rows * steps * layout.record_nbytes();
  const std::size_t parts =
      std::min<std::size_t>({static_cast<std::size_t>(std::max(1, max_threads)),
                             1 + total / kBytesPerThread, std::max<std::size_t>(num_rows, 1)});
  // All memory is taken before the first thread starts: none may be left behind.
  const auto& columns = layout.columns();
  std::vector<Target> targets;
  targets.reserve(parts * columns.size());
  std::vector<std::thread> threads;
  threads.reserve(parts - 1);
  for (std::size_t part = 0; part < parts; ++part) {
    const std::size_t first = num_rows * part / parts * steps;
    for (std::size_t c = 0; c < columns.size(); ++c) {
      auto* to = static_cast<std::uint8_t*>(outputs[c]) + first * columns[c].nbytes;
      targets.push_back({to, columns[c].offset, columns[c].nbytes});
    }
  }
  const auto run = [&](std::size_t part, std::size_t last) {
    GatherRange(layout, rows, num_rows * part / parts, num_rows * last / parts, steps,
                targets.data() + part * columns.size());
  };
  std::size_t part = 0;
  while (part + 1 < parts) {
    try {
      threads.emplace_back(run, part, part + 1);
    } catch (const std::exception&) {
      break;  // no thread to be had: this one does the rest
    }
    ++part;
  }
  run(part, parts);
  for (auto& thread : threads) thread.join();
}

void GatherPieces(const Piece* pieces, std::size_t n, void* output) {
  auto* to = static_cast<std::uint8_t*>(output);
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t nbytes = pieces[i].length * pieces[i].chunk->layout->record_nbytes();
    if (nbytes != 0) std::memcpy(to, pieces[i].chunk->record(pieces[i].offset), nbytes);
    to += nbytes;
  }
}

void GatherColumn(const RecordLayout& layout, std::size_t column, Row row, std::uint32_t start,
                  std::uint32_t length, void* output) {
  const auto& where = layout.columns()[column];
  auto* to = static_cast<std::uint8_t*>(output);
  if (length == 0) return;
  AdvanceRow(&row, start);
  for (std::uint32_t t = 0; t < length; ++t, to += where.nbytes) {
    if (t != 0) AdvanceRow(&row, 1);
    CopyBytes(to, row.chunk->record(row.offset) + where.offset, where.nbytes);
  }
}

}  // namespace reverie
