#include "writers/trajectory_writer.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace reverie {
namespace {

constexpr std::size_t kFirstChunkNbytes = 256;

}  // namespace

TrajectoryWriter::TrajectoryWriter(std::shared_ptr<Store> store)
    : store_(std::move(store)),
      life_(store_->Lock().life()),
      holder_(store_.get(), [this] { Rehome(); }) {
  episode_ = store_->Lock().NewEpisode();
}

TrajectoryWriter::~TrajectoryWriter() { Close(); }

std::uint32_t TrajectoryWriter::AddColumn(std::shared_ptr<const RecordLayout> layout,
                                          std::uint64_t keep) {
  std::lock_guard<Mutex> lock(mutex_);
  columns_.push_back(
      {std::move(layout), keep, ChunkChain(kFirstChunkNbytes, store_->options().chunk_nbytes), 0});
  return static_cast<std::uint32_t>(columns_.size() - 1);
}

void TrajectoryWriter::SetKeep(std::uint32_t column, std::uint64_t keep) {
  std::lock_guard<Mutex> lock(mutex_);
  columns_[column].keep = keep;
  Store::Locked store = store_->Lock();
  Expire(&columns_[column], &store);
}

std::uint32_t TrajectoryWriter::num_columns() const {
  std::lock_guard<Mutex> lock(mutex_);
  return static_cast<std::uint32_t>(columns_.size());
}

std::shared_ptr<const RecordLayout> TrajectoryWriter::layout(std::uint32_t column) const {
  std::lock_guard<Mutex> lock(mutex_);
  return columns_[column].layout;
}

std::uint64_t TrajectoryWriter::first_kept(std::uint32_t column) const {
  std::lock_guard<Mutex> lock(mutex_);
  return columns_[column].first_kept;
}

std::uint64_t TrajectoryWriter::next(std::uint32_t column) const {
  std::lock_guard<Mutex> lock(mutex_);
  return columns_[column].chain.next();
}

std::uint64_t TrajectoryWriter::pending() const {
  const Store::Locked store = store_->Lock();
  return progress_->pending;
}

// Sees to it that every column that gets a cell has an open chunk with room for it.
// False: the store is closed. Throws std::bad_alloc; empty chunks may be left, which
// the next append uses or, for cells of any size, DropEmptyTail() frees.
bool TrajectoryWriter::Roll(const Cell* cells, std::size_t n) {
  bool needed = false;
  for (std::size_t i = 0; i < n; ++i) {
    needed = needed || (cells[i].bytes != nullptr && columns_[i].chain.full());
  }
  if (!needed) return true;
  Store::Locked store = store_->Lock();
  if (store.closed(life_)) return false;
  for (std::size_t i = 0; i < n; ++i) {
    Column& column = columns_[i];
    if (cells[i].bytes == nullptr || !column.chain.full()) continue;
    const bool any_size = column.layout == nullptr;
    column.chain.Grow(
        &store,
        any_size ? std::make_shared<RecordLayout>(std::vector{cells[i].nbytes}) : column.layout,
        any_size);
  }
  return true;
}

// A chunk for one cell of another size than the next one's cannot be used again.
void TrajectoryWriter::DropEmptyTail(Column* column, Store::Locked* store) {
  const ChunkChain& chain = column->chain;
  if (column->layout != nullptr || chain.open() == nullptr || chain.fill() != 0) return;
  column->chain.DropOpen(store);
}

Status TrajectoryWriter::Append(const Cell* cells, std::size_t n) {
  std::lock_guard<Mutex> lock(mutex_);
  if (closed_) return Status::Of(Code::kClosed);
  const auto drop_tails = [this] {
    Store::Locked store = store_->Lock();
    for (Column& column : columns_) DropEmptyTail(&column, &store);
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
    const ChunkChain& chain = columns_[i].chain;
    const std::size_t nbytes = chain.open()->layout->record_nbytes();
    if (nbytes >= OuterLock::kLongNbytes) OuterLock::LetGo();
    if (nbytes != 0) std::memcpy(chain.open()->record(chain.fill()), cells[i].bytes, nbytes);
  }
  {
    Store::Locked store = store_->Lock();
    if (!store.closed(life_)) {
      for (std::size_t i = 0; i < n; ++i) {
        if (cells[i].bytes == nullptr) continue;
        columns_[i].chain.Publish(&store);
        Expire(&columns_[i], &store);
      }
      return Status();
    }
  }
  drop_tails();
  return Status::Of(Code::kClosed);
}

Status TrajectoryWriter::AppendCells(std::uint32_t index, const void* bytes, std::size_t n,
                                     std::uint64_t* first) {
  std::lock_guard<Mutex> lock(mutex_);
  if (closed_) return Status::Of(Code::kClosed);
  Column& column = columns_[index];
  ChunkChain& chain = column.chain;
  const std::size_t nbytes = column.layout->record_nbytes();
  const auto* from = static_cast<const std::uint8_t*>(bytes);
  *first = chain.next();
  if (n * nbytes >= OuterLock::kLongNbytes) OuterLock::LetGo();
  while (n != 0) {
    if (chain.full()) {
      Store::Locked store = store_->Lock();
      if (store.closed(life_)) return Status::Of(Code::kClosed);
      chain.Grow(&store, column.layout);
    }
    const auto run =
        static_cast<std::uint32_t>(std::min<std::size_t>(n, chain.open()->capacity - chain.fill()));
    // Nobody reads these cells yet: they are published below.
    if (nbytes != 0) std::memcpy(chain.open()->record(chain.fill()), from, run * nbytes);
    Store::Locked store = store_->Lock();
    if (store.closed(life_)) return Status::Of(Code::kClosed);
    chain.Publish(&store, run);
    Expire(&column, &store);
    from += run * nbytes;
    n -= run;
  }
  return Status();
}

