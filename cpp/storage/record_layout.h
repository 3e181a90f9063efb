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
  };

  // `tag` is the caller's mark, kept and never read here: the bindings find the
  // dtypes by it.
  explicit RecordLayout(const std::vector<std::size_t>& column_nbytes, std::uint64_t tag = 0);

  const std::vector<Column>& columns() const { return columns_; }
  std::size_t record_nbytes() const { return record_nbytes_; }
  std::uint64_t tag() const { return tag_; }

  // Copies one step, a pointer to the bytes of each column, into `record`.
  void Pack(const void* const* columns, std::uint8_t* record) const;

 private:
  std::vector<Column> columns_;
  std::size_t record_nbytes_ = 0;
  std::uint64_t tag_;
};

}  // namespace reverie

#endif  // REVERIE_STORAGE_RECORD_LAYOUT_H_
