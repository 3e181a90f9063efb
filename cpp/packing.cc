#include "packing.h"

#include <algorithm>

#include "stop.h"

namespace reverie {
namespace {

// Below these, packing is not worth the trouble: chunks keep their ids and their bytes.
constexpr std::uint64_t kFewChunks = 512;
constexpr std::uint64_t kSmallChunk = 16 * 1024;
constexpr std::uint64_t kPackNbytes = std::uint64_t{1} << 20;
// A chunk of which more than one part in so many is held by nobody is sparse.
constexpr std::uint64_t kSparse = 32;

}  // namespace

void Packing::Run() {
  std::sort(chunks_.begin(), chunks_.end(),
            [](const Chunk* a, const Chunk* b) { return a->id < b->id; });
  Decide();
  for (const Chunk* const chunk : chunks_) {
    if (Stop::Asked()) return;
    if (!moved(*chunk)) {
      AddWhole(*chunk);
    } else if (moved_of_[chunk->slot] == kToCome) {
      AddSegment(*chunk, false);
    }
  }
  std::sort(packed_.begin(), packed_.end(),
            [](const Packed& a, const Packed& b) { return a.id < b.id; });
}

// Which chunks do not stay whole: they get a place in moved_.
void Packing::Decide() {
  std::uint64_t kept = 0;
  std::uint64_t idle = 0;
  const auto held_of = [&](const Chunk& chunk) {
    return coverage_.Held(chunk.slot, Count(chunk)) * chunk.layout->record_nbytes();
  };
  const auto nbytes_of = [&](const Chunk& chunk) {
    return Count(chunk) * chunk.layout->record_nbytes();
  };
  for (const Chunk* const chunk : chunks_) {
    if (Stop::Asked()) return;
    const std::uint64_t held = held_of(*chunk);
    kept += held;
    idle += nbytes_of(*chunk) - held;
  }
  const bool pack_small = chunks_.size() > kFewChunks;
  const bool pack_sparse = idle > kept / kSparse;
  if (!all_ && !pack_small && !pack_sparse) return;
  for (const Chunk* const chunk : chunks_) {
    if (!all_ && chunk->layout->any_size()) continue;
    const std::uint64_t nbytes = nbytes_of(*chunk);
    const bool sparse = pack_sparse && nbytes - held_of(*chunk) > nbytes / kSparse;
    if (!all_ && !sparse && !(pack_small && nbytes < kSmallChunk)) continue;
    if (moved_of_.size() <= chunk->slot) moved_of_.resize(chunk->slot + std::size_t{1}, kNoSlot);
    moved_of_[chunk->slot] = kToCome;
  }
}

const Chunk* Packing::ById(std::uint64_t id) const {
  const auto found =
      std::lower_bound(chunks_.begin(), chunks_.end(), id,
                       [](const Chunk* chunk, std::uint64_t wanted) { return chunk->id < wanted; });
  return found == chunks_.end() || (*found)->id != id ? nullptr : *found;
}

const Chunk* Packing::Reaches(const Chunk& chunk) const {
  if (open_.count(chunk.slot) != 0) return nullptr;
  const Chunk* const next = ById(chunk.next_id);  // `next` itself may be gone
  if (next == nullptr || !coverage_.has(chunk.slot, chunk.count - 1)) return nullptr;
  return coverage_.has(next->slot, 0) ? next : nullptr;
}

void Packing::AddWhole(const Chunk& chunk) {
  const bool sealed = open_.count(chunk.slot) == 0;
  std::uint64_t next = 0;
  if (const Chunk* const reached = Reaches(chunk)) {
    next = !moved(*reached) ? reached->id : AddSegment(*reached, true);
  } else if (sealed) {
    const Chunk* const after = ById(chunk.next_id);
    if (after != nullptr && !moved(*after)) next = after->id;
  }
  packed_.push_back({chunk.id, next, &chunk, chunk.layout.get(), Count(chunk), sealed, {}, {}});
}

// Packs a chunk and those after it that windows reach and that do not stay whole. Returns
// the id of where the first record is. `linked`: that must be the first of its chunk, as
// one that stays whole goes on there.
std::uint64_t Packing::AddSegment(const Chunk& first, bool linked) {
  std::vector<const Chunk*> segment{&first};
  const Chunk* beyond = Reaches(first);
  for (; beyond != nullptr && moved(*beyond); beyond = Reaches(*beyond)) {
    segment.push_back(beyond);
  }
  const RecordLayout* const layout = first.layout.get();
  const auto is_full = [&](std::uint64_t records) {
    return records * layout->record_nbytes() >= kPackNbytes;
  };
  std::uint64_t held = 0;
  for (const Chunk* const chunk : segment) held += coverage_.Held(chunk->slot, Count(*chunk));
  const auto current = current_.find(layout);
  const bool alone = linked || beyond != nullptr || is_full(held) || current == current_.end() ||
                     is_full(packed_[current->second].count);
  std::size_t to = 0;
  if (alone) {
    // What it goes on in is newer than its first chunk.
    to = packed_.size();
    packed_.push_back({first.id, 0, nullptr, layout, 0, true, {}, {}});
    if (beyond == nullptr) current_[layout] = to;
  } else {
    to = current->second;
  }
  const std::uint64_t id = packed_[to].id;
  for (const Chunk* const chunk : segment) {
    // Or one long stream would become one chunk, which is not freed before its last item.
    if (alone && is_full(packed_[to].count)) {
      packed_[to].next = chunk->id;
      to = packed_.size();
      packed_.push_back({chunk->id, 0, nullptr, layout, 0, true, {}, {}});
      if (beyond == nullptr) current_[layout] = to;
    }
    AddRanges(*chunk, chunk != &first, to);
  }
  if (beyond != nullptr) packed_[to].next = beyond->id;
  return id;
}

void Packing::AddRanges(const Chunk& chunk, bool joined, std::size_t to) {
  Packed& pack = packed_[to];
  const Ends ends = EndsOf(chunk);
  std::size_t e = 0;
  const std::size_t head = moved_.size();
  moved_of_[chunk.slot] = static_cast<std::uint32_t>(head);
  moved_.push_back({0, 0, 0});
  for (const Coverage::Range& range : coverage_.Ranges(chunk.slot, Count(chunk))) {
    const bool goes_on = joined && range.first == 0;
    if (pack.count != 0 && !goes_on && chunk.in_runs &&
        (pack.ends.empty() || pack.ends.back().step != pack.count - 1)) {
      pack.ends.push_back({pack.count - 1, How::kCut});
    }
    while (e < ends.size && ends[e].step < range.first) ++e;
    for (; e < ends.size && ends[e].step < range.end; ++e) {
      pack.ends.push_back({pack.count + (ends[e].step - range.first), ends[e].how});
    }
    moved_.push_back({range.first, pack.count, pack.id});
    ++moved_[head].first;
    pack.parts.push_back({&chunk, range.first, range.end});
    pack.count += range.end - range.first;
  }
}

}  // namespace reverie
