// Writers of several streams: whole episodes, the endless stream, batches of steps.

#include <algorithm>
#include <map>
#include <thread>

#include "check.h"
#include "starve.h"
#include "writers/writer.h"

namespace reverie_test {
namespace {

using Items = Writer::Items;
using Fate = Writer::Fate;

const std::shared_ptr<const RecordLayout> kLayout = StepLayout();

Writer::Config Config(Items items, std::uint32_t length, std::uint32_t streams = 1) {
  Writer::Config config{length, 1, 1.0, false, false, PadRecord(*kLayout), 3, kLastType};
  config.items = items;
  config.num_streams = streams;
  return config;
}

Fate Append(Writer* writer, std::uint64_t counter, bool last = false) {
  Fate fate = Fate::kStored;
  const Step step(counter, last ? kLastType : 1);
  CHECK(writer->Append(step.columns().data(), std::nullopt, &fate).ok());
  return fate;
}

using Item = std::vector<std::uint64_t>;  // the counters of its steps

// All items of a table, in order, whatever their lengths; checks that no step is torn.
std::vector<Item> Contents(const std::shared_ptr<Store>& store,
                           const std::shared_ptr<Table>& table) {
  std::vector<Item> items;
  for (const std::uint64_t key : store->table_state(table).items.key) {
    Store::ItemReader reader(store);
    REQUIRE(reader.Find(table.get(), &key).ok());
    ColumnCopies copies;
    copies.Add(reader.items()[0]);
    Batch batch(1, copies.columns()[0].length);
    copies.Copy(batch.outputs.data());
    CHECK(batch.Intact());
    items.push_back(batch.counter);
  }
  return items;
}

Item Range(std::uint64_t first, std::uint64_t steps) {
  Item item(steps);
  for (std::uint64_t i = 0; i < steps; ++i) item[i] = first + i;
  return item;
}

// A batch of steps, as arrays of cells.
struct Steps {
  std::vector<std::uint64_t> counter, check;
  std::vector<std::uint8_t> small;
  std::vector<std::int32_t> type;

