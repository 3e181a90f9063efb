#include "tidy.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "store.h"

namespace reverie {
namespace {

constexpr std::uint32_t kSlotsAtOnce = 1024;
constexpr std::uint64_t kFewIdle = std::uint64_t{1} << 16;
constexpr std::uint64_t kLeastAtOnce = std::uint64_t{1} << 22;
// A chunk of which less than one part in so many is idle is left where it is.
constexpr std::uint64_t kSparse = 16;

// For a Coverage: at least as many as there are records, whoever appends meanwhile.
std::uint32_t CapacityOf(const Chunk& chunk) { return chunk.capacity; }

}  // namespace

// Calls visit(table, first slot, end, locked) for all slots, with the mutex held for a few
// of them at a time.
template <typename Visitor>
void Tidy::EachTable(const Visitor& visit) {
  for (const std::shared_ptr<Table>& table : tables_) {
    for (std::uint32_t first = 0;; first += kSlotsAtOnce) {
      store_->GiveWay();
      if (store_->leaving()) return;
      Store::Locked locked = store_->Lock();
      if (first >= table->num_slots()) break;
      visit(table.get(), first, first + kSlotsAtOnce, &locked);
    }
  }
}

void Tidy::Run() {
  Store::Visit visit(store_);  // what is seen stays readable
  {
    Store::Locked locked = store_->Lock();
    visit.Enter(&locked);
    last_id_ = locked.chunks().last_id();
    removals_ = locked.chunks().removals();
    num_items_ = locked.chunks().num_steps();
  }
  struct Done {  // whatever comes of it
    Tidy* tidy;
    ~Done() {
      Store::Locked locked = tidy->store_->Lock();
      locked.chunks().Looked(tidy->in_vain_, tidy->num_items_, tidy->removals_);
    }
  } done{this};
  // A window that is moved takes copies of its steps along, where others have them, too.
  if (store_->updates() == Store::Updates::kShared) return;
  num_items_ = 0;
  Look();
  // What was not looked at must not be taken for idle.
  if (store_->leaving()) return;
  Choose();
  while (!store_->leaving() && Move()) continue;
}

// Learns which records are held, of all chunks that there were when it began.
void Tidy::Look() {
  std::uint32_t num_slots = 0;
  for (std::uint32_t first = 0;; first += kSlotsAtOnce) {
    store_->GiveWay();
    Store::Locked locked = store_->Lock();
    ChunkStore& chunks = locked.chunks();
    num_slots = chunks.num_slots();
    if (first >= num_slots) break;
    for (std::uint32_t slot = first; slot < std::min(first + kSlotsAtOnce, num_slots); ++slot) {
      Chunk* const chunk = chunks.at(slot);
      if (chunk == nullptr || chunk->id > last_id_ || chunk->writers != 0) continue;
      if (!chunk->layout->any_size()) seen_.push_back({chunk, chunk->held});
    }
  }
  coverage_ = std::make_unique<Coverage>(num_slots);
  EachTable([&](Table* table, std::uint32_t first, std::uint32_t end, Store::Locked* locked) {
    table->VisitSlots(
        first, end,
        [&](std::uint32_t, const Item& item, std::uint32_t length, const Trajectory* trajectory) {
          ++num_items_;
          if (trajectory != nullptr) {
            const Piece* const pieces = trajectory->pieces();
            for (std::uint32_t p = 0; p < trajectory->num_pieces; ++p) {
              if (pieces[p].chunk->id > last_id_) continue;
              coverage_->Mark(*pieces[p].chunk, pieces[p].offset, pieces[p].length, CapacityOf);
            }
            return;
          }
          Chunk* const chunk = locked->chunks().at(item.chunk);
          if (chunk->id > last_id_) return;
          EachPart(chunk, item.offset, length, [&](Chunk* one, std::uint32_t at, std::uint32_t n) {
            if (one->id > last_id_) return;
            coverage_->Mark(*one, at, n, CapacityOf);
            if (one == chunk && n != length) crossings_.push_back({chunk, item.offset, length});
          });
        });
  });
}

// Those chunks that are to be left: the most idle first, until little is idle.
void Tidy::Choose() {
  std::uint64_t idle = 0;
  LargeVector<std::pair<double, Chunk*>> sparse;
  // What a chunk costs by itself counts as idle where they are too many.
  std::uint64_t by_itself = 0;
  {
    Store::Locked locked = store_->Lock();
    if (locked.chunks().has_many()) by_itself = ChunkStore::kChunkNbytes;
  }
  for (std::size_t first = 0; first < seen_.size(); first += kSlotsAtOnce) {
    store_->GiveWay();
    Store::Locked locked = store_->Lock();
    const std::size_t end = std::min<std::size_t>(first + kSlotsAtOnce, seen_.size());
    for (std::size_t i = first; i < end; ++i) {
      Chunk* const chunk = seen_[i].chunk;
      if (chunk->refs == 0 || !coverage_->has(chunk->slot)) continue;
      const std::uint32_t held = coverage_->Held(chunk->slot, chunk->count);
      // What has left since is not held: too much for what left before it was looked at.
      const std::uint32_t left = seen_[i].held - std::min(seen_[i].held, chunk->held);
      locked.chunks().SetHeld(chunk, held - std::min(held, left));
      const std::size_t record_nbytes = chunk->layout->record_nbytes();
      const std::uint64_t idle_here = (chunk->count - held) * record_nbytes + by_itself;
      const std::uint64_t all_here = chunk->count * record_nbytes + by_itself;
      idle += idle_here;
      if (idle_here <= all_here / kSparse) continue;
      sparse.emplace_back(static_cast<double>(idle_here) / static_cast<double>(all_here), chunk);
    }
  }
  Store::Locked locked = store_->Lock();
  const std::uint64_t stored = locked.chunks().record_nbytes();
  const std::uint64_t enough = stored / kSparse + kFewIdle;
  in_vain_ = idle <= enough;
  std::sort(sparse.begin(), sparse.end(), [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second->id < b.second->id;
  });
  for (const auto& one : sparse) {
    if (idle <= enough / 2) break;
    chosen_.push_back(one.second);
    const std::uint64_t all_here =
        one.second->count * one.second->layout->record_nbytes() + by_itself;
    idle -= std::min(idle, static_cast<std::uint64_t>(one.first * static_cast<double>(all_here)));
  }
  std::reverse(chosen_.begin(), chosen_.end());
  at_once_ = std::max(kLeastAtOnce, stored / kSparse);
}

// Whether a window reaches into a chunk that is being left.
bool Tidy::Touches(const Chunk* chunk, std::uint32_t offset, std::uint32_t length) {
  bool touched = false;
  EachPart(chunk, offset, length, [&touched](const Chunk* one, std::uint32_t, std::uint32_t) {
    touched = touched || one->leaving;
  });
  return touched;
}

Chunk* Tidy::Moved(const Chunk& chunk, std::uint32_t offset, std::uint32_t* to) const {
  if (!packing_->moved(chunk)) return nullptr;
  const Packing::Place place = packing_->Find(chunk, offset);
  *to = place.offset;
  return homes_.at(place.id);
}

bool Tidy::Move() {
  LargeVector<Chunk*> leaving;
  struct Cleanup {
    Store* store;
    LargeVector<Chunk*>* leaving;
    std::unordered_map<std::uint64_t, Chunk*>* homes;
    std::unique_ptr<Coverage> arrived{};  // what items came to hold there
    bool all = false;                     // that was to be moved was
    ~Cleanup() {
      Store::Locked locked = store->Lock();
      for (Chunk* const chunk : *leaving) chunk->leaving = false;
      for (const auto& home : *homes) {
        if (home.second == nullptr) continue;
        // Less than was copied, where items have left meanwhile.
        const Chunk& chunk = *home.second;
        const bool any = all && arrived->has(chunk.slot);
        if (all) {
          locked.chunks().SetHeld(home.second, any ? arrived->Held(chunk.slot, chunk.count) : 0);
        }
        locked.chunks().Leave(home.second);
        locked.chunks().Unref(home.second, locked.garbage());
      }
      homes->clear();
    }
  } cleanup{store_, &leaving, &homes_};

  // What is to be copied: what is held of the chunks, and windows that reach into them.
  std::uint32_t num_slots = 0;
  {
    Store::Locked locked = store_->Lock();
    num_slots = locked.chunks().num_slots();
    std::uint64_t nbytes = 0;
    for (; !chosen_.empty() && nbytes < at_once_; chosen_.pop_back()) {
      Chunk* const chunk = chosen_.back();
      if (chunk->refs == 0) continue;
      nbytes += chunk->held * chunk->layout->record_nbytes();
      leaving.push_back(chunk);
    }
  }
  if (leaving.empty()) return false;
  Coverage wanted(num_slots);
  LargeVector<Chunk*> by_slot(num_slots, nullptr);
  for (Chunk* const chunk : leaving) {
    chunk->leaving = true;
    by_slot[chunk->slot] = chunk;
    wanted.Add(*coverage_, *chunk, chunk->count);
  }
  for (const Crossing& window : crossings_) {
    if (!Touches(window.chunk, window.offset, window.length)) continue;
    EachPart(window.chunk, window.offset, window.length,
             [&](Chunk* one, std::uint32_t at, std::uint32_t n) {
               wanted.Mark(*one, at, n, CapacityOf);
               by_slot[one->slot] = one;
             });
  }
  const std::unique_lock<Mutex> moving = store_->Moving();
  std::unordered_map<std::uint32_t, Packing::Open> open;
  {
    Store::Locked locked = store_->Lock();
    for (const std::uint32_t slot : wanted.slots()) {
      const Chunk& chunk = *by_slot[slot];
      if (!chunk.sealed) open[slot] = {chunk.count, {chunk.ends.begin(), chunk.ends.end()}};
    }
  }
  packing_ = std::make_unique<Packing>(wanted, open, true,
                                       [&](std::uint32_t slot) { return by_slot[slot]; });
  if (store_->leaving()) return false;
  // The copies; nobody knows them yet.
  for (const Packing::Packed& packed : packing_->chunks()) {
    Chunk*& home = homes_[packed.id];  // first, as whom nobody knows nobody would free
    {
      Store::Locked locked = store_->Lock();
      home = locked.chunks().Create(packed.parts[0].chunk->layout, packed.count);
      locked.chunks().Join(home);
    }
    std::uint8_t* to = home->record(0);
    for (const Packing::Part& part : packed.parts) {
      const std::size_t part_nbytes = (part.end - part.first) * packed.layout->record_nbytes();
      if (part_nbytes != 0) std::memcpy(to, part.chunk->record(part.first), part_nbytes);
      to += part_nbytes;
    }
    std::vector<Chunk::End> ends(packed.ends.begin(), packed.ends.end());
    Store::Locked locked = store_->Lock();
    home->ends = std::move(ends);
    locked.chunks().Publish(home, packed.count);
    locked.chunks().Seal(home);
  }
  // A long stretch is in several, one after the other.
  for (const Packing::Packed& packed : packing_->chunks()) {
    if (packed.next == 0) continue;
    const Store::Locked locked = store_->Lock();
    homes_.at(packed.id)->GoOnIn(homes_.at(packed.next));
  }
  {
    Store::Locked locked = store_->Lock();
    cleanup.arrived = std::make_unique<Coverage>(locked.chunks().num_slots());
  }
  EachTable([&](Table* table, std::uint32_t first, std::uint32_t end, Store::Locked* locked) {
    table->VisitSlots(
        first, end,
        [&](std::uint32_t slot, const Item& item, std::uint32_t length,
            const Trajectory* trajectory) {
          std::uint32_t to = 0;
          if (trajectory != nullptr) {
            const Piece* const pieces = trajectory->pieces();
            const auto leaves = [](const Piece& piece) { return piece.chunk->leaving; };
            if (!std::any_of(pieces, pieces + trajectory->num_pieces, leaves)) return;
            OwnTrajectory copy = Trajectory::New(store_->item_arena(), trajectory->episode,
                                                 trajectory->num_columns, trajectory->num_pieces);
            std::uninitialized_copy_n(pieces, trajectory->num_pieces, copy->pieces());
            std::uninitialized_copy_n(trajectory->columns(), trajectory->num_columns,
                                      copy->columns());
            for (std::uint32_t p = 0; p < copy->num_pieces; ++p) {
              Piece& piece = copy->pieces()[p];
              if (!piece.chunk->leaving) continue;
              piece.chunk = Moved(*piece.chunk, piece.offset, &to);
              piece.offset = to;
              cleanup.arrived->Mark(*piece.chunk, to, piece.length, CapacityOf);
            }
            table->MoveItem(slot, std::move(copy), locked->garbage());
            return;
          }
          Chunk* const chunk = locked->chunks().at(item.chunk);
          if (!Touches(chunk, item.offset, length)) return;
          Chunk* const home = Moved(*chunk, item.offset, &to);
          if (home == nullptr) return;
          cleanup.arrived->MarkWindow(home, to, length, CapacityOf);
          table->MoveItem(slot, home, to, locked->garbage());
        });
  });
  cleanup.all = true;
  return true;
}

}  // namespace reverie
