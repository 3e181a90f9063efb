#include "snapshot.h"

#include <algorithm>
#include <cstring>

#include "stop.h"
#include "store.h"

namespace reverie {
namespace {

constexpr std::uint64_t kItemsPerLook = 1024;
// Bytes between two looks at whether somebody wants to change records.
constexpr std::size_t kCopiedAtOnce = std::size_t{1} << 20;

}  // namespace

Snapshot::~Snapshot() {
  if (epoch_ == 0) return;
  Store::Locked locked = store_->Lock();
  locked.chunks().Unshare(epoch_, locked.garbage());
}

void Snapshot::Take(ChunkStore* store, const std::vector<std::shared_ptr<Table>>& all_tables) {
  epoch_ = store->Share();
  views_.reserve(all_tables.size());
  for (const auto& table : all_tables) views_.push_back(table->Share());
  slots_ = store->ShareSlots();
  num_slots_ = store->num_slots();
  for (const Chunk* const chunk : store->open()) {
    open_[chunk->slot] = {chunk->count, {chunk->ends.begin(), chunk->ends.end()}};
  }
}

void Snapshot::Cover() {
  coverage_ = std::make_unique<Coverage>(num_slots_);
  const auto count_of = [this](const Chunk& chunk) {
    const auto open = open_.find(chunk.slot);
    return open == open_.end() ? chunk.count : open->second.count;
  };
  for (const TableView& view : views_) {
    for (std::uint64_t i = 0; i < view.order.span(); ++i) {
      const std::uint32_t slot = view.order[i];
      if (i % kItemsPerLook == 0 && Stop::Asked()) return;
      if (slot == kNoSlot) continue;
      const Item& item = view.items.items[slot];
      if (item.chunk != kNoSlot) {
        coverage_->MarkWindow(slots_[item.chunk], item.offset, view.items.length.Get(slot),
                              count_of);
        continue;
      }
      const Trajectory* const trajectory = view.items.trajectory(slot);
      const Piece* const pieces = trajectory->pieces();
      for (std::uint32_t p = 0; p < trajectory->num_pieces; ++p) {
        coverage_->Mark(*pieces[p].chunk, pieces[p].offset, pieces[p].length, count_of);
      }
    }
  }
}

Status Snapshot::Arrange() {
  const std::lock_guard<std::mutex> one(arranging_);
  if (arranged_) return Status();
  chunks = {};  // of an attempt for which there was no memory, or no time
  ends = {};
  layouts.clear();
  tables.clear();
  Cover();
  if (Stop::Asked()) return Status::Of(Code::kInterrupted);
  packing_ = std::make_unique<Packing>(*coverage_, open_, false,
                                       [this](std::uint32_t slot) { return slots_[slot]; });
  if (Stop::Asked()) return Status::Of(Code::kInterrupted);
  std::unordered_map<const RecordLayout*, std::uint32_t> rows;
  for (const Packing::Packed& chunk : packing_->chunks()) {
    chunks.id.push_back(chunk.id);
    chunks.next.push_back(chunk.next);
    chunks.count.push_back(chunk.count);
    chunks.nbytes.push_back(chunk.count * chunk.layout->record_nbytes());
    chunks.sealed.push_back(chunk.sealed);
    const RecordLayout* const layout = chunk.layout->any_size() ? nullptr : chunk.layout;
    const auto row = rows.try_emplace(layout, static_cast<std::uint32_t>(layouts.size()));
    if (row.second) layouts.push_back(layout);
    chunks.layout.push_back(row.first->second);
    for (const Chunk::End& end : packing_->ends(chunk)) {
      ends.chunk.push_back(chunk.id);
      ends.step.push_back(end.step);
      ends.how.push_back(static_cast<std::uint8_t>(end.how));
    }
  }
  ArrangeTables();
  if (Stop::Asked()) return Status::Of(Code::kInterrupted);
  arranged_ = true;
  return Status();
}

void Snapshot::ArrangeTables() {
  for (const TableView& view : views_) tables.push_back(StateOf(view));
}

TableState Snapshot::StateOf(const TableView& view) const {
  TableState state;
  static_cast<TableFacts&>(state) = view;
  ItemColumns& to = state.items;
  const std::size_t n = view.order.size();
  to.key.resize(n);
  to.chunk_id.resize(n);
  to.offset.resize(n);
  to.length.resize(n);
  to.priority.resize(n);
  to.times_sampled.resize(n);
  if (view.has_heap) to.touched.resize(n);
  const std::uint64_t span = view.order.span();
  if (span != n) state.holes.assign((span + 7) / 8, 0);
  const auto place_of = [this](const Chunk& chunk, std::uint32_t offset) {
    return packing_ == nullptr ? Packing::Place{chunk.id, offset} : packing_->Find(chunk, offset);
  };
  std::size_t row = 0;
  for (std::uint64_t i = 0; i < span; ++i) {
    if (i % kItemsPerLook == 0 && Stop::Asked()) break;  // who asked asks again
    const std::uint32_t slot = view.order[i];
    if (slot == kNoSlot) {
      state.holes[i / 8] = static_cast<std::uint8_t>(state.holes[i / 8] | 1u << i % 8);
      continue;
    }
    const Item& item = view.items.items[slot];
    if (item.chunk == kNoSlot) {
      const Trajectory& trajectory = *view.items.trajectory(slot);
      to.chunk_id[row] = 0;
      to.offset[row] = 0;
      to.traj_item.push_back(row);
      to.traj_episode.push_back(trajectory.episode);
      for (std::uint32_t c = 0; c < trajectory.num_columns; ++c) {
        const Trajectory::Column& column = trajectory.columns()[c];
        to.column_item.push_back(row);
        to.column_field.push_back(column.field());
        to.column_squeeze.push_back(column.squeeze());
        to.column_pieces.push_back(column.num_pieces);
      }
      for (std::uint32_t p = 0; p < trajectory.num_pieces; ++p) {
        const Piece& piece = trajectory.pieces()[p];
        const Packing::Place place = place_of(*piece.chunk, piece.offset);
        to.piece_chunk.push_back(place.id);
        to.piece_offset.push_back(place.offset);
        to.piece_length.push_back(piece.length);
      }
    } else {
      const Packing::Place place = place_of(*slots_[item.chunk], item.offset);
      to.chunk_id[row] = place.id;
      to.offset[row] = place.offset;
    }
    to.key[row] = ItemStore::KeyOf(item, slot);
    to.length[row] = view.items.length.Get(slot);
    to.priority[row] = view.items.priority.Get(slot);
    to.times_sampled[row] = item.times_sampled;
    if (view.has_heap) to.touched[row] = view.touched[slot];
    ++row;
  }
  state.free_keys = view.items.FreeKeys();
  state.next_slot = view.items.cursor;
  return state;
}

std::shared_ptr<const Chunk> Snapshot::whole(std::size_t row) const {
  const Chunk* const chunk = packing_->chunks()[row].whole;
  if (store_->updates() != Store::Updates::kNone) return nullptr;  // it may change meanwhile
  return chunk == nullptr ? nullptr : chunk->shared_from_this();
}

void Snapshot::Copy(std::size_t row, std::uint8_t* to) const {
  const Packing::Packed& chunk = packing_->chunks()[row];
  const std::size_t record_nbytes = chunk.layout->record_nbytes();
  if (record_nbytes == 0) return;
  const std::size_t some = std::max<std::size_t>(1, kCopiedAtOnce / record_nbytes);
  const auto copy = [&](const Packing::Part& part) {
    for (std::size_t first = part.first; first < part.end; first += some) {
      const std::size_t nbytes = std::min<std::size_t>(some, part.end - first) * record_nbytes;
      const Store::Copying copying(store_.get());
      std::memcpy(to, part.chunk->record(static_cast<std::uint32_t>(first)), nbytes);
      to += nbytes;
    }
  };
  if (chunk.whole != nullptr) copy({chunk.whole, 0, chunk.count});
  for (const Packing::Part& part : chunk.parts) copy(part);
}

}  // namespace reverie