  void Add(std::uint64_t n, bool last = false) {
    const Step step(n, last ? kLastType : 1);
    counter.push_back(step.counter);
    check.push_back(step.check);
    small.push_back(step.small);
    type.push_back(step.type);
  }
  std::array<const void*, 4> columns() const {
    return {counter.data(), check.data(), small.data(), type.data()};
  }
};

TEST(AnEpisodeIsOneItemWhateverItsLengthAndItsChunks) {
  for (const std::size_t capacity : {1u, 2u, 3u, 200u}) {
    const auto store = std::make_shared<Store>(Store::Options{capacity * kStepNbytes, 1});
    const auto left = store->CreateTable(TableConfig(100));
    const auto right = store->CreateTable(TableConfig(100));
    Writer writer(store, kLayout, {left, right}, Config(Items::kEpisodes, 9));
    std::vector<Item> expected;
    std::uint64_t next = 0;
    for (std::uint64_t steps = 1; steps <= 9; ++steps) {
      for (std::uint64_t i = 0; i < steps; ++i) {
        CHECK(Append(&writer, next + i, i + 1 == steps) == Fate::kStored);
        CHECK_EQ(Contents(store, left).size(), expected.size() + (i + 1 == steps));
      }
      expected.push_back(Range(next, steps));
      next += steps;
    }
    CHECK(Contents(store, left) == expected);
    CHECK(Contents(store, right) == expected);
    CHECK_EQ(store->info().num_steps, 45u);  // one copy for both
  }
}

TEST(AResetMakesAShorterEpisodeOrNone) {
  const auto store = std::make_shared<Store>(Store::Options{2 * kStepNbytes, 1});
  const auto table = store->CreateTable(TableConfig(100));
  Writer writer(store, kLayout, {table}, Config(Items::kEpisodes, 9));
  std::uint64_t uncovered = 7;
  for (const bool write : {true, false, true}) {
    for (std::uint64_t i = 0; i < 3; ++i) Append(&writer, i);
    CHECK(writer.Reset(write, &uncovered).ok());
    CHECK(writer.Reset(true, &uncovered).ok());  // there is nothing
    CHECK_EQ(uncovered + writer.num_cached(), 0u);
  }
  CHECK(Contents(store, table) == (std::vector<Item>{Range(0, 3), Range(0, 3)}));
}

TEST(AnEpisodeThatIsTooLongIsDroppedWhole) {
  const auto store = std::make_shared<Store>(Store::Options{2 * kStepNbytes, 1});
  const auto table = store->CreateTable(TableConfig(100));
  Writer writer(store, kLayout, {table}, Config(Items::kEpisodes, 3));
  // `too_many`: steps of the episode beyond three, its boundary included.
  for (int too_many = 1; too_many < 4; ++too_many) {
    for (std::uint64_t i = 0; i < 3; ++i) CHECK(Append(&writer, i) == Fate::kStored);
    for (int i = 0; i < too_many; ++i) {
      CHECK(Append(&writer, 9, i + 1 == too_many) == (i == 0 ? Fate::kTooLong : Fate::kIgnored));
      CHECK_EQ(writer.num_cached(), 0u);
      CHECK(store->info().num_chunks <= 2u * static_cast<unsigned>(too_many) - 1);
    }
    CHECK(Append(&writer, 5) == Fate::kStored);
    CHECK(Append(&writer, 6, true) == Fate::kStored);
  }
  // A reset ends it too, and writes nothing of it.
  for (std::uint64_t i = 0; i < 5; ++i) Append(&writer, i);
  std::uint64_t uncovered;
  CHECK(writer.Reset(true, &uncovered).ok());
  Append(&writer, 5);
  Append(&writer, 6, true);
  CHECK(Contents(store, table) == std::vector<Item>(4, Range(5, 2)));
}

TEST(TheStreamHasNoEndsButResets) {
  const auto store = std::make_shared<Store>(Store::Options{4 * kStepNbytes, 1});
  const auto table = store->CreateTable(TableConfig(100));
  Writer writer(store, kLayout, {table}, Config(Items::kStream, 3));
  for (std::uint64_t i = 0; i < 5; ++i) Append(&writer, i, i % 2 == 0);
  CHECK(writer.Append(Step(5).columns().data(), How::kEnded).ok());
  std::uint64_t uncovered;
  CHECK(writer.Reset(false, &uncovered).ok());
  for (std::uint64_t i = 6; i < 9; ++i) Append(&writer, i, true);
  std::vector<Item> expected;
  for (const std::uint64_t first : {0u, 1u, 2u, 3u, 6u}) expected.push_back(Range(first, 3));
  CHECK(Contents(store, table) == expected);
}

TEST(APriorityIsThatOfLaterItems) {
  const auto store = std::make_shared<Store>(Store::Options{4096, 1});
  const auto table = store->CreateTable(TableConfig(100));
  Writer writer(store, kLayout, {table}, Config(Items::kEpisodes, 3));
  Append(&writer, 0, true);
  Append(&writer, 1);
  writer.SetPriority(4.0);
  Append(&writer, 2, true);
  CHECK_EQ(store->table_state(table).items.priority, (std::vector<double>{1.0, 4.0}));
}

constexpr std::uint32_t kStreams = 7;

// Random batches over random subsets of streams, told to one writer of many streams
// and to many writers of one. `twist`: the batch's streams are swapped, a mistake.
void CompareWithSingleWriters(const Writer::Config& config, std::uint64_t seed, bool twist) {
  Rng rng(seed);
  const auto store = std::make_shared<Store>(Store::Options{3 * kStepNbytes, 1});
  const auto table = store->CreateTable(TableConfig(10000));
  const auto singles = store->CreateTable(TableConfig(10000));
  Writer::Config many = config;
  many.num_streams = kStreams;
  Writer writer(store, kLayout, {table}, many);
  std::vector<std::unique_ptr<Writer>> writers;
  for (std::uint32_t i = 0; i < kStreams; ++i) {
    writers.push_back(std::make_unique<Writer>(
        store, kLayout, std::vector<std::shared_ptr<Table>>{singles}, config));
  }
  std::uint64_t next = 0;
  for (int round = 0; round < 60; ++round) {
    std::vector<std::uint32_t> chosen;
    for (std::uint32_t i = 0; i < kStreams; ++i) {
      if (rng.Below(3) != 0)
        chosen.insert(chosen.begin() + static_cast<long>(rng.Below(
                                           static_cast<std::uint32_t>(chosen.size()) + 1)),
                      i);
    }
    Steps steps;
    std::vector<std::uint8_t> lasts;
    const bool asks = rng.Below(2) == 0;
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      lasts.push_back(rng.Below(4) == 0);
      steps.Add(next++, asks && lasts.back() != 0);
    }
    std::vector<Fate> fates(chosen.size());
    std::vector<std::uint32_t> streams = chosen;
    if (twist && chosen.size() > 1) std::swap(streams[0], streams[1]);
    CHECK(writer
              .AppendBatch(steps.columns().data(), streams.data(), chosen.size(),
                           asks ? nullptr : lasts.data(), fates.data(), nullptr)
              .ok());
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      const Step step(steps.counter[i], steps.type[i]);
      Fate fate;
      CHECK(writers[chosen[i]]
                ->Append(step.columns().data(),
                         asks ? std::optional<How>() : static_cast<How>(lasts[i]), &fate)
                .ok());
      CHECK(fate == fates[i]);
    }
    const auto reset = static_cast<std::uint32_t>(rng.Below(4 * kStreams));
    if (reset < kStreams) {
      std::uint64_t uncovered[2];
      const bool write = rng.Below(2) == 0;
      CHECK(writer.Reset(reset, write, &uncovered[0]).ok());
      CHECK(writers[reset]->Reset(write, &uncovered[1]).ok());
      CHECK_EQ(uncovered[0], uncovered[1]);
    }
    for (std::uint32_t i = 0; i < kStreams; ++i) {
      CHECK_EQ(writer.num_cached(i), writers[i]->num_cached());
    }
  }
  CHECK(Contents(store, table) == Contents(store, singles));
  CHECK(twist || Contents(store, table).size() > 5);
  writer.Close();
  writers.clear();
  store->Clear(table.get());
  store->Clear(singles.get());
  CHECK_EQ(store->info().num_chunks, 0u);
}

