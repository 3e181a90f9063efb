// New values for records that are there.

#include <atomic>
#include <chrono>
#include <thread>

#include "update_scene.h"

namespace reverie_test {
namespace {

using Updates = Store::Updates;

TEST(StepsHaveTheirNewValuesInEveryRow) {
  for (const std::uint32_t lead : {0u, 3u}) {
    Changing scene(Updates::kOwn, Changing::Anchors(1, lead));
    scene.AddSome(40);
    scene.Add(How::kTerminated);
    const Steps keys = scene.Keys();
    REQUIRE(keys.size() == 41);
    CheckCounts(scene.Update({keys[5], keys[40]}, {500, 4000}, 1, nullptr, nullptr, lead), 2, 0, 0);
    const Steps found = scene.Values(nullptr, 3, lead);
    for (std::size_t i = 0; i < 41; ++i) {
      for (std::size_t t = 0; t < 3; ++t) {
        const std::uint64_t step = i + t;
        CHECK_EQ(found[3 * i + t], step > 40 ? 0 : step == 5 ? 500 : step == 40 ? 4000 : step);
      }
    }
  }
}

TEST(RowsEndWhereTheirEpisodesDoAndMasksNarrowThem) {
  Changing scene(Updates::kOwn, Changing::Anchors(2));
  scene.AddSome(4);
  scene.Add(How::kTerminated);  // steps 0 to 4, in items from 0, 2 and 4 on
  scene.AddSome(2);
  const Steps keys = scene.Keys();
  REQUIRE(keys.size() == 4);
  CheckCounts(scene.Update({keys[1], keys[2]}, {12, 13, 14, 15, 16, 0, 0, 0}, 4), 4, 0, 0);
  CHECK(scene.Values(&keys, 2) == Steps({0, 1, 12, 13, 16, 0, 5, 6}));
  const std::vector<std::uint8_t> mask{0, 1, 0, 1, 0, 0};
  CheckCounts(scene.Update({keys[0], keys[3]}, {90, 91, 92, 93, 94, 95}, 3, nullptr, &mask), 2, 0,
              0);
  CheckCounts(scene.Update({keys[3]}, {1, 2, 3}, 3, nullptr, nullptr), 2, 0, 0);
  CHECK(scene.Values(&keys, 2) == Steps({0, 91, 12, 13, 16, 0, 1, 2}));
  CheckCounts(scene.Update({keys[0], keys[1]}, {7, 8}, 2, nullptr, nullptr, 0, 1), 4, 0, 0);
  CHECK(scene.Values(&keys, 2) == Steps({7, 91, 8, 13, 16, 0, 1, 2}));
}

TEST(WhatHasLeftIsNotOverwritten) {
  Changing scene(Updates::kOwn, Changing::Anchors(1), TableConfig(10));
  scene.AddSome(10);
  const Steps before = scene.Keys();
  scene.AddSome(4);  // into the slots of the first ones
  CheckCounts(scene.Update(before, Steps(10, 77)), 6, 4, 0);
  CHECK(scene.Values() == Steps({77, 77, 77, 77, 77, 77, 10, 11, 12, 13}));
}

TEST(OlderValuesNeverOverwriteNewerOnes) {
  Changing scene(Updates::kOwn, Changing::Anchors(1));
  scene.AddSome(3);
  const Steps keys = scene.Keys();
  const std::vector<std::int32_t> new_ones{5, 2, 0}, later{4, 3, -1};
  CheckCounts(scene.Update(keys, {10, 11, 12}, 1, &new_ones), 2, 0, 1);  // none is below 0
  CHECK(scene.Values() == Steps({10, 11, 2}));
  CheckCounts(scene.Update(keys, {20, 21, 22}, 1, &later), 1, 0, 2);
  CHECK(scene.Values() == Steps({10, 21, 2}));
  CheckCounts(scene.Update(keys, {20, 21, 22}, 1, &new_ones), 0, 0, 3);
  CheckCounts(scene.Update({keys[2], keys[2]}, {30, 31}, 1, &new_ones), 1, 0, 1);
  CHECK(scene.Values() == Steps({10, 21, 30}));
  CheckCounts(scene.Update(keys, {1, 2, 3}), 3, 0, 0);  // whatever they are
}

template <typename Int>
bool IsTaken(Int own, Int version) {
  const RecordLayout layout({sizeof(Int)}, {1});
  Chunk chunk;
  chunk.layout = {std::shared_ptr<void>(), &layout};
  chunk.capacity = 1;
  std::array<std::uint8_t, sizeof(Int)> bytes;
  std::memcpy(bytes.data(), &own, sizeof own);
  chunk.data = bytes.data();
  Scatter scatter{&layout, 0, 1, {}};
  scatter.version = {0, std::is_signed_v<Int>, reinterpret_cast<const std::uint8_t*>(&version)};
  Scattered counts;
  ScatterRow(scatter, 0, {chunk.data, &chunk, 0, 1}, 1, &counts);
  chunk.data = nullptr;
  CHECK_EQ(counts.updated + counts.rejected, 1u);
  std::memcpy(&own, bytes.data(), sizeof own);
  CHECK(counts.updated == 0 || own == version);
  return counts.updated == 1;
}
template <typename Int>
void CheckOrder() {
  using Limits = std::numeric_limits<Int>;
  CHECK(IsTaken<Int>(Limits::min(), Limits::max()));
  CHECK(!IsTaken<Int>(Limits::max(), Limits::min()));
  CHECK(!IsTaken<Int>(7, 7));
  CHECK(IsTaken<Int>(0, 1));
}

TEST(VersionsAreComparedAsTheNumbersTheyAre) {
  CheckOrder<std::int8_t>();
  CheckOrder<std::uint8_t>();
  CheckOrder<std::int16_t>();
  CheckOrder<std::uint16_t>();
  CheckOrder<std::int32_t>();
  CheckOrder<std::uint32_t>();
  CheckOrder<std::int64_t>();
  CheckOrder<std::uint64_t>();
}

TEST(ItemsOfAnotherMakeAreAnErrorThatChangesNothing) {
  Changing scene(Updates::kOwn, Changing::Anchors(1));
  scene.AddSome(700);  // more than a slice
  Steps keys = scene.Keys();
  const auto other = StepLayout();
  Writer foreign(scene.store, other, {scene.table},
                 {1, 1, 1.0, false, false, PadRecord(*other), -1, 0});
  REQUIRE(foreign.Append(Step(1).columns().data(), How::kGoesOn).ok());
  const Steps before = scene.Values(&keys);
  keys.push_back(scene.store->table_state(scene.table).items.key.back());
  const auto [status, counts] = scene.Update(keys, Steps(701, 9));
  CHECK(status.code == Code::kLayoutMismatch);
  CHECK_EQ(status.key, keys.back());
  CHECK_EQ(counts.updated, 0u);
  keys.pop_back();
  CHECK(scene.Values(&keys) == before);
}

TEST(AStoreWhoseRecordsStayRefuses) {
  Changing scene(Updates::kNone, Changing::Anchors(1));
  scene.AddSome(3);
  CHECK(scene.Update(scene.Keys(), {1, 2, 3}).first.code == Code::kInvalid);
  CHECK(scene.Values() == Steps({0, 1, 2}));
}

TEST(AClosedStoreRefuses) {
  Changing scene(Updates::kOwn, Changing::Anchors(1));
  scene.AddSome(1);
  const Steps keys = scene.Keys();
  scene.store->Close();
  CHECK(scene.Update(keys, {1}).first.code == Code::kClosed);
}

TEST(ASecondSaveHasTheNewValues) {
  Changing scene(Updates::kOwn, Changing::Anchors(1));
  scene.AddSome(100);
  const auto of = [&] {
    const auto snapshot = Arranged(scene.store);
    Steps values;
    for (std::size_t row = 0; row < snapshot->num_chunks(); ++row) {
      CHECK(snapshot->whole(row) == nullptr);  // or its bytes would change while they are saved
      const std::vector<std::uint8_t> bytes = BytesOf(*snapshot, row);
      for (std::size_t at = 0; at < bytes.size(); at += kChanging->record_nbytes()) {
        std::uint64_t value;
        std::memcpy(&value, &bytes[at + 8], 8);
        values.push_back(value);
      }
    }
    return values;
  };
  Steps wanted = of();
  CHECK_EQ(wanted.size(), 101u);
  const auto earlier = scene.store->TakeSnapshot();
  CheckCounts(scene.Update({scene.Keys()[50]}, {777}), 1, 0, 0);
  wanted[51] = 777;  // an episode's first record is a state alone
  CHECK(of() == wanted);
}

// Windows of four steps, most of which have left, in pairs that share three. The keeper would
// give those that reach into another chunk a new home, and the writer copy what it needs.
void WindowsAgree(Updates updates) {
  constexpr std::uint32_t kLength = 4;
  Changing scene(updates, Changing::Windows(kLength), TableConfig(5000));
  scene.AddSome(3000);
  Steps keys = scene.Keys();
  Steps gone;
  for (std::size_t i = 0; i + 3 < keys.size(); ++i) {
    if (i % 10 > 1) gone.push_back(keys[i]);
  }
  scene.store->Delete(scene.table.get(), gone.data(), gone.size());
  for (int i = 0; i < 2; ++i) {
    {
      Store::Locked locked = scene.store->Lock();
      locked.chunks().LookAgain();
    }
    scene.store->Tidy();
  }
  scene.AddSome(5);
  keys = scene.Keys();
  const Steps before = scene.Values(nullptr, kLength);
  constexpr std::uint64_t kNew = 100000;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    Steps values;
    for (std::uint64_t t = 0; t < kLength; ++t) values.push_back(kNew + before[kLength * i] + t);
    CheckCounts(scene.Update({keys[i]}, values, kLength), kLength, 0, 0);
    const Steps found = scene.Values(nullptr, kLength);
    std::uint64_t seen = 0;  // all windows that the steps are in have them
    for (std::size_t at = 0; at < found.size(); ++at) {
      const bool is_one = before[at] >= before[kLength * i] && before[at] < before[kLength * i] + 4;
      if (is_one) seen += CHECK_EQ(found[at], kNew + before[at]);
    }
    CHECK(seen >= kLength);
    CheckCounts(scene.Update({keys[i]},
                             Steps(before.begin() + static_cast<std::ptrdiff_t>(kLength * i),
                                   before.begin() + static_cast<std::ptrdiff_t>(kLength * (i + 1))),
                             kLength),
                kLength, 0, 0);
  }
}

TEST(StepsThatWindowsShareHaveOneValue) { WindowsAgree(Updates::kShared); }

TEST(CopiesOfThemWouldDiffer) {
  CHECK(Fails([] { WindowsAgree(Updates::kOwn); }) > 0);
}

// Whoever copies all the time, one while the other has not ended, keeps nobody waiting.
TEST(WhoCopiesDoesNotStarveWhoWrites) {
  RecordsLock lock;
  std::atomic<bool> done{false};
  std::atomic<int> copies{0};
  lock.lock_shared();
  std::thread reader([&] {
    while (!done) {
      lock.lock_shared();
      ++copies;
      lock.unlock_shared();
    }
  });
  while (copies == 0) std::this_thread::yield();
  std::thread writer([&] {
    lock.lock();
    done = true;
    lock.unlock();
  });
  bool shut = false;
  for (int i = 0; i < 300 && !shut; ++i) {
    const int before = copies;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    shut = copies == before;
  }
  CHECK(shut);  // the writer waits, and nobody begins to copy
  CHECK(!done);
  lock.unlock_shared();
  writer.join();
  reader.join();
}

TEST(WhoWaitsLetsGoOfTheOuterLock) {
  for (const bool writes : {false, true}) {
    RecordsLock lock;
    std::atomic<bool> taken{false};
    std::atomic<bool> let_go{false};
    std::thread other([&] {
      writes ? lock.lock_shared() : lock.lock();
      taken = true;
      while (!let_go) std::this_thread::yield();
      writes ? lock.unlock_shared() : lock.unlock();
    });
    while (!taken) std::this_thread::yield();
    struct Told final : OuterLock {
      std::atomic<bool>* flag;

     private:
      void Release() noexcept override { *flag = true; }
      bool Overdue() noexcept override { return false; }
    } outer;
    outer.flag = &let_go;  // or this would wait for ever
    writes ? lock.lock() : lock.lock_shared();
    writes ? lock.unlock() : lock.unlock_shared();
    other.join();
    CHECK(let_go);
  }
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
