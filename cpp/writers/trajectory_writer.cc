#include "writers/trajectory_writer.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace reverie {
namespace {

constexpr std::size_t kFirstChunkNbytes = 1024;

}  // namespace

TrajectoryWriter::TrajectoryWriter(std::shared_ptr<Store> store) : store_(std::move(store)) {
  std::lock_guard<std::mutex> lock(store_->mutex());
  episode_ = store_->NewEpisode();
}

TrajectoryWriter::~TrajectoryWriter() { Close(); }

std::uint32_t TrajectoryWriter::AddColumn(std::shared_ptr<const RecordLayout> layout,
                                          std::uint64_t keep) {
  std::lock_guard<std::mutex> lock(mutex_);
  Column column;
  column.layout = std::move(layout);
  column.keep = keep;
  column.next_nbytes = std::min(kFirstChunkNbytes, store_->options().chunk_nbytes);
  columns_.push_back(std::move(column));
  return static_cast<std::uint32_t>(columns_.size() - 1);
}

void TrajectoryWriter::SetKeep(std::uint32_t column, std::uint64_t keep) {
  std::lock_guard<std::mutex> lock(mutex_);
  Column& changed = columns_[column];
  changed.keep = keep;
  Garbage garbage;
  std::lock_guard<std::mutex> store_lock(store_->mutex());
  const std::uint64_t kept = std::min(keep, changed.next);
  Expire(&changed, std::max(changed.first_kept, changed.next - kept), &garbage);
}

std::uint32_t TrajectoryWriter::num_columns() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return static_cast<std::uint32_t>(columns_.size());
}

std::shared_ptr<const RecordLayout> TrajectoryWriter::layout(std::uint32_t column) const {
  std::lock_guard<std::mutex> lock(mutex_);
  return columns_[column].layout;
}

std::uint64_t TrajectoryWriter::first_kept(std::uint32_t column) const {
  std::lock_guard<std::mutex> lock(mutex_);
  return columns_[column].first_kept;
}

std::uint64_t TrajectoryWriter::next(std::uint32_t column) const {
  std::lock_guard<std::mutex> lock(mutex_);
  return columns_[column].next;
}

std::uint64_t TrajectoryWriter::pending() const {
  std::lock_guard<std::mutex> lock(store_->mutex());
  return progress_->pending;
}

// Sees to it that every column that gets a cell has an open chunk with room for it.
// False: the store is closed. Throws std::bad_alloc; empty chunks may be left, which
// the next append uses or, for cells of any size, DropEmptyTail() frees.
bool TrajectoryWriter::Roll(const Cell* cells, std::size_t n) {
  bool needed = false;
  const auto is_full = [](const Column& column) {
    return column.held.empty() || column.fill == column.held.back().chunk->capacity;
  };
  for (std::size_t i = 0; i < n; ++i) {
    needed = needed || (cells[i].bytes != nullptr && is_full(columns_[i]));
  }
  if (!needed) return true;
  Garbage garbage;
  std::lock_guard<std::mutex> lock(store_->mutex());
  if (store_->closed()) return false;
  for (std::size_t i = 0; i < n; ++i) {
    Column& column = columns_[i];
    if (cells[i].bytes == nullptr || !is_full(column)) continue;
    std::shared_ptr<const RecordLayout> layout = column.layout;
    std::uint32_t capacity = 1;
    if (layout == nullptr) {
      layout = std::make_shared<RecordLayout>(std::vector<std::size_t>{cells[i].nbytes});
    } else {
      const std::size_t cell_nbytes = std::max<std::size_t>(1, layout->record_nbytes());
      capacity =
          static_cast<std::uint32_t>(std::max<std::size_t>(1, column.next_nbytes / cell_nbytes));
    }
    Chunk* const chunk = store_->chunks().Create(std::move(layout), capacity);
    try {
      column.held.push_back({chunk, column.next});
    } catch (...) {
      store_->chunks().Unref(chunk, &garbage);
      throw;
    }
    if (column.held.size() > 1) column.held[column.held.size() - 2].chunk->sealed = true;
    column.next_nbytes = std::min(2 * column.next_nbytes, store_->options().chunk_nbytes);
    column.fill = 0;
  }
  return true;
}

// A chunk for one cell of another size than the next one's cannot be used again.
void TrajectoryWriter::DropEmptyTail(Column* column, Garbage* garbage) {
  if (column->layout != nullptr || column->held.empty() || column->fill != 0) return;
  store_->chunks().Unref(column->held.back().chunk, garbage);
  column->held.pop_back();
  column->fill = column->held.empty() ? 0 : 1;  // as in any chunk of one cell
}

Status TrajectoryWriter::Append(const Cell* cells, std::size_t n) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (closed_) return Status::Of(Code::kClosed);
  const auto drop_tails = [this] {
    Garbage garbage;
    std::lock_guard<std::mutex> store_lock(store_->mutex());
    for (Column& column : columns_) DropEmptyTail(&column, &garbage);
  };
  try {
    if (!Roll(cells, n)) return Status::Of(Code::kClosed);
  } catch (...) {
    drop_tails();
    throw;
  }
  // Nobody reads these cells yet: they are published below.
  for (std::size_t i = 0; i < n; ++i) {
    if (cells[i].bytes == nullptr) continue;
    const Column& column = columns_[i];
    const Chunk* const chunk = column.held.back().chunk;
    const std::size_t nbytes = chunk->layout->record_nbytes();
    if (nbytes != 0) std::memcpy(chunk->record(column.fill), cells[i].bytes, nbytes);
  }
  Garbage garbage;
  {
    std::lock_guard<std::mutex> store_lock(store_->mutex());
    if (!store_->closed()) {
      for (std::size_t i = 0; i < n; ++i) {
        if (cells[i].bytes == nullptr) continue;
        Column& column = columns_[i];
        store_->chunks().Publish(column.held.back().chunk, 1);
        ++column.fill;
        ++column.next;
        const std::uint64_t kept = std::min(column.keep, column.next);
        Expire(&column, std::max(column.first_kept, column.next - kept), &garbage);
      }
      return Status();
    }
  }
  drop_tails();
  return Status::Of(Code::kClosed);
}