TEST(EachStreamOfABatchIsAsAWriterOfItsOwn) {
  std::uint64_t seed = 0;
  for (const Items items : {Items::kWindows, Items::kStream, Items::kEpisodes}) {
    for (const std::uint32_t length : {1u, 2u, 4u}) {
      for (int padding = 0; padding < 3; ++padding) {
        Writer::Config config = Config(items, length);
        config.stride_length = 1 + static_cast<std::uint32_t>(seed % 3);
        config.pad_end = padding > 0;
        config.tile_end = padding > 1;
        CompareWithSingleWriters(config, ++seed, false);
      }
    }
  }
}

TEST(TheComparisonSeesSwappedStreams) {
  CHECK(Fails([] { CompareWithSingleWriters(Config(Items::kWindows, 2), 1, true); }) > 0);
}

TEST(ABatchWithAStreamThatIsUnknownOrTwiceChangesNothing) {
  const auto store = std::make_shared<Store>(Store::Options{4096, 1});
  const auto table = store->CreateTable(TableConfig(100));
  Writer writer(store, kLayout, {table}, Config(Items::kWindows, 1, 3));
  Steps steps;
  for (std::uint64_t i = 0; i < 4; ++i) steps.Add(i);
  const auto append = [&](std::vector<std::uint32_t> streams) {
    return writer.AppendBatch(steps.columns().data(), streams.data(), streams.size(), nullptr,
                              nullptr, nullptr);
  };
  CHECK_EQ(append({0, 1, 3}).found, 2);
  CHECK_EQ(append({0, 2, 0}).found, 2);
  CHECK_EQ(writer.AppendBatch(steps.columns().data(), nullptr, 4, nullptr, nullptr, nullptr).code,
           Code::kInvalid);
  CHECK_EQ(store->info().num_steps + store->table_info(*table).size, 0u);
  CHECK(append({2, 0}).ok());
  CHECK(append({}).ok());
  CHECK(append({0, 1}).ok());
  CHECK(Contents(store, table) == (std::vector<Item>{{0}, {1}, {0}, {1}}));
}

TEST(ABatchIntoAClosedStoreChangesNothing) {
  const auto store = std::make_shared<Store>(Store::Options{4096, 1});
  const auto table = store->CreateTable(TableConfig(100));
  Writer writer(store, kLayout, {table}, Config(Items::kEpisodes, 2, 2));
  Steps steps;
  for (std::uint64_t i = 0; i < 2; ++i) steps.Add(i);
  const auto append = [&] {
    return writer.AppendBatch(steps.columns().data(), nullptr, 2, nullptr, nullptr, nullptr);
  };
  CHECK(append().ok());
  CHECK(append().ok());
  store->Close();
  CHECK_EQ(append().code, Code::kClosed);  // one step too many, too
  CHECK_EQ(writer.num_cached(1), 2u);
  std::uint64_t uncovered;
  CHECK_EQ(writer.Reset(1, true, &uncovered).code, Code::kClosed);
}

TEST(ThreadsMayBringEnvironmentsOfTheirOwn) {
  constexpr std::uint32_t kEach = 3;
  constexpr std::uint64_t kSteps = 400;
  const auto store = std::make_shared<Store>(Store::Options{16 * kStepNbytes, 1});
  const auto table = store->CreateTable(TableConfig(100000));
  Writer writer(store, kLayout, {table}, Config(Items::kWindows, 2, 2 * kEach));
  const auto bring = [&](std::uint32_t first) {
    for (std::uint64_t n = 0; n < kSteps; ++n) {
      Steps steps;
      std::vector<std::uint32_t> streams;
      for (std::uint32_t i = first; i < first + kEach; ++i) {
        steps.Add(1000 * i + n);
        streams.push_back(i);
      }
      CHECK(
          writer
              .AppendBatch(steps.columns().data(), streams.data(), kEach, nullptr, nullptr, nullptr)
              .ok());
    }
  };
  std::thread other([&] { bring(kEach); });
  bring(0);
  other.join();
  std::vector<Item> items = Contents(store, table);
  std::sort(items.begin(), items.end());
  std::vector<Item> expected;
  for (std::uint64_t i = 0; i < 2 * kEach; ++i) {
    for (std::uint64_t n = 0; n + 1 < kSteps; ++n) expected.push_back(Range(1000 * i + n, 2));
  }
  CHECK(items == expected);
}

