#ifndef REVERIE_BINDINGS_NEW_COLUMNS_H_
#define REVERIE_BINDINGS_NEW_COLUMNS_H_

#include <nanobind/nanobind.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "arrays.h"
#include "interrupts.h"
#include "items/sampled_item.h"
#include "store.h"

namespace reverie_py {

// Arrays for items' columns. Cells of any size become bytes at once, the rest is copied last.
class NewColumns {
 public:
  // Whether the item's columns are like those of the one before.
  bool Add(const reverie::SampledItem& item) { return copies_.Add(item); }

  std::size_t size() const { return copies_.columns().size(); }

  // Of the next `num_columns` that were added.
  nb::list Arrays(std::size_t num_columns) { return Arrays(num_columns, 1, {}); }

  // Of the next items that were added, which are alike, along a first axis.
  nb::list Stacked(std::size_t num_columns, std::size_t items) {
    return Arrays(num_columns, items, {static_cast<std::ptrdiff_t>(items)});
  }

  // Of items that `reader` has.
  void Copy(const reverie::Store::ItemReader& reader) const {
    Interruptible(copies_.nbytes() >= kLongBytes, [&] { reader.Copy(copies_, outputs_.data()); });
  }

 private:
  nb::list Arrays(std::size_t num_columns, std::size_t items,
                  const std::vector<std::ptrdiff_t>& first_axis) {
    nb::list arrays;
    const std::size_t first = outputs_.size();
    outputs_.resize(first + num_columns * items);
    for (std::size_t c = first; c < first + num_columns; ++c) {
      const auto& column = copies_.columns()[c];
      if (column.type == 0) {
        nb::list cells;
        for (std::size_t i = 0; i < items; ++i) {
          cells.append(Bytes(copies_.columns()[c + i * num_columns]));
        }
        arrays.append(first_axis.empty() ? nb::object(cells[0]) : nb::object(cells));
        continue;
      }
      std::vector<std::ptrdiff_t> leading = first_axis;
      if (!column.squeeze) leading.push_back(static_cast<std::ptrdiff_t>(column.length));
      const CellType& cell = CellType::Of(column.type);
      void* bytes = nullptr;
      arrays.append(cell.NewArray(leading, &bytes));
      for (std::size_t i = 0; i < items; ++i) {
        outputs_[c + i * num_columns] =
            static_cast<std::uint8_t*>(bytes) + i * column.length * cell.nbytes;
      }
    }
    return arrays;
  }

  nb::object Bytes(const reverie::ColumnCopies::Column& column) const {
    nb::list cells;
    for (std::uint32_t i = 0; i < column.num_pieces; ++i) {
      const reverie::Piece& piece = copies_.pieces(column)[i];
      nb::bytes cell(piece.chunk->record(piece.offset), piece.chunk->layout->record_nbytes());
      if (column.squeeze) return cell;
      cells.append(cell);
    }
    return cells;
  }

  reverie::ColumnCopies copies_;
  std::vector<void*> outputs_;
};

}  // namespace reverie_py

#endif  // REVERIE_BINDINGS_NEW_COLUMNS_H_
