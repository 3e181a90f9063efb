#include "rng.h"

namespace reverie {

Rng::Rng(std::uint64_t seed) {
  for (auto& word : state_) {
    seed += 0x9e3779b97f4a7c15ull;
    std::uint64_t z = seed;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    word = z ^ (z >> 31);
  }
}

bool Rng::set_state(const State& state) {
  if ((state[0] | state[1] | state[2] | state[3]) == 0) return false;
  state_ = state;
  return true;
}

}  // namespace reverie
