#include <algorithm>
#include <limits>
#include <new>
#include <utility>

#include "prefetch.h"
#include "selectors/ordered.h"
#include "stop.h"
#include "table.h"

// Choosing items, and finding them: the part of Table that does not change what is in it.

namespace reverie {
namespace {

constexpr std::size_t kRowsPerLook = 1024;
constexpr std::size_t kDrawnAtOnce = std::size_t{1} << 18;
constexpr std::size_t kAhead = 32;  // items whose cache lines are asked for before their turn

}  // namespace

Status Table::Check(const BatchSpec& spec, std::uint32_t slot) const {
  const auto& wanted = spec.layout->columns();
  Status status = Status::Of(Code::kLayoutMismatch);
  status.key = own_->items.key(slot);
  const Trajectory* const trajectory = own_->items.trajectory(slot);
  if (trajectory == nullptr) {
    const RecordLayout* const layout = chunks_->at(own_->items.at(slot).chunk)->layout.get();
    const auto& columns = layout->columns();
    if (layout != spec.layout) {
      for (std::size_t c = 0; c < wanted.size() && columns.size() == wanted.size(); ++c) {
        if (columns[c].type == wanted[c].type && columns[c].nbytes == wanted[c].nbytes) continue;
        status.column = static_cast<std::int64_t>(c);
        break;
      }
      return status;
    }
    if (spec.is_view) return Status();
    status.code = Code::kLengthMismatch;
    status.found = own_->items.length.Get(slot);
    status.wanted = spec.steps;
    if (spec.lengths == nullptr) return status.found == status.wanted ? Status() : status;
    while (spec.lengths[++status.column] == status.found) continue;  // some length is another
    status.wanted = spec.lengths[status.column];
    return status;
  }
  if (trajectory->num_columns != wanted.size()) return status;
  Status mismatch;  // of lengths, unless a later column is of another type
  if (spec.is_view) return status;
  const Piece* piece = trajectory->pieces();
  for (std::size_t c = 0; c < wanted.size(); ++c) {
    const Trajectory::Column& column = trajectory->columns()[c];
    status.column = static_cast<std::int64_t>(c);
    if (wanted[c].type == 0 || column.cell(*piece).type != wanted[c].type) return status;
    std::int64_t found = 0;
    for (const Piece* const end = piece + column.num_pieces; piece != end; ++piece) {
      found += piece->length;
    }
    if (column.squeeze()) found = BatchSpec::kSqueezed;
    if (found == spec.length(c) || !mismatch.ok()) continue;
    mismatch = {Code::kLengthMismatch, status.key, status.column, found, spec.length(c)};
  }
  return mismatch;
}

Row Table::RowOf(std::uint32_t slot, BatchRows* rows) const {
  const Item& item = own_->items.at(slot);
  if (item.chunk != kNoSlot) return Row::Of(chunks_->place(item.chunk), item.offset);
  rows->trajectories.push_back({own_->items.trajectory(slot), 0});
  return {nullptr, nullptr, static_cast<std::uint32_t>(rows->trajectories.size() - 1), 0};
}

Status Table::Sample(const BatchSpec& spec, BatchRows* rows, const SampleInfo& info,
                     Garbage* garbage) {
  const std::size_t n = rows->rows.size();
  if (info.min_probability != nullptr) *info.min_probability = 1.0;
  if (config_.max_times_sampled == 0) return SampleSome(spec, 0, n, rows, info, garbage);
  SampleInfo one = info;
  for (std::size_t i = 0; i < n; ++i) {
    if (i % kRowsPerLook == 0 && Stop::Asked()) return Status::Of(Code::kInterrupted);
    const Status status = SampleSome(spec, i, 1, rows, one, garbage);
    if (!status.ok()) return status;
    one.key += info.repeat;
    one.probability += info.repeat;
    one.table_size += info.repeat;
    one.priority += info.repeat;
    one.times_sampled += info.repeat;
  }
  return Status();
}

void Table::Draw(std::size_t n) {
  if (slots_.size() >= n) return;
  probabilities_.resize(n);
  chosen_.resize(n);
  slots_.resize(n);  // last, as its size tells whether all are long enough
}

Status Table::SampleSome(const BatchSpec& spec, std::size_t first, std::size_t n, BatchRows* to,
                         const SampleInfo& info, Garbage* garbage) {
  Draw(n);
  Row* const rows = to->rows.data() + first;
  ItemStore& items = own_->items;
  // A batch that fails must not use up randomness: the next one is as it was.
  const Rng::State before = rng_.state();
  double* const probabilities = info.repeat == 1 ? info.probability : probabilities_.data();
  if (info.min_probability != nullptr) {
    *info.min_probability = std::min(*info.min_probability, MinProbability());
  }
  const auto interrupted = [&] {
    rng_.set_state(before);
    return Status::Of(Code::kInterrupted);
  };
  for (std::size_t done = 0; done < n; done += std::min(n - done, kDrawnAtOnce)) {
    if (done != 0 && Stop::Asked()) return interrupted();
    const std::size_t some = std::min(n - done, kDrawnAtOnce);
    if (spec.newest == 0) {
      own_->sampler->Select(&rng_, some, slots_.data() + done, probabilities + done);
    } else {
      SelectNewest(own_->order, spec.newest, &rng_, some, slots_.data() + done,
                   probabilities + done);
    }
  }
  const RecordLayout* const layout = spec.lengths == nullptr ? spec.layout : nullptr;
  try {
    if (chunks_->pages()->shared() || config_.max_times_sampled != 0) {
      for (std::size_t i = 0; i < n; ++i) ReserveCount(slots_[i]);
    }
    // Two misses for each: its item, then its chunk's place; so the first one is asked for
    // early. The records themselves are the gather's.
    const auto look = [&](std::size_t i) {
      chosen_[i] = &items.Edit(slots_[i]);
      Prefetch(chosen_[i]);
    };
    for (std::size_t i = 0; i < std::min(kAhead, n); ++i) look(i);
    for (std::size_t i = 0; i < n; ++i) {
      if (i % kRowsPerLook == kRowsPerLook - 1 && Stop::Asked()) return interrupted();
      if (i + kAhead < n) look(i + kAhead);
      const Item& item = *chosen_[i];
      // The length of a trajectory, which has no chunk, is 0.
      const std::uint32_t length = items.length.Get(slots_[i]);
      if (spec.is_view ? length != 0 : length == spec.steps) {
        const ChunkStore::Place& place = chunks_->place(item.chunk);
        if (place.layout == layout) {
          rows[i] = Row::Of(place, item.offset);
          Prefetch(rows[i].record);
          if (spec.is_view) Prefetch(place.chunk);
          continue;
        }
      }
      const Status status = Check(spec, slots_[i]);
      if (!status.ok()) {
        rng_.set_state(before);
        return status;
      }
      rows[i] = RowOf(slots_[i], to);
    }
  } catch (const std::bad_alloc&) {
    rng_.set_state(before);
    throw;
  }
  for (std::size_t i = 0; spec.is_view && i < n; ++i) {
    if (i % kRowsPerLook == kRowsPerLook - 1 && Stop::Asked()) return interrupted();
    to->reach[first + i] = chunks_->ReachFrom(rows[i].chunk, rows[i].offset, spec.steps);
  }
  const auto table_size = static_cast<std::int64_t>(size());
  const std::size_t repeat = info.repeat;
  if (items.priority.uniform()) {
    std::fill_n(info.priority, n * repeat, items.priority.Get(0));
  } else {
    for (std::size_t i = 0; i < n; ++i) {
      std::fill_n(info.priority + i * repeat, repeat, items.priority.Get(slots_[i]));
    }
  }
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t slot = slots_[i];
    Item& item = *chosen_[i];
    const bool spent = Count(&item);
    if (repeat == 1) {
      info.key[i] = ItemStore::KeyOf(item, slot);
      info.times_sampled[i] = item.times_sampled;
    } else {
      std::fill_n(info.key + i * repeat, repeat, ItemStore::KeyOf(item, slot));
      std::fill_n(info.times_sampled + i * repeat, repeat, item.times_sampled);
      std::fill_n(info.probability + i * repeat, repeat, probabilities[i]);
    }
    if (spent) Remove(slot, garbage);
  }
  std::fill_n(info.table_size, n * repeat, table_size);
  limiter_.Sampled(static_cast<std::int64_t>(n));
  return Status();
}

