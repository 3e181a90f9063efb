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

  std::uint64_t Next();

  // Uniform in [0, bound), exactly (Lemire, "Fast random integer generation in
  // an interval", 2019). Requires bound > 0.
  std::uint32_t Below(std::uint32_t bound);

  const State& state() const { return state_; }

  // False, and no change, for the one state that the generator cannot leave.
  bool set_state(const State& state);

 private:
  State state_;
};

}  // namespace reverie

#endif  // REVERIE_RNG_H_
