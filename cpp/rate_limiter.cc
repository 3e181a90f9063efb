#include "rate_limiter.h"

#include <limits>

namespace reverie {
namespace {

std::int64_t AddSaturated(std::int64_t a, std::int64_t b) {
  using Limits = std::numeric_limits<std::int64_t>;
  if (b > 0 && a > Limits::max() - b) return Limits::max();
  if (b < 0 && a < Limits::min() - b) return Limits::min();
  return a + b;
}

}  // namespace

bool RateLimiter::CanSample(std::int64_t n) const {
  return counters_.inserts - counters_.deletes >= config_.min_size_to_sample &&
         Diff() - static_cast<double>(n) >= config_.min_diff;
}

bool RateLimiter::CanInsert(std::int64_t n) const {
  return AddSaturated(counters_.inserts - counters_.deletes, n) <= config_.min_size_to_sample ||
         Diff() + static_cast<double>(n) * config_.samples_per_insert <= config_.max_diff;
}

}  // namespace reverie
