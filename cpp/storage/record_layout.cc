#include "storage/record_layout.h"

#include <cstring>

namespace reverie {

RecordLayout::RecordLayout(const std::vector<std::size_t>& column_nbytes, std::uint64_t tag)
    : tag_(tag) {
  columns_.reserve(column_nbytes.size());
  for (std::size_t nbytes : column_nbytes) {
    columns_.push_back({record_nbytes_, nbytes});
    record_nbytes_ += nbytes;
  }
}

void RecordLayout::Pack(const void* const* columns, std::uint8_t* record) const {
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    std::memcpy(record + columns_[i].offset, columns[i], columns_[i].nbytes);
  }
}

}  // namespace reverie
