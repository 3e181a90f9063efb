#include "table.h"

#include <algorithm>
#include <map>
#include <set>

#include "pages_scene.h"
#include "selectors/make_selector.h"
#include "table_scene.h"

namespace reverie_test {
namespace {

constexpr SelectorKind kKinds[] = {SelectorKind::kUniform, SelectorKind::kFifo,
                                   SelectorKind::kLifo};

struct ModelItem {
  std::uint64_t key;
  std::size_t step;
  std::uint32_t length;
  double priority;
  std::int32_t times_sampled;
};

// A table, and the same as a plain vector. `forgetful`: the model is wrong, as it
// does not count what Delete() takes away.
struct Modelled {
  Stream* stream;
  Table::Config config;
  std::unique_ptr<Table> table;
  bool forgetful = false;
  std::vector<ModelItem> model;
  std::vector<std::uint64_t> stale;
  RateLimiter::Counters counters;

  Modelled(Stream* s, const Table::Config& c)
      : stream(s), config(c), table(std::make_unique<Table>(c, &s->chunks)) {}

  void Evict(std::size_t index) {
    stale.push_back(model[index].key);
    model.erase(model.begin() + static_cast<std::ptrdiff_t>(index));
    ++counters.deletes;
  }

  void Insert(std::size_t step, std::uint32_t length, double priority) {
    stream->Insert(table.get(), step, length, priority);
    model.push_back({0, step, length, priority, 0});
    ++counters.inserts;
    const auto keys = stream->Save(table.get()).items.key;
    if (model.size() <= config.max_size) {
      model.back().key = keys.back();
      CHECK(std::find(stale.begin(), stale.end(), keys.back()) == stale.end());
      return;
    }
    std::size_t victim = 0;
    if (config.remover.kind == SelectorKind::kLifo) victim = model.size() - 1;
    if (config.remover.kind == SelectorKind::kUniform) {  // whoever is no longer there
      while (victim < keys.size() && keys[victim] == model[victim].key) ++victim;
    }
    if (victim + 1 != model.size()) model.back().key = keys.back();
    Evict(victim);
    if (stale.back() == 0) stale.pop_back();  // the new item itself, whose key nobody saw
  }

  void Delete(const std::vector<std::uint64_t>& keys) {
    Garbage garbage;
    std::size_t expected = 0;
    for (const std::uint64_t key : keys) {
      const auto found = std::find_if(model.begin(), model.end(),
                                      [key](const ModelItem& item) { return item.key == key; });
      if (found == model.end()) {
        ++expected;
      } else {
        Evict(static_cast<std::size_t>(found - model.begin()));
        if (forgetful) --counters.deletes;
      }
    }
    CHECK_EQ(table->Delete(keys.data(), keys.size(), &garbage), expected);
  }

  void Update(const std::vector<std::uint64_t>& keys, double priority) {
    std::size_t expected = 0;
    for (const std::uint64_t key : keys) {
      ++expected;
      for (ModelItem& item : model) {
        if (item.key != key) continue;
        item.priority = priority;
        --expected;
      }
    }
    const std::vector<double> priorities(keys.size(), priority);
    CHECK_EQ(table->UpdatePriorities(keys.data(), priorities.data(), keys.size()), expected);
  }

