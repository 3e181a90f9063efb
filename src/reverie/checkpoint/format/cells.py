"""Cells as a checkpoint names them: what one is, which chunk holds which, where it stands.

A cell is one value of one column of a trajectory. Fixed cells of one dtype and
shape stand one after another in a plain array; a variable cell is a string of
bytes, has a chunk of its own, and stands in a file of bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.checkpoint.disk.npy import Descr
from reverie.checkpoint.format.columns import ITEM_NBYTES, MAX_RECORD_NBYTES, Column
from reverie.errors import CheckpointCorruptError, InvalidArgumentError
from reverie.nests.specs import EXTENSION_DTYPES

BYTES = "bytes"
MAX_CELL_RANK = 31  # a file of cells has one axis more

CHUNK_FIELDS = (
    ("id", "<u8", ()),
    ("segment", "<u4", ()),
    ("offset", "<u8", ()),
    ("count", "<u8", ()),
)
CHUNK_DTYPE = np.dtype([(name, dtype) for name, dtype, _ in CHUNK_FIELDS])


@dataclass(frozen=True, slots=True)
class CellLayout:
    """What a cell is: a dtype as columns have it and a shape, or variable bytes.

    Attributes:
        dtype: such as `<f4`, or `bytes`.
        shape: of one cell; empty for `bytes`.
    """

    dtype: str
    shape: tuple[int, ...]

    @property
    def variable(self) -> bool:
        """Whether every cell has a length of its own."""
        return self.dtype == BYTES

    @property
    def nbytes(self) -> int:
        """Bytes of one element of a file: of a fixed cell, or 1."""
        return 1 if self.variable else ITEM_NBYTES[self.dtype] * math.prod(self.shape)

    @property
    def descr(self) -> Descr:
        """The dtype in the header of a `.npy` file."""
        if self.variable:
            return "|u1"
        if self.dtype in EXTENSION_DTYPES:
            return f"|V{EXTENSION_DTYPES[self.dtype]}"
        return self.dtype

    @property
    def column(self) -> Column:
        """A record of this one cell, for the checks of records."""
        return Column("cell", "|u1" if self.variable else self.dtype, self.shape)


VARIABLE = CellLayout(BYTES, ())


def layout_of(columns: Sequence[tuple[np.dtype[Any], Sequence[int]]] | None) -> CellLayout:
    """The layout of a chunk of cells, from what the core says of it.

    Raises:
        InvalidArgumentError: it is a chunk of whole records, or of a dtype or
            shape that cannot be stored.
    """
    if columns is None:
        return VARIABLE
    if len(columns) != 1:
        raise InvalidArgumentError(
            f"A chunk has {len(columns)} columns; trajectories are stored column by column."
        )
    base, shape = columns[0][0], tuple(int(size) for size in columns[0][1])
    name = base.name if base.name in EXTENSION_DTYPES else base.newbyteorder("<").str
    if name not in ITEM_NBYTES or base.hasobject or len(shape) > MAX_CELL_RANK:
        raise InvalidArgumentError(
            f"Cells of dtype {str(base)[:200]!r} and shape {str(shape)[:200]} cannot be "
            f"stored; a checkpoint stores {', '.join(sorted(ITEM_NBYTES))} of at most "
            f"{MAX_CELL_RANK} axes."
        )
    layout = CellLayout(name, shape)
    if layout.nbytes > MAX_RECORD_NBYTES:
        raise InvalidArgumentError(
            f"A cell of {layout.nbytes} bytes cannot be stored; at most {MAX_RECORD_NBYTES}."
        )
    return layout


class CellMap:
    """All chunks of cells of a checkpoint: where they stand, and what pieces may name.

    Args:
        chunks: dtype CHUNK_DTYPE, shape (C,), in the order in which they stand.
        layouts: the layout of each segment.
        counts: elements of each segment: cells, or bytes of variable ones.
        where: the chunks' file, for messages.

    Raises:
        CheckpointCorruptError: an id is 0, too large or repeated; or the chunks do
            not cover each segment exactly, in order; or a chunk has no cells.
    """

    def __init__(
        self,
        chunks: NDArray[Any],
        layouts: Sequence[CellLayout],
        counts: Sequence[int],
        where: str,
    ) -> None:
        self.chunks = chunks
        segment = chunks["segment"].astype(np.int64)
        variable = np.array([layout.variable for layout in layouts] or [False], np.bool_)
        known = segment < len(layouts)
        at = np.where(known, segment, 0)
        fixed = ~variable[at] if len(chunks) else np.zeros(0, np.bool_)
        ids = chunks["id"]
        for wrong, name, wanted in (
            (~known, "segment", f"one below {len(layouts)}"),
            ((ids == 0) | (ids >> np.uint64(63) != 0), "id", "1 to 2**63 - 1"),
            (fixed & (chunks["count"] == 0), "count", "at least 1"),
            (fixed & (chunks["count"] >= 1 << 32), "count", "below 2**32"),
            (chunks["count"] >= 1 << 53, "count", "below 2**53"),
        ):
            if wrong.any():
                row = int(np.argmax(wrong))
                raise _bad(where, row, f"{name} {chunks[name][row]}", wanted)
        self.bounds = _cover(chunks, segment, counts, where)
        order = np.argsort(ids, kind="stable")
        self._ids = ids[order]
        twice = self._ids[1:] == self._ids[:-1]
        if twice.any():
            row = int(order[int(np.argmax(twice)) + 1])
            raise _bad(where, row, f"id {ids[row]} a second time", "distinct ones")
        # A variable cell is one cell, whatever its bytes.
        self._counts = np.where(fixed, chunks["count"], np.uint64(1))[order].astype(np.uint64)
        numbers: dict[CellLayout, int] = {}
        of_segment = [numbers.setdefault(layout, len(numbers)) for layout in layouts] or [0]
        self._layouts = np.array(of_segment, np.int64)[at][order]

    @property
    def ids(self) -> NDArray[np.uint64]:
        """All chunk ids, ascending."""
        return self._ids

    def check_pieces(
        self, pieces: NDArray[Any], of_column: NDArray[np.int64], where: str
    ) -> None:
        """Checks the pieces of one table's trajectories.

        Args:
            pieces: fields chunk, offset and length, shape (P,).
            of_column: the row of the column that each piece belongs to, ascending.
            where: the pieces' file, for messages.

        Raises:
            CheckpointCorruptError: naming the row: no such chunk, no cells, cells
                outside the chunk, or other cells than the column's first piece has.
        """
        if not len(pieces):
            return
        if not len(self._ids):
            raise _bad(where, 0, "there are no chunks", "the chunk of this piece")
        place = np.searchsorted(self._ids, pieces["chunk"])
        place[place == len(self._ids)] = 0
        end = pieces["offset"].astype(np.uint64) + pieces["length"]
        layout = self._layouts[place]
        first = np.searchsorted(of_column, of_column)  # the column's first piece
        for wrong, name, wanted in (
            (self._ids[place] != pieces["chunk"], "chunk", "a chunk of the checkpoint"),
            (pieces["length"] == 0, "length", "at least 1"),
            (end > self._counts[place], "length", "cells inside its chunk"),
            (layout != layout[first], "chunk", "cells like those of the column's first piece"),
        ):
            if wrong.any():
                row = int(np.argmax(wrong))
                raise _bad(where, row, f"{name} {pieces[name][row]}", wanted)


def _cover(
    chunks: NDArray[Any], segment: NDArray[np.int64], counts: Sequence[int], where: str
) -> list[int]:
    """Checks that chunks cover the segments; returns each segment's first row, and the end."""
    backward = np.flatnonzero(segment[1:] < segment[:-1])
    if len(backward):
        row = int(backward[0]) + 1
        raise _bad(where, row, f"segment {segment[row]}", "chunks in the order of the segments")
    bounds = np.searchsorted(segment, np.arange(len(counts) + 1))
    # Each count is below 2**53; where their sum is not exact it is far above any file's.
    ends = np.cumsum(chunks["count"].astype(np.float64))
    before = np.append(0.0, ends)
    for number, count in enumerate(counts):
        low, high = int(bounds[number]), int(bounds[number + 1])
        starts = before[low:high] - before[low]
        wrong = chunks["offset"][low:high].astype(np.float64) != starts
        if wrong.any():
            row = int(np.argmax(wrong))
            raise _bad(
                where,
                low + row,
                f"offset {chunks['offset'][low + row]}",
                f"{starts[row]:.0f}: chunks cover a segment without gap or overlap",
            )
        if before[high] - before[low] != count or low == high:
            found = f"segment {number} ends at {before[high] - before[low]:.0f}"
            raise _bad(where, max(high - 1, 0), found, f"{count}, and at least one chunk")
    return [int(bound) for bound in bounds]


def _bad(where: str, row: int, found: str, wanted: str) -> CheckpointCorruptError:
    return CheckpointCorruptError(f"{where!r}, row {row}: {found}, expected {wanted}.")
