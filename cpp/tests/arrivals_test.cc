// Streams of arrivals, and views that follow them from an item on.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <thread>

#include "check.h"
#include "writers/writer.h"

namespace reverie_test {
namespace {

using Begun = Writer::Begun;

// A state, and what led to it: the state before, plus one.
const std::shared_ptr<const RecordLayout> kArrival = std::make_shared<RecordLayout>(
    std::vector<std::size_t>{8, 8}, std::vector<std::uint32_t>{1, 2});

constexpr std::uint64_t kEpisode = 1000;  // states of episode e: 1000 e, 1000 e + 1, ...

Writer::Config Anchors(std::uint32_t stride, std::uint32_t streams) {
  Writer::Config config{stride + 1, stride, 1.0, false, false, {}, -1, 0};
  config.pad_record.resize(16);
  config.items = Writer::Items::kAnchors;
  config.num_streams = streams;
  return config;
}

Status Arrive(Writer* writer, std::uint32_t stream, std::uint64_t before, std::uint64_t after,
              How how, Begun* begun = nullptr) {
  const std::uint64_t led = before + 1;
  const std::array<const void*, 2> states{&before, nullptr};
  const std::array<const void*, 2> columns{&after, &led};
  const auto last = static_cast<std::uint8_t>(how);
  return writer->AppendArrivals(states.data(), columns.data(), &stream, 1, &last, begun, nullptr);
}

struct Row {
  std::uint64_t state;
  std::uint64_t led;   // to the next one
  std::uint64_t last;  // state
  std::uint32_t records;
  How how;
};

std::vector<Row> Rows(const std::shared_ptr<Store>& store, Table* table, std::uint32_t most,
                      std::size_t samples = 0) {
  Store::ViewReader reader(store, kArrival.get(), most);
  std::vector<std::uint64_t> keys(samples);
  std::vector<double> reals(2 * samples);
  std::vector<std::int64_t> sizes(samples);
  std::vector<std::int32_t> times(samples);
  if (samples == 0) {
    REQUIRE(reader.Select(table, nullptr, 0).ok());
  } else {
    const Status status = reader.Sample(
        table, samples,
        {keys.data(), reals.data(), sizes.data(), reals.data() + samples, times.data(), 1});
    if (!status.ok()) return {};
  }
  const std::size_t n = reader.reach().size();
  std::vector<std::uint64_t> first(n), led(n), last(n), all(n * most);
  const std::vector<ViewColumn> columns{{0, 0, 1, 0}, {1, 1, 1, 0}, {0, -1, 1, 0}, {0, 0, most, 0}};
  const std::array<void*, 4> outputs{first.data(), led.data(), last.data(), all.data()};
  REQUIRE(reader.Gather(columns, outputs.data()).ok());
  std::vector<Row> rows;
  for (std::size_t i = 0; i < n; ++i) {
    const auto [records, how, step, chunk] = reader.reach()[i];
    CHECK(chunk != 0 && step < Store::kMaxChunkNbytes);
    // Every record of a row is of one episode, in its order, and zeros stand behind them.
    for (std::uint32_t t = 0; t < most; ++t) {
      CHECK_EQ(all[i * most + t], t < records ? first[i] + t : 0);
    }
    CHECK_EQ(last[i], first[i] + records - 1);
    rows.push_back({first[i], led[i], last[i], records, how});
  }
  return rows;
}

// With another remover than FIFO, or tidied, a stream may be followed less far than it goes.
void RowsAreWhatWasStored(std::uint32_t stride, std::uint32_t capacity, bool tidy,
                          SelectorKind remover = SelectorKind::kFifo) {
  const bool whole = !tidy && remover == SelectorKind::kFifo;
  const auto store = std::make_shared<Store>(Store::Options{256, 1});
  const auto table = store->CreateTable(TableConfig(capacity, SelectorKind::kUniform, remover));
  constexpr std::uint32_t kStreams = 3;
  Writer writer(store, kArrival, {table}, Anchors(stride, kStreams));
  std::array<std::uint64_t, kStreams> at{};
  std::uint64_t episode = 1;
  for (auto& state : at) state = kEpisode * episode++;
  Rng rng(stride);
  std::uint64_t items = 0;
  for (int step = 0; step < 3000; ++step) {
    const std::uint32_t stream = rng.Below(kStreams);
    const std::uint32_t dice = rng.Below(40);
    if (dice == 0) at[stream] = kEpisode * episode++;  // not where the last step led
    Begun begun = Begun::kNo;
    const How how = dice == 1 ? How::kTerminated : dice == 2 ? How::kTruncated : How::kGoesOn;
    CHECK(Arrive(&writer, stream, at[stream], at[stream] + 1, how, &begun).ok());
    CHECK(dice != 0 || begun != Begun::kNo);
    at[stream] = how == How::kGoesOn ? at[stream] + 1 : kEpisode * episode++;
    if (tidy && step % 50 == 0) store->Tidy();
    if (step % 100 != 99) continue;
    for (const std::uint32_t most : {2u, 5u, 400u}) {
      for (const Row& row : Rows(store, table.get(), most)) {
        CHECK_EQ(row.led, row.state + 1);
        CHECK(row.records >= 2 && row.records <= most);
        CHECK_EQ(row.state % kEpisode % stride, 0u);
        if (row.how == How::kGoesOn && row.records < most && whole) {  // up to the newest
          CHECK(std::count(at.begin(), at.end(), row.last) == 1);
        }
      }
    }
    items = table->size();
  }
  CHECK(items > 0 && items <= capacity);
}

// Items hold all that is stored, the tails of episodes too.
void TailsBecomeItems() {
  const auto store = std::make_shared<Store>(Store::Options{256, 1});
  const auto table = store->CreateTable(TableConfig(100));
  Writer writer(store, kArrival, {table}, Anchors(4, 1));
  std::uint64_t episode = 1;
  for (std::uint32_t steps = 1; steps <= 9; ++steps, ++episode) {
    for (std::uint32_t t = 0; t < steps; ++t) {
      const std::uint64_t state = kEpisode * episode + t;
      const How how = t + 1 == steps ? How::kTerminated : How::kGoesOn;
      CHECK(Arrive(&writer, 0, state, state + 1, how).ok());
    }
  }
  std::vector<std::uint64_t> found;
  for (const Row& row : Rows(store, table.get(), 100)) {
    found.push_back(row.state);
    CHECK(row.how == How::kTerminated);
  }
  std::vector<std::uint64_t> wanted;
  for (std::uint64_t steps = 1; steps <= 9; ++steps) {
    for (std::uint64_t t = 0; t < steps; t += 4) wanted.push_back(kEpisode * steps + t);
  }
  CHECK(found == wanted);
}

void RunsAreStoredAsSteps() {
  const auto store = std::make_shared<Store>(Store::Options{256, 1});
  const auto table = store->CreateTable(TableConfig(2000));
  Writer writer(store, kArrival, {table}, Anchors(1, 1));
  std::vector<std::uint64_t> states, led, lengths;
  std::vector<std::uint8_t> lasts;
  for (std::uint64_t e = 1; e <= 5; ++e) {
    for (std::uint64_t t = 0; t <= 70 * e; ++t) {
      states.push_back(kEpisode * e + t);
      led.push_back(kEpisode * e + t);
    }
    lengths.push_back(70 * e + 1);
    lasts.push_back(static_cast<std::uint8_t>(How::kTruncated));
  }
  const std::array<const void*, 2> columns{states.data(), led.data()};
  const Status wrong = writer.AppendRuns(columns.data(), 1, lengths.data(), lasts.data(), 5);
  CHECK(wrong.code == Code::kInvalid);
  CHECK(writer.AppendRuns(columns.data(), 0, lengths.data(), lasts.data(), 5).ok());
  const std::vector<Row> rows = Rows(store, table.get(), 500);
  CHECK_EQ(rows.size(), 70u * 15);
  for (const Row& row : rows) {
    CHECK(row.how == How::kTruncated);
    CHECK_EQ(row.led, row.state + 1);
  }
  lasts[2] = 0;
  CHECK(writer.AppendRuns(columns.data(), 0, lengths.data(), lasts.data(), 5).code ==
        Code::kInvalid);
  CHECK_EQ(table->size(), 70u * 15);
}

// What a stack of frames holds at state t of episode e, from the oldest one on.
std::vector<std::uint64_t> Stack(std::uint64_t state, std::uint32_t lead, bool zero) {
  const std::uint64_t t = state % kEpisode;
  std::vector<std::uint64_t> found;
  for (std::uint64_t back = lead + 1; back-- > 0;) {
    found.push_back(back <= t ? state - back : zero ? 0 : state - t);
  }
  return found;
}

void EpisodesHaveTheirLead(std::uint32_t stride, std::uint32_t lead, bool zero) {
  const auto store = std::make_shared<Store>(Store::Options{256, 1});
  const auto table = store->CreateTable(TableConfig(60));
  Writer::Config config = Anchors(stride, 1);
  config.sequence_length += lead;
  config.lead = lead;
  config.lead_is_zero = zero;
  Writer writer(store, kArrival, {table}, config);
  std::uint64_t wanted = 0;
  for (std::uint64_t e = 1; e <= 30; ++e) {
    const std::uint64_t steps = 1 + e * 7 % 23;
    wanted += (steps + stride - 1) / stride;
    if (e % 3 == 0) {
      std::vector<std::uint64_t> states(steps + 1), led(steps + 1);
      for (std::uint64_t t = 0; t <= steps; ++t) states[t] = led[t] = kEpisode * e + t;
      const std::array<const void*, 2> columns{states.data(), led.data()};
      const std::uint64_t length = steps + 1;
      const auto last = static_cast<std::uint8_t>(How::kTerminated);
      CHECK(writer.AppendRuns(columns.data(), 0, &length, &last, 1).ok());
    } else {
      for (std::uint64_t t = 0; t < steps; ++t) {
        const std::uint64_t state = kEpisode * e + t;
        const bool ends = t + 1 == steps && e % 3 == 1;
        CHECK(Arrive(&writer, 0, state, state + 1, ends ? How::kTerminated : How::kGoesOn).ok());
      }
      std::uint64_t uncovered = 1;
      if (e % 3 == 2) CHECK(writer.Reset(true, &uncovered).ok());
    }
    Store::ViewReader reader(store, kArrival.get(), 5 + lead);
    REQUIRE(reader.Select(table.get(), nullptr, 0).ok());
    const std::size_t n = reader.reach().size();
    CHECK_EQ(n, std::min<std::uint64_t>(wanted, 60));
    const std::uint32_t depth = lead + 1;
    std::vector<std::uint64_t> now(n * depth), then(n * depth), state(n), next(n);
    const std::vector<ViewColumn> columns{{0, 0, depth, 0},
                                          {0, -std::int64_t{depth}, depth, 0},
                                          {0, lead, 1, 0},
                                          {1, lead + 1, 1, 0}};
    const std::array<void*, 4> outputs{now.data(), then.data(), state.data(), next.data()};
    REQUIRE(reader.Gather(columns, outputs.data()).ok());
    for (std::size_t i = 0; i < n; ++i) {
      const auto of = [&](const std::vector<std::uint64_t>& all) {
        const auto begin = all.begin() + static_cast<std::ptrdiff_t>(i * depth);
        return std::vector<std::uint64_t>(begin, begin + depth);
      };
      CHECK_EQ(next[i], state[i] + 1);
      CHECK_EQ(state[i] % kEpisode % stride, 0u);
      CHECK(of(now) == Stack(state[i], lead, zero));
      const std::uint32_t steps_on = reader.reach()[i].records - 1 - lead;
      CHECK(steps_on >= 1 && steps_on <= 4);
      CHECK(of(then) == Stack(state[i] + steps_on, lead, zero));
    }
  }
}

// Each row's other record: later in its episode, anywhere in it, or of any.
void RowsHaveAnotherRecord(BatchSpec::Other other, std::uint32_t lead, bool tidy) {
  const auto store = std::make_shared<Store>(Store::Options{256, 1});
  const auto table = store->CreateTable(TableConfig(150));
  Writer::Config config = Anchors(1, 2);
  config.sequence_length += lead;
  config.lead = lead;
  Writer writer(store, kArrival, {table}, config);
  std::array<std::uint64_t, 2> at{kEpisode, 2 * kEpisode};
  std::uint64_t episodes = 2;
  std::array<std::size_t, 3> seen{};  // before the step, just after it, later
  std::array<std::uint64_t, 8> counts{};
  for (int step = 0; step < 600; ++step) {
    const std::uint32_t stream = step % 3 == 0;
    const std::uint64_t length = 5 + at[stream] / kEpisode * 7 % 60;
    const bool ends = at[stream] % kEpisode + 1 == length;
    const How how = ends ? How::kTerminated : How::kGoesOn;
    CHECK(Arrive(&writer, stream, at[stream], at[stream] + 1, how).ok());
    at[stream] = ends ? kEpisode * ++episodes : at[stream] + 1;
    if (tidy && step % 50 == 0) store->Tidy();
    if (step < 100) continue;
    constexpr std::size_t kRows = 32;
    Store::ViewReader reader(store, kArrival.get(), 0xffffffffu, lead, other);
    std::array<std::uint64_t, kRows> keys{}, state{}, found{};
    std::array<double, 2 * kRows> reals{};
    std::array<std::int64_t, kRows> sizes{};
    std::array<std::int32_t, kRows> times{};
    CHECK(reader
              .Sample(
                  table.get(), kRows,
                  {keys.data(), reals.data(), sizes.data(), reals.data() + kRows, times.data(), 1})
              .ok());
    const std::vector<ViewColumn> columns{{0, lead, 1, 0}, {0, ViewColumn::kOther, 1, 0}};
    const std::array<void*, 2> outputs{state.data(), found.data()};
    CHECK(reader.Gather(columns, outputs.data()).ok());
    for (std::size_t i = 0; i < kRows; ++i) {
      CHECK(found[i] % kEpisode != 0);  // no transition leads to an episode's first state
      const std::uint32_t left = reader.reach()[i].records - 1 - lead;
      if (other != BatchSpec::Other::kAny) CHECK_EQ(found[i] / kEpisode, state[i] / kEpisode);
      if (other == BatchSpec::Other::kLater) {
        CHECK(found[i] > state[i] && found[i] <= state[i] + left);
        if (left == 8) ++counts[found[i] - state[i] - 1];
      }
      ++seen[found[i] <= state[i] ? 0 : found[i] == state[i] + 1 ? 1 : 2];
    }
  }
  CHECK((seen[0] != 0) == (other != BatchSpec::Other::kLater));
  CHECK(seen[1] != 0 && seen[2] != 0);
  if (other == BatchSpec::Other::kLater && !tidy) {  // each of them equally likely
    const auto [least, most] = std::minmax_element(counts.begin(), counts.end());
    CHECK(*least > 20 && *most < 3 * *least);
  }
}

void ReadersSeeWholeRowsBesideWriters() {
  const auto store = std::make_shared<Store>(Store::Options{1024, 2});
  const auto table = store->CreateTable(TableConfig(500));
  std::atomic<bool> done{false};
  std::vector<std::thread> threads;
  for (std::uint64_t t = 0; t < 2; ++t) {
    threads.emplace_back([&, t] {
      Writer writer(store, kArrival, {table}, Anchors(1, 1));
      std::uint64_t episode = 1 + t;
      std::uint64_t state = kEpisode * episode;
      for (int step = 0; step < 20000; ++step) {
        const bool ends = step % 37 == 36;
        CHECK(Arrive(&writer, 0, state, state + 1, ends ? How::kTerminated : How::kGoesOn).ok());
        state = ends ? kEpisode * (episode += 2) : state + 1;
      }
    });
  }
  std::thread tidy([&] {
    while (!done) store->Tidy();
  });
  std::thread reader([&] {
    while (!done) {
      for (const Row& row : Rows(store, table.get(), 6, 16)) CHECK_EQ(row.led, row.state + 1);
    }
  });
  for (auto& thread : threads) thread.join();
  done = true;
  tidy.join();
  reader.join();
}

// Which items an ended episode has, and the sum of its rewards: here doubles in place of `led`.
void EndedEpisodesAreTold() {
  const auto store = std::make_shared<Store>(Store::Options{4096, 1});
  const auto table = store->CreateTable(TableConfig(100));
  Writer::Config config = Anchors(1, 2);
  config.tells_ended = true;
  config.return_column = 1;
  Writer writer(store, kArrival, {table}, config);
  const auto arrive = [&](std::uint32_t stream, std::uint64_t before, double reward, How how) {
    const std::uint64_t after = before + 1;
    const std::array<const void*, 2> states{&before, nullptr};
    const std::array<const void*, 2> columns{&after, &reward};
    const auto last = static_cast<std::uint8_t>(how);
    CHECK(writer.AppendArrivals(states.data(), columns.data(), &stream, 1, &last, nullptr, nullptr)
              .ok());
  };
  arrive(0, 10, 1.5, How::kGoesOn);
  arrive(1, 20, -2.0, How::kGoesOn);
  CHECK(writer.TakeEnded().empty());
  arrive(0, 11, 4.0, How::kTerminated);
  arrive(1, 21, 0.25, How::kGoesOn);
  std::vector<Writer::Ended> ended = writer.TakeEnded();
  REQUIRE(ended.size() == 1);
  CHECK_EQ(ended[0].total, 5.5);
  CHECK_EQ(ended[0].keys.size(), 2u);
  const std::vector<double> priorities(2, 7.0);
  CHECK_EQ(store->UpdatePriorities(table.get(), ended[0].keys.data(), priorities.data(), 2), 0u);
  arrive(1, 90, 8.0, How::kGoesOn);  // not where it was: another episode
  std::uint64_t uncovered = 0;
  CHECK(writer.Reset(1, true, &uncovered).ok());
  ended = writer.TakeEnded();
  REQUIRE(ended.size() == 2);
  CHECK_EQ(ended[0].total, -1.75);
  CHECK_EQ(ended[0].keys.size(), 2u);
  CHECK_EQ(ended[1].total, 8.0);
  CHECK_EQ(ended[1].keys.size(), 1u);
  const std::array<std::uint64_t, 5> states{0, 1, 2, 5, 6};
  const std::array<double, 5> rewards{0, 1, 2, 0, 4};
  const std::array<const void*, 2> columns{states.data(), rewards.data()};
  const std::array<std::uint64_t, 2> lengths{3, 2};
  const std::array<std::uint8_t, 2> lasts{2, 3};
  CHECK(writer.AppendRuns(columns.data(), 0, lengths.data(), lasts.data(), 2).ok());
  ended = writer.TakeEnded();
  REQUIRE(ended.size() == 2);
  CHECK_EQ(ended[0].total, 3.0);
  CHECK_EQ(ended[1].total, 4.0);
  CHECK_EQ(ended[0].keys.size() + ended[1].keys.size(), 3u);
}

}  // namespace
}  // namespace reverie_test

