#include "shift.h"

#include <algorithm>
#include <memory>

#include "check.h"
#include "gather.h"

namespace reverie_test {
namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes RandomBytes(std::size_t n, std::uint64_t seed) {
  Rng rng(seed);
  Bytes bytes(n);
  for (auto& byte : bytes) byte = static_cast<std::uint8_t>(rng.Next());
  return bytes;
}

std::size_t Clamped(std::int64_t at, std::size_t end) {
  return static_cast<std::size_t>(
      std::clamp<std::int64_t>(at, 0, static_cast<std::int64_t>(end) - 1));
}

// Pixel by pixel.
Bytes Expected(const Shift& shift, const Bytes& image, Shift::Offset offset) {
  const std::size_t pixel = image.size() / (shift.planes * shift.height * shift.width);
  Bytes shifted;
  for (std::size_t plane = 0; plane < shift.planes; ++plane) {
    for (std::size_t y = 0; y < shift.height; ++y) {
      for (std::size_t x = 0; x < shift.width; ++x) {
        const std::size_t from_y =
            Clamped(static_cast<std::int64_t>(y) + offset.down, shift.height);
        const std::size_t from_x =
            Clamped(static_cast<std::int64_t>(x) + offset.right, shift.width);
        const std::size_t at = (plane * shift.height + from_y) * shift.width + from_x;
        for (std::size_t b = 0; b < pixel; ++b) shifted.push_back(image[at * pixel + b]);
      }
    }
  }
  return shifted;
}

// From memory of just the image's size into such memory.
Bytes Copied(const Shift& shift, const Bytes& image, Shift::Offset offset) {
  const std::unique_ptr<std::uint8_t[]> from(new std::uint8_t[image.size()]);
  const std::unique_ptr<std::uint8_t[]> to(new std::uint8_t[image.size()]);
  std::copy(image.begin(), image.end(), from.get());
  shift.Copy(to.get(), from.get(), image.size(), offset);
  return Bytes(to.get(), to.get() + image.size());
}

TEST(PixelsOfAnyWidthMoveAndThoseAtTheEdgeAreRepeated) {
  for (const std::size_t pixel : {1u, 2u, 3u, 4u, 8u, 12u}) {
    for (const Shift& shift : {Shift{4, 0, 1, 5, 7}, Shift{4, 0, 3, 7, 5}, Shift{4, 0, 2, 6, 16},
                               Shift{16, 0, 1, 17, 18}, Shift{18, 0, 1, 19, 20}}) {
      const Bytes image =
          RandomBytes(shift.planes * shift.height * shift.width * pixel, shift.width);
      const std::int64_t pad = shift.pad;
      for (std::int64_t down = -pad; down <= pad; ++down) {
        for (std::int64_t right = -pad; right <= pad; ++right) {
          const Bytes expected = Expected(shift, image, {down, right});
          CHECK(Copied(shift, image, {down, right}) == expected);
          // The check sees a shift that is one pixel off.
          CHECK(Copied(shift, image, {down, right == pad ? pad - 1 : right + 1}) != expected);
        }
      }
      CHECK(Copied(shift, image, {0, 0}) == image);
    }
  }
}

TEST(OffsetsAreUniformAndIndependentOfEachOtherRowByRowAndDrawByDraw) {
  const std::uint32_t pad = 3, choices = 2 * pad + 1;
  for (const std::uint64_t seed : {0ull, 1ull, ~0ull - 5}) {
    const Shift one{pad, 0, 1, 8, 8}, other{pad, 1, 1, 8, 8};
    std::vector<std::uint64_t> both(choices * choices), next(both), draws(both), batches(both);
    const auto count = [&](std::vector<std::uint64_t>* counts, std::int64_t a, std::int64_t b) {
      ++(*counts)[static_cast<std::size_t>((a + pad) * choices + b + pad)];
    };
    for (std::size_t row = 0; row < 100'000; ++row) {
      const Shift::Offset found = one.Of(seed, row);
      CHECK(std::max(std::abs(found.down), std::abs(found.right)) <= pad);
      count(&both, found.down, found.right);
      count(&next, found.down, one.Of(seed, row + 1).down);
      count(&draws, found.down, other.Of(seed, row).down);
      count(&batches, found.right, one.Of(seed + 1, row).right);
    }
    CHECK(LooksUniform(both));
    CHECK(LooksUniform(next));
    CHECK(LooksUniform(draws));
    // Seeds that follow each other are no seeds of batches: rows would be those of the next one.
    CHECK_EQ(one.Of(seed + 1, 7).down, one.Of(seed, 8).down);
  }
}

// Records of an image and four more bytes, over chunks of three.
struct Stream {
  std::shared_ptr<const RecordLayout> layout;
  ChunkStore chunks;
  BatchRows batch;
  std::vector<Bytes> records;

