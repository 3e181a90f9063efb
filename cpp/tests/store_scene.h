#ifndef REVERIE_TESTS_STORE_SCENE_H_
#define REVERIE_TESTS_STORE_SCENE_H_

// A store with one table and a writer into it.

#include <cstdint>
#include <memory>
#include <vector>

#include "check.h"
#include "quiet.h"
#include "saved.h"
#include "writers/writer.h"

namespace reverie_test {

inline const std::shared_ptr<const RecordLayout> kLayout = StepLayout();

// A store whose writer makes windows of three steps over chunks of four.
struct Scene {
  std::shared_ptr<Store> store = std::make_shared<Store>(Store::Options{4 * kStepNbytes, 1});
  std::shared_ptr<Table> table;
  std::unique_ptr<Writer> writer;
  std::uint64_t next = 0;

  explicit Scene(const Table::Config& config = TableConfig(20))
      : table(store->CreateTable(config)) {
    NewWriter(kLayout);
  }
  void NewWriter(const std::shared_ptr<const RecordLayout>& layout) {
    writer = std::make_unique<Writer>(
        store, layout, std::vector<std::shared_ptr<Table>>{table},
        Writer::Config{3, 1, 1.0, false, false, PadRecord(*layout), -1, 0});
  }
  void Write(std::uint64_t steps) {
    for (; steps != 0; --steps, ++next) {
      REQUIRE(writer->Append(Step(next).columns().data(), How::kGoesOn).ok());
    }
  }
  Status Sample(Batch* batch) {
    return store->Sample(table.get(), {kLayout.get(), 3}, batch->key.size(), 3,
                         batch->outputs.data(), batch->info);
  }
  std::vector<std::uint64_t> Contents() {
    Store::Reader reader(store, {kLayout.get(), 3});
    REQUIRE(reader.Select(table.get(), nullptr, 0).ok());
    Batch batch(reader.keys().size(), 3);
    reader.Gather(batch.outputs.data());
    CHECK(batch.Intact());
    return batch.counter;
  }
};

inline std::vector<std::uint64_t> Windows(std::uint64_t first, std::uint64_t items) {
  std::vector<std::uint64_t> counters;
  for (std::uint64_t i = first; i < first + items; ++i) {
    for (std::uint64_t t = 0; t < 3; ++t) counters.push_back(i + t);
  }
  return counters;
}

inline Scene Load(const Saved& saved, const TableState& state, const Table::Config& config) {
  Scene scene(config);
  Load(saved, scene.store.get());
  REQUIRE(scene.store->RestoreTable(scene.table.get(), state).ok());
  scene.store->SealRestore();
  return scene;
}

}  // namespace reverie_test

#endif  // REVERIE_TESTS_STORE_SCENE_H_
