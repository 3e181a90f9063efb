#ifndef REVERIE_TESTS_CHECK_H_
#define REVERIE_TESTS_CHECK_H_

// A test harness in one header, as no framework can be taken for granted where
// the core is built: TEST registers, CHECK* count failures and go on, REQUIRE
// ends the test. Fails() shows that a check can fail. Below it stand the steps,
// tables and statistics that several tests share.

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <functional>
#include <iostream>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "writers/writer.h"

namespace reverie_test {

struct Test {
  const char* name;
  void (*body)();
};

inline std::vector<Test>& Tests() {
  static std::vector<Test> tests;
  return tests;
}

struct Registered {
  Registered(const char* name, void (*body)()) { Tests().push_back({name, body}); }
};

struct Stop {};  // thrown by REQUIRE

inline std::atomic<int> failures{0};     // of the test that runs; any thread may add
inline std::atomic<bool> silent{false};  // inside Fails()

inline void Report(const char* file, int line, const std::string& what) {
  constexpr int kPrinted = 10;
  static std::mutex mutex;
  if (failures++ >= kPrinted || silent) return;
  std::lock_guard<std::mutex> lock(mutex);
  std::cerr << file << ":" << line << ": " << what << std::endl;
}

template <typename T>
std::string Show(const T& value) {
  std::ostringstream text;
  if constexpr (std::is_enum_v<T>) {
    text << static_cast<long long>(value);
  } else {
    text << +value;  // small integers as numbers
  }
  return text.str();
}
inline std::string Show(const std::string& value) { return "\"" + value + "\""; }
template <typename T, typename Allocator>
std::string Show(const std::vector<T, Allocator>& values) {
  std::string text = std::to_string(values.size()) + ": [";
  for (std::size_t i = 0; i < values.size() && i < 20; ++i) text += Show(values[i]) + " ";
  return text + (values.size() > 20 ? "...]" : "]");
}

template <typename A, typename B>
bool Equal(const char* file, int line, const char* text, const A& a, const B& b) {
  if (a == static_cast<A>(b)) return true;
  Report(file, line, std::string(text) + ": " + Show(a) + " != " + Show(static_cast<A>(b)));
  return false;
}
// Whatever memory they stand in.
template <typename T, typename A, typename B>
bool Equal(const char* file, int line, const char* text, const std::vector<T, A>& a,
           const std::vector<T, B>& b) {
  if (a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin())) return true;
  Report(file, line, std::string(text) + ": " + Show(a) + " != " + Show(b));
  return false;
}

inline bool True(const char* file, int line, const char* text, bool value) {
  if (!value) Report(file, line, std::string(text) + " is false");
  return value;
}

// How many checks of `body` failed; they count as no failures of the test.
inline int Fails(const std::function<void()>& body) {
  const int before = failures;
  silent = true;
  try {
    body();
  } catch (const Stop&) {
  } catch (...) {
    silent = false;
    throw;
  }
  silent = false;
  return failures.exchange(before) - before;
}

inline int RunAll() {
  std::size_t failed = 0;
  for (const Test& test : Tests()) {
    failures = 0;
    try {
      test.body();
    } catch (const Stop&) {
    } catch (const std::exception& error) {
      Report(test.name, 0, std::string("threw ") + error.what());
    }
    if (failures == 0) continue;
    ++failed;
    std::cerr << "FAILED " << test.name << " (" << failures << " checks)" << std::endl;
  }
  std::printf("%zu tests, %zu failed\n", Tests().size(), failed);
  return failed == 0 ? 0 : 1;
}

#define TEST(name)                                                       \
  static void name();                                                    \
  static const reverie_test::Registered registered_##name(#name, &name); \
  static void name()
#define CHECK(value) reverie_test::True(__FILE__, __LINE__, #value, static_cast<bool>(value))
#define CHECK_EQ(a, b) reverie_test::Equal(__FILE__, __LINE__, #a " == " #b, a, b)
#define REQUIRE(value) \
  if (!CHECK(value)) throw reverie_test::Stop()
#define TEST_MAIN \
  int main() { return reverie_test::RunAll(); }

// What several tests share.

using namespace reverie;  // NOLINT: a header of tests only

inline std::uint64_t Hash(std::uint64_t x) { return Rng(x).Next(); }

