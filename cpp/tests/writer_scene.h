#ifndef REVERIE_TESTS_WRITER_SCENE_H_
#define REVERIE_TESTS_WRITER_SCENE_H_

// Episodes to be written, and the windows that they must give.

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "check.h"
#include "writers/writer.h"

namespace reverie_test {

enum class Padding { kNone, kEnd, kTile };
enum class Ending { kLast, kColumn, kReset, kDrop };

inline const std::shared_ptr<const RecordLayout> kLayout = StepLayout();

inline Writer::Config WriterConfig(std::uint32_t length, std::uint32_t stride,
                                   Padding padding = Padding::kNone) {
  return {length,
          stride,
          1.0,
          padding != Padding::kNone,
          padding == Padding::kTile,
          PadRecord(*kLayout),
          3,
          kLastType};
}

inline Status Append(Writer* writer, std::uint64_t counter, std::optional<How> last = How::kGoesOn,
                     std::int32_t type = 1) {
  return writer->Append(Step(counter, type).columns().data(), last);
}

struct Ended {
  std::uint64_t uncovered = 0;
};

// Writes steps first, first + 1 ... as one episode.
inline Ended WriteEpisode(Writer* writer, std::uint64_t first, std::uint32_t steps, Ending ending) {
  Ended ended;
  for (std::uint32_t i = 0; i < steps; ++i) {
    const bool end = i + 1 == steps;
    CHECK_EQ(writer->num_cached(), i);
    if (end && ending == Ending::kLast) {
      CHECK(Append(writer, first + i, How::kEnded).ok());
    } else if (ending == Ending::kColumn) {
      CHECK(Append(writer, first + i, std::nullopt, end ? kLastType : 1).ok());
    } else {
      CHECK(Append(writer, first + i).ok());
    }
  }
  if (ending == Ending::kReset || ending == Ending::kDrop) {
    CHECK(writer->Reset(ending == Ending::kReset, &ended.uncovered).ok());
  }
  CHECK_EQ(writer->num_cached(), 0u);
  return ended;
}

// The windows of that episode, one after the other, by the counters of their steps.
inline std::vector<std::uint64_t> Windows(std::uint64_t first, std::uint32_t steps,
                                          std::uint32_t length, std::uint32_t stride,
                                          Padding padding) {
  std::vector<std::uint64_t> padded;
  for (std::uint32_t i = 0; i < steps; ++i) padded.push_back(first + i);
  if (steps != 0 && padding == Padding::kEnd) {
    padded.resize(std::max<std::size_t>(steps, length), kPad);
  } else if (steps != 0 && padding == Padding::kTile) {
    padded.resize(steps + length - 1, kPad);
  }
  std::vector<std::uint64_t> windows;
  for (std::size_t end = length; end <= padded.size(); end += stride) {
    windows.insert(windows.end(), padded.begin() + static_cast<std::ptrdiff_t>(end - length),
                   padded.begin() + static_cast<std::ptrdiff_t>(end));
  }
  return windows;
}

// The counts promised in writer.h.
inline std::uint32_t ClosedForm(std::uint32_t n, std::uint32_t length, std::uint32_t stride,
                                Padding padding) {
  if (n == 0) return 0;
  if (padding == Padding::kTile) return (n - 1) / stride + 1;
  if (n < length) return padding == Padding::kEnd ? 1 : 0;
  return (n - length) / stride + 1;
}

// The steps of all items of a table, in order; checks that no step is torn.
inline std::vector<std::uint64_t> Contents(const std::shared_ptr<Store>& store, Table* table) {
  Store::Reader reader(store, {kLayout.get(), 0});
  REQUIRE(reader.Select(table, nullptr, 0).ok());
  Batch batch(reader.keys().size(), std::max(1u, reader.spec().steps));
  if (!reader.keys().empty()) reader.Gather(batch.outputs.data());
  CHECK(reader.keys().empty() || batch.Intact());
  return batch.counter;
}

}  // namespace reverie_test

#endif  // REVERIE_TESTS_WRITER_SCENE_H_
