#include "packing.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>

#include "check.h"

namespace reverie_test {
namespace {

// Chains of chunks of some streams, of two layouts, with ends; and windows that are held.
// The records tell which they are.
struct World {
  struct Options {
    std::uint32_t streams;
    std::uint32_t chunks;      // of each stream
    std::uint32_t most;        // records of a chunk
    std::uint32_t held;        // of a hundred windows, one after the other
    bool uneven = false;       // of every third chunk there are few
    bool long_stream = false;  // it never breaks, and a window is over each seam
  };
  struct Record {
    Chunk* chunk;
    std::uint32_t offset;
    std::uint64_t number;
    bool held = false;
    How how = How::kGoesOn;
  };

  std::shared_ptr<const RecordLayout> layouts[2] = {
      StepLayout(), std::make_shared<RecordLayout>(std::vector<std::size_t>{8, 5})};
  ChunkStore chunks;
  std::vector<std::vector<Record>> streams;
  struct Window {
    std::size_t stream, first, length;
  };
  std::vector<Window> windows;
  std::unordered_map<std::uint32_t, Packing::Open> open;
  std::unique_ptr<Coverage> coverage;
  std::unique_ptr<Packing> packing;

  World(const Options& options, std::uint64_t seed) {
    Rng rng(seed);
    streams.resize(options.streams);
    std::vector<Chunk*> last(options.streams);
    // The streams take turns, so that their chunks' ids mix.
    for (std::uint32_t c = 0; c < options.chunks; ++c) {
      for (std::uint32_t s = 0; s < options.streams; ++s) {
        const auto& layout = layouts[s % 2];
        Chunk* const chunk = chunks.Create(layout, 1 + rng.Below(options.most));
        chunk->in_runs = true;
        const bool ends = c + 1 == options.chunks || (!options.long_stream && rng.Below(20) == 0);
        if (last[s] != nullptr) {
          last[s]->next = chunk;
          last[s]->next_id = chunk->id;
          chunks.Seal(last[s]);
        }
        last[s] = ends ? nullptr : chunk;
        const std::uint32_t count = ends ? 1 + rng.Below(chunk->capacity) : chunk->capacity.load();
        for (std::uint32_t i = 0; i < count; ++i) {
          const std::uint64_t number = (std::uint64_t{s} << 32) + streams[s].size();
          std::memset(chunk->record(i), static_cast<int>(number % 251), layout->record_nbytes());
          std::memcpy(chunk->record(i), &number, sizeof(number));
          Record record{chunk, i, number};
          if (rng.Below(15) == 0) record.how = static_cast<How>(1 + rng.Below(4));
          if (ends && i + 1 == count && record.how == How::kGoesOn) record.how = How::kCut;
          if (record.how != How::kGoesOn) chunk->ends.push_back({i, record.how});
          streams[s].push_back(record);
        }
        chunks.Publish(chunk, count);
        if (!ends) continue;
        if (c + 1 == options.chunks && s % 3 == 0) {  // it goes on after the snapshot
          open[chunk->slot] = {count, {chunk->ends.begin(), chunk->ends.end()}};
          if (chunk->count < chunk->capacity) {
            chunk->ends.push_back({chunk->count, How::kEnded});
            chunks.Publish(chunk, 1);
          }
        } else {
          chunks.Trim(chunk);
        }
      }
    }
    for (std::size_t s = 0; s < streams.size(); ++s) Hold(options, s, &rng);
    coverage = std::make_unique<Coverage>(chunks.num_slots());
    const auto count_of = [this](const Chunk& chunk) { return Count(chunk); };
    for (const Window& window : windows) {
      const Record& first = streams[window.stream][window.first];
      coverage->MarkWindow(first.chunk, first.offset, static_cast<std::uint32_t>(window.length),
                           count_of);
    }
    packing = std::make_unique<Packing>(*coverage, open, false,
                                        [this](std::uint32_t slot) { return chunks.at(slot); });
  }

