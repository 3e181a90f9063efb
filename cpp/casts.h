#ifndef REVERIE_CASTS_H_
#define REVERIE_CASTS_H_

#include <cstddef>
#include <cstdint>

namespace reverie {

// What numbers are, in the order in which one may become another: bool, unsigned, signed,
// float, complex. A bool is a byte, 0 or 1.
enum class Number : std::uint8_t {
  kBool,
  kUint8,
  kUint16,
  kUint32,
  kUint64,
  kInt8,
  kInt16,
  kInt32,
  kInt64,
  kFloat16,
  kFloat32,
  kFloat64,
  kComplex64,
  kComplex128,
  kNone,  // nothing that is cast here
};
constexpr std::size_t kNumbers = static_cast<std::size_t>(Number::kNone);

std::size_t NbytesOf(Number number);  // which is not kNone

// Writes `count` numbers from `from` as others to `to`, both dense, neither needs to be
// aligned. False where one of them does not fit: an integer out of range, a float that would
// become infinite; or where the result is not the same on every machine: a NaN from or to a
// half. Then whatever was written means nothing.
using Cast = bool (*)(const void* from, void* to, std::size_t count);

// Null where the one means something else than the other: numbers become what stands in the
// same group or in a later one. `whole`: integers, signed ones too, become any number.
Cast FindCast(Number from, Number to, bool whole);

// Copies the cells of an array into one piece, the last axis fastest. `strides` are bytes.
void Gather(const void* from, const std::ptrdiff_t* shape, const std::ptrdiff_t* strides,
            std::size_t ndim, std::size_t item_nbytes, void* to);

}  // namespace reverie

#endif  // REVERIE_CASTS_H_