  void Sample(std::uint32_t length) {
    Batch batch(5, 1);
    BatchRows rows;
    const TableState before = stream->Save(table.get());
    const Status status = stream->Sample(table.get(), &batch, &rows, length);
    if (!status.ok()) {
      CHECK_EQ(status.code, Code::kLengthMismatch);
      CHECK_EQ(status.wanted, length);
      for (const ModelItem& item : model) {
        if (item.key == status.key) CHECK_EQ(status.found, item.length);
      }
      CHECK(Same(stream->Save(table.get()), before));  // not even randomness is used up
      return;
    }
    counters.samples += 5;
    for (std::size_t i = 0; i < 5; ++i) {
      const auto item = std::find_if(model.begin(), model.end(), [&](const ModelItem& candidate) {
        return candidate.key == batch.key[i];
      });
      REQUIRE(item != model.end());
      if (config.sampler.kind == SelectorKind::kFifo) CHECK(item == model.begin());
      if (config.sampler.kind == SelectorKind::kLifo) CHECK(item + 1 == model.end());
      const bool uniform = config.sampler.kind == SelectorKind::kUniform;
      CHECK_EQ(batch.probability[i], uniform ? 1.0 / static_cast<double>(model.size()) : 1.0);
      CHECK_EQ(batch.table_size[i], model.size());
      CHECK_EQ(batch.priority[i], item->priority);
      CHECK_EQ(batch.times_sampled[i], ++item->times_sampled);
      CHECK_EQ(item->length, length);
      CHECK(rows.rows[i].chunk == stream->steps[item->step].chunk);
      CHECK_EQ(rows.rows[i].offset, stream->steps[item->step].offset);
      CHECK(rows.rows[i].record == stream->steps[item->step].record);
      CHECK_EQ(rows.rows[i].here, stream->steps[item->step].here);
    }
  }

  void Clear() {
    Garbage garbage;
    reverie_test::Clear(table.get(), &garbage);
    for (const ModelItem& item : model) stale.push_back(item.key);
    model.clear();
    counters = {};
  }

  void SaveAndRestore() {
    Garbage garbage;
    const TableState state = stream->Save(table.get());
    auto restored = std::make_unique<Table>(config, &stream->chunks);
    REQUIRE(Restore(stream, restored.get(), state, ChunksByRow(stream, state)).ok());
    CHECK(Same(stream->Save(restored.get()), state));
    reverie_test::Clear(table.get(), &garbage);
    table = std::move(restored);
  }

  void Check() {
    const TableState state = stream->Save(table.get());
    std::map<const Chunk*, std::uint32_t> refs;
    REQUIRE(CHECK_EQ(state.items.key.size(), model.size()));
    CHECK_EQ(table->size(), model.size());
    for (std::size_t i = 0; i < model.size(); ++i) {
      const ModelItem& item = model[i];
      CHECK_EQ(state.items.key[i], item.key);
      CHECK_EQ(state.items.chunk_id[i], stream->chunk(item.step)->id);
      CHECK_EQ(state.items.offset[i], item.step % 4);
      CHECK_EQ(state.items.length[i], item.length);
      CHECK_EQ(state.items.priority[i], item.priority);
      CHECK_EQ(state.items.times_sampled[i], item.times_sampled);
      for (std::size_t c = item.step / 4; c <= (item.step + item.length - 1) / 4; ++c) {
        ++refs[stream->all[c]];
      }
    }
    for (const Chunk* chunk : stream->all) CHECK_EQ(chunk->refs, 1 + refs[chunk]);
    CHECK_EQ(state.counters.inserts, counters.inserts);
    CHECK_EQ(state.counters.samples, counters.samples);
    CHECK_EQ(state.counters.deletes, counters.deletes);
  }

