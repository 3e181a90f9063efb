#ifndef REVERIE_TESTS_TIDY_SCENE_H_
#define REVERIE_TESTS_TIDY_SCENE_H_

// Records and cells that are large, as a store of few bytes is never tidied, and of which
// every byte tells which they are: of what stream, and which of its steps.

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "check.h"
#include "quiet.h"
#include "saved.h"
#include "writers/trajectory_writer.h"
#include "writers/writer.h"

namespace reverie_test {

constexpr std::size_t kWords = 125;  // of a record
constexpr std::size_t kRecordNbytes = 8 * kWords;

inline std::uint64_t Id(std::uint64_t source, std::uint64_t number) {
  return source << 32 | number;
}
inline std::uint64_t Word(std::uint64_t id, std::size_t i) {
  return i == 0 ? id : (id + i) * 0x9e3779b97f4a7c15u;
}
using Words = std::array<std::uint64_t, kWords>;
inline Words WordsOf(std::uint64_t id) {
  Words words;
  for (std::size_t i = 0; i < kWords; ++i) words[i] = Word(id, i);
  return words;
}
// Which record or cell it is; checks that all its bytes are that one's.
inline std::uint64_t IdOf(const std::uint8_t* bytes, std::size_t nbytes) {
  Words words;
  REQUIRE(nbytes % 8 == 0 && nbytes >= 8 && nbytes <= kRecordNbytes);
  std::memcpy(words.data(), bytes, nbytes);
  bool whole = true;
  for (std::size_t i = 1; i < nbytes / 8; ++i) whole = whole && words[i] == Word(words[0], i);
  CHECK(whole);
  return words[0];
}

inline const std::shared_ptr<const RecordLayout> kLarge = std::make_shared<RecordLayout>(
    std::vector<std::size_t>{8, kRecordNbytes - 8}, std::vector<std::uint32_t>{1, 2});

inline std::vector<std::uint8_t> LargePad() {
  const Words words = WordsOf(kPad);
  std::vector<std::uint8_t> record(kRecordNbytes);
  std::memcpy(record.data(), words.data(), kRecordNbytes);
  return record;
}

// Columns of a trajectory writer: large cells, small ones, and such of any size.
constexpr std::size_t kCellWords[] = {kWords, 3, 0};
inline std::size_t CellWords(std::size_t column, std::uint64_t number) {
  return kCellWords[column] != 0 ? kCellWords[column] : 1 + number % 9;
}
inline std::shared_ptr<const RecordLayout> CellLayout(std::size_t column) {
  static const std::shared_ptr<const RecordLayout> layouts[] = {
      std::make_shared<RecordLayout>(std::vector<std::size_t>{8 * kCellWords[0]},
                                     std::vector<std::uint32_t>{1}),
      std::make_shared<RecordLayout>(std::vector<std::size_t>{8 * kCellWords[1]},
                                     std::vector<std::uint32_t>{2}),
      nullptr};
  return layouts[column];
}

// What an item holds: the records of its window, or the cells of each of its columns.
using Ids = std::vector<std::vector<std::uint64_t>>;

inline void AddIds(const Chunk& chunk, std::uint32_t offset, std::uint32_t length,
                   std::vector<std::uint64_t>* ids) {
  for (std::uint32_t i = offset; i < offset + length; ++i) {
    ids->push_back(IdOf(chunk.record(i), chunk.layout->record_nbytes()));
  }
}

inline Ids Read(const SampledItem& item) {
  Ids ids;
  if (item.trajectory == nullptr) {
    ids.emplace_back();
    const Chunk* chunk = item.chunk;
    std::uint32_t offset = item.offset;
    for (std::uint32_t left = item.length; left != 0; offset = 0) {
      REQUIRE(chunk != nullptr && offset < chunk->capacity);
      const std::uint32_t here = std::min<std::uint32_t>(left, chunk->capacity - offset);
      AddIds(*chunk, offset, here, &ids[0]);
      left -= here;
      if (left != 0) chunk = chunk->next;
    }
    return ids;
  }
  const Piece* piece = item.trajectory->pieces();
  for (std::uint32_t c = 0; c < item.trajectory->num_columns; ++c) {
    ids.emplace_back();
    for (std::uint32_t p = item.trajectory->columns()[c].num_pieces; p != 0; --p, ++piece) {
      AddIds(*piece->chunk, piece->offset, piece->length, &ids.back());
    }
  }
  return ids;
}

// The ends of episodes within a window, by the place of their step in it.
using WindowEnds = std::map<std::uint32_t, How>;

// All items of a table as a snapshot has them.
struct InSnapshot {
  Ids ids;
  WindowEnds ends;
};
inline std::map<std::uint64_t, InSnapshot> Decode(const Snapshot& snapshot, std::size_t table) {
  const Saved saved = Save(snapshot);
  std::map<std::uint64_t, const SavedChunk*> by_id;
  for (const SavedChunk& chunk : saved.chunks) by_id[chunk.id] = &chunk;
  std::map<std::uint64_t, std::map<std::uint32_t, How>> ends;
  for (std::size_t i = 0; i < saved.ends.chunk.size(); ++i) {
    ends[saved.ends.chunk[i]][saved.ends.step[i]] = static_cast<How>(saved.ends.how[i]);
  }
  const auto read = [&](std::uint64_t id, std::uint32_t offset, std::uint32_t length,
                        std::vector<std::uint64_t>* ids, WindowEnds* of_window) {
    for (std::uint32_t i = 0; i < length; ++i, ++offset) {
      REQUIRE(by_id.count(id) == 1);
      const SavedChunk* chunk = by_id[id];
      if (offset == chunk->count) {  // a window goes on in the next one
        id = chunk->next;
        offset = 0;
        REQUIRE(by_id.count(id) == 1);
        chunk = by_id[id];
      }
      const std::size_t nbytes = chunk->bytes.size() / chunk->count;
      REQUIRE(offset < chunk->count);
      ids->push_back(IdOf(&chunk->bytes[offset * nbytes], nbytes));
      const auto end = ends[id].find(offset);
      if (of_window != nullptr && end != ends[id].end()) (*of_window)[i] = end->second;
    }
  };
  std::map<std::uint64_t, InSnapshot> items;
  const ItemColumns& of = snapshot.tables[table].items;
  std::size_t trajectory = 0, column = 0, piece = 0;
  for (std::size_t row = 0; row < of.key.size(); ++row) {
    InSnapshot& item = items[of.key[row]];
    if (trajectory == of.traj_item.size() || of.traj_item[trajectory] != row) {
      item.ids.emplace_back();
      read(of.chunk_id[row], of.offset[row], of.length[row], &item.ids[0], &item.ends);
      continue;
    }
    ++trajectory;
    for (; column < of.column_item.size() && of.column_item[column] == row; ++column) {
      item.ids.emplace_back();
      for (std::uint32_t p = of.column_pieces[column]; p != 0; --p, ++piece) {
        read(of.piece_chunk[piece], of.piece_offset[piece], of.piece_length[piece],
             &item.ids.back(), nullptr);
      }
    }
  }
  return items;
}

// Has the store tidied, whatever it has found lately: by this thread, or by the keeper,
// for which this one waits. Returns whether anything was moved.
inline bool TidyNow(Store* store) {
  std::uint64_t before;
  {
    Store::Locked locked = store->Lock();
    before = locked.chunks().last_id();
    locked.chunks().LookAgain();
  }
  store->Tidy();
  Settle(store);
  return store->Lock().chunks().last_id() != before;
}

// What is counted of each chunk, and of all of them; `keeper`: while it may be tidying.
inline void CheckSums(Store* store, const std::vector<std::shared_ptr<Table>>& tables,
                      bool keeper = false) {
  std::map<const Chunk*, std::uint32_t> refs;
  std::map<const Chunk*, std::set<std::uint32_t>> held;
  std::uint64_t num_chunks = 0, num_steps = 0, nbytes = 0, allocated = 0;
  Store::Locked locked = store->Lock();
  ChunkStore& chunks = locked.chunks();
  const auto hold = [&](const Chunk* chunk, std::uint32_t offset, std::uint32_t length) {
    CHECK(length != 0 && offset + length <= chunk->count);
    ++refs[chunk];
    for (std::uint32_t i = offset; i < offset + length; ++i) held[chunk].insert(i);
  };
  for (const auto& table : tables) {
    table->VisitSlots(
        0, table->num_slots(),
        [&](std::uint32_t, const Item& item, std::uint32_t length, const Trajectory* trajectory) {
          for (std::uint32_t p = 0; trajectory != nullptr && p < trajectory->num_pieces; ++p) {
            const Piece& piece = trajectory->pieces()[p];
            hold(piece.chunk, piece.offset, piece.length);
          }
          if (trajectory != nullptr) return;
          const Chunk* chunk = chunks.at(item.chunk);
          std::uint32_t offset = item.offset;
          for (std::uint32_t left = length; left != 0; offset = 0) {
            const std::uint32_t here = std::min<std::uint32_t>(left, chunk->capacity - offset);
            hold(chunk, offset, here);
            if ((left -= here) != 0) chunk = chunk->next;
          }
        });
  }
  for (std::uint32_t slot = 0; slot < chunks.num_slots(); ++slot) {
    const Chunk* const chunk = chunks.at(slot);
    if (chunk == nullptr) continue;
    const std::size_t record_nbytes = chunk->layout->record_nbytes();
    ++num_chunks;
    num_steps += chunk->count;
    nbytes += chunk->count * record_nbytes;
    allocated += chunk->capacity * record_nbytes;
    CHECK_EQ(chunk->slot, slot);
    CHECK_EQ(chunk->refs, chunk->writers + refs[chunk]);
    CHECK(chunk->count <= chunk->capacity);
    CHECK(chunk->sealed || chunk->writers != 0);
    // While it moves what is held, its marks are its own, and items that leave while it
    // looks are told of the next time.
    if (!keeper) {
      CHECK(!chunk->leaving);
      CHECK(chunk->writers != 0 || chunk->held <= held[chunk].size());
    }
    CHECK(std::is_sorted(chunk->ends.begin(), chunk->ends.end(),
                         [](const auto& a, const auto& b) { return a.step < b.step; }));
    refs.erase(chunk);
  }
  CHECK(refs.empty());  // of chunks that are gone
  CHECK_EQ(chunks.num_chunks(), num_chunks);
  CHECK_EQ(chunks.num_steps(), num_steps);
  CHECK_EQ(chunks.record_nbytes(), nbytes);
  CHECK_EQ(chunks.allocated_nbytes(), allocated);
}

}  // namespace reverie_test

#endif  // REVERIE_TESTS_TIDY_SCENE_H_
