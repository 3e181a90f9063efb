#ifndef REVERIE_SHIFT_H_
#define REVERIE_SHIFT_H_

#include <cstddef>
#include <cstdint>

namespace reverie {

// Cells that hold images, [planes, height, width] pixels of some bytes, are copied shifted at
// random: by up to `pad` pixels along both axes, the pixels at the edge repeated where nothing
// else is. That is padding by `pad` and cropping to the old size (Kostrikov et al. 2020, "DrQ").
struct Shift {
  std::uint32_t pad = 0;   // 0: no shift; else less than height and width
  std::uint32_t draw = 0;  // below 2^31; those of one draw are shifted alike
  std::size_t planes = 0, height = 0, width = 0;

  // Pixels from which the output's first one is taken, -pad to pad, were the image without end.
  struct Offset {
    std::int64_t down, right;
  };
  // For row `row` of a batch: each equally likely, and the batch's seed decides.
  Offset Of(std::uint64_t seed, std::size_t row) const;

  // Copies an image of so many bytes.
  void Copy(std::uint8_t* to, const std::uint8_t* from, std::size_t nbytes, Offset offset) const;
};

}  // namespace reverie

#endif  // REVERIE_SHIFT_H_
