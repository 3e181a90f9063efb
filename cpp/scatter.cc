#include "scatter.h"

#include <algorithm>
#include <cstring>

namespace reverie {
namespace {

template <typename Int>
bool IsLess(const std::uint8_t* a, const std::uint8_t* b) {
  Int one, other;
  std::memcpy(&one, a, sizeof one);
  std::memcpy(&other, b, sizeof other);
  return one < other;
}

bool IsOlder(const std::uint8_t* a, const std::uint8_t* b, std::size_t nbytes, bool is_signed) {
  switch (nbytes) {
    case 1:
      return is_signed ? IsLess<std::int8_t>(a, b) : IsLess<std::uint8_t>(a, b);
    case 2:
      return is_signed ? IsLess<std::int16_t>(a, b) : IsLess<std::uint16_t>(a, b);
    case 4:
      return is_signed ? IsLess<std::int32_t>(a, b) : IsLess<std::uint32_t>(a, b);
    default:
      return is_signed ? IsLess<std::int64_t>(a, b) : IsLess<std::uint64_t>(a, b);
  }
}

}  // namespace

void ScatterRow(const Scatter& scatter, std::size_t index, Row row, std::uint32_t records,
                Scattered* counts) {
  if (records <= scatter.first) return;
  const auto& fields = scatter.layout->columns();
  const std::uint32_t steps = std::min(scatter.steps, records - scatter.first);
  const std::uint8_t* const mask =
      scatter.mask == nullptr ? nullptr : scatter.mask + index * scatter.steps;
  for (std::uint32_t t = 0; t < steps; ++t) {
    AdvanceRow(&row, t == 0 ? scatter.first : 1);
    if (mask != nullptr && mask[t] == 0) continue;
    std::uint8_t* const record = row.chunk->record(row.offset);
    if (scatter.version) {
      const RecordLayout::Column& field = fields[scatter.version->field];
      std::uint8_t* const own = record + field.offset;
      const std::uint8_t* const version = scatter.version->cells + index * field.nbytes;
      if (!IsOlder(own, version, field.nbytes, scatter.version->is_signed)) {
        ++counts->rejected;
        continue;
      }
      std::memcpy(own, version, field.nbytes);
    }
    for (const Scatter::Column& column : scatter.columns) {
      if (t >= column.steps) continue;
      const RecordLayout::Column& field = fields[column.field];
      if (field.nbytes == 0) continue;
      std::memcpy(record + field.offset, column.cells + (index * column.steps + t) * field.nbytes,
                  field.nbytes);
    }
    ++counts->updated;
  }
}

}  // namespace reverie