  std::vector<std::uint64_t> SomeKeys(Rng* rng) const {
    std::vector<std::uint64_t> keys;
    for (std::uint32_t i = rng->Below(6); i != 0; --i) {
      const auto& from = rng->Below(3) == 0 ? stale : std::vector<std::uint64_t>();
      if (!from.empty()) {
        keys.push_back(from[rng->Below(static_cast<std::uint32_t>(from.size()))]);
      } else if (!model.empty()) {
        keys.push_back(model[rng->Below(static_cast<std::uint32_t>(model.size()))].key);
      }
    }
    return keys;  // may name an item twice: then it is stale the second time
  }
};

void RunRandom(Modelled* both, bool mixed, std::uint64_t seed, int operations) {
  Rng rng(seed);
  for (int i = 0; i < operations; ++i) {
    const std::uint32_t dice = rng.Below(1000);
    if (dice < 500) {
      const std::uint32_t length = mixed ? 1 + rng.Below(9) : 3;
      both->Insert(rng.Below(80), length, mixed ? rng.Below(3) : 1.0);
    } else if (dice < 600) {
      both->Delete(both->SomeKeys(&rng));
    } else if (dice < 700) {
      both->Update(both->SomeKeys(&rng), mixed ? rng.Below(3) : 1.0);
    } else if (dice < 985) {
      if (!both->model.empty()) both->Sample(3);
    } else if (dice < 995) {
      both->SaveAndRestore();
    } else {
      both->Clear();
    }
    both->Check();
  }
}

TEST(ATableIsWhatAPlainVectorWouldBe) {
  for (const SelectorKind sampler : kKinds) {
    for (const SelectorKind remover : kKinds) {
      for (const bool mixed : {false, true}) {
        Stream stream(100);
        Modelled both(&stream, TableConfig(40, sampler, remover));
        RunRandom(&both, mixed, 1, 600);
        both.Clear();
        both.Check();  // all references are given back
      }
    }
  }
}

TEST(TheCheckSeesAWrongModel) {
  CHECK(Fails([] {
    Stream stream(100);
    Modelled both(&stream, TableConfig(40));
    both.forgetful = true;
    RunRandom(&both, false, 1, 100);
  }));
}

// Draws with one of three deliberate faults.
class Biased final : public Selector {
 public:
  enum class Fault { kOlder, kAfterHole, kNeverNewest };
  Biased(const ItemOrder* order, Fault fault) : order_(*order), fault_(fault) {}
  void Insert(std::uint32_t, double) override {}
  void Update(std::uint32_t, double) override {}
  void Delete(std::uint32_t) override {}
  void Select(Rng* rng, std::size_t n, std::uint32_t* slots, double*) const override {
    const auto span = static_cast<std::uint32_t>(order_.span());
    for (std::size_t i = 0; i < n; ++i) {
      std::uint32_t place;
      do {
        place = rng->Below(fault_ == Fault::kNeverNewest ? span - 1 : span);
        if (fault_ == Fault::kOlder) place = std::min(place, rng->Below(span));
        while (fault_ == Fault::kAfterHole && order_[place] == kNoSlot) ++place;
      } while (order_[place] == kNoSlot);
      slots[i] = order_[place];
    }
  }

