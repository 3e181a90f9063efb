#include "storage/chunk_store.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <new>
#include <set>

#include "check.h"

namespace reverie_test {
namespace {

const std::shared_ptr<const RecordLayout> kLayout = StepLayout();

Chunk* Filled(ChunkStore* chunks, std::uint32_t capacity) {
  Chunk* chunk = chunks->Create(kLayout, capacity);
  for (std::uint32_t i = 0; i < capacity; ++i) {
    Pack(*kLayout, Step(chunk->id * 1000 + i), chunk->record(i));
  }
  chunks->Publish(chunk, capacity);
  return chunk;
}

// A chain of chunks, as one writer leaves it.
std::vector<Chunk*> Chain(ChunkStore* chunks, const std::vector<std::uint32_t>& capacities) {
  std::vector<Chunk*> chain;
  for (const std::uint32_t capacity : capacities) {
    chain.push_back(Filled(chunks, capacity));
    if (chain.size() > 1) chain[chain.size() - 2]->next = chain.back();
  }
  return chain;
}

std::vector<std::uint32_t> Refs(const std::vector<Chunk*>& chain) {
  std::vector<std::uint32_t> refs;
  for (const Chunk* chunk : chain) refs.push_back(chunk->refs);
  return refs;
}

TEST(AWindowReferencesTheChunksItTouches) {
  struct Case {
    std::uint32_t offset, length;
    std::vector<std::uint32_t> refs;
  };
  ChunkStore chunks;
  const std::vector<Chunk*> chain = Chain(&chunks, {4, 1, 2, 8});
  using Refs4 = std::vector<std::uint32_t>;
  for (const Case& c :
       {Case{0, 1, Refs4{2, 1, 1, 1}}, Case{0, 4, Refs4{2, 1, 1, 1}}, Case{3, 1, Refs4{2, 1, 1, 1}},
        Case{3, 2, Refs4{2, 2, 1, 1}}, Case{3, 3, Refs4{2, 2, 2, 1}}, Case{3, 4, Refs4{2, 2, 2, 1}},
        Case{0, 8, Refs4{2, 2, 2, 2}}, Case{0, 15, Refs4{2, 2, 2, 2}}}) {
    Garbage garbage;
    chunks.RefWindow(chain[0], c.offset, c.length);
    CHECK_EQ(Refs(chain), c.refs);
    chunks.UnrefWindow(chain[0], c.offset, c.length, &garbage);
    CHECK_EQ(Refs(chain), (Refs4{1, 1, 1, 1}));
  }
}

TEST(UnreferencedChunksAreGarbageAtOnceWithoutReaders) {
  ChunkStore chunks;
  const std::vector<Chunk*> chain = Chain(&chunks, {2, 2});
  std::weak_ptr<Chunk> first = chunks.share(chain[0]->slot);
  {
    Garbage garbage;
    chunks.Unref(chain[0], &garbage);
    CHECK_EQ(chunks.num_chunks(), 1u);
    CHECK(!first.expired());  // until the caller has dropped the lock
    CHECK(garbage.front() != nullptr);
  }
  CHECK(first.expired());
}

TEST(TotalsFollowTheChunks) {
  ChunkStore chunks;
  Garbage garbage;
  Chunk* full = Filled(&chunks, 3);
  Chunk* open = chunks.Create(kLayout, 10);
  chunks.Publish(open, 4);
  CHECK_EQ(chunks.num_chunks(), 2u);
  CHECK_EQ(chunks.num_steps(), 7u);
  CHECK_EQ(chunks.record_nbytes(), 7 * kStepNbytes);
  CHECK_EQ(chunks.allocated_nbytes(), 13 * kStepNbytes);
  chunks.Unref(full, &garbage);
  CHECK_EQ(chunks.num_steps(), 4u);
  CHECK_EQ(chunks.allocated_nbytes(), 10 * kStepNbytes);
  chunks.Unref(open, &garbage);
  CHECK_EQ(chunks.num_chunks() + chunks.num_steps() + chunks.record_nbytes(), 0u);
  CHECK_EQ(chunks.allocated_nbytes(), 0u);
}

TEST(SlotsAreUsedAgainAndIdsNever) {
  ChunkStore chunks;
  std::set<std::uint64_t> ids;
  for (int i = 0; i < 1000; ++i) {
    Garbage garbage;
    Chunk* chunk = chunks.Create(kLayout, 1);
    CHECK(ids.insert(chunk->id).second);
    CHECK_EQ(chunks.at(chunk->slot)->id, chunk->id);
    chunks.Unref(chunk, &garbage);
  }
  CHECK_EQ(chunks.num_slots(), 1u);
  CHECK(ids.count(0) == 0);
  CHECK_EQ(chunks.Create(kLayout, 1, 5000)->id, 5000u);
  CHECK_EQ(chunks.Create(kLayout, 1, 4000)->id, 4000u);
  CHECK_EQ(chunks.Create(kLayout, 1)->id, 5001u);  // after the highest
}

// A freed chunk, and the readers that were inside when it was freed.
struct Freed {
  std::weak_ptr<Chunk> chunk;
  const std::uint8_t* bytes;
  std::uint64_t counter;  // of its first record
  std::set<std::uint64_t> readers;
};

// Random readers come and go while chunks are freed. `late`: the model believes,
// wrongly, that a reader that came after a chunk was freed keeps it, too.
void RunEpochs(std::uint64_t seed, bool late) {
  Rng rng(seed);
  ChunkStore chunks;
  std::vector<Chunk*> live;
  std::set<std::uint64_t> inside;
  std::vector<Freed> freed;
  for (int i = 0; i < 3000; ++i) {
    Garbage garbage;
    switch (rng.Below(4)) {
      case 0:
        live.push_back(Filled(&chunks, 1 + rng.Below(4)));
        break;
      case 1:
        if (!live.empty()) {
          const std::uint32_t index = rng.Below(static_cast<std::uint32_t>(live.size()));
          Chunk* chunk = live[index];
          freed.push_back({chunks.share(chunk->slot), chunk->record(0), chunk->id * 1000, inside});
          live.erase(live.begin() + index);
          chunks.Unref(chunk, &garbage);
        }
        break;
      case 2:
        if (inside.size() < 6) {
          inside.insert(chunks.Enter());
          if (late) {
            for (Freed& entry : freed) entry.readers.insert(*inside.rbegin());
          }
        }
        break;
      default:
        if (!inside.empty()) {
          auto reader = inside.begin();
          std::advance(reader, rng.Below(static_cast<std::uint32_t>(inside.size())));
          chunks.Exit(*reader, &garbage);
          for (Freed& entry : freed) entry.readers.erase(*reader);
          inside.erase(reader);
        }
    }
    garbage.Free();
    for (auto entry = freed.begin(); entry != freed.end();) {
      // One that came before the chunk was freed keeps it; and, as chunks leave in
      // the order they were freed, so does one that keeps an earlier chunk.
      const bool kept =
          std::any_of(freed.begin(), entry + 1, [](const Freed& f) { return !f.readers.empty(); });
      CHECK_EQ(entry->chunk.expired(), !kept);
      if (entry->chunk.expired()) {
        entry = freed.erase(entry);
        continue;
      }
      std::uint64_t counter;  // readable, as the sanitizer would tell
      std::memcpy(&counter, entry->bytes, sizeof(counter));
      CHECK_EQ(counter, entry->counter);
      ++entry;
    }
  }
  CHECK_EQ(chunks.num_chunks(), live.size());
}

TEST(BytesStayWhileAReaderThatSawThemIsInside) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) RunEpochs(seed, false);
}

