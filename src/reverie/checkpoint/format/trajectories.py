"""Items that are trajectories: columns of arbitrary runs of cells.

Three files beside a table's items, each in the order of the one before:

    trajectories   which items they are, and the episode of each
    columns        each one's columns: whose, squeezed or not, of how many pieces
    pieces         each column's pieces: cells of a chunk, from one on

The same checks run before a save is published and after its files were read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.checkpoint.disk.npy import Field
from reverie.checkpoint.format.cells import CellMap
from reverie.errors import CheckpointCorruptError

Fields = tuple[Field, ...]

TRAJECTORY_FIELDS: Fields = (("item", "<u8", ()), ("episode", "<u8", ()))
COLUMN_FIELDS: Fields = (("item", "<u8", ()), ("squeeze", "|u1", ()), ("pieces", "<u4", ()))
PIECE_FIELDS: Fields = (("chunk", "<u8", ()), ("offset", "<u4", ()), ("length", "<u4", ()))


def dtype_of(fields: Fields) -> np.dtype[Any]:
    """The packed structured dtype of these fields."""
    return np.dtype([(name, dtype) for name, dtype, _ in fields])


TRAJECTORY_DTYPE = dtype_of(TRAJECTORY_FIELDS)
COLUMN_DTYPE = dtype_of(COLUMN_FIELDS)
PIECE_DTYPE = dtype_of(PIECE_FIELDS)

# What the core calls each field of the three files.
_CORE_NAMES = (
    ("trajectories", TRAJECTORY_FIELDS, "traj"),
    ("columns", COLUMN_FIELDS, "column"),
    ("pieces", PIECE_FIELDS, "piece"),
)


@dataclass(frozen=True, slots=True, eq=False)
class Trajectories:
    """One table's trajectories: structured arrays of the three dtypes, (T,), (C,), (P,)."""

    trajectories: NDArray[Any]
    columns: NDArray[Any]
    pieces: NDArray[Any]

    @staticmethod
    def none() -> Trajectories:
        """Of a table that has none."""
        return Trajectories(
            np.zeros(0, TRAJECTORY_DTYPE), np.zeros(0, COLUMN_DTYPE), np.zeros(0, PIECE_DTYPE)
        )

    @staticmethod
    def of(state: Mapping[str, NDArray[Any]]) -> Trajectories:
        """From the arrays of the core's `TableSnapshot.items`."""
        made: dict[str, NDArray[Any]] = {}
        for part, fields, prefix in _CORE_NAMES:
            names = [name for name, _, _ in fields]
            columns = [state.get(f"{prefix}_{name}", ()) for name in names]
            made[part] = np.zeros(len(columns[0]), dtype_of(fields))
            for name, column in zip(names, columns, strict=True):
                made[part][name] = column
        return Trajectories(**made)

    def state(self) -> dict[str, NDArray[Any]]:
        """The arrays by the names that the core uses."""
        return {
            f"{prefix}_{name}": np.ascontiguousarray(getattr(self, part)[name])
            for part, fields, prefix in _CORE_NAMES
            for name, _, _ in fields
        }

    def __len__(self) -> int:
        """Number of items that are trajectories."""
        return len(self.trajectories)

    def rows(self) -> NDArray[np.int64]:
        """The rows of the items that are trajectories, ascending once checked."""
        return self.trajectories["item"].astype(np.int64)

    def check(self, num_items: int, cells: CellMap, names: tuple[str, str, str]) -> None:
        """Checks everything but what stands in the rows of the items.

        Args:
            num_items: items of the table.
            cells: the chunks that pieces may name.
            names: the three files, for messages.

        Raises:
            CheckpointCorruptError: naming the row. O(P log C) for C chunks.
        """
        item = self.trajectories["item"]
        at = names[0]
        if len(item) and not int(item.max()) < num_items:
            row = int(np.argmax(item >= num_items))
            raise _bad(at, row, f"item {item[row]}", f"a row below {num_items}")
        episode = self.trajectories["episode"]
        if len(episode) and int(episode.max()) >= 1 << 62:
            row = int(np.argmax(episode))
            raise _bad(at, row, f"episode {episode[row]}", "one below 2**62")
        _ascending(item, at, strictly=True)
        self._check_columns(names[1])
        of_column = np.repeat(
            np.arange(len(self.columns), dtype=np.int64), self.columns["pieces"]
        )
        cells.check_pieces(self.pieces, of_column, names[2])
        length = self.pieces["length"].astype(np.uint64)
        starts = np.cumsum(self.columns["pieces"], dtype=np.int64) - self.columns["pieces"]
        cells_of = np.add.reduceat(length, starts) if len(starts) else length[:0]
        squeezed = self.columns["squeeze"] != 0
        for wrong, wanted in (
            (cells_of >= 1 << 32, "fewer than 2**32"),
            (squeezed & (cells_of != 1), "one, because the column is squeezed"),
        ):
            if wrong.any():
                row = int(np.argmax(wrong))
                raise _bad(names[1], row, f"{cells_of[row]} cells", wanted)

    def _check_columns(self, where: str) -> None:
        columns, item = self.columns, self.trajectories["item"]
        _ascending(columns["item"], where, strictly=False)
        for wrong, name, wanted in (
            (columns["squeeze"] > 1, "squeeze", "0 or 1"),
            (columns["pieces"] == 0, "pieces", "at least 1"),
        ):
            if wrong.any():
                row = int(np.argmax(wrong))
                raise _bad(where, row, f"{name} {columns[name][row]}", wanted)
        if not np.array_equal(np.unique(columns["item"]), item):
            wanted = "columns of each trajectory and of no other item"
            raise _bad(where, 0, "columns of other items", wanted)
        total = int(columns["pieces"].sum(dtype=np.uint64))
        if total != len(self.pieces):
            raise _bad(where, 0, f"{total} pieces in all", f"{len(self.pieces)}")


def _ascending(values: NDArray[Any], where: str, *, strictly: bool) -> None:
    wrong = values[1:] <= values[:-1] if strictly else values[1:] < values[:-1]
    if wrong.any():
        row = int(np.argmax(wrong)) + 1
        raise _bad(where, row, f"item {values[row]}", "rows in ascending order of the items")


def _bad(where: str, row: int, found: str, wanted: str) -> CheckpointCorruptError:
    return CheckpointCorruptError(f"{where!r}, row {row}: {found}, expected {wanted}.")
