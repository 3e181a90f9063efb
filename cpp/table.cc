#include "table.h"

#include <cmath>
#include <limits>

#include "prefetch.h"

namespace reverie {
namespace {

// Of a restored counter, so that counting on never overflows.
constexpr std::int64_t kMaxCounter = std::int64_t{1} << 62;

}  // namespace

Table::Table(const Config& config, ChunkStore* chunks)
    : config_(config),
      chunks_(chunks),
      sampler_(MakeOrderedSelector(config.sampler, &order_)),
      remover_(MakeOrderedSelector(config.remover, &order_)),
      limiter_(config.limiter),
      rng_(config.seed) {}

void Table::ReserveInsert(std::uint32_t length, double priority) {
  items_.Reserve(length, priority);
  order_.Reserve();
}

void Table::Insert(Chunk* chunk, std::uint32_t offset, std::uint32_t length, double priority,
                   Garbage* garbage) {
  ReserveInsert(length, priority);  // nothing after it can fail
  const std::uint32_t slot = items_.Allocate();
  Item& item = items_.at(slot);
  const bool others = items_.size() > 1;
  items_.length.Set(slot, length, others, items_.num_slots());
  items_.priority.Set(slot, priority, others, items_.num_slots());
  item.order = order_.PushBack(slot);
  item.chunk = chunk->slot;
  item.offset = offset;
  chunks_->RefWindow(chunk, offset, length);
  sampler_->Insert(slot, priority);
  remover_->Insert(slot, priority);
  limiter_.Inserted();
  if (size() > config_.max_size) {
    std::uint32_t victim;
    double probability;
    remover_->Select(&rng_, 1, &victim, &probability);
    Remove(victim, garbage);
  }
}

void Table::Remove(std::uint32_t slot, Garbage* garbage) {
  const Item item = items_.at(slot);
  sampler_->Delete(slot);
  remover_->Delete(slot);
  order_.Erase(item.order, [this](std::uint32_t moved, std::uint32_t place) {
    items_.at(moved).order = place;
  });
  chunks_->UnrefWindow(chunks_->at(item.chunk), item.offset, items_.length.Get(slot), garbage);
  items_.Free(slot);
  limiter_.Deleted();
}

bool Table::Fits(const RecordLayout* layout, std::uint32_t slot, std::uint32_t steps) const {
  return items_.length.Get(slot) == steps && items_.spans.empty() &&
         chunks_->at(items_.at(slot).chunk)->layout.get() == layout;
}

Status Table::CheckSteps(const RecordLayout* layout, std::uint32_t slot,
                         std::uint32_t steps) const {
  Status status = Status::Of(Code::kLengthMismatch);
  status.key = items_.key(slot);
  status.wanted = steps;
  if (items_.length.Get(slot) != steps) {
    status.found = items_.length.Get(slot);
    return status;
  }
  if (!items_.spans.empty()) {
    const auto found = items_.spans.find(slot);
    if (found != items_.spans.end()) {
      for (std::size_t column = 0; column < found->second.size(); ++column) {
        if (found->second[column].length == steps) continue;
        status.column = static_cast<std::int64_t>(column);
        status.found = found->second[column].length;
        return status;
      }
    }
  }
  if (chunks_->at(items_.at(slot).chunk)->layout.get() != layout) {
    status.code = Code::kLayoutMismatch;
    return status;
  }
  return Status();
}

Status Table::Sample(const RecordLayout* layout, std::size_t n, std::uint32_t steps, Row* rows,
                     const SampleInfo& info) {
  if (slots_.size() < n) {
    probabilities_.resize(n);
    slots_.resize(n);  // last, as its size tells whether both are long enough
  }
  // A batch that fails must not use up randomness: the next one is as it was.
  const Rng::State before = rng_.state();
  sampler_->Select(&rng_, n, slots_.data(), probabilities_.data());
  for (std::size_t i = 0; i < n; ++i) {
    const Item* const item = &items_.at(slots_[i]);
    Prefetch(item);
    Prefetch(reinterpret_cast<const char*>(item + 1) - 1);  // one in four spans two lines
  }
  for (std::size_t i = 0; i < n; ++i) {
    if (Fits(layout, slots_[i], steps)) continue;
    const Status status = CheckSteps(layout, slots_[i], steps);
    if (!status.ok()) {
      rng_.set_state(before);
      return status;
    }
  }
  const auto table_size = static_cast<std::int64_t>(size());
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t slot = slots_[i];
    Item& item = items_.at(slot);
    rows[i] = {chunks_->at(item.chunk), item.offset};
    if (item.times_sampled != std::numeric_limits<std::int32_t>::max()) ++item.times_sampled;
    const std::uint64_t key = items_.key(slot);
    const double priority = items_.priority.Get(slot);
    for (std::size_t r = i * info.repeat; r < (i + 1) * info.repeat; ++r) {
      info.key[r] = key;
      info.probability[r] = probabilities_[i];
      info.table_size[r] = table_size;
      info.priority[r] = priority;
      info.times_sampled[r] = item.times_sampled;
    }
  }
  limiter_.Sampled(static_cast<std::int64_t>(n));
  return Status();
}