TEST(TheCheckSeesAChunkFreedAtAnotherTime) {
  CHECK(Fails([] { RunEpochs(1, true); }));
}

TEST(AChunkOfMoreBytesThanCanBeCountedIsRefused) {
  ChunkStore chunks;
  const auto layout =
      std::make_shared<RecordLayout>(std::vector<std::size_t>{std::size_t{1} << 33});
  bool refused = false;
  try {
    chunks.Create(layout, 1u << 31);  // their product is 0 in 64 bits
  } catch (const std::bad_alloc&) {
    refused = true;
  }
  CHECK(refused);
  CHECK_EQ(chunks.num_chunks(), 0u);
}

TEST(LongQueuesAreFreedWithoutRecursion) {
  ChunkStore chunks;
  std::vector<Chunk*> live;
  for (int i = 0; i < 200000; ++i) live.push_back(chunks.Create(kLayout, 1));
  {
    Garbage garbage;
    for (int i = 0; i < 100000; ++i) chunks.Unref(live[static_cast<std::size_t>(i)], &garbage);
  }
  const std::uint64_t epoch = chunks.Enter();
  Garbage none;
  for (int i = 100000; i < 200000; ++i) chunks.Unref(live[static_cast<std::size_t>(i)], &none);
  CHECK(none.front() == nullptr);
  Garbage all;
  chunks.Exit(epoch, &all);
  CHECK(all.front() != nullptr);
  CHECK_EQ(chunks.num_chunks(), 0u);
}

TEST(RetiredChunksAreFreedWithTheirStore) {
  std::weak_ptr<Chunk> chunk;
  {
    ChunkStore chunks;
    Garbage garbage;
    Chunk* one = Filled(&chunks, 1);
    chunk = chunks.share(one->slot);
    chunks.Enter();
    chunks.Unref(one, &garbage);
    CHECK(!chunk.expired());
  }
  CHECK(chunk.expired());
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