void Table::ReserveCount(std::uint32_t slot) {
  own_->items.Own(slot);
  if (config_.max_times_sampled == 0) return;
  own_->order.ReserveErase(slot);
  chunks_->pages()->ReserveCopies(kCopies);
}

bool Table::Count(Item* item) {
  if (item->times_sampled != std::numeric_limits<std::int32_t>::max()) ++item->times_sampled;
  if (item->times_sampled == 1) ++num_unique_samples_;
  if (config_.max_times_sampled == 0) return false;
  if (item->times_sampled >= config_.max_times_sampled) return true;
  --remaining_samples_;
  return false;
}

SampledItem Table::Sampled(std::uint32_t slot) const {
  const Item& item = own_->items.at(slot);
  SampledItem sampled;
  sampled.key = own_->items.key(slot);
  sampled.table_size = static_cast<std::int64_t>(size());
  sampled.priority = own_->items.priority.Get(slot);
  sampled.times_sampled = item.times_sampled;
  sampled.chunk = item.chunk == kNoSlot ? nullptr : chunks_->at(item.chunk);
  sampled.offset = item.offset;
  sampled.length = own_->items.length.Get(slot);
  sampled.trajectory = own_->items.trajectory(slot);
  return sampled;
}

void Table::SampleItems(std::size_t n, std::vector<SampledItem>* items, Garbage* garbage) {
  while (items->size() < n && CanSample(1)) {
    std::uint32_t slot;
    double probability;
    const Rng::State before = rng_.state();
    own_->sampler->Select(&rng_, 1, &slot, &probability);
    try {
      ReserveCount(slot);
      items->push_back(Sampled(slot));
    } catch (const std::bad_alloc&) {
      rng_.set_state(before);
      if (items->empty()) throw;
      return;  // what is counted must be handed over
    }
    SampledItem& sampled = items->back();
    const bool spent = Count(&own_->items.Edit(slot));
    sampled.probability = probability;
    sampled.times_sampled = own_->items.at(slot).times_sampled;
    limiter_.Sampled(1);
    if (spent) Remove(slot, garbage);
  }
}

