// Keeps the outer lock for short work; lets it go before it waits and when work is long.

#include "outer_lock.h"

#include <atomic>
#include <thread>

#include "store_scene.h"

namespace reverie_test {
namespace {

using reverie::Mutex;
using reverie::OuterLock;

struct Counted final : OuterLock {
  int released = 0;
  bool overdue = false;

 private:
  void Release() noexcept override { ++released; }
  bool Overdue() noexcept override { return overdue; }
};

TEST(ShortWorkKeepsTheOuterLock) {
  Scene scene;
  Counted outer;
  scene.Write(8);
  Batch batch(4, 3);
  REQUIRE(scene.Sample(&batch).ok());
  CHECK(batch.Intact());
  CHECK_EQ(scene.store->table_info(*scene.table).size, 6u);
  std::uint64_t uncovered = 0;
  REQUIRE(scene.writer->Reset(false, &uncovered).ok());
  scene.store->Clear(scene.table.get());
  CHECK_EQ(outer.released, 0);
}

TEST(AThreadThatHasNoneLetsNothingGo) {
  CHECK(!OuterLock::held());
  OuterLock::LetGo();
  OuterLock::Tick();
  {
    const Counted outer;
  }
  CHECK(!OuterLock::held());
}

TEST(ItIsLetGoOnce) {
  Counted outer;
  CHECK(OuterLock::held());
  OuterLock::LetGo();
  OuterLock::LetGo();
  CHECK_EQ(outer.released, 1);
  CHECK(!OuterLock::held());
}

TEST(LongWorkLetsItGo) {
  Counted outer;
  OuterLock::Tick();
  CHECK_EQ(outer.released, 0);
  outer.overdue = true;
  OuterLock::Tick();
  CHECK_EQ(outer.released, 1);
}

TEST(AWaitLetsItGo) {
  Scene scene;
  Counted outer;
  CHECK(!scene.store->WaitToSample(scene.table.get(), 1, 0.001).ok());
  CHECK_EQ(outer.released, 1);
}

// Whoever has a core lock for long must not hold up those who want the outer lock alone.
template <typename Hold, typename Call>
void CheckThatAContendedLockLetsGo(const Hold& hold, const Call& call) {
  std::atomic<bool> held{false}, let_go{false};
  std::thread holder([&] {
    hold([&] {
      held = true;
      while (!let_go) std::this_thread::yield();  // for ever, if the caller keeps it
    });
  });
  while (!held) std::this_thread::yield();
  struct Flagged final : OuterLock {
    explicit Flagged(std::atomic<bool>* flag) : let_go(flag) {}
    std::atomic<bool>* const let_go;

   private:
    void Release() noexcept override { *let_go = true; }
    bool Overdue() noexcept override { return false; }
  };
  {
    const Flagged outer(&let_go);
    call();
  }
  holder.join();
}

TEST(NobodyWaitsForTheStoreWithItInHand) {
  Scene scene;
  scene.Write(8);
  const auto hold = [&](const auto& meanwhile) {
    const Store::Locked locked = scene.store->Lock();
    meanwhile();
  };
  CheckThatAContendedLockLetsGo(hold, [&] { scene.Write(1); });
  CheckThatAContendedLockLetsGo(hold, [&] { scene.store->info(); });
  CheckThatAContendedLockLetsGo(hold, [&] { scene.store->table_info(*scene.table); });
  CheckThatAContendedLockLetsGo(hold, [&] { scene.store->TakeSnapshot(); });
  CheckThatAContendedLockLetsGo(hold, [&] {
    Batch batch(4, 3);
    REQUIRE(scene.Sample(&batch).ok());
  });
  CheckThatAContendedLockLetsGo(hold, [&] { scene.writer.reset(); });
}

TEST(AMutexOfItsOwnLetsGo) {
  Mutex mutex;
  const auto hold = [&](const auto& meanwhile) {
    const std::lock_guard<Mutex> lock(mutex);
    meanwhile();
  };
  CheckThatAContendedLockLetsGo(hold, [&] { const std::lock_guard<Mutex> lock(mutex); });
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
