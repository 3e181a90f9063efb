#ifndef REVERIE_STATUS_H_
#define REVERIE_STATUS_H_

#include <cstdint>

namespace reverie {

// Why a call did not do what it was asked. The core throws nothing but
// std::bad_alloc; the bindings turn a Status into a Python exception.
enum class Code {
  kOk,
  kClosed,          // the store was closed
  kWouldBlock,      // the rate limiter or an empty table forbids it now
  kLengthMismatch,  // an item has `found` cells (in `column`, or in all: -1), not `wanted`
  kLayoutMismatch,  // an item's `column` is of another type than asked; -1: not as many
  kStaleKey,        // no live item has this `key`
  kTooMany,         // items refer to chunks more often than allowed
  kInterrupted,     // who waits for it wants it to end: see Stop
  kInvalid,         // `what` says which rule an argument breaks; `found` is its index
};

struct Status {
  Code code = Code::kOk;
  std::uint64_t key = 0;
  std::int64_t column = -1;
  std::int64_t found = 0;
  std::int64_t wanted = 0;
  const char* what = "";

  bool ok() const { return code == Code::kOk; }

  static Status Of(Code c) {
    Status status;
    status.code = c;
    return status;
  }
  static Status Stale(std::uint64_t key) {
    Status status = Of(Code::kStaleKey);
    status.key = key;
    return status;
  }
  static Status Invalid(const char* what, std::int64_t index) {
    Status status = Of(Code::kInvalid);
    status.what = what;
    status.found = index;
    return status;
  }
};

}  // namespace reverie

#endif  // REVERIE_STATUS_H_