void Table::PickPieces(BatchRows* rows, std::uint32_t steps, std::uint32_t piece) {
  for (Row& row : rows->rows) {
    const std::uint32_t skip = rng_.Below(steps / piece) * piece;
    if (row.chunk != nullptr) {
      AdvanceRow(&row, skip);
    } else {
      rows->trajectories[row.offset].skip = skip;
    }
  }
}

void Table::PickOthers(const BatchSpec& spec, BatchRows* rows) {
  const std::size_t n = rows->rows.size();
  const bool any = spec.other == BatchSpec::Other::kAny && size() != 0;
  if (any) {
    Draw(n);
    SelectUniformly(own_->order, &rng_, n, slots_.data(), probabilities_.data());
  }
  for (std::size_t i = 0; i < n; ++i) {
    Row other = rows->rows[i];
    std::uint64_t records = rows->reach[i].records;
    if (spec.other == BatchSpec::Other::kEpisode) {
      const ChunkStore::Begin begin = chunks_->BeginOf(other.chunk, other.offset);
      records = std::min<std::uint64_t>(records + begin.records, kNoSlot);
      other = Row::Of(begin.chunk, begin.offset);
    } else if (any) {
      const std::uint32_t chunk = own_->items.at(slots_[i]).chunk;
      if (chunk != kNoSlot && chunks_->place(chunk).layout == spec.layout) {
        other = RowOf(slots_[i], rows);
        records = std::min<std::uint64_t>(own_->items.length.Get(slots_[i]), spec.lead + 2);
      }
    }
    // Shorter ones were forged.
    const std::uint64_t first = std::min<std::uint64_t>(spec.lead + 1, records - 1);
    const auto choice = rng_.Below(static_cast<std::uint32_t>(records - first));
    AdvanceRow(&other, static_cast<std::uint32_t>(first + choice));
    Prefetch(other.record);
    rows->others[i] = other;
  }
}

Status Table::Select(BatchSpec* spec, const std::uint64_t* keys, std::size_t n, BatchRows* rows,
                     std::vector<std::uint64_t>* found) const {
  const auto add = [&](std::uint32_t slot) {
    if (spec->steps == 0) {
      const Trajectory* const trajectory = own_->items.trajectory(slot);
      spec->steps = own_->items.length.Get(slot);
      const std::uint32_t num_pieces =
          trajectory == nullptr ? 0 : trajectory->columns()->num_pieces;
      for (std::uint32_t p = 0; p < num_pieces; ++p) spec->steps += trajectory->pieces()[p].length;
    }
    const Status status = Check(*spec, slot);
    if (status.ok()) {
      rows->rows.push_back(RowOf(slot, rows));
      found->push_back(own_->items.key(slot));
    }
    return status;
  };
  if (keys == nullptr) {
    rows->rows.reserve(size());
    found->reserve(size());
    for (std::uint64_t i = 0; i < own_->order.span(); ++i) {
      if (i % kRowsPerLook == 0 && Stop::Asked()) return Status::Of(Code::kInterrupted);
      if (own_->order[i] == kNoSlot) continue;
      const Status status = add(own_->order[i]);
      if (!status.ok()) return status;
    }
    return Status();
  }
  for (std::size_t i = 0; i < n; ++i) {
    if (i % kRowsPerLook == 0 && Stop::Asked()) return Status::Of(Code::kInterrupted);
    const std::uint32_t slot = own_->items.Find(keys[i]);
    const Status status = slot == kNoSlot ? Status::Stale(keys[i]) : add(slot);
    if (!status.ok()) return status;
  }
  return Status();
}

Status Table::Find(const std::uint64_t* key, SampledItem* item) const {
  if (key == nullptr && size() == 0) return Status::Of(Code::kWouldBlock);
  const std::uint32_t slot =
      key == nullptr ? own_->order[0] : own_->items.Find(*key);  // no hole is first
  if (slot == kNoSlot) return Status::Stale(*key);
  *item = Sampled(slot);
  return Status();
}

}  // namespace reverie
