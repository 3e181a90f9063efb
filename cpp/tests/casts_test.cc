#include "casts.h"

#include <limits>

#include "check.h"

namespace reverie_test {
namespace {

using reverie::FindCast;
using reverie::Gather;
using reverie::kNumbers;
using reverie::Number;

template <typename From, typename To>
bool Fits(Number from, Number to, From value, To* found) {
  return FindCast(from, to, true)(&value, found, 1);
}

TEST(NumbersBecomeWhatStandsInTheirGroupOrBehindIt) {
  const std::string groups = "buuuuiiiifffcc";
  const std::string order = "buifc";
  REQUIRE(groups.size() == kNumbers);
  for (std::size_t from = 0; from < kNumbers; ++from) {
    for (std::size_t to = 0; to < kNumbers; ++to) {
      const auto source = static_cast<Number>(from);
      const auto wanted = static_cast<Number>(to);
      const bool may = order.find(groups[from]) <= order.find(groups[to]);
      CHECK_EQ(FindCast(source, wanted, false) != nullptr, may);
      const bool is_whole = groups[from] == 'i' && groups[to] == 'u';
      CHECK_EQ(FindCast(source, wanted, true) != nullptr, may || is_whole);
    }
  }
  CHECK(FindCast(Number::kNone, Number::kFloat64, true) == nullptr);
  CHECK(FindCast(Number::kBool, Number::kNone, true) == nullptr);
}

TEST(IntegersDoNotWrapAround) {
  std::int8_t byte = 0;
  for (std::int64_t value = -300; value <= 300; ++value) {
    const bool fits = Fits(Number::kInt64, Number::kInt8, value, &byte);
    CHECK_EQ(fits, value >= -128 && value <= 127);
    if (fits) CHECK_EQ(byte, value);
  }
  std::int64_t signed_one = 0;
  std::uint64_t unsigned_one = 0;
  CHECK(!Fits(Number::kUint64, Number::kInt64, std::uint64_t{1} << 63, &signed_one));
  CHECK(!Fits(Number::kInt64, Number::kUint64, std::int64_t{-1}, &unsigned_one));
  CHECK(Fits(Number::kInt64, Number::kUint64, std::numeric_limits<std::int64_t>::max(),
             &unsigned_one));
  CHECK_EQ(unsigned_one, (std::uint64_t{1} << 63) - 1);
}

TEST(FloatsDoNotBecomeInfiniteAndInfinitiesStay) {
  float found = 0;
  const double top = std::numeric_limits<float>::max();
  CHECK(Fits(Number::kFloat64, Number::kFloat32, top, &found));
  CHECK_EQ(found, std::numeric_limits<float>::max());
  CHECK(!Fits(Number::kFloat64, Number::kFloat32, top * 2, &found));
  CHECK(Fits(Number::kFloat64, Number::kFloat32, HUGE_VAL, &found));
  CHECK(std::isinf(found));
  CHECK(Fits(Number::kFloat64, Number::kFloat32, std::nan(""), &found));
  CHECK(std::isnan(found));
}

TEST(HalvesGoToTheNearestAndTheEvenOfTwo) {
  std::uint16_t half = 0;
  const auto bits = [&half](double value) -> int {
    return Fits(Number::kFloat64, Number::kFloat16, value, &half) ? half : -1;
  };
  CHECK_EQ(bits(0.0), 0);
  CHECK_EQ(bits(-0.0), 0x8000);
  CHECK_EQ(bits(1.0), 0x3c00);
  CHECK_EQ(bits(-2.0), 0xc000);
  CHECK_EQ(bits(1 + std::ldexp(1, -11)), 0x3c00);
  CHECK_EQ(bits(1 + std::ldexp(3, -11)), 0x3c02);
  CHECK_EQ(bits(std::ldexp(1, -25)), 0);
  CHECK_EQ(bits(std::ldexp(3, -25)), 2);
  CHECK_EQ(bits(std::ldexp(1, -14)), 0x0400);
  CHECK_EQ(bits(65519.99), 0x7bff);
  CHECK_EQ(bits(65520), -1);
  CHECK_EQ(bits(-HUGE_VAL), 0xfc00);
  CHECK_EQ(bits(std::nan("")), -1);  // whose bits are not the same everywhere
  for (std::uint32_t every = 0; every < 1 << 16; ++every) {
    double value = 0;
    const auto given = static_cast<std::uint16_t>(every);
    const bool is_nan = (every & 0x7fff) > 0x7c00;
    CHECK_EQ(Fits(Number::kFloat16, Number::kFloat64, given, &value), !is_nan);
    if (!is_nan) CHECK_EQ(bits(value), static_cast<int>(every));
  }
}

TEST(OneThatDoesNotFitIsFoundAnywhere) {
  std::vector<std::int32_t> values(100, 7);
  std::vector<std::int16_t> found(100);
  const auto cast = FindCast(Number::kInt32, Number::kInt16, false);
  CHECK(cast(values.data(), found.data(), values.size()));
  CHECK(found == std::vector<std::int16_t>(100, 7));
  for (std::int32_t& value : values) {
    value = 1 << 15;
    CHECK(!cast(values.data(), found.data(), values.size()));
    value = 7;
  }
  const std::uint8_t two = 2;  // is no bool
  CHECK(!FindCast(Number::kBool, Number::kInt32, false)(&two, found.data(), 1));
}

TEST(CellsAreGatheredWhateverTheirStrides) {
  const std::vector<std::uint8_t> bytes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  const std::ptrdiff_t shape[] = {3, 2};
  const std::ptrdiff_t across[] = {1, 3};
  std::vector<std::uint8_t> found(6);
  Gather(bytes.data(), shape, across, 2, 1, found.data());
  CHECK(found == (std::vector<std::uint8_t>{0, 3, 1, 4, 2, 5}));
  const std::ptrdiff_t back[] = {-4, 0};
  found.resize(12);
  Gather(bytes.data() + 8, shape, back, 2, 2, found.data());
  CHECK(found == (std::vector<std::uint8_t>{8, 9, 8, 9, 4, 5, 4, 5, 0, 1, 0, 1}));
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
