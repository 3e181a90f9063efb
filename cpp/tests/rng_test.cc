#include "rng.h"

#include <algorithm>

#include "check.h"

namespace reverie_test {
namespace {

TEST(DrawsAreThoseOfTheReferenceGenerator) {
  // From a second, independent implementation in another language.
  Rng rng(0);
  CHECK(rng.set_state({1, 2, 3, 4}));
  for (const std::uint64_t expected :
       {11520ull, 0ull, 1509978240ull, 1215971899390074240ull, 1216172134540287360ull,
        607988272756665600ull, 16172922978634559625ull, 8476171486693032832ull}) {
    CHECK_EQ(rng.Next(), expected);
  }
}

TEST(SeedsGoThroughSplitmix64) {
  const Rng::State expected{0xe220a8397b1dcdaf, 0x6e789e6aa1b965f4, 0x06c45d188009454f,
                            0xf88bb8a8724c81ec};
  CHECK(Rng(0).state() == expected);
  CHECK_EQ(Rng(0).Next(), 11091344671253066420ull);
  CHECK(Rng(1).Next() != Rng(0).Next());
}

TEST(ARestoredStateRepeatsTheDraws) {
  Rng rng(3);
  rng.Next();
  const Rng::State saved = rng.state();
  std::vector<std::uint32_t> first;
  for (int i = 0; i < 100; ++i) first.push_back(rng.Below(1000));
  CHECK(rng.set_state(saved));
  for (const std::uint32_t draw : first) CHECK_EQ(rng.Below(1000), draw);
}

TEST(TheAllZeroStateIsRefused) {
  Rng rng(3);
  const Rng::State before = rng.state();
  CHECK(!rng.set_state({0, 0, 0, 0}));
  CHECK(rng.state() == before);
  CHECK(rng.set_state({0, 0, 0, 1}));
}

TEST(BelowStaysBelow) {
  Rng rng(5);
  for (const std::uint32_t bound : {1u, 2u, 3u, 1000u, 0x80000001u, 0xffffffffu}) {
    for (int i = 0; i < 1000; ++i) CHECK(rng.Below(bound) < bound);
  }
}

TEST(BelowIsUniform) {
  Rng rng(11);
  for (const std::uint32_t bound : {2u, 3u, 7u, 64u, 1000u}) {
    std::vector<std::uint64_t> fair(bound), biased(bound);
    for (std::uint32_t i = 0; i < 200 * bound; ++i) {
      ++fair[rng.Below(bound)];
      ++biased[std::min(rng.Below(bound), rng.Below(bound))];
    }
    CHECK(LooksUniform(fair));
    CHECK(!LooksUniform(biased));
  }
}

// Scaling 2**32 values to three quarters as many hits every third one twice.
TEST(BelowHasNoScalingBias) {
  constexpr std::uint32_t kBound = 3u << 30;
  Rng rng(12);
  std::vector<std::uint64_t> exact(3), scaled(3);
  for (int i = 0; i < 30000; ++i) {
    ++exact[rng.Below(kBound) % 3];
    ++scaled[(((rng.Next() >> 32) * kBound) >> 32) % 3];
  }
  CHECK(LooksUniform(exact));
  CHECK(!LooksUniform(scaled));
}

TEST(FailedChecksAreCounted) {  // of the harness itself
  CHECK_EQ(Fails([] { CHECK(true); }), 0);
  CHECK_EQ(Fails([] { CHECK(false); }), 1);
  CHECK_EQ(Fails([] {
             CHECK_EQ(1, 2);
             REQUIRE(false);
             CHECK(false);
           }),
           2);
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
