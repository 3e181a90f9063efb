// Trajectories where memory runs out.

#include "starve.h"
#include "trajectory_scene.h"

namespace reverie_test {
namespace {

// What was counted is handed over, and a sample that fails counts nothing.
TEST(WhereMemoryRunsOutNoSampleIsLost) {
  int failed = 0;
  for (long allowed = 0; allowed < 12; ++allowed) {
    Scene scene(QueueConfig(3));
    REQUIRE(scene.Append().ok());
    for (int i = 0; i < 6; ++i) REQUIRE(scene.Latest().ok());
    std::size_t got = 0;
    {
      Store::ItemReader reader(scene.store);
      allocations_left = allowed;
      try {
        CHECK(reader.Sample(scene.table.get(), 100).ok());
      } catch (const std::bad_alloc&) {
        ++failed;
        CHECK(reader.items().empty());
      }
      allocations_left = -1;
      got = reader.items().size();
    }
    const auto info = scene.store->table_info(*scene.table);
    CHECK_EQ(info.counters.samples, static_cast<std::int64_t>(got));
    CHECK_EQ(info.counters.deletes, static_cast<std::int64_t>(got));
    CHECK_EQ(info.size + info.stats.pending, 6 - got);
    // What lacked the memory to go in does so when samples are next asked for.
    while (got < 6) {
      Store::ItemReader next(scene.store);
      if (!CHECK(next.Sample(scene.table.get(), 100).ok())) break;
      got += next.items().size();
    }
  }
  CHECK(failed > 1);
}

// Whatever allocation fails, a call does all it was asked or nothing.
TEST(WhereMemoryRunsOutNothingIsHalfDone) {
  int failed = 0;
  for (long allowed = 0; allowed < 40; ++allowed) {
    Scene scene(allowed % 2 == 0 ? TableConfig(1000) : QueueConfig(1));
    for (int i = 0; i < 5; ++i) REQUIRE(scene.Append().ok());
    for (int i = 0; i < 3; ++i) REQUIRE(scene.Latest().ok());
    const auto attempt = [&](const auto& call) {
      allocations_left = allowed;
      try {
        const Status status = call();
        allocations_left = -1;
        CHECK(status.ok());
        return true;
      } catch (const std::bad_alloc&) {
        allocations_left = -1;
        ++failed;
        return false;
      }
    };
    const auto items = [&] { return scene.table->size() + scene.writer->pending(); };
    for (int i = 0; i < 12; ++i) {
      const std::uint64_t before = scene.writer->next(3);
      const bool appended = attempt([&] { return scene.Append(); });
      CHECK_EQ(scene.writer->next(3), before + appended);
      if (!appended) REQUIRE(scene.Append().ok());
      const std::uint64_t had = items();
      const bool created = attempt([&] {
        return scene.Item({{0, scene.next[0] - 3, 3}, {3, scene.next[3] - 2, 2}},
                          {{1, false}, {1, false}});
      });
      CHECK_EQ(items(), had + created);
    }
    REQUIRE(scene.Item({{3, scene.next[3] - 3, 3}}, {{1, false}}).ok());
    scene.store->Close();
    scene.store->Clear(scene.table.get());
    scene.writer->Close();
    CHECK_EQ(scene.store->info().num_chunks, 0u);
  }
  CHECK(failed > 50);
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