TEST(AnEndedEpisodeIsBlockedWhileItsItemsWait) {
  const auto store = std::make_shared<Store>(Store::Options{4096, 1});
  Table::Config settings = TableConfig(100);
  settings.limiter = {1, 1.0, -1e18, 1.0};  // one item, then a sample before each next one
  const auto table = store->CreateTable(settings);
  Writer writer(store, kLayout, {table}, Config(Items::kWindows, 1));
  bool blocked;
  const auto append = [&](std::uint64_t n, How last) {
    CHECK(writer.Append(Step(n).columns().data(), last, nullptr, &blocked).ok());
    return blocked;
  };
  CHECK(!append(0, How::kEnded));
  CHECK(!append(1, How::kGoesOn));
  CHECK(append(2, How::kEnded));
  CHECK_EQ(writer.pending(), 2u);
  CHECK(!store->WaitForInserts(writer.progress(), 0, 0.0).ok());
  for (int i = 0; i < 2; ++i) {
    Batch batch(1, 1);
    CHECK(store->Sample(table.get(), {kLayout.get(), 1}, 1, 1, batch.outputs.data(), batch.info)
              .ok());
  }
  CHECK_EQ(writer.pending(), 0u);
  CHECK(Contents(store, table) == (std::vector<Item>{{0}, {1}, {2}}));
}

TEST(WhereMemoryRunsOutABatchIsStoredUpToAPoint) {
  int failed = 0;
  int halves = 0;
  for (const Items items : {Items::kWindows, Items::kEpisodes}) {
    for (long k = 0;; ++k) {
      const auto store = std::make_shared<Store>(Store::Options{2 * kStepNbytes, 1});
      const auto first = store->CreateTable(TableConfig(5));
      const auto second = store->CreateTable(TableConfig(10000));
      Table::Config blocked = TableConfig(5);
      blocked.limiter = {1, 1.0, -1e18, 1.0};
      const auto third = store->CreateTable(blocked);  // each item takes memory to wait in
      Writer writer(store, kLayout, {first, second, third}, Config(items, 4, kStreams));
      std::map<std::uint32_t, std::uint64_t> next;  // step of each stream
      bool all_tried = true;
      long left = k;
      for (int round = 0; round < 60; ++round) {
        Steps steps;
        std::vector<std::uint64_t> before;
        for (std::uint32_t i = 0; i < kStreams; ++i) {
          steps.Add(1000 * i + next[i], next[i] % 4 == 3);
          before.push_back(writer.num_cached(i));
        }
        const auto columns = steps.columns();
        bool starved = false;
        allocations_left = left;
        failing = 1;
        try {
          writer.AppendBatch(columns.data(), nullptr, kStreams, nullptr, nullptr, nullptr);
        } catch (const std::bad_alloc&) {
          starved = true;
        }
        left = allocations_left;
        allocations_left = -1;
        if (!starved) {
          for (auto& entry : next) entry.second = (entry.second + 1) % 4;
          continue;
        }
        ++failed;
        all_tried = false;
        // The streams that have their step are the first ones; tell the rest again.
        std::vector<std::uint32_t> rest;
        Steps again;
        for (std::uint32_t i = 0; i < kStreams; ++i) {
          const bool stored = writer.num_cached(i) == (before[i] + 1) % 4;
          CHECK(stored || writer.num_cached(i) == before[i]);
          CHECK(!stored || rest.empty());
          if (!stored) {
            rest.push_back(i);
            again.Add(1000 * i + next[i], next[i] % 4 == 3);
          }
          next[i] = (next[i] + 1) % 4;
        }
        halves += rest.size() < kStreams;
        CHECK(writer
                  .AppendBatch(again.columns().data(), rest.data(), rest.size(), nullptr, nullptr,
                               nullptr)
                  .ok());
      }
      std::size_t complete = 0;
      for (const Item& item : Contents(store, second)) {
        complete += item == Range(item[0], 4) && item[0] % 1000 == 0;
      }
      CHECK_EQ(complete, 60u / 4 * kStreams);
      writer.Close();
      store->Clear(first.get());
      store->Clear(second.get());
      store->Close();
      store->Clear(third.get());
      CHECK_EQ(store->info().num_chunks + store->info().num_steps, 0u);
      if (all_tried) break;
    }
  }
  CHECK(failed > 20);
  CHECK(halves > 5);
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
