#include "casts.h"

#include <array>
#include <cmath>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

namespace reverie {
namespace {

struct Bool {
  std::uint8_t byte;
};
struct Half {
  std::uint16_t bits;
};
template <typename T>
struct Complex {
  T real;
  T imaginary;
};

// In the order of Number.
using Types = std::tuple<Bool, std::uint8_t, std::uint16_t, std::uint32_t, std::uint64_t,
                         std::int8_t, std::int16_t, std::int32_t, std::int64_t, Half, float, double,
                         Complex<float>, Complex<double>>;
static_assert(std::tuple_size_v<Types> == kNumbers);

template <typename T>
constexpr int kGroup = std::is_same_v<T, Bool>                         ? 0
                       : std::is_integral_v<T>                         ? 1 + std::is_signed_v<T>
                       : std::is_floating_point_v<T> || sizeof(T) == 2 ? 3
                                                                       : 4;

template <typename T>
constexpr bool kIsComplex = kGroup<T> == 4;

constexpr double kLeastNormal = 1.0 / (1 << 14);  // of halves

template <typename To, typename From>
To BitsOf(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

// Of a half that is no NaN.
float Widened(Half half) {
  const std::uint32_t sign = (half.bits & 0x8000u) << 16;
  const std::uint32_t size = half.bits & 0x7fffu;
  if (size < 1 << 10) {  // as many times the smallest one
    const float value = static_cast<float>(size) / (1 << 24);
    return sign != 0 ? -value : value;
  }
  if (size == 0x7c00) return BitsOf<float>(sign | 0x7f800000u);
  return BitsOf<float>(sign | ((size << 13) + ((127 - 15) << 23)));
}

// The nearest half, the even one of two; false where there is none.
bool Narrow(double value, Half* half) {
  const std::uint32_t sign = std::signbit(value) ? 0x8000 : 0;
  const double size = std::fabs(value);
  std::uint64_t bits = 0x7c00;
  bool fits = std::isinf(value);
  if (size < kLeastNormal) {       // as many times the smallest one
    const double shift = 1 << 28;  // rounds to its multiples
    bits = BitsOf<std::uint64_t>(size + shift) - BitsOf<std::uint64_t>(shift);
    fits = true;
  } else if (size < 65520) {  // which would be rounded to the next power of two
    bits = BitsOf<std::uint64_t>(size);
    bits += (std::uint64_t{1} << 41) - 1 + (bits >> 42 & 1);
    bits = (bits >> 42) - (std::uint64_t{1023 - 15} << 10);
    fits = true;
  }
  half->bits = static_cast<std::uint16_t>(sign | bits);
  return fits;
}

template <typename T>
bool IsNegative(T value) {
  if constexpr (std::is_signed_v<T>) return value < 0;
  return false;
}

// One number; whether it fits.
template <typename From, typename To>
bool One(From from, To* to) {
  if constexpr (std::is_same_v<From, Bool>) {
    const bool fits = from.byte <= 1;
    return One(from.byte, to) && fits;
  } else if constexpr (kIsComplex<From>) {
    const bool fits = One(from.real, &to->real);
    return One(from.imaginary, &to->imaginary) && fits;
  } else if constexpr (kIsComplex<To>) {
    to->imaginary = 0;
    return One(from, &to->real);
  } else if constexpr (std::is_same_v<From, Half>) {
    *to = static_cast<To>(Widened(from));
    return (from.bits & 0x7fff) <= 0x7c00;
  } else if constexpr (std::is_same_v<To, Half>) {
    // By way of a float, as NumPy goes.
    if constexpr (std::is_integral_v<From>) return Narrow(static_cast<float>(from), to);
    return Narrow(static_cast<double>(from), to);
  } else if constexpr (std::is_integral_v<To>) {
    *to = static_cast<To>(from);
    return static_cast<From>(*to) == from && IsNegative(*to) == IsNegative(from);
  } else {
    *to = static_cast<To>(from);
    if constexpr (std::is_same_v<From, double> && std::is_same_v<To, float>) {
      return std::isfinite(*to) || !std::isfinite(from);
    }
    return true;
  }
}

template <typename From, typename To>
bool All(const void* from, void* to, std::size_t count) {
  const auto* source = static_cast<const unsigned char*>(from);
  auto* result = static_cast<unsigned char*>(to);
  bool fit = true;
  for (std::size_t i = 0; i < count; ++i) {
    From value;
    To cast;
    std::memcpy(&value, source + i * sizeof value, sizeof value);
    fit &= One(value, &cast);
    std::memcpy(result + i * sizeof cast, &cast, sizeof cast);
  }
  return fit;
}

template <typename T>
bool Same(const void* from, void* to, std::size_t count) {
  std::memcpy(to, from, count * sizeof(T));
  return true;
}

template <typename From, typename To>
constexpr Cast Find() {
  constexpr bool is_whole = kGroup<From> == 1 || kGroup<From> == 2;
  if constexpr (std::is_same_v<From, To>) {
    return Same<From>;
  } else if constexpr (kGroup<From> <= kGroup<To> || (is_whole && kGroup<To> == 1)) {
    return All<From, To>;
  } else {
    return nullptr;
  }
}

template <typename From, std::size_t... To>
constexpr std::array<Cast, kNumbers> FindAll(std::index_sequence<To...>) {
  return {Find<From, std::tuple_element_t<To, Types>>()...};
}

template <std::size_t... From>
constexpr std::array<std::array<Cast, kNumbers>, kNumbers> Table(std::index_sequence<From...>) {
  return {FindAll<std::tuple_element_t<From, Types>>(std::make_index_sequence<kNumbers>())...};
}

constexpr auto kCasts = Table(std::make_index_sequence<kNumbers>());

constexpr bool IsSigned(Number number) {
  return number >= Number::kInt8 && number <= Number::kInt64;
}
constexpr bool IsUnsigned(Number number) {
  return number >= Number::kUint8 && number <= Number::kUint64;
}

template <std::size_t kBytes>
void GatherAxis(const unsigned char* from, std::ptrdiff_t count, std::ptrdiff_t stride,
                unsigned char* to) {
  for (std::ptrdiff_t i = 0; i < count; ++i)
    std::memcpy(to + i * kBytes, from + i * stride, kBytes);
}

template <std::size_t... One>
constexpr std::array<std::size_t, kNumbers> Sizes(std::index_sequence<One...>) {
  return {sizeof(std::tuple_element_t<One, Types>)...};
}

constexpr auto kSizes = Sizes(std::make_index_sequence<kNumbers>());

}  // namespace

std::size_t NbytesOf(Number number) { return kSizes[static_cast<std::size_t>(number)]; }

Cast FindCast(Number from, Number to, bool whole) {
  if (from == Number::kNone || to == Number::kNone) return nullptr;
  if (IsSigned(from) && IsUnsigned(to) && !whole) return nullptr;
  return kCasts[static_cast<std::size_t>(from)][static_cast<std::size_t>(to)];
}

void Gather(const void* from, const std::ptrdiff_t* shape, const std::ptrdiff_t* strides,
            std::size_t ndim, std::size_t item_nbytes, void* to) {
  const auto* source = static_cast<const unsigned char*>(from);
  auto* result = static_cast<unsigned char*>(to);
  if (ndim == 0) {
    std::memcpy(result, source, item_nbytes);
    return;
  }
  if (ndim > 1) {
    std::size_t part = item_nbytes;
    for (std::size_t axis = 1; axis < ndim; ++axis) part *= static_cast<std::size_t>(shape[axis]);
    for (std::ptrdiff_t i = 0; i < shape[0]; ++i) {
      Gather(source + i * strides[0], shape + 1, strides + 1, ndim - 1, item_nbytes,
             result + static_cast<std::size_t>(i) * part);
    }
    return;
  }
  switch (item_nbytes) {
    case 1:
      return GatherAxis<1>(source, shape[0], strides[0], result);
    case 2:
      return GatherAxis<2>(source, shape[0], strides[0], result);
    case 4:
      return GatherAxis<4>(source, shape[0], strides[0], result);
    case 8:
      return GatherAxis<8>(source, shape[0], strides[0], result);
    default:
      for (std::ptrdiff_t i = 0; i < shape[0]; ++i) {
        std::memcpy(result + static_cast<std::size_t>(i) * item_nbytes, source + i * strides[0],
                    item_nbytes);
      }
  }
}

}  // namespace reverie