 private:
  const ItemOrder& order_;
  const Fault fault_;
};

bool SelectsUniformly(const Selector& selector, std::uint32_t num_slots, std::size_t size) {
  Rng rng(5);
  const std::size_t n = 1000 * size;
  std::vector<std::uint32_t> slots(n);
  std::vector<double> probabilities(n);
  selector.Select(&rng, n, slots.data(), probabilities.data());
  std::vector<std::uint64_t> counts(num_slots);
  for (const std::uint32_t slot : slots) ++counts[slot];
  counts.erase(std::remove(counts.begin(), counts.end(), 0u), counts.end());
  return counts.size() == size && LooksUniform(counts);
}

TEST(UniformSelectionIsUniformDespiteHoles) {
  Pages pages;
  ItemOrder order(&pages.pool, 0);
  const LazyColumn<double> priorities(&pages.pool);
  for (std::uint32_t slot = 0; slot < 60; ++slot) order.PushBack(slot);
  for (std::uint32_t slot = 1; slot < 58; slot += 1 + slot % 3) order.Erase(slot);
  REQUIRE(order.span() == 60 && order.size() < 40);
  const auto uniform =
      MakeSelector({SelectorKind::kUniform, 1.0}, &order, &priorities, &pages.pool);
  CHECK(SelectsUniformly(*uniform, 60, order.size()));
  for (const auto fault :
       {Biased::Fault::kOlder, Biased::Fault::kAfterHole, Biased::Fault::kNeverNewest}) {
    CHECK(!SelectsUniformly(Biased(&order, fault), 60, order.size()));
  }
}

TEST(UniformSamplesOfATableAreUniform) {
  Stream stream(40);
  Table table(TableConfig(30), &stream.chunks);
  for (std::size_t i = 0; i < 50; ++i) stream.Insert(&table, i % 30, 2);
  const TableState state = stream.Save(&table);
  Garbage garbage;
  table.Delete(state.items.key.data() + 5, 10, &garbage);
  std::map<std::uint64_t, std::uint64_t> counts;
  Batch batch(100, 1);
  BatchRows rows;
  for (int i = 0; i < 200; ++i) {
    REQUIRE(stream.Sample(&table, &batch, &rows, 2).ok());
    for (const std::uint64_t key : batch.key) ++counts[key];
  }
  std::vector<std::uint64_t> values;
  for (const auto& entry : counts) values.push_back(entry.second);
  CHECK_EQ(values.size(), 20u);
  CHECK(LooksUniform(values));
}

TEST(PiecesOfAnItemAreDisjointAndEquallyLikely) {
  Stream stream(40);
  Table table(TableConfig(10), &stream.chunks);
  stream.Insert(&table, 3, 12);
  Batch batch(3000, 1);
  BatchRows rows;
  REQUIRE(stream.Sample(&table, &batch, &rows, 12).ok());
  table.PickPieces(&rows, 12, 3);
  std::vector<std::uint64_t> counts(4);
  for (const Row& row : rows.rows) {
    const std::uint64_t step = (row.chunk->id - 1) * 4 + row.offset;
    REQUIRE(step >= 3 && (step - 3) % 3 == 0 && step < 15);
    ++counts[(step - 3) / 3];
  }
  CHECK(LooksUniform(counts));
}

TEST(InfoIsRepeatedForEachStepThatAsksForIt) {
  Stream stream(20);
  Table table(TableConfig(10), &stream.chunks);
  stream.Insert(&table, 0, 4, 2.5);
  Batch batch(6, 1);
  batch.info.repeat = 3;
  BatchRows rows;
  rows.rows.resize(2);
  Garbage garbage;
  REQUIRE(table.Sample({stream.layout.get(), 4}, &rows, batch.info, &garbage).ok());
  CHECK_EQ(batch.times_sampled, (std::vector<std::int32_t>{1, 1, 1, 2, 2, 2}));
  CHECK_EQ(batch.priority, std::vector<double>(6, 2.5));
}

TEST(SelectTakesItemsByKeyOrAllInOrder) {
  Stream stream(40);
  Table table(TableConfig(10), &stream.chunks);
  for (std::size_t i = 0; i < 5; ++i) stream.Insert(&table, i, i == 4 ? 3 : 2);
  const auto keys = stream.Save(&table).items.key;
  const auto select = [&](const std::vector<std::uint64_t>* wanted, std::uint32_t steps) {
    BatchRows rows;
    BatchSpec spec(stream.layout.get(), steps);
    std::vector<std::uint64_t> found;
    const Status status = table.Select(&spec, wanted != nullptr ? wanted->data() : nullptr,
                                       wanted != nullptr ? wanted->size() : 0, &rows, &found);
    return std::make_pair(status, found);
  };
  const std::vector<std::uint64_t> some{keys[2], keys[0], keys[2]};
  CHECK_EQ(select(&some, 2).second, some);
  CHECK_EQ(select(&some, 0).second, some);  // the first one's length
  CHECK_EQ(select(&some, 3).first.code, Code::kLengthMismatch);
  const std::vector<std::uint64_t> last{keys[4]};
  CHECK_EQ(select(&last, 0).second, last);
  const Status mixed = select(nullptr, 0).first;  // the last one is longer
  CHECK_EQ(mixed.code, Code::kLengthMismatch);
  CHECK_EQ(mixed.key, keys[4]);
  CHECK_EQ(mixed.found, 3);
  CHECK_EQ(mixed.wanted, 2);
  Garbage garbage;
  table.Delete(&keys[4], 1, &garbage);
  CHECK_EQ(select(nullptr, 0).second, std::vector<std::uint64_t>(keys.begin(), keys.end() - 1));
  CHECK_EQ(select(&last, 0).first.code, Code::kStaleKey);
  CHECK_EQ(select(&last, 0).first.key, keys[4]);
  CHECK_EQ(table.limiter().counters().samples, 0);
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
