#ifndef REVERIE_TESTS_UPDATE_SCENE_H_
#define REVERIE_TESTS_UPDATE_SCENE_H_

// Arrivals whose values may change: a state, a value of many equal words, of which torn ones
// are seen, and a version.

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "check.h"
#include "quiet.h"
#include "saved.h"

namespace reverie_test {

constexpr std::size_t kValueWords = 64;
constexpr std::size_t kValueNbytes = 8 * kValueWords;
const std::shared_ptr<const RecordLayout> kChanging = std::make_shared<RecordLayout>(
    std::vector<std::size_t>{8, kValueNbytes, 4}, std::vector<std::uint32_t>{1, 2, 3});

inline std::vector<std::uint64_t> CellsOf(const std::vector<std::uint64_t>& values) {
  std::vector<std::uint64_t> cells;
  for (const std::uint64_t value : values) cells.insert(cells.end(), kValueWords, value);
  return cells;
}

// The values of cells; of a torn one none.
inline std::vector<std::uint64_t> ValuesOf(const std::vector<std::uint64_t>& cells) {
  std::vector<std::uint64_t> values;
  for (std::size_t i = 0; i < cells.size(); i += kValueWords) {
    const auto first = cells.begin() + static_cast<std::ptrdiff_t>(i);
    CHECK(std::count(first, first + kValueWords, *first) == kValueWords);
    values.push_back(*first);
  }
  return values;
}

using Steps = std::vector<std::uint64_t>;

struct Changing {
  std::shared_ptr<Store> store = std::make_shared<Store>(Store::Options{8192, 1});
  std::shared_ptr<Table> table;
  std::unique_ptr<Writer> writer;
  std::uint64_t state = 0;

  explicit Changing(Store::Updates updates, Writer::Config config,
                    const Table::Config& of_table = TableConfig(1000)) {
    store->Allow(updates);
    table = store->CreateTable(of_table);
    config.pad_record.resize(kChanging->record_nbytes());
    writer = std::make_unique<Writer>(store, kChanging, std::vector<std::shared_ptr<Table>>{table},
                                      config);
  }
  static Writer::Config Anchors(std::uint32_t stride, std::uint32_t lead = 0) {
    Writer::Config config{stride + 1 + lead, stride, 1.0, false, false, {}, -1, 0};
    config.items = Writer::Items::kAnchors;
    config.lead = lead;
    return config;
  }
  static Writer::Config Windows(std::uint32_t length) {
    return {length + 1, 1, 1.0, false, false, {}, -1, 0};
  }

  // The n-th step's value is n.
  void Add(How how = How::kGoesOn) {
    const std::uint64_t after = state + 1;
    const std::vector<std::uint64_t> value = CellsOf({state});
    const std::int32_t version = 0;
    const std::array<const void*, 3> before{&state, nullptr, nullptr};
    const std::array<const void*, 3> columns{&after, value.data(), &version};
    const std::uint32_t stream = 0;
    const auto last = static_cast<std::uint8_t>(how);
    REQUIRE(
        writer->AppendArrivals(before.data(), columns.data(), &stream, 1, &last, nullptr, nullptr)
            .ok());
    state = after;
  }
  void AddSome(std::uint64_t steps) {
    while (steps-- != 0) Add();
  }

  Steps Keys() const {
    Store::ViewReader reader(store, kChanging.get(), 2);
    REQUIRE(reader.Select(table.get(), nullptr, 0).ok());
    return reader.keys();
  }
  // Of `steps` steps of each item, 0 where there is none; null: of all items.
  Steps Values(const Steps* keys = nullptr, std::uint32_t steps = 1, std::uint32_t lead = 0) const {
    Store::ViewReader reader(store, kChanging.get(), steps + 1 + lead);
    REQUIRE(reader
                .Select(table.get(), keys == nullptr ? nullptr : keys->data(),
                        keys == nullptr ? 0 : keys->size())
                .ok());
    std::vector<std::uint64_t> cells(reader.reach().size() * steps * kValueWords);
    void* const output = cells.data();
    REQUIRE(reader.Gather({{1, lead + 1, steps, 0}}, &output).ok());
    return ValuesOf(cells);
  }
  std::pair<Status, Scattered> Update(const Steps& keys, const Steps& values,
                                      std::uint32_t steps = 1,
                                      const std::vector<std::int32_t>* versions = nullptr,
                                      const std::vector<std::uint8_t>* mask = nullptr,
                                      std::uint32_t lead = 0, std::uint32_t cells_of = 0) {
    const std::vector<std::uint64_t> cells = CellsOf(values);
    Scatter scatter{kChanging.get(), lead + 1, steps, {}};
    scatter.columns.push_back(
        {1, cells_of == 0 ? steps : cells_of, reinterpret_cast<const std::uint8_t*>(cells.data())});
    if (versions != nullptr) {
      scatter.version = {2, true, reinterpret_cast<const std::uint8_t*>(versions->data())};
    }
    if (mask != nullptr) scatter.mask = mask->data();
    Scattered counts;
    const Status status = store->Update(table.get(), scatter, keys.data(), keys.size(), &counts);
    return {status, counts};
  }
};

inline void CheckCounts(const std::pair<Status, Scattered>& found, std::size_t updated,
                        std::size_t stale, std::size_t rejected) {
  CHECK(found.first.ok());
  CHECK_EQ(found.second.updated, updated);
  CHECK_EQ(found.second.stale, stale);
  CHECK_EQ(found.second.rejected, rejected);
}

}  // namespace reverie_test

#endif  // REVERIE_TESTS_UPDATE_SCENE_H_
