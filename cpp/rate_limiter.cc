#include "rate_limiter.h"

namespace reverie {

bool RateLimiter::CanSample(std::int64_t n) const {
  return counters_.inserts - counters_.deletes >= config_.min_size_to_sample &&
         Diff() - static_cast<double>(n) >= config_.min_diff;
}

bool RateLimiter::CanInsert(std::int64_t n) const {
  return counters_.inserts + n - counters_.deletes <= config_.min_size_to_sample ||
         Diff() + static_cast<double>(n) * config_.samples_per_insert <= config_.max_diff;
}

}  // namespace reverie
