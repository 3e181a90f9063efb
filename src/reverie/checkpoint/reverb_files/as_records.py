"""Items as a replay buffer has them: runs of steps, each step a record stored once.

An item whose columns cover unequal steps is a trajectory over the same records.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from reverie import _core
from reverie.checkpoint import fits
from reverie.checkpoint.reverb_files import tensors
from reverie.checkpoint.reverb_files.budget import shown
from reverie.checkpoint.reverb_files.runs import Bools, Ints, Pieces, Runs, arrange
from reverie.checkpoint.reverb_files.stored import Stored, StoredTable
from reverie.errors import CheckpointMismatchError
from reverie.nests import structure
from reverie.nests.nest import Nest
from reverie.tables.signature import column_names

_CHUNK_NBYTES = 1 << 20

Column = tuple[np.dtype[Any], tuple[int, ...]]


def columns_of(stored: Stored, name: str) -> list[Column]:
    """The dtype and the shape of one step of each column; [] for a table without items.

    Raises:
        CheckpointMismatchError: They are not the same in all items, or a column holds
            texts or another dtype that no record has; names the item or the column.
        MissingDependencyError: bfloat16 or float8 without the ml_dtypes package.
    """
    table, chunks = stored.tables[name], stored.chunks
    if table.slices is None:
        return []
    slices, items = table.slices, table.items
    count = items.num_columns[0]
    unlike = np.flatnonzero(np.array(items.num_columns) != count)
    if len(unlike):
        raise CheckpointMismatchError(
            f"{items.place(int(unlike[0]))}: an item of {items.num_columns[unlike[0]]} columns "
            f"in table {shown(name)}, where the items before have {count}. Items of different "
            "columns cannot share a table here; write them to tables of their own."
        )
    kinds = chunks.tensor_type[slices.tensor]
    # The first item has every column, so its slices are the first of each column.
    first = np.unique(slices.column, return_index=True)[1]
    columns: list[Column] = []
    for column, at in enumerate(first):
        tensor = chunks.tensors[slices.tensor[at]]
        what = table.record.column_name(column, count)
        columns.append((tensors.dtype_of(tensor.code, what), tensor.step_shape))
    odd = np.flatnonzero(kinds != kinds[first][slices.column])
    if len(odd):
        column, other = int(slices.column[odd[0]]), chunks.tensors[slices.tensor[odd[0]]]
        raise CheckpointMismatchError(
            f"{items.place(int(slices.item[odd[0]]))}: "
            f"{table.record.column_name(column, count)} has steps of "
            f"{tensors.type_name(other.code)} {other.step_shape}, and of {columns[column][0]} "
            f"{columns[column][1]} in the items before. Steps of different kinds cannot share "
            "a table here; write them to tables of their own."
        )
    return columns


def check_columns(stored: Stored, name: str, nest: Nest) -> None:
    """Raises CheckpointMismatchError where a table has items that are no steps of `nest`."""
    found = columns_of(stored, name)
    if not found:
        return
    paths = [""] * len(found)
    signature = stored.tables[name].settings.signature
    if len(found) != len(nest.columns) and signature is not None:
        # Reverb compares no names. They only say which columns are too many, or missing.
        named = column_names(path for path, _ in structure.flatten_with_path(signature))
        paths = named if len(named) == len(found) else paths
    steps = [(path, *column) for path, column in zip(paths, found, strict=True)]
    fits.check_columns(stored.folder, name, steps, nest)


def fill_records(
    stored: Stored, name: str, nest: Nest, store: _core.Store, number: int
) -> tuple[dict[str, Any], int]:
    """Fills a store with the steps of one table.

    Args:
        stored: The checkpoint.
        name: The table.
        nest: Its steps.
        store: The store; nothing refers to its chunks yet.
        number: Of the next chunk.

    Returns:
        What the core's `restore` takes, and the number of the next chunk.

    Raises:
        CheckpointError: As `read_stored` and `check_columns`.
    """
    check_columns(stored, name, nest)
    table = stored.tables[name]
    if table.slices is None:
        return table.state(), number
    runs = arrange(table.slices, len(table), len(nest.columns))
    width = nest.record_dtype.itemsize
    stored.budget.take(int(runs.run_base[-1]) * width, f"Table {shown(name)}")
    chunks = _Chunks.cut(runs.run_base, max(1, _CHUNK_NBYTES // width), number)
    layout = _core.RecordLayout(nest.types)
    records = []
    for one, count in enumerate(np.diff(chunks.edges).tolist(), number):
        raw = store.restore_chunk(layout, one, count)
        raw[:] = 0  # steps of a column that no item refers to
        records.append(raw.view(nest.record_dtype)[:, 0])
    _copy(stored, runs.pieces, [c.path for c in nest.columns], chunks.edges, records)
    goes_on = chunks.number + np.flatnonzero(~chunks.begins_run).astype(np.uint64)
    store.link_chunks(goes_on - 1, goes_on)
    return table.state() | _items(table, runs, chunks), number + len(records)


@dataclasses.dataclass(frozen=True, slots=True)
class _Chunks:
    """The chunks that hold the runs of a table, one after the other.

    Attributes:
        number: Of the first; the others follow.
        edges: First row of each, and the number of all rows at the end.
        begins_run: Whether each is the first of a run.
    """

    number: np.uint64
    edges: Ints
    begins_run: Bools

    @classmethod
    def cut(cls, run_base: Ints, capacity: int, number: int) -> _Chunks:
        """Cuts the runs, so that evicting their first items can free memory."""
        counts = -(-np.diff(run_base) // capacity)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        first = np.repeat(run_base[:-1], counts) + within * capacity
        return cls(np.uint64(number), np.append(first, run_base[-1]), within == 0)

    def at(self, row: Ints) -> Ints:
        """The chunk of each row, from 0."""
        return np.asarray(np.searchsorted(self.edges, row, side="right") - 1)


def _copy(
    stored: Stored, pieces: Pieces, paths: list[str], edges: Ints, records: list[Any]
) -> None:
    numbers = (pieces.column, pieces.tensor, pieces.offset, pieces.target, pieces.length)
    chunk_of = np.searchsorted(edges, pieces.target, side="right") - 1
    unpacked, cells = -1, np.empty(0)
    for chunk, column, tensor, offset, target, length in zip(
        *(values.tolist() for values in (chunk_of, *numbers)), strict=True
    ):
        if tensor != unpacked:
            cells, unpacked = np.asarray(stored.chunks.unpack(tensor)), tensor
        done = 0
        while done < length:
            at = target + done - int(edges[chunk])
            count = min(length - done, len(records[chunk]) - at)
            start = offset + done
            records[chunk][paths[column]][at : at + count] = cells[start : start + count]
            done += count
            chunk += 1


def _items(table: StoredTable, runs: Runs, chunks: _Chunks) -> dict[str, Any]:
    """Where the data of each item are: in a run of records, or in columns of its own."""
    first = runs.run_base[runs.run] + runs.start
    uneven = (runs.column_start != 0) | (runs.column_length != runs.length[:, None])
    odd = np.flatnonzero(uneven.any(axis=1))
    chunk = chunks.at(first)
    places = {
        "chunk": (chunks.number + chunk.astype(np.uint64)),
        "offset": (first - chunks.edges[chunk]).astype(np.uint32),
        "length": runs.length.astype(np.uint32),
    }
    for values in places.values():
        values[odd] = 0
    if not len(odd) or table.slices is None:
        return places
    # Each column's steps, cut where a chunk ends.
    begin = (first[odd, None] + runs.column_start[odd]).reshape(-1)
    end = begin + runs.column_length[odd].reshape(-1)
    begin_chunk = chunks.at(begin)
    counts = chunks.at(end - 1) - begin_chunk + 1
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    piece = np.repeat(begin_chunk, counts) + within
    low = np.maximum(np.repeat(begin, counts), chunks.edges[piece])
    high = np.minimum(np.repeat(end, counts), chunks.edges[piece + 1])
    first_slice = np.searchsorted(table.slices.item, odd)
    num_columns = runs.column_start.shape[1]
    return places | {
        "traj_item": odd.astype(np.uint64),
        "traj_episode": (table.slices.episode[first_slice] + 1).astype(np.uint64),
        "column_item": np.repeat(odd, num_columns).astype(np.uint64),
        "column_field": np.tile(np.arange(num_columns), len(odd)).astype(np.uint32),
        "column_squeeze": np.zeros(len(begin), np.uint8),
        "column_pieces": counts.astype(np.uint32),
        "piece_chunk": chunks.number + piece.astype(np.uint64),
        "piece_offset": (low - chunks.edges[piece]).astype(np.uint32),
        "piece_length": (high - low).astype(np.uint32),
    }
