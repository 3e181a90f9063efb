"""The one reader of Reverb's checkpoints: tables, items and chunks as they are stored.

Nothing is rearranged here, and the steps stay packed. `as_cells` and `as_records` make
of it what a store of ours holds.
"""

from __future__ import annotations

import dataclasses
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from reverie import errors
from reverie.checkpoint.disk.crc_file import reading
from reverie.checkpoint.disk.files import FILE_SYSTEM, OpenFolder, opened_folder
from reverie.checkpoint.disk.limits import (
    GROWTH,
    INFLATION,
    RECORD_GROWTH,
    RECORD_ROOM_NBYTES,
    ROOM_NBYTES,
    max_references,
    stored_nbytes,
)
from reverie.checkpoint.reverb_files import extra, tensors
from reverie.checkpoint.reverb_files.budget import Budget, shown, shown_path
from reverie.checkpoint.reverb_files.chunk_records import Chunks, read_chunks
from reverie.checkpoint.reverb_files.finding import CHUNKS, DATA_FILES, DONE, ITEMS, TABLES
from reverie.checkpoint.reverb_files.item_records import Items, read_items
from reverie.checkpoint.reverb_files.runs import Slices
from reverie.checkpoint.reverb_files.table_records import TableRecord, read_tables
from reverie.proto.data_types import STRING
from reverie.tables.cells import column_of
from reverie.tables.settings import TableSettings


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class StoredTable:
    """One table.

    Attributes:
        record: Its settings and counters.
        items: Its items, in insertion order.
        slices: Which slices of which chunks they are; None without items.
    """

    record: TableRecord
    items: Items
    slices: Slices | None

    def __len__(self) -> int:
        """Number of items."""
        return len(self.items.keys)

    @property
    def settings(self) -> TableSettings:
        """As Reverb has them."""
        return self.record.settings

    def state(self) -> dict[str, Any]:
        """What the core's `restore` takes, less what says where the items' data are."""
        count = len(self)
        return {
            "key": None,  # fresh ones: Reverb's random keys cannot be looked up in O(1)
            "chunk": np.zeros(count, np.uint64),
            "offset": np.zeros(count, np.uint32),
            "length": np.zeros(count, np.uint32),
            "priority": np.array(self.items.priorities, np.float64),
            "times_sampled": np.array(self.items.times_sampled, np.int64).astype(np.int32),
            "free_keys": np.zeros(0, np.uint64),
            "counters": dict(self.record.counters),
            "rng_state": np.random.SeedSequence().generate_state(4, np.uint64),
        }


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A whole checkpoint.

    Attributes:
        folder: Its own.
        tables: By name, in the order of the file.
        chunks: All chunks, packed.
        budget: What is left of the limit; unpacking takes from it.
        max_references: How often its items may refer to chunks.
    """

    folder: Path
    tables: dict[str, StoredTable]
    chunks: Chunks
    budget: Budget
    max_references: int

    def used(self, names: list[str]) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The packed columns that items of these tables refer to, ascending."""
        slices = [self.tables[name].slices for name in names]
        numbers = [of.tensor for of in slices if of is not None]
        return np.unique(np.concatenate(numbers)) if numbers else np.zeros(0, np.int64)

    def items(self, name: str) -> Iterator[tuple[int, list[tensors.Array]]]:
        """Every item of a table in insertion order, as Reverb's `sample` returns it.

        Yields:
            The item's key, and its columns: copies of shape (steps, *shape of one step),
            without the first axis where the column is squeezed; of bytes objects where
            it holds texts.

        Raises:
            CheckpointCorruptError: The packed steps are damaged.
            CheckpointMismatchError: A dtype that cannot be read.
            CheckpointLimitError: The budget is used up.
        """
        table = self.tables[name]
        if table.slices is None:
            return
        cells: dict[int, tensors.Array] = {}
        of = (
            table.slices.column,
            table.slices.tensor,
            table.slices.offset,
            table.slices.length,
        )
        pieces = zip(*(values.tolist() for values in of), strict=True)
        ends = np.searchsorted(table.slices.item, np.arange(len(table)), side="right")
        start = 0
        for item, (key, end) in enumerate(zip(table.items.keys, ends.tolist(), strict=True)):
            columns: list[list[tensors.Array]] = [
                [] for _ in range(table.items.num_columns[item])
            ]
            for _ in range(start, end):
                column, tensor, offset, length = next(pieces)
                if tensor not in cells:
                    cells[tensor] = self._cells(tensor)
                columns[column].append(cells[tensor][offset : offset + length])
            start = end
            # Long items that share steps are far larger than the file.
            nbytes = sum(part.nbytes for parts in columns for part in parts)
            self.budget.take(nbytes, f"Table {shown(name)}")
            whole = [np.concatenate(parts) for parts in columns]
            squeezed = table.items.squeezed.get(item, (False,) * len(whole))
            yield key, [c[0, ...] if one else c for c, one in zip(whole, squeezed, strict=True)]

    def _cells(self, tensor: int) -> tensors.Array:
        self.take(tensor)
        cells = self.chunks.unpack(tensor)
        return column_of(cells) if isinstance(cells, list) else cells

    def take(self, tensor: int) -> None:
        """Pays for unpacking a column.

        Raises:
            CheckpointLimitError: The budget is used up.
            CheckpointCorruptError: It holds more texts than bytes.
            CheckpointMismatchError: Its dtype cannot be read.
        """
        packed, place = self.chunks.tensors[tensor], self.chunks.place_of(tensor)
        nbytes = packed.nbytes
        if packed.code == STRING:
            tensors.check_texts(packed, place)
            nbytes = len(packed.payload)
        elif nbytes is None:
            tensors.dtype_of(packed.code, f"{place}: a column")  # raises
        self.budget.take(nbytes or 0, str(place))