  Stream(std::size_t image_nbytes, std::size_t num_records)
      : layout(std::make_shared<RecordLayout>(std::vector<std::size_t>{image_nbytes, 4})) {
    Chunk* last = nullptr;
    while (records.size() < num_records) {
      Chunk* chunk = chunks.Create(layout, 3);
      if (last != nullptr) last->next = chunk;
      last = chunk;
      for (std::uint32_t i = 0; i < 3; ++i) {
        records.push_back(RandomBytes(layout->record_nbytes(), records.size()));
        std::copy(records.back().begin(), records.back().end(), chunk->record(i));
        batch.rows.push_back(Row::Of(chunks.place(chunk->slot), i));
        batch.reach.push_back({});
      }
    }
    for (std::size_t i = 0; i < records.size(); ++i) {
      batch.reach[i].records =
          static_cast<std::uint32_t>(std::min<std::size_t>(5, records.size() - i));
    }
  }

  std::vector<Bytes> Gathered(const std::vector<ViewColumn>& columns, int threads) const {
    std::vector<Bytes> outputs;
    std::vector<void*> places;
    for (const ViewColumn& column : columns) {
      const std::size_t nbytes = layout->columns()[column.field].nbytes;
      outputs.emplace_back(batch.rows.size() * column.steps * nbytes, std::uint8_t{0xa5});
      places.push_back(outputs.back().data());
    }
    GatherView(*layout, batch, columns, places.data(), threads);
    return outputs;
  }
};

TEST(AViewsRowsAreShiftedEachByItsOffsetAcrossSeamsAndPaddingStaysZeros) {
  const Shift shift{2, 7, 2, 6, 9};
  Stream stream(2 * 6 * 9, 60);
  stream.batch.seed = 99;
  const std::vector<ViewColumn> columns{
      {0, 0, 4, 1, shift}, {1, 0, 4, 1, {}}, {0, -1, 1, 0, {2, 8, 2, 6, 9}}};
  const auto found = stream.Gathered(columns, 1);
  const std::size_t nbytes = 2 * 6 * 9;
  Bytes cells, words, lasts;
  for (std::size_t row = 0; row < stream.records.size(); ++row) {
    const std::size_t reach = stream.batch.reach[row].records;
    for (std::size_t t = 0; t < 4; ++t) {
      Bytes cell(nbytes, 0), word(4, 0);
      if (t + 1 < reach) {
        const Bytes& record = stream.records[row + t];
        const Bytes image(record.begin(), record.begin() + nbytes);
        cell = Expected(shift, image, shift.Of(99, row));
        word.assign(record.begin() + nbytes, record.end());
      }
      cells.insert(cells.end(), cell.begin(), cell.end());
      words.insert(words.end(), word.begin(), word.end());
    }
    const Bytes& record = stream.records[row + reach - 1];
    const Bytes image(record.begin(), record.begin() + nbytes);
    const Bytes last = Expected(shift, image, columns[2].shift.Of(99, row));
    lasts.insert(lasts.end(), last.begin(), last.end());
  }
  CHECK(found[0] == cells);
  CHECK(found[1] == words);
  CHECK(found[2] == lasts);
  stream.batch.seed = 100;
  CHECK(stream.Gathered(columns, 1)[0] != cells);
}

TEST(ShiftsDoNotDependOnHowManyThreadsThereAre) {
  const Shift shift{4, 0, 1, 84, 84};
  Stream stream(84 * 84, 300);  // 10 MiB in five cells: for all threads
  stream.batch.seed = 5;
  const std::vector<ViewColumn> columns{{0, 0, 5, 0, shift}};
  const auto one = stream.Gathered(columns, 1);
  for (const int threads : {2, 3, 7}) CHECK(stream.Gathered(columns, threads) == one);
}

}  // namespace
}  // namespace reverie_test

TEST_MAIN
