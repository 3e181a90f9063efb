"""Whole steps as cells: how the windows of Reverie's own observers get into a server's files.

A server's checkpoint holds items as columns of cells, whoever wrote them. An
observer's item is a run of whole steps; here it becomes one column of cells for
each leaf, and each chunk of records one chunk of cells for each leaf. Who samples
sees no difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.checkpoint.format.plan_cells import cell_chunk_ids
from reverie.checkpoint.format.snapshot import ChunkLike, SnapshotLike, TableSnapshotLike
from reverie.errors import InvalidArgumentError

_Column = tuple[np.dtype[Any], tuple[int, ...]]
_NO_EPISODE = 0  # no trajectory writer has this one


@dataclass(frozen=True, slots=True, eq=False)
class _Leaf:
    """One column of a chunk of records, as a chunk of cells. Copied when it is written."""

    records: ChunkLike
    chunk_id: int
    column: _Column
    offset: int
    nbytes: int
    next_id: int = 0

    @property
    def sealed(self) -> bool:
        return self.records.sealed

    @property
    def count(self) -> int:
        return self.records.count

    @property
    def columns(self) -> list[_Column]:
        return [self.column]

    def data(self) -> NDArray[np.uint8]:
        rows = self.records.data()
        return np.ascontiguousarray(rows[:, self.offset : self.offset + self.nbytes])


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    items: Mapping[str, NDArray[Any]]
    free_keys: NDArray[np.uint64]
    counters: Mapping[str, int]
    rng_state: NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class _Snapshot:
    chunks: Sequence[ChunkLike]
    tables: Sequence[TableSnapshotLike]


@dataclass(frozen=True, slots=True, eq=False)
class _Records:
    """The chunks of records by row, and the chunks of cells that stand for them."""

    row: dict[int, int]  # by id
    next: NDArray[np.int64]  # row of the chunk that goes on, or -1
    count: NDArray[np.int64]
    width: NDArray[np.int64]  # leaves
    first_id: NDArray[np.uint64]  # of the first leaf's cells; the others' ids follow it


def as_cells(snapshot: SnapshotLike) -> SnapshotLike:
    """The snapshot with every item a trajectory; itself where all are.

    O(items and their leaves) of memory; steps are copied only as they are written.

    Raises:
        InvalidArgumentError: an item's leaves cover unequal steps.
    """
    cells = cell_chunk_ids(snapshot.tables)
    held = [chunk for chunk in snapshot.chunks if chunk.chunk_id not in cells]
    if not held:
        return snapshot
    last = max(chunk.chunk_id for chunk in snapshot.chunks)
    leaves: list[_Leaf] = []
    widths, first = [], []
    for chunk in held:
        columns = chunk.columns or []
        offset = 0
        first.append(last + len(leaves) + 1)
        widths.append(len(columns))
        for dtype, shape in columns:
            nbytes = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
            leaves.append(_Leaf(chunk, last + len(leaves) + 1, (dtype, shape), offset, nbytes))
            offset += nbytes
    row = {chunk.chunk_id: i for i, chunk in enumerate(held)}
    records = _Records(
        row=row,
        next=np.array([row.get(chunk.next_id, -1) for chunk in held], np.int64),
        count=np.array([chunk.count for chunk in held], np.int64),
        width=np.array(widths, np.int64),
        first_id=np.array(first, np.uint64),
    )
    kept = [chunk for chunk in snapshot.chunks if chunk.chunk_id in cells]
    tables = [_convert(table, records) for table in snapshot.tables]
    return _Snapshot([*kept, *leaves], tables)


def _convert(table: TableSnapshotLike, records: _Records) -> TableSnapshotLike:
    items = dict(table.items)
    if len(items.get("span_item", ())):
        raise InvalidArgumentError(
            "An item's leaves cover unequal steps, which no observer writes: it cannot be "
            "saved with a server. Write it anew with a TrajectoryWriter."
        )
    rows = np.flatnonzero(items["chunk"])
    if not len(rows):
        return table
    owner, chunk, offset, length = _runs(items, rows, records)
    # Each run becomes one piece for every leaf.
    width = records.width[chunk]
    run = np.repeat(np.arange(len(owner)), width)
    leaf = np.arange(len(run)) - np.repeat(np.cumsum(width) - width, width)
    new = {
        "item": owner[run],
        "column": leaf,
        "chunk": records.first_id[chunk][run] + leaf.astype(np.uint64),
        "offset": offset[run],
        "length": length[run],
        "squeeze": np.zeros(len(run), np.uint8),
    }
    old = _old_pieces(items)
    merged = {name: np.concatenate([old[name], new[name]]) for name in new}
    # Within a column pieces keep their order: runs were made front to back.
    order = np.lexsort((np.arange(len(merged["item"])), merged["column"], merged["item"]))
    merged = {name: values[order] for name, values in merged.items()}
    head = np.ones(len(order), bool)  # the first piece of each column
    head[1:] = (np.diff(merged["item"]) != 0) | (np.diff(merged["column"]) != 0)
    at = np.flatnonzero(head)
    for name in ("chunk", "offset", "length"):
        items[name] = items[name].copy()
        items[name][rows] = 0
    episodes = np.zeros(len(items["key"]), np.uint64) + np.uint64(_NO_EPISODE)
    episodes[items["traj_item"].astype(np.int64)] = items["traj_episode"]
    trajectories = np.unique(merged["item"])
    items |= {
        "traj_item": trajectories.astype(np.uint64),
        "traj_episode": episodes[trajectories],
        "column_item": merged["item"][at].astype(np.uint64),
        "column_squeeze": merged["squeeze"][at].astype(np.uint8),
        "column_pieces": np.diff(np.append(at, len(order))).astype(np.uint32),
        "piece_chunk": merged["chunk"].astype(np.uint64),
        "piece_offset": merged["offset"].astype(np.uint32),
        "piece_length": merged["length"].astype(np.uint32),
    }
    return _Table(items, table.free_keys, table.counters, table.rng_state)


def _runs(
    items: Mapping[str, NDArray[Any]], rows: NDArray[np.int64], records: _Records
) -> tuple[NDArray[np.int64], ...]:
    """The items' steps as runs inside one chunk each: item, chunk, offset, length."""
    found = []
    chunk = np.array([records.row[int(i)] for i in items["chunk"][rows]], np.int64)
    offset = items["offset"][rows].astype(np.int64)
    left = items["length"][rows].astype(np.int64)
    while len(rows):
        length = np.minimum(left, records.count[chunk] - offset)
        found.append((rows, chunk, offset, length))
        left = left - length
        more = left > 0
        rows, left = rows[more], left[more]
        chunk = records.next[chunk[more]]
        offset = np.zeros(len(rows), np.int64)
    owner, chunk, offset, length = (np.concatenate(part) for part in zip(*found, strict=True))
    return owner, chunk, offset, length


def _old_pieces(items: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The pieces of the trajectories there are already, each with its item and column."""
    owner = items["column_item"].astype(np.int64)
    begins = np.ones(len(owner), bool)  # the first column of each item
    begins[1:] = np.diff(owner) != 0
    first = np.maximum.accumulate(np.where(begins, np.arange(len(owner)), 0))
    counts = items["column_pieces"].astype(np.int64)
    return {
        "item": np.repeat(owner, counts),
        "column": np.repeat(np.arange(len(owner)) - first, counts),
        "chunk": items["piece_chunk"],
        "offset": items["piece_offset"].astype(np.int64),
        "length": items["piece_length"].astype(np.int64),
        "squeeze": np.repeat(items["column_squeeze"], counts),
    }
