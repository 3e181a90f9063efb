"""Options of a writer's columns, and references to its cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reverie.errors import InvalidArgumentError
from reverie.runtime.checks import as_int
from reverie.tables.cells import CellSpec

if TYPE_CHECKING:
    from reverie.reverb.engine.writing.writer import TrajectoryWriter


class ChunkerOptions:
    """Base of the settings of a column."""

    num_keep_alive_refs: int


@dataclass(frozen=True)
class AutoTunedChunkerOptions(ChunkerOptions):
    """Of a column whose chunks have the length that the writer thinks best.

    Attributes:
        num_keep_alive_refs: latest cells that new items may refer to.
        throughput_weight: without effect here.
    """

    num_keep_alive_refs: int
    throughput_weight: float = 1.0

    def __post_init__(self) -> None:
        """Raises TypeError for what is no integer."""
        as_int("num_keep_alive_refs", self.num_keep_alive_refs)


@dataclass(frozen=True)
class ConstantChunkerOptions(ChunkerOptions):
    """Of a column with chunks of one length.

    Attributes:
        max_chunk_length: without effect here: chunks are cut by size.
        num_keep_alive_refs: latest cells that new items may refer to.
    """

    max_chunk_length: int
    num_keep_alive_refs: int

    def __post_init__(self) -> None:
        """Raises TypeError for what is no integer."""
        as_int("max_chunk_length", self.max_chunk_length)
        as_int("num_keep_alive_refs", self.num_keep_alive_refs)


class CellSlice:
    """Cells of one column of a writer, by their numbers; or references one by one.

    Attributes:
        writer: whose they are; None where they are given as `refs`.
        column: the writer's.
        numbers: of the cells.
        refs: references of any writer, or of a test double.
        is_squeezed: whether the one cell stands without a time axis.
    """

    __slots__ = ("__weakref__", "column", "is_squeezed", "numbers", "refs", "writer")

    writer: TrajectoryWriter | None
    column: int
    numbers: Sequence[int]
    refs: tuple[Any, ...]
    is_squeezed: bool


class WeakCellRef:
    """A cell of a writer, for as long as the writer keeps it."""

    __slots__ = ("column", "number", "writer")

    def __init__(self, writer: TrajectoryWriter, column: int, number: int) -> None:
        self.writer = writer
        self.column = column
        self.number = number

    @property
    def expired(self) -> bool:
        """Whether the writer no longer keeps it. It may live on in items."""
        return not self.writer.keeps(self.column, self.number)

    @property
    def shape(self) -> list[int]:
        """Of the cell; RuntimeError if it has expired."""
        return list(self._spec.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the cell, object for texts; RuntimeError if it has expired."""
        return self._spec.dtype

    def numpy(self) -> NDArray[Any]:
        """A copy of the cell; RuntimeError if it has expired."""
        return self.writer.read(self.column, self.number)

    @property
    def _spec(self) -> CellSpec:
        if self.expired:
            raise self.writer.expired_error(self.column, self.number)
        return self.writer.spec(self.column)

    def __repr__(self) -> str:
        """`<WeakCellRef column 0, number 12>`."""
        state = ", expired" if self.expired else ""
        return f"<WeakCellRef column {self.column}, number {self.number}{state}>"


def keep_of(options: ChunkerOptions) -> int:
    """How many cells of a column stay.

    Raises:
        InvalidArgumentError: less than 1.
    """
    keep = as_int("num_keep_alive_refs", options.num_keep_alive_refs)
    if keep <= 0:
        raise InvalidArgumentError(f"num_keep_alive_refs must be > 0 but got {keep}.")
    return min(keep, 2**32 - 1)
