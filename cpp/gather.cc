#include "gather.h"

#include <algorithm>
#include <cstring>
#include <system_error>
#include <thread>
#include <vector>

#include "prefetch.h"

namespace reverie {
namespace {

constexpr std::size_t kLine = 64;
constexpr std::size_t kRowsAhead = 8;
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

void GatherRange(const RecordLayout& layout, const Row* rows, std::size_t begin, std::size_t end,
                 std::uint32_t steps, std::uint8_t* const* outputs) {
  const auto& columns = layout.columns();
  const std::size_t record_nbytes = layout.record_nbytes();
  const std::size_t lines =
      std::min(kLinesAhead, (record_nbytes * steps + kLine - 1) / kLine + 1);
  for (std::size_t i = begin; i < end; ++i) {
    if (i + kRowsAhead < end) {
      const Row& ahead = rows[i + kRowsAhead];
      const std::uint8_t* record = ahead.chunk->record(ahead.offset);
      for (std::size_t line = 0; line < lines; ++line) Prefetch(record + line * kLine);
    }
    Row row = rows[i];
    std::size_t index = i * steps;
    for (std::uint32_t left = steps; left != 0;) {
      const std::uint32_t run = std::min(left, row.chunk->capacity - row.offset);
      const std::uint8_t* record = row.chunk->record(row.offset);
      for (std::uint32_t t = 0; t < run; ++t, ++index, record += record_nbytes) {
        for (std::size_t c = 0; c < columns.size(); ++c) {
          const std::size_t nbytes = columns[c].nbytes;
          CopyBytes(outputs[c] + index * nbytes, record + columns[c].offset, nbytes);
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
  const auto* bytes = reinterpret_cast<std::uint8_t* const*>(outputs);
  const std::size_t total = num_rows * steps * layout.record_nbytes();
  const std::size_t wanted = std::min<std::size_t>(
      {static_cast<std::size_t>(std::max(1, max_threads)), 1 + total / kBytesPerThread,
       std::max<std::size_t>(num_rows, 1)});
  std::vector<std::thread> threads;
  std::size_t begin = 0;
  for (std::size_t i = 1; i < wanted; ++i) {
    const std::size_t end = num_rows * i / wanted;
    try {
      threads.emplace_back(GatherRange, std::cref(layout), rows, begin, end, steps, bytes);
    } catch (const std::system_error&) {
      break;  // no thread to be had: this one does the rest
    }
    begin = end;
  }
  GatherRange(layout, rows, begin, num_rows, steps, bytes);
  for (auto& thread : threads) thread.join();
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
