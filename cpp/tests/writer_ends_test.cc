// Where episodes end in the chunks that hold their steps.

#include <algorithm>
#include <optional>

#include "saved.h"
#include "starve.h"
#include "writer_scene.h"

namespace reverie_test {
namespace {

using Items = Writer::Items;

// A step with a discount. Its record is 16 bytes.
struct Discounted {
  std::uint64_t counter;
  std::int32_t type;
  float discount;
  std::array<const void*, 3> columns() const { return {&counter, &type, &discount}; }
};

const std::shared_ptr<const RecordLayout> kDiscounted = std::make_shared<RecordLayout>(
    std::vector<std::size_t>{8, 4, 4}, std::vector<std::uint32_t>{1, 2, 3});

struct End {
  std::uint64_t counter;  // of the episode's last step
  How how;
  bool operator==(const End& other) const { return counter == other.counter && how == other.how; }
};

// The ends in all chunks that a store's items hold, by the counters of their steps.
std::vector<End> Ends(const std::shared_ptr<Store>& store) {
  const auto arranged = Arranged(store);
  const Snapshot& snapshot = *arranged;
  std::vector<End> ends;
  for (std::size_t i = 0; i < snapshot.ends.chunk.size(); ++i) {
    const auto& ids = snapshot.chunks.id;
    const auto row = static_cast<std::size_t>(
        std::find(ids.begin(), ids.end(), snapshot.ends.chunk[i]) - ids.begin());
    REQUIRE(row < ids.size() && snapshot.ends.step[i] < snapshot.chunks.count[row]);
    if (i != 0 && snapshot.ends.chunk[i] == snapshot.ends.chunk[i - 1]) {
      CHECK(snapshot.ends.step[i] > snapshot.ends.step[i - 1]);
    }
    std::uint64_t counter;
    const std::vector<std::uint8_t> bytes = BytesOf(snapshot, row);
    std::memcpy(&counter, bytes.data() + snapshot.ends.step[i] * snapshot.record_nbytes(row),
                sizeof(counter));
    ends.push_back({counter, static_cast<How>(snapshot.ends.how[i])});
  }
  return ends;
}

// Those of all chunks in the store, whether any item holds their steps or not.
std::vector<End> EndsInStore(Store* store) {
  std::vector<End> ends;
  Store::Locked locked = store->Lock();
  for (std::uint32_t slot = 0; slot < locked.chunks().num_slots(); ++slot) {
    const Chunk* const chunk = locked.chunks().at(slot);
    if (chunk == nullptr) continue;
    for (const Chunk::End& end : chunk->ends) {
      std::uint64_t counter;
      std::memcpy(&counter, chunk->record(end.step), sizeof(counter));
      ends.push_back({counter, end.how});
    }
  }
  std::sort(ends.begin(), ends.end(),
            [](const End& a, const End& b) { return a.counter < b.counter; });
  return ends;
}

// A table that takes everything, and a writer with windows of one step, so that all
// chunks are held, in chunks of `capacity` records.
struct Scene {
  std::shared_ptr<Store> store;
  std::shared_ptr<Table> table;
  std::unique_ptr<Writer> writer;
  std::uint64_t next = 0;