void TrajectoryWriter::Expire(Column* column, std::uint64_t first_kept, Garbage* garbage) {
  column->first_kept = first_kept;
  while (column->held.size() > 1 && column->held[1].first <= first_kept) {
    store_->chunks().Unref(column->held.front().chunk, garbage);
    column->held.pop_front();
  }
  // A full chunk gets no more cells. One of a single cell may be large.
  if (first_kept == column->next && !column->held.empty() &&
      column->fill == column->held.back().chunk->capacity) {
    column->held.back().chunk->sealed = true;
    store_->chunks().Unref(column->held.back().chunk, garbage);
    column->held.pop_back();
    column->fill = 0;
  }
}

std::deque<TrajectoryWriter::Held>::const_iterator TrajectoryWriter::Locate(const Column& column,
                                                                            std::uint64_t number) {
  const auto after =
      std::upper_bound(column.held.begin(), column.held.end(), number,
                       [](std::uint64_t wanted, const Held& held) { return wanted < held.first; });
  return after - 1;
}

const void* TrajectoryWriter::Find(std::uint32_t index, std::uint64_t number,
                                   std::shared_ptr<Chunk>* pin) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const Column& column = columns_[index];
  if (number < column.first_kept || number >= column.next) return nullptr;
  const Held held = *Locate(column, number);
  std::lock_guard<std::mutex> store_lock(store_->mutex());
  *pin = store_->chunks().share(held.chunk->slot);
  return held.chunk->record(static_cast<std::uint32_t>(number - held.first));
}

Status TrajectoryWriter::CreateItem(Table* table, double priority, const Run* runs,
                                    std::size_t num_runs, const OutputColumn* columns,
                                    std::size_t num_columns, bool* inserted) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (closed_) return Status::Of(Code::kClosed);
  if (num_columns == 0) return Status::Invalid("an item needs a column", -1);
  auto trajectory = std::make_unique<Trajectory>();
  trajectory->columns.reserve(num_columns);
  trajectory->pieces.reserve(num_runs);
  std::size_t r = 0;
  for (std::size_t c = 0; c < num_columns; ++c) {
    const std::size_t first_piece = trajectory->pieces.size();
    std::uint64_t cells = 0;
    if (columns[c].num_runs == 0 || columns[c].num_runs > num_runs - r) {
      return Status::Invalid("a column needs a cell", static_cast<std::int64_t>(r));
    }
    for (const std::size_t end = r + columns[c].num_runs; r < end; ++r) {
      const Run& run = runs[r];
      const auto at = static_cast<std::int64_t>(r);
      if (run.column >= columns_.size()) return Status::Invalid("unknown column", at);
      const Column& column = columns_[run.column];
      if (run.start < column.first_kept || run.start >= column.next || run.length == 0 ||
          run.length > column.next - run.start) {
        return Status::Invalid("expired or unknown cells", at);
      }
      cells += run.length;
      auto held = Locate(column, run.start);
      auto offset = static_cast<std::uint32_t>(run.start - held->first);
      for (std::uint32_t left = run.length; left != 0; ++held, offset = 0) {
        const std::uint32_t length = std::min(left, held->chunk->capacity - offset);
        trajectory->pieces.push_back({held->chunk, offset, length});
        left -= length;
      }
      if (trajectory->pieces[first_piece].chunk->layout->tag() !=
          trajectory->pieces.back().chunk->layout->tag()) {
        return Status::Invalid("cells of unlike columns", at);
      }
    }
    if (columns[c].squeeze && cells != 1) {
      return Status::Invalid("a squeezed column needs one cell", static_cast<std::int64_t>(r));
    }
    trajectory->columns.push_back(
        {static_cast<std::uint32_t>(trajectory->pieces.size() - first_piece), columns[c].squeeze});
  }
  if (r != num_runs) return Status::Invalid("runs of no column", static_cast<std::int64_t>(r));
  trajectory->episode = episode_;
  NewItem item;
  item.priority = priority;
  item.trajectory = std::move(trajectory);
  Garbage garbage;
  std::lock_guard<std::mutex> store_lock(store_->mutex());
  if (store_->closed()) return Status::Of(Code::kClosed);
  *inserted = table->Submit(std::move(item), progress_, &garbage);
  if (*inserted) store_->NotifySamplers();
  return Status();
}

void TrajectoryWriter::EndEpisode(bool clear) {
  std::lock_guard<std::mutex> lock(mutex_);
  Garbage garbage;
  std::lock_guard<std::mutex> store_lock(store_->mutex());
  episode_ = store_->NewEpisode();
  if (!clear) return;
  for (Column& column : columns_) Expire(&column, column.next, &garbage);
}

void TrajectoryWriter::Close() {
  std::lock_guard<std::mutex> lock(mutex_);
  Garbage garbage;
  std::lock_guard<std::mutex> store_lock(store_->mutex());
  closed_ = true;
  for (Column& column : columns_) {
    column.first_kept = column.next;
    for (const Held& held : column.held) {
      held.chunk->sealed = true;
      store_->chunks().Unref(held.chunk, &garbage);
    }
    column.held.clear();
    column.fill = 0;
  }
}

}  // namespace reverie
