"""A Reverb checkpoint as it is stored: chunks once, items as slices of them.

`reader` turns a table into runs of whole steps, which all its items must share
in kind. Here nothing is rearranged: every column of every chunk that an item
refers to is a stretch of cells, and an item's columns are pieces of those. So
the items of one table may differ, columns may be squeezed or hold texts, and
what several tables share is there once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reverie import errors
from reverie.checkpoint.reverb_files import deps, tensors
from reverie.checkpoint.reverb_files.chunks import Chunks, read_chunks
from reverie.checkpoint.reverb_files.items import Items, read_items
from reverie.checkpoint.reverb_files.layout import Ints
from reverie.checkpoint.reverb_files.model import Array
from reverie.checkpoint.reverb_files.nests import read_nest
from reverie.checkpoint.reverb_files.places import Budget, shown, shown_path
from reverie.checkpoint.reverb_files.tables import Settings, read_tables

_TABLES, _ITEMS, _CHUNKS = "tables.tfrecord", "items.tfrecord", "chunks.tfrecord"

# Long items that share texts have far more pieces than the file has bytes.
_MAX_PIECES = 1 << 24


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class StoredTable:
    """One table: settings, items, and their columns and pieces, flat.

    Attributes:
        settings: As saved; the signature is a nest.
        priorities: Priority of each item in insertion order, float64, shape (N,).
        times_sampled: int32, shape (N,).
        episode: Episode of each item, uint64 from 1 on, shape (N,).
        column_item: Item of each column, ascending, shape (C,).
        column_squeeze: Whether it has no time axis, uint8.
        column_pieces: How many pieces it has, uint32.
        piece_chunk: The stretch of cells that each piece is of, from 1, shape (P,).
        piece_offset: Its first cell there, uint32.
        piece_length: Its cells, uint32.
    """

    settings: Settings
    priorities: npt.NDArray[np.float64]
    times_sampled: npt.NDArray[np.int32]
    episode: npt.NDArray[np.uint64]
    column_item: npt.NDArray[np.uint64]
    column_squeeze: npt.NDArray[np.uint8]
    column_pieces: npt.NDArray[np.uint32]
    piece_chunk: npt.NDArray[np.uint64]
    piece_offset: npt.NDArray[np.uint32]
    piece_length: npt.NDArray[np.uint32]

    def __len__(self) -> int:
        """Number of items."""
        return len(self.priorities)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A whole checkpoint. The cells stay packed until `cells` is run through.

    Attributes:
        tables: In the order of the file.
        cells: Yields every stretch of cells once, as (its number, cells): an array
            (cells, *shape of one), or bytes for a text, which is a stretch of its
            own. Raises as `read_stored`.
    """

    tables: list[StoredTable]
    cells: Callable[[], Iterator[tuple[int, Array | bytes]]]


def read_stored(folder: Path, *, max_nbytes: int = 64 << 30) -> Stored:
    """Reads a checkpoint that dm-reverb wrote, without Reverb or TensorFlow.

    All of it is checked but what stands in the packed cells. Nothing in the files is
    executed, and nothing but the three files is opened.

    Args:
        folder: A checkpoint's folder.
        max_nbytes: Limit of the inflated bytes of the files and the bytes of the
            cells, together.

    Raises:
        CheckpointNotFoundError: The folder is no complete Reverb checkpoint.
        CheckpointCorruptError: It is damaged; the message names the file, the
            record and the byte.
        CheckpointMismatchError: A dtype that cannot be read, or it is of a release of
            Reverb before 0.14.
        CheckpointLimitError: It needs more than `max_nbytes`.
        MissingDependencyError: The `reverb-files` extra is not installed.
        OSError: A file cannot be read.
    """
    deps.load()
    if not (folder / "DONE").is_file():
        raise errors.CheckpointNotFoundError(
            f"{shown_path(folder)} is no complete Reverb checkpoint: it has no file DONE"
        )
    budget = Budget(max_nbytes)
    settings = read_tables(folder / _TABLES, budget, _silent, read_signature=read_nest)
    items = read_items(folder / _ITEMS, settings, budget, _silent, alike=False)
    chunks = read_chunks(folder / _CHUNKS, budget, _silent)
    slices = {name: chunks.resolve(of) for name, of in items.items() if of.keys}
    used = np.zeros(0, np.int64)
    if slices:
        used = np.unique(np.concatenate([of.tensor for of in slices.values()]))
    first = _first_numbers(used, chunks, budget)
    tables = []
    for name, table in settings.items():
        of = slices.get(name)
        tensor = np.zeros(0, np.int64) if of is None else np.searchsorted(used, of.tensor)
        episode = np.zeros(0, np.int64) if of is None else of.episode
        texts = chunks.texts()[used[tensor]] if len(tensor) else np.zeros(0, np.bool_)
        tables.append(_table(table, items[name], first[tensor], texts, episode))
    return Stored(tables, lambda: _cells(used, first, chunks))