def read_stored(folder: Path, *, max_nbytes: int | None = None) -> Stored:
    """Reads a checkpoint that dm-reverb wrote, without Reverb or TensorFlow.

    All of it is checked but what stands in the packed steps: the ends and checksums of
    the files, the records, that every item's chunks are there and hold its steps, and
    that every table has as many items as it counted. Nothing in the files is executed,
    and nothing but the three files is opened, none of them through a link.

    Args:
        folder: A checkpoint's folder.
        max_nbytes: Limit of the inflated bytes of the files and of what is unpacked
            from them, together. None: in proportion to the files, see `disk.limits`.

    Raises:
        CheckpointNotFoundError: The folder is no complete Reverb checkpoint.
        CheckpointCorruptError: It is damaged; the message names the file, the
            record and the byte.
        CheckpointMismatchError: Settings that cannot be had here, or it is of a release
            of Reverb before 0.14.
        CheckpointLimitError: It needs more than `max_nbytes`, or than there is.
        MissingDependencyError: The `reverb-files` extra is not installed.
        CheckpointReadError: The system refused to read a file.
    """
    extra.load()
    with reading(FILE_SYSTEM, folder):
        return _read(folder, max_nbytes)


def _read(folder: Path, max_nbytes: int | None) -> Stored:
    with opened_folder(FILE_SYSTEM, folder) as opened:
        names = FILE_SYSTEM.names_in(opened)
        if DONE not in names:
            raise errors.CheckpointNotFoundError(
                f"{shown_path(folder)} is no complete Reverb checkpoint: it has no file {DONE}"
            )
        if not _is_regular(opened, DONE):
            raise errors.CheckpointCorruptError(
                f"{shown_path(folder / DONE)} is a link, or not a regular file"
            )
        there = [name for name in DATA_FILES if name in names and _is_regular(opened, name)]
        nbytes = stored_nbytes(FILE_SYSTEM, opened, there)
    if max_nbytes is None:
        limit = ROOM_NBYTES + GROWTH * nbytes
        budget = Budget(
            ROOM_NBYTES + INFLATION * nbytes,
            largest=RECORD_ROOM_NBYTES + RECORD_GROWTH * nbytes,
        )
    else:
        limit, budget = max_nbytes, Budget(max_nbytes)
    records = read_tables(folder / TABLES, budget)
    items = read_items(folder / ITEMS, records, budget)
    chunks = read_chunks(folder / CHUNKS, budget)
    tables = {
        name: StoredTable(record, of, chunks.resolve(of) if of.keys else None)
        for (name, record), of in zip(records.items(), items.values(), strict=True)
    }
    unpacked = Budget(limit, budget.used)
    return Stored(folder, tables, chunks, unpacked, max_references(max_nbytes, nbytes))


def _is_regular(folder: OpenFolder, name: str) -> bool:
    return stat.S_ISREG(FILE_SYSTEM.lstat_in(folder, name).st_mode)
