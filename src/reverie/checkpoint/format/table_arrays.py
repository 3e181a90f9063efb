"""One table's arrays: from the core's names to files and back, with all checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.checkpoint.disk.npy import Descr
from reverie.checkpoint.format.cells import CellMap
from reverie.checkpoint.format.manifest import FileKind, TableEntry
from reverie.checkpoint.format.references import (
    ITEM_DTYPE,
    ITEM_FIELDS,
    KEY_DTYPE,
    SPAN_DTYPE,
    SPAN_FIELDS,
    ChunkMap,
    check_keys,
    check_spans,
)
from reverie.checkpoint.format.snapshot import TableSnapshotLike
from reverie.checkpoint.format.trajectories import (
    COLUMN_DTYPE,
    COLUMN_FIELDS,
    PIECE_DTYPE,
    PIECE_FIELDS,
    TRAJECTORY_DTYPE,
    TRAJECTORY_FIELDS,
    Trajectories,
)
from reverie.errors import CheckpointCorruptError

# Part of a file's name, what its elements are, their dtype, the dtype in the header.
_Part = tuple[str, FileKind, np.dtype[Any], Descr]
_ITEMS: _Part = ("items", "item", ITEM_DTYPE, ITEM_FIELDS)
_SPANS: _Part = ("spans", "span", SPAN_DTYPE, SPAN_FIELDS)
_FREE: _Part = ("free", "key", KEY_DTYPE, KEY_DTYPE.str)
_TOUCHED: _Part = ("touched", "touched", KEY_DTYPE, KEY_DTYPE.str)
_TRAJECTORIES: _Part = ("trajectories", "trajectory", TRAJECTORY_DTYPE, TRAJECTORY_FIELDS)
_COLUMNS: _Part = ("columns", "column", COLUMN_DTYPE, COLUMN_FIELDS)
_PIECES: _Part = ("pieces", "piece", PIECE_DTYPE, PIECE_FIELDS)

Read = Callable[[str, np.dtype[Any], Descr], NDArray[Any]]
"""Reads a file by its name, given the dtype of its elements and that in its header."""


@dataclass(frozen=True, slots=True)
class SmallFile:
    """A small file: its name, what its elements are, its header's dtype, its values."""

    name: str
    dtype: FileKind
    descr: Descr
    values: NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class TableArrays:
    """What a table's files hold. `touched` is empty where no heap needs it."""

    items: NDArray[Any]
    spans: NDArray[Any]
    free: NDArray[Any]
    touched: NDArray[Any]
    trajectories: Trajectories

    @staticmethod
    def of(state: TableSnapshotLike) -> TableArrays:
        """From the core's snapshot of a table."""
        columns = state.items
        items = np.empty(len(columns["key"]), ITEM_DTYPE)
        for name, _, _ in ITEM_FIELDS:
            items[name] = columns[name]
        spans = np.empty(len(columns.get("span_item", ())), SPAN_DTYPE)
        for name, _, _ in SPAN_FIELDS if len(spans) else ():
            spans[name] = columns[f"span_{name}"]
        return TableArrays(
            items,
            spans,
            np.ascontiguousarray(state.free_keys, KEY_DTYPE),
            np.ascontiguousarray(columns.get("touched", ()), KEY_DTYPE),
            Trajectories.of(columns),
        )

    @staticmethod
    def read(entry: TableEntry, read: Read) -> TableArrays:
        """From the files of a table; unchecked."""

        def array(part: _Part, name: str | None) -> NDArray[Any]:
            return np.empty(0, part[2]) if name is None else read(name, part[2], part[3])

        names = entry.trajectories or (None, None, None)
        return TableArrays(
            array(_ITEMS, entry.items),
            array(_SPANS, entry.spans),
            array(_FREE, entry.free),
            array(_TOUCHED, entry.touched),
            Trajectories(
                array(_TRAJECTORIES, names[0]),
                array(_COLUMNS, names[1]),
                array(_PIECES, names[2]),
            ),
        )

    def files(self, index: int) -> Iterator[SmallFile]:
        """The files of the table of this index: the items', and those that are not empty."""
        more = self.trajectories
        for (part, kind, _, descr), values in (
            (_ITEMS, self.items),
            (_SPANS, self.spans),
            (_FREE, self.free),
            (_TOUCHED, self.touched),
            (_TRAJECTORIES, more.trajectories),
            (_COLUMNS, more.columns),
            (_PIECES, more.pieces),
        ):
            if part == "items" or len(values):
                yield SmallFile(f"{part}-{index}.npy", kind, descr, values)

    def check(
        self,
        entry: TableEntry,
        chunks: ChunkMap,
        cells: CellMap,
        num_columns: int,
        place: Callable[[str], str],
    ) -> None:
        """Checks all references and values.

        Args:
            entry: the table.
            chunks: the chunks of records.
            cells: the chunks of cells.
            num_columns: columns of a record.
            place: names a file for messages, given its name.

        Raises:
            CheckpointCorruptError: see `ChunkMap.check_items`, `Trajectories.check`,
                `check_spans` and `check_keys`.
        """
        where = place(entry.items)
        if entry.trajectories is not None:
            first, second, third = map(place, entry.trajectories)
            self.trajectories.check(len(self.items), cells, (first, second, third))
        chunks.check_items(
            self.items,
            where,
            trajectories=self.trajectories.rows(),
            prioritized=entry.prioritized,
        )
        if len(self.touched) not in (0, len(self.items)):
            raise CheckpointCorruptError(
                f"{place(str(entry.touched))!r} has {len(self.touched)} elements, expected one "
                f"for each of {len(self.items)} items."
            )
        check_spans(self.spans, self.items, num_columns, place(entry.spans or entry.items))
        check_keys(self.items, self.free, place(entry.free or entry.items))

    def state(self, entry: TableEntry) -> dict[str, Any]:
        """What the core's `Table.restore` takes."""
        state: dict[str, Any] = {
            **{name: np.ascontiguousarray(self.items[name]) for name, _, _ in ITEM_FIELDS},
            **{
                f"span_{name}": np.ascontiguousarray(self.spans[name])
                for name, _, _ in SPAN_FIELDS
            },
            "free_keys": self.free,
            "counters": dict(entry.counters),
            "rng_state": np.array(entry.rng_state, np.uint64),
        }
        if entry.touched is not None:
            state["touched"] = self.touched
        if entry.trajectories is not None:
            state.update(self.trajectories.state())
        return state
