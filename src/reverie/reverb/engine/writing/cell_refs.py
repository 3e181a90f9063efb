"""References to a writer's cells: one by one, and many as a column of an item."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reverie.tables import cells
from reverie.tables.cells import CellSpec


class Cells(Protocol):
    """What references ask their writer, a `CellWriter`."""

    def keeps(self, column: int, number: int) -> bool:
        """Whether new items can refer to a cell."""

    def spec(self, column: int) -> CellSpec:
        """What the cells of a column are."""

    def read(self, column: int, number: int) -> NDArray[Any]:
        """A copy of a cell; RuntimeError if it has expired."""

    def expired_error(self, column: int, number: int) -> RuntimeError:
        """That a cell has expired, and why."""


class WeakCellRef:
    """A cell of a writer, for as long as the writer keeps it."""

    __slots__ = ("column", "number", "writer")

    def __init__(self, writer: Cells, column: int, number: int) -> None:
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


class TrajectoryColumn:
    """One column of an item: references to cells, oldest first or in any order.

    Args:
        data_references: of cells of one dtype and shape.
        squeeze: whether the column is its one cell, without a time axis.
        path: where it stands, for messages.

    Raises:
        ValueError: a reference is None, or `squeeze` and there is not exactly one.

    Attributes:
        writer: whose cells they are, by their `numbers`; None where there are `refs`.
        column: the writer's.
        numbers: of the cells.
        refs: references of any writer, or of a test double.
        is_squeezed: as `squeeze`.
    """

    __slots__ = ("__weakref__", "column", "is_squeezed", "numbers", "refs", "writer")

    def __init__(
        self,
        data_references: Sequence[Any],
        *,
        squeeze: bool = False,
        path: tuple[Any, ...] | None = None,
    ) -> None:
        refs = tuple(data_references)
        if squeeze and len(refs) != 1:
            raise ValueError(
                "Columns must contain exactly one data reference when squeeze set, got "
                f"{len(refs)}"
            )
        if any(ref is None for ref in refs):
            raise ValueError(
                "TrajectoryColumns cannot contain any None data references: TrajectoryColumn "
                f"at path {path} got {refs!r:.200}."
            )
        self.writer: Cells | None = None
        self.column = 0
        self.numbers: Sequence[int] = ()
        self.refs: tuple[Any, ...] = refs
        self.is_squeezed = squeeze

    def __len__(self) -> int:
        return len(self.refs) if self.writer is None else len(self.numbers)

    def __iter__(self) -> Iterator[Any]:
        writer = self.writer
        if writer is None:
            return iter(self.refs)
        return (WeakCellRef(writer, self.column, number) for number in self.numbers)

    def __getitem__(self, key: Any) -> TrajectoryColumn:
        """A part of it: an int squeezes; a slice or a list of ints does not.

        Raises:
            TypeError: the key is none of these.
            IndexError: an index is out of range.
        """
        refs = tuple(self)
        if isinstance(key, int):
            return TrajectoryColumn([refs[key]], squeeze=True)
        if isinstance(key, slice):
            return TrajectoryColumn(refs[key])
        if isinstance(key, list):
            return TrajectoryColumn([refs[i] for i in key])
        raise TypeError(
            f"TrajectoryColumn indices must be integers, slices or lists, not {type(key)}"
        )

    @property
    def shape(self) -> tuple[int | None, ...]:
        """(T, *shape of a cell), or that shape if squeezed; RuntimeError if expired."""
        cell = tuple(self._first().shape)
        return cell if self.is_squeezed else (len(self), *cell)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the cells, object for texts; RuntimeError if expired."""
        dtype: np.dtype[Any] = self._first().dtype
        return dtype

    def numpy(self) -> NDArray[Any]:
        """A copy of the cells: (T, *shape), or (*shape) if squeezed.

        Raises:
            RuntimeError: a cell has expired.
        """
        refs = tuple(self)
        if any(ref.expired for ref in refs):
            raise RuntimeError(
                "Cannot convert TrajectoryColumn with expired data references to numpy array. "
                "The writer keeps the latest num_keep_alive_refs values of an episode, until "
                "it is closed."
            )
        if self.is_squeezed:
            value: NDArray[Any] = refs[0].numpy()
            return value
        return cells.stack([np.asarray(ref.numpy()) for ref in refs])

    def __repr__(self) -> str:
        """`TrajectoryColumn(5 cells)`."""
        return f"TrajectoryColumn({len(self)} cells{', squeezed' * self.is_squeezed})"

    def _first(self) -> Any:
        for ref in self:
            return ref
        raise ValueError("An empty TrajectoryColumn has no dtype and no shape.")
