#ifndef REVERIE_STORAGE_RECORD_LAYOUT_H_
#define REVERIE_STORAGE_RECORD_LAYOUT_H_

#include <cstddef>
#include <cstdint>
#include <vector>

namespace reverie {

// Where each column of a step lies in its packed, fixed-width record.
//
// A record is the columns one after the other, in flattened-nest order, with no
// padding between or after them, so that a chunk is byte for byte a packed NumPy
// structured array. Columns are plain bytes here; Python knows their dtypes.
// Immutable, hence free to share between threads.
class RecordLayout {
 public:
  struct Column {
    std::size_t offset;
    std::size_t nbytes;
    // What its cells are: the caller's number of a dtype and a shape. Columns of one
    // type hold like cells, whatever their layouts. 0: unknown, of any size.
    std::uint32_t type;
  };

  // Columns of these sizes and types; no types: all are unknown.
  explicit RecordLayout(const std::vector<std::size_t>& column_nbytes,
                        const std::vector<std::uint32_t>& types = {}) {
    columns_.reserve(column_nbytes.size());
    for (std::size_t i = 0; i < column_nbytes.size(); ++i) {
      columns_.push_back({record_nbytes_, column_nbytes[i], types.empty() ? 0 : types[i]});
      record_nbytes_ += column_nbytes[i];
    }
  }

  const std::vector<Column>& columns() const { return columns_; }
  std::size_t record_nbytes() const { return record_nbytes_; }
  // Of a chunk that holds one cell of a column whose cells may have any size.
  bool any_size() const { return columns_.size() == 1 && columns_[0].type == 0; }

 private:
  std::vector<Column> columns_;
  std::size_t record_nbytes_ = 0;
};

}  // namespace reverie

#endif  // REVERIE_STORAGE_RECORD_LAYOUT_H_