  Scene(std::size_t capacity, Items items, std::uint32_t length = 1,
        Padding padding = Padding::kNone, std::uint32_t streams = 1)
      : store(std::make_shared<Store>(Store::Options{capacity * 16, 1})),
        table(store->CreateTable(TableConfig(100000))) {
    Writer::Config config{length,
                          1,
                          1.0,
                          padding != Padding::kNone,
                          padding == Padding::kTile,
                          std::vector<std::uint8_t>(16, 0xff),
                          1,
                          kLastType};
    config.items = items;
    config.num_streams = streams;
    config.discount_column = 2;
    writer = std::make_unique<Writer>(store, kDiscounted,
                                      std::vector<std::shared_ptr<Table>>{table}, config);
  }
  Status Append(std::optional<How> last, std::int32_t type = 1, float discount = 1.0f,
                Writer::Fate* fate = nullptr) {
    const Discounted step{next, type, discount};
    const Status status = writer->Append(step.columns().data(), last, fate);
    next += status.ok();
    return status;
  }
};

TEST(EveryEpisodeHasItsEndWhereverItsChunksDo) {
  for (const Items items : {Items::kWindows, Items::kStream, Items::kEpisodes}) {
    for (const std::size_t capacity : {1u, 2u, 3u, 7u, 200u}) {
      Scene scene(capacity, items, items == Items::kEpisodes ? 6 : 1);
      Rng rng(capacity);
      std::vector<End> expected;
      for (int episode = 0; episode < 60; ++episode) {
        const std::uint32_t steps = 1 + rng.Below(6);
        const auto how = static_cast<How>(1 + rng.Below(4));
        for (std::uint32_t t = 0; t < steps; ++t) {
          REQUIRE(scene.Append(t + 1 == steps ? how : How::kGoesOn).ok());
        }
        expected.push_back({scene.next - 1, how});
        if (rng.Below(3) == 0) {  // which changes nothing, as the episode is over
          std::uint64_t uncovered;
          REQUIRE(scene.writer->Reset(false, &uncovered).ok());
        }
      }
      scene.writer->Close();
      CHECK(Ends(scene.store) == expected);
      expected[7].counter -= 1;  // as if the end were one step off
      CHECK(!(Ends(scene.store) == expected));
    }
  }
}

TEST(AnEpisodeThatStopsIsCutAtItsLastStep) {
  for (const std::size_t capacity : {1u, 2u, 3u, 200u}) {
    for (const Items items : {Items::kWindows, Items::kStream}) {
      for (const bool closes : {true, false}) {
        Scene scene(capacity, items);
        std::vector<End> expected;
        std::uint64_t uncovered;
        const auto stop = [&] {
          if (closes) {
            scene.writer->Close();
          } else {
            REQUIRE(scene.writer->Reset(false, &uncovered).ok());
          }
        };
        stop();  // no step, no end
        for (std::uint32_t steps = 1; steps < 9; ++steps) {
          for (std::uint32_t t = 0; t < steps; ++t) REQUIRE(scene.Append(How::kGoesOn).ok());
          stop();
          stop();
          expected.push_back({scene.next - 1, How::kCut});
        }
        CHECK(Ends(scene.store) == expected);
      }
    }
  }
}

TEST(TheBoundaryColumnAndTheDiscountBeforeTellHowItEnded) {
  for (const std::size_t capacity : {1u, 2u, 5u}) {
    for (const Items items : {Items::kWindows, Items::kStream}) {
      Scene scene(capacity, items);
      const auto episode = [&](const std::vector<float>& discounts) {
        for (std::size_t i = 0; i < discounts.size(); ++i) {
          const bool last = i + 1 == discounts.size();
          REQUIRE(scene.Append(std::nullopt, last ? kLastType : 1, discounts[i]).ok());
        }
      };
      episode({1, 0, 1});  // what the boundary step itself says is of the next episode
      episode({0, 1, 0});
      episode({1, 1, -0.0f, 1});
      episode({0});  // nothing before it, not even the last episode's discount
      episode({1, 0.5f, 0});
      const std::vector<End> expected{{2, How::kTerminated},
                                      {5, How::kTruncated},
                                      {9, How::kTerminated},
                                      {10, How::kEnded},
                                      {13, How::kTruncated}};
      CHECK(Ends(scene.store) == expected);
      // Who is told needs no column.
      REQUIRE(scene.Append(How::kGoesOn, kLastType, 0).ok());
      REQUIRE(scene.Append(How::kTruncated, 1, 0).ok());
      CHECK(Ends(scene.store).back() == (End{15, How::kTruncated}));
      CHECK_EQ(Ends(scene.store).size(), 6u);
    }
  }
}

TEST(WithoutADiscountNobodyKnowsHow) {
  const auto store = std::make_shared<Store>(Store::Options{4096, 1});
  const auto table = store->CreateTable(TableConfig(100));
  Writer writer(store, kLayout, {table}, WriterConfig(1, 1));
  WriteEpisode(&writer, 0, 4, Ending::kColumn);
  CHECK(Ends(store) == (std::vector<End>{{3, How::kEnded}}));
}

TEST(PaddingIsNoPartOfAnyEpisode) {
  for (const std::size_t capacity : {1u, 2u, 3u, 200u}) {
    for (const bool reset : {false, true}) {
      Scene scene(capacity, Items::kWindows, 3, Padding::kTile);
      std::vector<End> expected;
      for (std::uint32_t steps = 1; steps < 9; ++steps) {
        for (std::uint32_t t = 1; t < steps; ++t) REQUIRE(scene.Append(How::kGoesOn).ok());
        if (reset) {
          std::uint64_t uncovered;
          REQUIRE(scene.Append(How::kGoesOn).ok());
          REQUIRE(scene.writer->Reset(true, &uncovered).ok());
        } else {
          REQUIRE(scene.Append(How::kTerminated).ok());
        }
        expected.push_back({scene.next - 1, reset ? How::kCut : How::kTerminated});
        expected.push_back({kPad, How::kCut});  // of the two pads
      }
      CHECK(Ends(scene.store) == expected);
    }
  }
}

// Where an item holds the chunk; a snapshot has the ends of those steps that items hold,
// and of the step before a gap in them.
TEST(ADroppedEpisodeIsCut) {
  for (const std::size_t capacity : {5u, 6u, 200u}) {
    Scene scene(capacity, Items::kEpisodes, 3);
    Writer::Fate fate;
    for (int i = 0; i < 2; ++i) REQUIRE(scene.Append(How::kGoesOn).ok());
    REQUIRE(scene.Append(How::kTerminated).ok());  // an item, which holds the chunk
    for (int i = 0; i < 6; ++i) {                  // too long with its fourth step
      REQUIRE(scene.Append(i == 5 ? How::kTerminated : How::kGoesOn, 1, 1.0f, &fate).ok());
      CHECK(fate == (i < 3    ? Writer::Fate::kStored
                     : i == 3 ? Writer::Fate::kTooLong
                              : Writer::Fate::kIgnored));
    }
    // The next episode begins in the chunk in which the dropped one was cut.
    REQUIRE(scene.Append(How::kTruncated).ok());
    CHECK(EndsInStore(scene.store.get()) ==
          (std::vector<End>{{2, How::kTerminated}, {5, How::kCut}, {9, How::kTruncated}}));
    CHECK(Ends(scene.store) == (std::vector<End>{{2, How::kTerminated}, {9, How::kTruncated}}));
  }
}

TEST(UnknownEndsAreRefusedAndNothingIsStored) {
  Scene scene(10, Items::kWindows, 1, Padding::kNone, 2);
  const std::uint64_t counters[2] = {0, 1};
  const std::int32_t types[2] = {1, 1};
  const float discounts[2] = {1, 1};
  const void* const columns[] = {counters, types, discounts};
  const std::uint8_t bad[2] = {0, 5};
  const Status status = scene.writer->AppendBatch(columns, nullptr, 2, bad, nullptr, nullptr);
  CHECK_EQ(status.code, Code::kInvalid);
  CHECK_EQ(status.found, 1);
  CHECK_EQ(scene.table->size(), 0u);
  const std::uint8_t good[2] = {4, 3};
  CHECK(scene.writer->AppendBatch(columns, nullptr, 2, good, nullptr, nullptr).ok());
  CHECK(Ends(scene.store) == (std::vector<End>{{0, How::kCut}, {1, How::kTruncated}}));
}

TEST(EndsGoWithASnapshotAndComeBack) {
  Scene scene(3, Items::kWindows);
  for (int i = 0; i < 20; ++i) {
    REQUIRE(scene.Append(i % 4 == 1 ? How::kTerminated : How::kGoesOn).ok());
  }
  const auto then = Arranged(scene.store);
  const auto ends = Ends(scene.store);
  CHECK_EQ(ends.size(), 5u);
  Scene copy(3, Items::kWindows);
  Load(Save(*then), copy.store.get());
  REQUIRE(copy.store->RestoreTable(copy.table.get(), then->tables[0]).ok());
  copy.store->SealRestore();
  CHECK(Ends(copy.store) == ends);
  scene.writer->Close();
  CHECK_EQ(Ends(scene.store).size(), 6u);  // the open episode's
  CHECK_EQ(then->ends.chunk.size(), 5u);
}

// However many ends a chunk has, it has room for the cut of the episode that is open.
TEST(ACutTakesNoMemory) {
  for (const Padding padding : {Padding::kNone, Padding::kTile}) {
    for (int resets = 0; resets < 10; ++resets) {
      for (const bool closes : {true, false}) {
        Scene scene(200, Items::kWindows, 2, padding);
        std::uint64_t uncovered;
        for (int i = 0; i < resets; ++i) {
          REQUIRE(scene.Append(How::kGoesOn).ok());
          REQUIRE(scene.writer->Reset(true, &uncovered).ok());
        }
        for (int i = 0; i < 2; ++i) REQUIRE(scene.Append(How::kGoesOn).ok());
        const std::size_t before = Ends(scene.store).size();
        // Padding needs memory, and what there is of it when that fails is cut off, too.
        Starved(0, 1000000, [&] {
          if (closes) {
            scene.writer->Close();
          } else {
            scene.writer->Reset(true, &uncovered);
          }
        });
        CHECK_EQ(scene.writer->num_cached(), 0u);
        const auto after = Ends(scene.store);
        REQUIRE(after.size() > before);
        CHECK(after[before] == (End{scene.next - 1, How::kCut}));
      }
    }
  }
  // Padding after a stream with ends of its own: of those it may have taken the last place.
  for (int ends = 0; ends < 8; ++ends) {
    for (long k = 0; k < 3; ++k) {
      Scene scene(200, Items::kStream, 8, Padding::kTile);
      for (int t = 0; t < 9; ++t) {
        REQUIRE(scene.Append(t < ends ? How::kEnded : How::kGoesOn).ok());
      }
      std::uint64_t uncovered;
      Starved(k, 1000000, [&] { scene.writer->Reset(true, &uncovered); });
      const auto after = Ends(scene.store);
      REQUIRE(after.size() > static_cast<std::size_t>(ends));
      CHECK(after[static_cast<std::size_t>(ends)] == (End{8, How::kCut}));
    }
  }
}

// Whatever allocation fails, an end comes with its step or not at all, and a cut never fails.
TEST(EndsAreWholeWhereMemoryRunsOut) {
  int failed = 0;
  for (const std::size_t capacity : {1u, 2u, 40u}) {
    for (long k = 0;; ++k) {
      Scene scene(capacity, Items::kWindows);
      std::vector<End> expected;
      allocations_left = -1;
      long left = k;
      bool starved = false;
      for (int i = 0; i < 60; ++i) {
        const How how = i % 3 == 2 ? How::kTruncated : How::kGoesOn;
        bool stored = false;
        while (!stored) {
          allocations_left = starved ? -1 : left;
          failing = 1;
          try {
            stored = scene.Append(how).ok();
          } catch (const std::bad_alloc&) {
            starved = true;
            // An episode cut right after a step that failed is cut at the step before.
            if (scene.writer->num_cached() != 0) expected.push_back({scene.next - 1, How::kCut});
            allocations_left = 0;  // and that takes no memory at all
            failing = 1000000;
            scene.writer->Close();
            allocations_left = -1;
          }
          if (!starved) left = allocations_left;
          allocations_left = -1;
        }
        if (how != How::kGoesOn) expected.push_back({scene.next - 1, how});
      }
      failed += starved;
      scene.writer->Close();
      CHECK(Ends(scene.store) == expected);
      if (!starved) break;
    }
  }
  CHECK(failed > 60);
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