void TrajectoryWriter::DropBefore(std::uint32_t index, std::uint64_t first_kept) {
  std::lock_guard<Mutex> lock(mutex_);
  Column& column = columns_[index];
  Store::Locked store = store_->Lock();
  const std::uint64_t number = std::min(first_kept, column.chain.next());
  ExpireBefore(std::max(column.first_kept, number), &column, &store);
}

void TrajectoryWriter::ExpireBefore(std::uint64_t first_kept, Column* column,
                                    Store::Locked* store) {
  ChunkChain& chain = column->chain;
  column->first_kept = first_kept;
  chain.DropBefore(first_kept, store);
  // A full chunk gets no more cells. One of a single cell may be large.
  if (first_kept == chain.next() && chain.open() != nullptr && chain.full()) chain.DropOpen(store);
}

void TrajectoryWriter::Expire(Column* column, Store::Locked* store) {
  const std::uint64_t next = column->chain.next();
  ExpireBefore(std::max(column->first_kept, next - std::min(column->keep, next)), column, store);
}

const void* TrajectoryWriter::Find(std::uint32_t index, std::uint64_t number,
                                   std::shared_ptr<Chunk>* pin) const {
  std::lock_guard<Mutex> lock(mutex_);
  const Column& column = columns_[index];
  if (number < column.first_kept || number >= column.chain.next()) return nullptr;
  const ChunkChain::Held held = *column.chain.Locate(number);
  *pin = store_->Lock().chunks().share(held.chunk->slot);
  return held.chunk->record(static_cast<std::uint32_t>(number - held.first));
}

Status TrajectoryWriter::CreateItem(Table* table, double priority, const Run* runs,
                                    std::size_t num_runs, const OutputColumn* columns,
                                    std::size_t num_columns, bool* inserted) {
  std::lock_guard<Mutex> lock(mutex_);
  if (closed_) return Status::Of(Code::kClosed);
  if (num_columns == 0) return Status::Invalid("an item needs a column", -1);
  pieces_.clear();
  output_.clear();
  std::size_t r = 0;
  for (std::size_t c = 0; c < num_columns; ++c) {
    const std::size_t first_piece = pieces_.size();
    std::uint64_t cells = 0;
    if (columns[c].num_runs == 0 || columns[c].num_runs > num_runs - r) {
      return Status::Invalid("a column needs a cell", static_cast<std::int64_t>(r));
    }
    for (const std::size_t end = r + columns[c].num_runs; r < end; ++r) {
      const Run& run = runs[r];
      const auto at = static_cast<std::int64_t>(r);
      if (run.column >= columns_.size()) return Status::Invalid("unknown column", at);
      const Column& column = columns_[run.column];
      const std::uint64_t next = column.chain.next();
      if (run.start < column.first_kept || run.start >= next || run.length == 0 ||
          run.length > next - run.start) {
        return Status::Invalid("expired or unknown cells", at);
      }
      cells += run.length;
      const ChunkChain::Held* held = column.chain.Locate(run.start);
      auto offset = static_cast<std::uint32_t>(run.start - held->first);
      for (std::uint32_t left = run.length; left != 0; ++held, offset = 0) {
        const std::uint32_t length = std::min<std::uint32_t>(left, held->chunk->capacity - offset);
        pieces_.push_back({held->chunk, offset, length});
        left -= length;
      }
      const auto type = [](const Piece& piece) { return piece.chunk->layout->columns()[0].type; };
      if (type(pieces_[first_piece]) != type(pieces_.back())) {
        return Status::Invalid("cells of unlike columns", at);
      }
    }
    if (columns[c].squeeze && cells != 1) {
      return Status::Invalid("a squeezed column needs one cell", static_cast<std::int64_t>(r));
    }
    output_.push_back(
        {static_cast<std::uint32_t>(pieces_.size() - first_piece), columns[c].squeeze ? 1u : 0u});
  }
  if (r != num_runs) return Status::Invalid("runs of no column", static_cast<std::int64_t>(r));
  OwnTrajectory trajectory =
      Trajectory::New(store_->item_arena(), episode_, output_.size(), pieces_.size());
  std::uninitialized_copy(pieces_.begin(), pieces_.end(), trajectory->pieces());
  std::uninitialized_copy(output_.begin(), output_.end(), trajectory->columns());
  NewItem item;
  item.priority = priority;
  item.trajectory = std::move(trajectory);
  Store::Locked store = store_->Lock();
  if (store.closed(life_)) return Status::Of(Code::kClosed);
  *inserted = table->Submit(std::move(item), progress_, store.garbage());
  if (*inserted) store.NotifySamplers();
  return Status();
}

void TrajectoryWriter::EndEpisode(bool clear) {
  std::lock_guard<Mutex> lock(mutex_);
  Store::Locked store = store_->Lock();
  episode_ = store.NewEpisode();
  if (!clear) return;
  for (Column& column : columns_) ExpireBefore(column.chain.next(), &column, &store);
}

void TrajectoryWriter::Rehome() {
  std::lock_guard<Mutex> lock(mutex_);
  Store::Locked store = store_->Lock();
  for (Column& column : columns_) {
    if (column.layout != nullptr) column.chain.Rehome(column.first_kept, &store);
  }
}

void TrajectoryWriter::Close() {
  std::lock_guard<Mutex> lock(mutex_);
  Store::Locked store = store_->Lock();
  closed_ = true;
  for (Column& column : columns_) {
    column.first_kept = column.chain.next();
    column.chain.DropAll(&store);
  }
}

}  // namespace reverie
