#include <algorithm>
#include <mutex>

#include "stop.h"
#include "store.h"

// Records that change: found by their items' keys, written where they stand.

namespace reverie {
namespace {

constexpr std::size_t kNbytesAtOnce = std::size_t{1} << 17;
constexpr std::size_t kRowsAtOnce = 512;

}  // namespace

Status Store::Update(Table* table, const Scatter& scatter, const std::uint64_t* keys, std::size_t n,
                     Scattered* counts) {
  if (updates() == Updates::kNone) return Status::Invalid("records of this store stay", 0);
  if (n >= OuterLock::kLongRows) OuterLock::LetGo();
  const Status status = Pass(table, scatter, keys, n, nullptr);
  return status.ok() ? Pass(table, scatter, keys, n, counts) : status;
}

Status Store::Pass(Table* table, const Scatter& scatter, const std::uint64_t* keys, std::size_t n,
                   Scattered* counts) {
  BatchSpec spec(scatter.layout, scatter.first + scatter.steps);
  spec.is_view = true;
  BatchRows found;
  std::vector<std::uint64_t> found_keys;
  const std::size_t row_nbytes = std::max<std::size_t>(
      1, std::size_t{scatter.steps} * std::max<std::size_t>(1, scatter.layout->record_nbytes()));
  const std::size_t some = std::clamp<std::size_t>(kNbytesAtOnce / row_nbytes, 1, kRowsAtOnce);
  for (std::size_t first = 0; first < n; first += some) {
    if (first != 0) {
      records_.GiveWay();
      GiveWay();
      OuterLock::Tick();
      if (Stop::Asked()) return Status::Of(Code::kInterrupted);
    }
    std::unique_lock<Mutex> moving(moving_, std::defer_lock);
    std::unique_lock<RecordsLock> writing(records_, std::defer_lock);
    if (counts != nullptr) {
      moving.lock();
      writing.lock();
    }
    Locked locked = Lock();
    if (closed_) return Status::Of(Code::kClosed);
    for (std::size_t i = first; i < std::min(n, first + some); ++i) {
      found.rows.clear();
      found_keys.clear();
      const Status status = table->Select(&spec, keys + i, 1, &found, &found_keys);
      if (status.code == Code::kStaleKey) {
        if (counts != nullptr) ++counts->stale;
        continue;
      }
      if (!status.ok()) return status;
      if (counts == nullptr) continue;
      const Row& row = found.rows[0];
      ScatterRow(scatter, i, row,
                 locked.chunks().ReachFrom(row.chunk, row.offset, spec.steps).records, counts);
    }
  }
  return Status();
}

}  // namespace reverie