  std::uint32_t Count(const Chunk& chunk) const {
    const auto found = open.find(chunk.slot);
    return found == open.end() ? chunk.count : found->second.count;
  }
  // A window reaches over a seam only where chunks are linked.
  bool Continues(std::size_t s, std::size_t record) const {
    const Record& here = streams[s][record];
    const Record& after = streams[s][record + 1];
    return here.chunk == after.chunk || here.chunk->next == after.chunk;
  }
  void Hold(const Options& options, std::size_t s, Rng* rng) {
    for (std::size_t first = 0; first < streams[s].size();) {
      std::size_t length = 1;
      const std::size_t wanted = 1 + rng->Below(9);
      while (length < wanted && first + length < streams[s].size() &&
             Continues(s, first + length - 1)) {
        ++length;
      }
      const bool few = options.uneven && streams[s][first].chunk->id / streams.size() % 3 == 0;
      if (rng->Below(100) < (few ? 20 : options.held)) {
        windows.push_back({s, first, length});
        for (std::size_t i = first; i < first + length; ++i) streams[s][i].held = true;
      }
      first += 1 + rng->Below(static_cast<std::uint32_t>(length));
    }
    for (std::size_t i = 0; options.long_stream && i + 1 < streams[s].size(); ++i) {
      if (streams[s][i].chunk == streams[s][i + 1].chunk) continue;
      windows.push_back({s, i, 2});
      streams[s][i].held = streams[s][i + 1].held = true;
    }
  }

  const Packing::Packed* ById(std::uint64_t id) const {
    const auto found = std::lower_bound(
        packing->chunks().begin(), packing->chunks().end(), id,
        [](const Packing::Packed& packed, std::uint64_t wanted) { return packed.id < wanted; });
    return found == packing->chunks().end() || found->id != id ? nullptr : &*found;
  }
  // The records of a packed chunk, by way of its parts: which chunk's, and where there.
  static std::vector<std::pair<const Chunk*, std::uint32_t>> Sources(
      const Packing::Packed& packed) {
    std::vector<std::pair<const Chunk*, std::uint32_t>> sources;
    for (std::uint32_t i = 0; packed.whole != nullptr && i < packed.count; ++i) {
      sources.emplace_back(packed.whole, i);
    }
    for (const Packing::Part& part : packed.parts) {
      for (std::uint32_t i = part.first; i < part.end; ++i) sources.emplace_back(part.chunk, i);
    }
    return sources;
  }
  static std::uint64_t NumberAt(const std::pair<const Chunk*, std::uint32_t>& source) {
    std::uint64_t number;
    std::memcpy(&number, source.first->record(source.second), sizeof(number));
    return number;
  }
  const Record& RecordOf(std::uint64_t number) const {
    return streams[number >> 32][number & 0xffffffffu];
  }

