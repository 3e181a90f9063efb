#ifndef REVERIE_RATE_LIMITER_H_
#define REVERIE_RATE_LIMITER_H_

#include <cstdint>

namespace reverie {

// Reverb's arithmetic for how far sampling may run ahead of inserting, and the
// reverse. With diff = inserts * samples_per_insert - samples:
//
//   n more samples are allowed while  inserts - deletes >= min_size_to_sample
//                              and    diff - n >= min_diff
//   n more inserts are allowed while  inserts + n - deletes <= min_size_to_sample
//                              or     diff + n * samples_per_insert <= max_diff
//
// Knows nothing of time or threads: the store's mutex guards it, and waiting is
// the store's work.
class RateLimiter {
 public:
  struct Config {
    std::int64_t min_size_to_sample;
    double samples_per_insert;
    double min_diff;
    double max_diff;
  };
  struct Counters {
    std::int64_t inserts = 0;
    std::int64_t samples = 0;
    std::int64_t deletes = 0;
  };

  explicit RateLimiter(const Config& config) : config_(config) {}

  bool CanSample(std::int64_t n) const;
  bool CanInsert(std::int64_t n) const;

  void Inserted() { ++counters_.inserts; }
  void Sampled(std::int64_t n) { counters_.samples += n; }
  void Deleted(std::int64_t n = 1) { counters_.deletes += n; }
  void Reset() { counters_ = Counters(); }

  const Config& config() const { return config_; }
  const Counters& counters() const { return counters_; }
  void set_counters(const Counters& counters) { counters_ = counters; }

 private:
  double Diff() const {
    return static_cast<double>(counters_.inserts) * config_.samples_per_insert -
           static_cast<double>(counters_.samples);
  }

  Config config_;
  Counters counters_;
};

}  // namespace reverie

#endif  // REVERIE_RATE_LIMITER_H_