int main() {
  using namespace reverie_test;
  for (const std::uint32_t stride : {1u, 3u}) {
    for (const std::uint32_t capacity : {1u, 40u, 5000u}) {
      RowsAreWhatWasStored(stride, capacity, false);
      RowsAreWhatWasStored(stride, capacity, true);
      RowsAreWhatWasStored(stride, capacity, false, SelectorKind::kUniform);
      RowsAreWhatWasStored(stride, capacity, true, SelectorKind::kUniform);
    }
  }
  for (const std::uint32_t stride : {1u, 3u}) {
    for (const std::uint32_t lead : {1u, 3u, 40u}) {
      EpisodesHaveTheirLead(stride, lead, false);
      EpisodesHaveTheirLead(stride, lead, true);
    }
  }
  for (const auto other :
       {BatchSpec::Other::kLater, BatchSpec::Other::kEpisode, BatchSpec::Other::kAny}) {
    for (const std::uint32_t lead : {0u, 3u}) {
      RowsHaveAnotherRecord(other, lead, false);
      RowsHaveAnotherRecord(other, lead, true);
    }
  }
  TailsBecomeItems();
  RunsAreStoredAsSteps();
  ReadersSeeWholeRowsBesideWriters();
  EndedEpisodesAreTold();
  return 0;
}