  // `wrong`: as if a record that is held were another.
  void Check(bool wrong = false) const {
    std::map<std::uint64_t, std::vector<std::pair<const Chunk*, std::uint32_t>>> sources;
    std::uint64_t previous = 0;
    for (const Packing::Packed& packed : packing->chunks()) {
      CHECK(packed.id > previous);
      previous = packed.id;
      if (packed.next != 0) {
        CHECK(packed.next > packed.id);
        CHECK(ById(packed.next) != nullptr);
      }
      auto& of_chunk = sources[packed.id] = Sources(packed);
      CHECK_EQ(of_chunk.size(), packed.count);
      CHECK(packed.count != 0);
      if (packed.whole != nullptr) {
        CHECK_EQ(packed.id, packed.whole->id);
        CHECK_EQ(packed.sealed, open.count(packed.whole->slot) == 0);
      } else {
        CHECK(packed.sealed);
      }
      CheckEnds(packed, of_chunk);
    }
    // Each held record stands where it is found, and nothing that is not held was packed.
    std::uint64_t held = 0, kept = 0;
    std::map<std::uint64_t, int> times;
    for (const auto& stream : streams) {
      for (const Record& record : stream) {
        if (!record.held) continue;
        ++held;
        const Packing::Place place = packing->Find(*record.chunk, record.offset);
        const auto found = sources.find(place.id);
        REQUIRE(found != sources.end() && place.offset < found->second.size());
        const auto& source = found->second[place.offset];
        CHECK_EQ(NumberAt(source), record.number + wrong);
        CHECK(std::memcmp(source.first->record(source.second), record.chunk->record(record.offset),
                          record.chunk->layout->record_nbytes()) == 0);
        CHECK(ById(place.id)->layout == record.chunk->layout.get());
      }
    }
    for (const auto& entry : sources) {
      for (const auto& source : entry.second) {
        ++kept;
        const std::uint64_t number = NumberAt(source);
        CHECK_EQ(++times[number], 1);
        if (ById(entry.first)->whole == nullptr) CHECK(RecordOf(number).held);
      }
    }
    CHECK(kept >= held);
    for (const Window& window : windows) {
      const Record& first = streams[window.stream][window.first];
      Packing::Place place = packing->Find(*first.chunk, first.offset);
      for (std::size_t i = 0; i < window.length; ++i, ++place.offset) {
        if (place.offset == ById(place.id)->count) {
          const std::uint64_t next = ById(place.id)->next;
          REQUIRE(next > place.id);
          place = {next, 0};
        }
        CHECK_EQ(NumberAt(sources[place.id][place.offset]),
                 streams[window.stream][window.first + i].number);
      }
    }
  }
  // An end is where one was, or, as a cut, where a record's successor is another now.
  void CheckEnds(const Packing::Packed& packed,
                 const std::vector<std::pair<const Chunk*, std::uint32_t>>& sources) const {
    std::vector<std::pair<std::uint32_t, How>> expected, found;
    for (std::uint32_t i = 0; i < sources.size(); ++i) {
      const std::uint64_t number = NumberAt(sources[i]);
      const std::uint64_t stream = number >> 32;
      const std::uint64_t at = number & 0xffffffffu;
      if (RecordOf(number).how != How::kGoesOn) {
        expected.emplace_back(i, RecordOf(number).how);
      } else if (i + 1 < sources.size() &&
                 (NumberAt(sources[i + 1]) != number + 1 || !Continues(stream, at))) {
        expected.emplace_back(i, How::kCut);
      }
    }
    for (const Chunk::End& end : packing->ends(packed)) found.emplace_back(end.step, end.how);
    CHECK(found == expected);
  }
  std::uint64_t NumHeld() const {
    std::uint64_t held = 0;
    for (const auto& stream : streams) {
      for (const Record& record : stream) held += record.held;
    }
    return held;
  }
  std::uint64_t NumKept() const {
    std::uint64_t kept = 0;
    for (const Packing::Packed& packed : packing->chunks()) kept += packed.count;
    return kept;
  }
  std::size_t NumWhole() const {
    std::size_t whole = 0;
    for (const Packing::Packed& packed : packing->chunks()) whole += packed.whole != nullptr;
    return whole;
  }
};

TEST(FewChunksWithFewIdleRecordsStayAsTheyAre) {
  for (std::uint64_t seed = 1; seed <= 5; ++seed) {
    World world({5, 10, 40, 100}, seed);
    world.Check();
    CHECK_EQ(world.NumWhole(), world.packing->chunks().size());
    CHECK_EQ(world.NumWhole(), world.coverage->slots().size());
  }
}

TEST(SmallChunksArePackedWhereThereAreMany) {
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    World world({9, 200, 12, 100}, seed);
    CHECK(world.coverage->slots().size() > 1000);
    world.Check();
    CHECK_EQ(world.NumWhole(), 0u);
    CHECK(world.packing->chunks().size() < 20);
    CHECK_EQ(world.NumKept(), world.NumHeld());
  }
}

TEST(SparseChunksArePackedAndFullOnesStay) {
  for (const std::uint32_t held : {3u, 30u, 80u}) {
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      World world({6, 30, 1200, held}, seed);
      world.Check();
      CHECK(world.packing->chunks().size() < world.coverage->slots().size());
      // What nobody holds is at most a part of 32 of what is kept, and 16 KiB.
      const std::uint64_t idle = world.NumKept() - world.NumHeld();
      CHECK(idle <= world.NumKept() / 32 + 16 * 1024 / 13);
    }
  }
}

// Chunks of which most are held whole, among others that are not: windows go on from one
// kind into the other.
TEST(WindowsGoFromWholeChunksIntoPackedOnesAndBack) {
  std::size_t whole = 0, packed = 0, into = 0, back = 0;
  for (std::uint64_t seed = 1; seed <= 12; ++seed) {
    World world({4, 60, 900, 100, true}, seed);
    world.Check();
    for (const Packing::Packed& chunk : world.packing->chunks()) {
      ++(chunk.whole != nullptr ? whole : packed);
      if (chunk.next == 0) continue;
      const bool to_whole = world.ById(chunk.next)->whole != nullptr;
      into += chunk.whole != nullptr && !to_whole;
      back += chunk.whole == nullptr && to_whole;
    }
  }
  CHECK(whole > 20);
  CHECK(packed > 20);
  CHECK(into > 10);
  CHECK(back > 10);
}

TEST(ManySmallAndSparseChunksAtOnce) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    for (const std::uint32_t held : {10u, 50u, 97u}) {
      World world({20, 60, 900, held}, seed);
      CHECK(world.coverage->slots().size() > 512);
      world.Check();
    }
  }
}