def _first_numbers(used: Ints, chunks: Chunks, budget: Budget) -> Ints:
    """The number of each used column's first stretch: texts have one for each step."""
    numbers = np.ones(len(used), np.int64)
    for at, tensor in enumerate(used.tolist()):
        packed = chunks.tensors[tensor]
        nbytes = packed.nbytes
        place = chunks.places[int(chunks.tensor_chunk[tensor])]
        if packed.code == tensors.STRING:
            tensors.check_texts(packed, place)
            numbers[at] = packed.rows
            nbytes = len(packed.payload)
        elif nbytes is None:
            tensors.dtype_of(packed.code, f"{place}: a column")  # raises
        budget.take(nbytes or 0, str(place))
    return np.asarray(np.cumsum(numbers) - numbers + 1)


def _cells(used: Ints, first: Ints, chunks: Chunks) -> Iterator[tuple[int, Array | bytes]]:
    for tensor, number in zip(used.tolist(), first.tolist(), strict=True):
        packed = chunks.tensors[tensor]
        chunk = int(chunks.tensor_chunk[tensor])
        place = chunks.places[chunk]
        if packed.code == tensors.STRING:
            yield from enumerate(tensors.unpack_texts(packed, place), number)
        else:
            encoded = bool(chunks.delta_encoded[chunk])
            yield number, tensors.unpack(packed, delta_encoded=encoded, place=place)


def _table(
    settings: Settings,
    items: Items,
    number: Ints,
    texts: npt.NDArray[np.bool_],
    slice_episode: Ints,
) -> StoredTable:
    item = np.array(items.slice_item, np.int64)
    column = np.array(items.slice_column, np.int64)
    offset = np.array(items.slice_offset, np.int64)
    length = np.array(items.slice_length, np.int64)
    # A text is a stretch of its own, so a slice of texts is as many pieces.
    pieces = np.where(texts, length, 1)
    count = int(pieces.sum())
    if count > _MAX_PIECES + 64 * len(pieces):
        raise errors.CheckpointLimitError(
            f"Table {shown(settings.name)}: {count} texts in {len(items.keys)} items, and at "
            f"most {_MAX_PIECES} and 64 for each slice can be read."
        )
    within = np.arange(count) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    is_text = np.repeat(texts, pieces)
    offset, number = np.repeat(offset, pieces), np.repeat(number, pieces)
    length = np.repeat(length, pieces)
    new_column = np.ones(len(item), np.bool_)
    new_column[1:] = (np.diff(item) != 0) | (np.diff(column) != 0)
    starts = np.flatnonzero(new_column)
    new_item = np.ones(len(item), np.bool_)
    new_item[1:] = np.diff(item) != 0
    squeezed = items.squeezed
    pairs = zip(item[starts].tolist(), column[starts].tolist(), strict=True)
    return StoredTable(
        settings=settings,
        priorities=np.array(items.priorities, np.float64),
        times_sampled=np.array(items.times_sampled, np.int64).astype(np.int32),
        episode=(slice_episode[np.flatnonzero(new_item)] + 1).astype(np.uint64),
        column_item=item[starts].astype(np.uint64),
        column_squeeze=np.array(
            [bool(squeezed and i in squeezed and squeezed[i][c]) for i, c in pairs], np.uint8
        ),
        column_pieces=_sums(pieces, starts).astype(np.uint32),
        piece_chunk=np.where(is_text, number + offset + within, number).astype(np.uint64),
        piece_offset=np.where(is_text, 0, offset).astype(np.uint32),
        piece_length=np.where(is_text, 1, length).astype(np.uint32),
    )


def _sums(values: Ints, starts: Ints) -> Ints:
    return np.asarray(np.add.reduceat(values, starts)) if len(starts) else values[:0]


def _silent(done: int, total: int) -> Any:
    """Tells nobody of progress."""
