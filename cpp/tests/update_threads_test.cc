// Adders, samplers, savers and the keeper beside who writes new values. Runs for
// REVERIE_TEST_SECONDS, or two.

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <thread>
#include <unordered_map>

#include "update_scene.h"

namespace reverie_test {
namespace {

constexpr std::uint64_t kMany = std::uint64_t{1} << 32;  // values from here on are new ones

bool IsOver(const std::chrono::steady_clock::time_point& start) {
  const char* const seconds = std::getenv("REVERIE_TEST_SECONDS");
  return std::chrono::steady_clock::now() - start >
         std::chrono::seconds(seconds == nullptr ? 2 : std::atoi(seconds));
}

struct World {
  Changing scene{Store::Updates::kOwn, Changing::Anchors(1),
                 TableConfig(600, SelectorKind::kUniform, SelectorKind::kUniform)};
  std::atomic<bool> done{false};
  std::atomic<std::uint64_t> updated{0}, sampled{0}, saved{0}, moved{0};
  std::unordered_map<std::uint64_t, std::uint64_t> last;  // value written, by key
  std::uint64_t checked = 0;

  void Add() {
    for (std::uint64_t i = 0; !done; ++i) {
      scene.Add(i % 50 == 49 ? How::kTerminated : How::kGoesOn);
      if (i % 16 == 15) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
  // Whether the item is still there, with what was written into it.
  void Check(std::uint64_t key) {
    const auto found = last.find(key);
    if (found == last.end()) return;
    Store::ViewReader reader(scene.store, kChanging.get(), 2);
    if (!reader.Select(scene.table.get(), &key, 1).ok()) return;
    std::vector<std::uint64_t> cells(kValueWords);
    void* const output = cells.data();
    CHECK(reader.Gather({{1, 1, 1, 0}}, &output).ok());
    CHECK_EQ(ValuesOf(cells)[0], found->second);
    ++checked;
  }
  // Each value is another, so that an older one shows, and looked at before the next.
  void Update() {
    for (std::uint64_t round = 1; !done; ++round) {
      const auto all = scene.store->table_state(scene.table).items.key;
      if (all.empty()) continue;
      Steps keys, values;
      for (std::uint64_t i = 0; i < 32; ++i) {
        keys.push_back(all[Hash(round * 32 + i) % all.size()]);
        values.push_back(kMany * round + i);
      }
      for (const std::uint64_t key : keys) Check(key);
      for (std::size_t i = 0; i < keys.size(); ++i) last[keys[i]] = values[i];
      const auto [status, counts] = scene.Update(keys, values);
      CHECK(status.ok());
      CHECK_EQ(counts.updated + counts.stale, keys.size());
      updated += counts.updated;
    }
  }
  void Sample() {
    while (!done) {
      constexpr std::size_t kRows = 16;
      constexpr std::uint32_t kSteps = 3;
      Store::ViewReader reader(scene.store, kChanging.get(), kSteps + 1);
      Batch info(kRows, 1);
      if (!reader.Sample(scene.table.get(), kRows, info.info).ok()) continue;
      std::vector<std::uint64_t> cells(kRows * kSteps * kValueWords);
      void* const output = cells.data();
      CHECK(reader.Gather({{1, 1, kSteps, 0}}, &output).ok());
      ValuesOf(cells);
      Store::ItemReader items(scene.store);
      if (!items.Sample(scene.table.get(), 1).ok()) continue;
      ColumnCopies copies;
      copies.Add(items.items()[0]);
      std::vector<std::uint64_t> value(copies.columns()[1].length * kValueWords);
      const std::array<void*, 3> outputs{nullptr, value.data(), nullptr};
      items.Copy(copies, outputs.data());
      ValuesOf(value);
      ++sampled;
    }
  }
  void Save() {
    while (!done) {
      const auto snapshot = Arranged(scene.store);
      for (std::size_t row = 0; row < snapshot->num_chunks(); ++row) {
        const std::vector<std::uint8_t> bytes = BytesOf(*snapshot, row);
        std::vector<std::uint64_t> cell(kValueWords);
        for (std::size_t at = 0; at < bytes.size(); at += kChanging->record_nbytes()) {
          std::memcpy(cell.data(), &bytes[at + 8], kValueNbytes);
          ValuesOf(cell);
        }
      }
      ++saved;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  }
  void Tidy() {
    while (!done) {
      std::uint64_t before;
      {
        Store::Locked locked = scene.store->Lock();
        before = locked.chunks().last_id();
        locked.chunks().LookAgain();
      }
      scene.store->Tidy();
      moved += scene.store->Lock().chunks().last_id() != before;
    }
  }
};

TEST(NoValueIsTornAndNoneIsLost) {
  World world;
  std::vector<std::thread> threads;
  threads.emplace_back(&World::Add, &world);
  threads.emplace_back(&World::Update, &world);
  threads.emplace_back(&World::Sample, &world);
  threads.emplace_back(&World::Sample, &world);
  threads.emplace_back(&World::Save, &world);
  threads.emplace_back(&World::Tidy, &world);
  const auto start = std::chrono::steady_clock::now();
  while (!IsOver(start) || world.moved < 20 || world.saved < 3 || world.sampled < 100) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    if (!CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(300))) break;
  }
  world.done = true;
  for (auto& thread : threads) thread.join();
  for (const std::uint64_t key : world.scene.Keys()) world.Check(key);
  CHECK(world.checked > 100);
  if (std::getenv("REVERIE_TEST_SECONDS") != nullptr) {
    std::printf("%llu updated, %llu sampled, %llu saved, %llu moved\n",
                static_cast<unsigned long long>(world.updated),
                static_cast<unsigned long long>(world.sampled),
                static_cast<unsigned long long>(world.saved),
                static_cast<unsigned long long>(world.moved));
  }
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