// A step that tells by itself whether its bytes are one step's: `check` and
// `small` follow from `counter`. Its record is 21 bytes, so nothing is aligned.
struct Step {
  std::uint64_t counter;
  std::uint64_t check;
  std::uint8_t small;
  std::int32_t type;

  explicit Step(std::uint64_t n, std::int32_t t = 1)
      : counter(n), check(Hash(n)), small(static_cast<std::uint8_t>(n)), type(t) {}
  std::array<const void*, 4> columns() const { return {&counter, &check, &small, &type}; }
};

constexpr std::size_t kStepNbytes = 21;
constexpr std::uint64_t kPad = ~std::uint64_t{0};  // counter of a padding step
constexpr std::int32_t kLastType = 2;              // type of an episode's last step

inline std::shared_ptr<const RecordLayout> StepLayout() {
  return std::make_shared<RecordLayout>(std::vector<std::size_t>{8, 8, 1, 4},
                                        std::vector<std::uint32_t>{1, 1, 2, 3});
}

inline void Pack(const RecordLayout& layout, const Step& step, std::uint8_t* record) {
  for (std::size_t c = 0; c < 4; ++c) {
    const RecordLayout::Column& column = layout.columns()[c];
    std::memcpy(record + column.offset, step.columns()[c], column.nbytes);
  }
}

inline std::vector<std::uint8_t> PadRecord(const RecordLayout& layout) {
  std::vector<std::uint8_t> record(layout.record_nbytes());
  Pack(layout, Step(kPad), record.data());
  return record;
}

inline Table::Config TableConfig(std::uint32_t max_size,
                                 SelectorKind sampler = SelectorKind::kUniform,
                                 SelectorKind remover = SelectorKind::kFifo) {
  return {max_size, {sampler, 1.0}, {remover, 1.0}, {1, 1.0, -1e18, 1e18}, 7, 0};
}

// An item of whole steps, which the table's limiter must permit.
inline void Insert(Table* table, Chunk* chunk, std::uint32_t offset, std::uint32_t length,
                   double priority, Garbage* garbage) {
  const auto progress = std::make_shared<InsertProgress>();
  CHECK(table->Submit({priority, chunk, offset, length, {}}, progress, garbage));
}

// The arrays that a batch of steps is gathered into.
struct Batch {
  std::vector<std::uint64_t> counter, check;
  std::vector<std::uint8_t> small;
  std::vector<std::int32_t> type;
  std::vector<std::uint64_t> key;
  std::vector<double> probability, priority;
  std::vector<std::int64_t> table_size;
  std::vector<std::int32_t> times_sampled;
  std::array<void*, 4> outputs;
  SampleInfo info;

  Batch(std::size_t n, std::size_t steps)
      : counter(n * steps),
        check(n * steps),
        small(n * steps),
        type(n * steps),
        key(n),
        probability(n),
        priority(n),
        table_size(n),
        times_sampled(n),
        outputs{counter.data(), check.data(), small.data(), type.data()},
        info{key.data(),      probability.data(),   table_size.data(),
             priority.data(), times_sampled.data(), 1} {}
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;

  // Whether each step is one that a Step was, and not parts of several.
  bool Intact() const {
    for (std::size_t i = 0; i < counter.size(); ++i) {
      if (check[i] != Hash(counter[i]) || small[i] != static_cast<std::uint8_t>(counter[i])) {
        return false;
      }
    }
    return true;
  }
};

// Pearson's statistic of counts that should all be equal.
inline double ChiSquare(const std::vector<std::uint64_t>& counts) {
  double total = 0;
  for (const std::uint64_t count : counts) total += static_cast<double>(count);
  const double expected = total / static_cast<double>(counts.size());
  double sum = 0;
  for (const std::uint64_t count : counts) {
    const double difference = static_cast<double>(count) - expected;
    sum += difference * difference / expected;
  }
  return sum;
}

// Whether counts are even but for chance: a fair source is refused once in a
// million seeds (Wilson and Hilferty's approximation of the chi-square quantile).
inline bool LooksUniform(const std::vector<std::uint64_t>& counts) {
  const double degrees = static_cast<double>(counts.size()) - 1;
  const double t = 2.0 / (9.0 * degrees);
  return ChiSquare(counts) < degrees * std::pow(1.0 - t + 4.753 * std::sqrt(t), 3);
}

}  // namespace reverie_test

#endif  // REVERIE_TESTS_CHECK_H_
