#ifndef REVERIE_RECORD_LAYOUT_H_
#define REVERIE_RECORD_LAYOUT_H_

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
  };

  explicit RecordLayout(const std::vector<std::size_t>& column_nbytes);

  const std::vector<Column>& columns() const { return columns_; }
  std::size_t record_nbytes() const { return record_nbytes_; }

  // Copies one step, a pointer to the bytes of each column, into `record`.
  void Pack(const void* const* columns, std::uint8_t* record) const;

 private:
  std::vector<Column> columns_;
  std::size_t record_nbytes_ = 0;
};

}  // namespace reverie

#endif  // REVERIE_RECORD_LAYOUT_H_
