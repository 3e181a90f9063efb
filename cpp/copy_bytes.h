#ifndef REVERIE_COPY_BYTES_H_
#define REVERIE_COPY_BYTES_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace reverie {

// Copies of a size that the compiler knows are an instruction or two; of up to 128 bytes,
// a few, of which the last two may overlap; and only what is larger is worth a call.
inline void CopyBytes(std::uint8_t* to, const std::uint8_t* from, std::size_t nbytes) {
  if (nbytes <= 16) {
    if (nbytes >= 8) {
      std::uint64_t first, last;
      std::memcpy(&first, from, 8);
      std::memcpy(&last, from + nbytes - 8, 8);
      std::memcpy(to, &first, 8);
      std::memcpy(to + nbytes - 8, &last, 8);
    } else if (nbytes >= 4) {
      std::uint32_t first, last;
      std::memcpy(&first, from, 4);
      std::memcpy(&last, from + nbytes - 4, 4);
      std::memcpy(to, &first, 4);
      std::memcpy(to + nbytes - 4, &last, 4);
    } else {
      for (std::size_t i = 0; i < nbytes; ++i) to[i] = from[i];
    }
  } else if (nbytes <= 128) {
    struct Block {
      std::uint64_t words[2];
    } block;
    for (std::size_t at = 0; at + 16 < nbytes; at += 16) {
      std::memcpy(&block, from + at, 16);
      std::memcpy(to + at, &block, 16);
    }
    std::memcpy(&block, from + nbytes - 16, 16);
    std::memcpy(to + nbytes - 16, &block, 16);
  } else {
    std::memcpy(to, from, nbytes);
  }
}

}  // namespace reverie

#endif  // REVERIE_COPY_BYTES_H_
