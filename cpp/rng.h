#ifndef REVERIE_RNG_H_
#define REVERIE_RNG_H_

#include <array>
#include <cstdint>

namespace reverie {

// xoshiro256** (Blackman and Vigna, "Scrambled linear pseudorandom number
// generators", 2021), seeded through splitmix64. The seed is always the
// caller's: no clock, no random_device. The state can be saved and restored, so
// a loaded table goes on with the very draws it would have made.
class Rng {
 public:
  using State = std::array<std::uint64_t, 4>;

  explicit Rng(std::uint64_t seed);

  std::uint64_t Next() {
    const auto rotated = [](std::uint64_t x, int k) { return (x << k) | (x >> (64 - k)); };
    const std::uint64_t result = rotated(state_[1] * 5, 7) * 9;
    const std::uint64_t t = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= t;
    state_[3] = rotated(state_[3], 45);
    return result;
  }

  // Uniform in [0, bound), exactly (Lemire, "Fast random integer generation in
  // an interval", 2019). Requires bound > 0.
  std::uint32_t Below(std::uint32_t bound) {
    std::uint64_t product = (Next() >> 32) * bound;
    auto low = static_cast<std::uint32_t>(product);
    if (low < bound) {
      const std::uint32_t threshold = (0u - bound) % bound;
      while (low < threshold) {
        product = (Next() >> 32) * bound;
        low = static_cast<std::uint32_t>(product);
      }
    }
    return static_cast<std::uint32_t>(product >> 32);
  }

  // Uniform in [0, 1).
  double Fraction() { return static_cast<double>(Next() >> 11) * 0x1p-53; }

  const State& state() const { return state_; }

  // False, and no change, for the one state that the generator cannot leave.
  bool set_state(const State& state);

 private:
  State state_;
};

}  // namespace reverie

#endif  // REVERIE_RNG_H_