void Table::PickPieces(Row* rows, std::size_t n, std::uint32_t steps, std::uint32_t piece) {
  for (std::size_t i = 0; i < n; ++i) AdvanceRow(&rows[i], rng_.Below(steps / piece) * piece);
}

Status Table::Select(const RecordLayout* layout, const std::uint64_t* keys, std::size_t n,
                     std::uint32_t* steps, std::vector<Row>* rows,
                     std::vector<std::uint64_t>* found) const {
  const auto add = [&](std::uint32_t slot) {
    if (*steps == 0) *steps = items_.length.Get(slot);
    const Status status = CheckSteps(layout, slot, *steps);
    if (status.ok()) {
      rows->push_back({chunks_->at(items_.at(slot).chunk), items_.at(slot).offset});
      found->push_back(items_.key(slot));
    }
    return status;
  };
  if (keys == nullptr) {
    rows->reserve(size());
    found->reserve(size());
    for (std::uint64_t i = 0; i < order_.span(); ++i) {
      if (order_[i] == kNoSlot) continue;
      const Status status = add(order_[i]);
      if (!status.ok()) return status;
    }
    return Status();
  }
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t slot = items_.Find(keys[i]);
    Status status = Status::Of(Code::kStaleKey);
    status.key = keys[i];
    if (slot != kNoSlot) status = add(slot);
    if (!status.ok()) return status;
  }
  return Status();
}

Status Table::Find(std::uint64_t key, const RecordLayout* layout, Row* row, std::uint32_t* length,
                   const std::vector<Span>** spans) const {
  const std::uint32_t slot = items_.Find(key);
  Status status = Status::Of(Code::kStaleKey);
  status.key = key;
  if (slot == kNoSlot) return status;
  const Item& item = items_.at(slot);
  *row = {chunks_->at(item.chunk), item.offset};
  *length = items_.length.Get(slot);
  const auto found = items_.spans.find(slot);
  *spans = found == items_.spans.end() ? nullptr : &found->second;
  status.code = row->chunk->layout.get() == layout ? Code::kOk : Code::kLayoutMismatch;
  return status;
}

std::size_t Table::UpdatePriorities(const std::uint64_t* keys, const double* priorities,
                                    std::size_t n) {
  std::size_t stale = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t slot = items_.Find(keys[i]);
    if (slot == kNoSlot) {
      ++stale;
      continue;
    }
    items_.priority.Set(slot, priorities[i], items_.size() > 1, items_.num_slots());
    sampler_->Update(slot, priorities[i]);
    remover_->Update(slot, priorities[i]);
  }
  return stale;
}

std::size_t Table::Delete(const std::uint64_t* keys, std::size_t n, Garbage* garbage) {
  std::size_t stale = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t slot = items_.Find(keys[i]);
    if (slot == kNoSlot) {
      ++stale;
    } else {
      Remove(slot, garbage);
    }
  }
  return stale;
}

void Table::Clear(Garbage* garbage) {
  // From the newest to the oldest, so that the slots are used again in order.
  while (order_.size() != 0) Remove(order_[order_.span() - 1], garbage);
  limiter_.Reset();
}

void Table::Pack() {
  order_.Pack([this](std::uint32_t moved, std::uint32_t place) { items_.at(moved).order = place; });
}

