#include "shift.h"

#include <algorithm>
#include <cstring>

#include "copy_bytes.h"
#include "rng.h"

namespace reverie {
namespace {

constexpr std::size_t kBlock = 16;

// Fills `times` pixels with the one at `pixel`.
inline void Repeat(std::uint8_t* to, const std::uint8_t* pixel, std::size_t nbytes,
                   std::size_t times) {
  for (std::size_t i = 0; i < times; ++i, to += nbytes) CopyBytes(to, pixel, nbytes);
}

}  // namespace

Shift::Offset Shift::Of(std::uint64_t seed, std::size_t row) const {
  // A generator for each, so that threads need not share one.
  Rng rng(seed + (std::uint64_t{draw} << 32) + row);
  const auto next = [&] { return std::int64_t{rng.Below(2 * pad + 1)} - std::int64_t{pad}; };
  const std::int64_t down = next();
  return {down, next()};
}

void Shift::Copy(std::uint8_t* to, const std::uint8_t* from, std::size_t nbytes,
                 Offset offset) const {
  const std::size_t line = nbytes / (planes * height);
  const std::size_t pixel = line / width;
  const auto before = static_cast<std::size_t>(std::max<std::int64_t>(-offset.right, 0));
  const auto after = static_cast<std::size_t>(std::max<std::int64_t>(offset.right, 0));
  const std::size_t kept = line - (before + after) * pixel;
  // Pixels of a byte: a block at each edge in one go, and the middle over what is too much.
  const bool in_blocks = pixel == 1 && pad <= kBlock && line >= kBlock + pad;
  for (std::size_t plane = 0; plane < planes; ++plane, from += height * line) {
    for (std::size_t y = 0; y < height; ++y, to += line) {
      const std::int64_t at = std::clamp<std::int64_t>(static_cast<std::int64_t>(y) + offset.down,
                                                       0, static_cast<std::int64_t>(height) - 1);
      const std::uint8_t* const source = from + static_cast<std::size_t>(at) * line;
      if (in_blocks) {
        std::memset(to, source[0], kBlock);
        std::memset(to + line - kBlock, source[line - 1], kBlock);
      } else {
        Repeat(to, source, pixel, before);
        Repeat(to + line - after * pixel, source + line - pixel, pixel, after);
      }
      CopyBytes(to + before * pixel, source + after * pixel, kept);
    }
  }
}

}  // namespace reverie