// A stream that windows cover from end to end, with gaps, is several chunks all the same.
TEST(WhatIsPackedIsOfAMegabyteAtATime) {
  for (const std::uint32_t streams : {1u, 4u}) {
    World world({streams, 400, 2500, 50, false, true}, 1);
    world.Check();
    std::uint64_t nbytes = 0, linked = 0;
    for (const Packing::Packed& chunk : world.packing->chunks()) {
      const std::uint64_t of_chunk = chunk.count * chunk.layout->record_nbytes();
      CHECK(of_chunk <= 2 << 20);
      nbytes += of_chunk;
      linked +=
          chunk.whole == nullptr && chunk.next != 0 && world.ById(chunk.next)->whole == nullptr;
    }
    CHECK(nbytes > 4 << 20);
    CHECK(world.packing->chunks().size() > 4);
    CHECK(linked >= 4 * streams);
  }
}

TEST(CellsOfAnySizeAreNeverPacked) {
  ChunkStore chunks;
  Coverage coverage(3000);
  std::unordered_map<std::uint32_t, Packing::Open> open;
  const auto count_of = [](const Chunk& chunk) { return chunk.count; };
  for (std::uint32_t i = 0; i < 2000; ++i) {
    const auto layout = std::make_shared<RecordLayout>(std::vector<std::size_t>{i % 30});
    Chunk* const chunk = chunks.Create(layout, 1);
    chunks.Publish(chunk, 1);
    chunks.Seal(chunk);
    coverage.Mark(*chunk, 0, 1, count_of);
  }
  const Packing packing(coverage, open, false, [&](std::uint32_t slot) { return chunks.at(slot); });
  REQUIRE(packing.chunks().size() == 2000);
  for (const Packing::Packed& chunk : packing.chunks()) CHECK(chunk.whole != nullptr);
}

TEST(OfNothingThereIsNothing) {
  const Coverage coverage(0);
  const std::unordered_map<std::uint32_t, Packing::Open> open;
  const Packing packing(coverage, open, false, [](std::uint32_t) -> Chunk* { return nullptr; });
  CHECK(packing.chunks().empty());
}

TEST(CoverageIsWhatAPlainSetWouldBe) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Rng rng(seed);
    ChunkStore chunks;
    Chunk* const chunk = chunks.Create(StepLayout(), 1 + rng.Below(300));
    chunks.Publish(chunk, chunk->capacity);
    std::vector<bool> model(chunk->count);
    Coverage coverage(1);
    CHECK(!coverage.has(0));
    for (std::uint32_t i = rng.Below(12) + 1; i != 0; --i) {
      const std::uint32_t first = rng.Below(chunk->count);
      const std::uint32_t length = 1 + rng.Below(std::min(chunk->count - first, 90u));
      coverage.Mark(*chunk, first, length, [](const Chunk& of) { return of.count; });
      std::fill_n(model.begin() + first, length, true);
    }
    std::vector<bool> found(chunk->count);
    std::uint32_t end = 0;
    for (const Coverage::Range& range : coverage.Ranges(0, chunk->count)) {
      CHECK(range.first < range.end && (end == 0 || range.first > end));
      end = range.end;
      std::fill(found.begin() + range.first, found.begin() + range.end, true);
    }
    CHECK(found == model);
    for (std::uint32_t i = 0; i < chunk->count; ++i) CHECK_EQ(coverage.has(0, i), model[i]);
    CHECK_EQ(coverage.Held(0, chunk->count), std::count(model.begin(), model.end(), true));
  }
}

TEST(TheCheckSeesAnotherRecordALostEndAndAWindowThatIsTorn) {
  const World::Options options{9, 200, 12, 60};
  CHECK_EQ(Fails([&] { World(options, 1).Check(); }), 0);
  CHECK(Fails([&] { World(options, 1).Check(/*wrong=*/true); }));
  CHECK(Fails([&] {  // as if an end had been there that is none
    World world(options, 1);
    for (auto& record : world.streams[0]) {
      if (record.held && record.how == How::kGoesOn) {
        record.how = How::kEnded;
        break;
      }
    }
    world.Check();
  }));
  CHECK(Fails([&] {  // as if a window held one record more
    World world(options, 1);
    for (World::Window& window : world.windows) {
      const std::size_t end = window.first + window.length;
      const auto& stream = world.streams[window.stream];
      if (end == stream.size() || stream[end].held) continue;
      ++window.length;
      break;
    }
    world.Check();
  }));
  CHECK(Fails([&] {  // as if nobody had held a record that is packed
    World world(options, 1);
    for (auto& record : world.streams[0]) {
      if (record.held) {
        record.held = false;
        break;
      }
    }
    world.Check();
  }));
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