TableState Table::Save() const {
  TableState state;
  ItemColumns& to = state.items;
  const std::size_t n = size();
  to.key.reserve(n);
  to.chunk_id.reserve(n);
  to.offset.reserve(n);
  to.length.reserve(n);
  to.priority.reserve(n);
  to.times_sampled.reserve(n);
  for (std::uint64_t i = 0; i < order_.span(); ++i) {
    const std::uint32_t slot = order_[i];
    if (slot == kNoSlot) continue;
    const Item& item = items_.at(slot);
    if (!items_.spans.empty()) {
      const auto found = items_.spans.find(slot);
      if (found != items_.spans.end()) {
        for (std::size_t column = 0; column < found->second.size(); ++column) {
          to.span_item.push_back(to.key.size());
          to.span_column.push_back(static_cast<std::uint32_t>(column));
          to.span_start.push_back(found->second[column].start);
          to.span_length.push_back(found->second[column].length);
        }
      }
    }
    to.key.push_back(items_.key(slot));
    to.chunk_id.push_back(chunks_->at(item.chunk)->id);
    to.offset.push_back(item.offset);
    to.length.push_back(items_.length.Get(slot));
    to.priority.push_back(items_.priority.Get(slot));
    to.times_sampled.push_back(item.times_sampled);
  }
  state.free_keys = items_.FreeKeys();
  state.counters = limiter_.counters();
  state.rng = rng_.state();
  return state;
}

Status Table::Restore(const TableState& state, const std::vector<Chunk*>& chunks_by_row) {
  const ItemColumns& from = state.items;
  const std::size_t n = from.offset.size();
  if (size() != 0 || items_.num_slots() != 0) return Status::Invalid("table not fresh", -1);
  if (n > config_.max_size) return Status::Invalid("more items than max_size", -1);
  if (from.key.size() == n) {  // an empty table has free keys, too
    const std::int64_t bad =
        items_.Restore(from.key.data(), n, state.free_keys.data(), state.free_keys.size());
    if (bad >= 0) return Status::Invalid("key malformed or used twice", bad);
  }
  for (std::size_t i = 0; i < n; ++i) {
    const auto row = static_cast<std::int64_t>(i);
    const std::uint32_t length = from.length[i];
    Chunk* chunk = chunks_by_row[i];
    if (chunk == nullptr) return Status::Invalid("chunk unknown", row);
    if (length == 0) return Status::Invalid("length is 0", row);
    if (from.offset[i] >= chunk->capacity) return Status::Invalid("offset past its chunk", row);
    if (!(from.priority[i] >= 0) || std::isinf(from.priority[i])) {
      return Status::Invalid("priority not finite and >= 0", row);
    }
    if (from.times_sampled[i] < 0) return Status::Invalid("times_sampled below 0", row);
    std::uint32_t here = chunk->capacity - from.offset[i];
    for (std::uint32_t left = length; left > here;) {
      left -= here;
      chunk = chunk->next;
      if (chunk == nullptr || chunk->layout != chunks_by_row[i]->layout) {
        return Status::Invalid("window past the end of its chunks", row);
      }
      here = chunk->capacity;
    }
    const std::uint32_t slot =
        from.key.empty() ? items_.Allocate() : static_cast<std::uint32_t>(from.key[i]);
    Item& item = items_.at(slot);
    const bool others = i > 0;
    items_.length.Set(slot, length, others, items_.num_slots());
    items_.priority.Set(slot, from.priority[i], others, items_.num_slots());
    item.times_sampled = from.times_sampled[i];
    item.chunk = chunks_by_row[i]->slot;
    item.offset = from.offset[i];
    item.order = order_.PushBack(slot);
    chunks_->RefWindow(chunks_by_row[i], item.offset, length);
    sampler_->Insert(slot, from.priority[i]);
    remover_->Insert(slot, from.priority[i]);
  }
  for (std::size_t i = 0; i < from.span_item.size(); ++i) {
    const auto row = static_cast<std::int64_t>(from.span_item[i]);
    if (from.span_item[i] >= n) return Status::Invalid("span of an unknown item", row);
    const auto& layout = *chunks_by_row[from.span_item[i]]->layout;
    const std::uint32_t length = from.length[from.span_item[i]];
    if (from.span_column[i] >= layout.columns().size() || from.span_start[i] > length ||
        from.span_length[i] > length - from.span_start[i]) {
      return Status::Invalid("span outside its item", row);
    }
    // Items were appended in row order, so the row is also the place.
    auto& spans = items_.spans[order_[from.span_item[i]]];
    if (spans.empty()) spans.assign(layout.columns().size(), Span{0, length});
    spans[from.span_column[i]] = {from.span_start[i], from.span_length[i]};
  }
  for (const std::int64_t counter :
       {state.counters.inserts, state.counters.samples, state.counters.deletes}) {
    if (counter < 0 || counter > kMaxCounter) return Status::Invalid("counter out of range", -1);
  }
  limiter_.set_counters(state.counters);
  if (!rng_.set_state(state.rng)) return Status::Invalid("RNG state is all zeros", -1);
  return Status();
}

}  // namespace reverie
