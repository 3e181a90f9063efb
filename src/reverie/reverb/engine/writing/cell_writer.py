"""A stream of steps into a store: each leaf is a cell of its column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie import _core
from reverie.errors import StepMismatchError
from reverie.reverb.engine.serving import Serving
from reverie.reverb.engine.writing.cell_refs import TrajectoryColumn, WeakCellRef
from reverie.reverb.engine.writing.chunker_options import ChunkerOptions, keep_of
from reverie.reverb.engine.writing.column_errors import column_error, leaf_error
from reverie.reverb.errors import ClosedWriterError
from reverie.tables import cells
from reverie.tables.cells import CellSpec
from reverie.tables.text_cells import unpack_texts

_TEXTS = (str, bytes)


class CellWriter:
    """The half of a `TrajectoryWriter` that takes steps; arguments and errors are there.

    Columns are numbered by their position in the lists that Append gets; the first cell
    of each decides its dtype and shape. Cells are numbered per column, from 0.
    """

    # A program may have thousands of writers: what is the same in all of them they share.
    __slots__ = (
        "__weakref__",
        "_closed",
        "_columns",
        "_core",
        "_default_keep",
        "_keeps",
        "_open",
        "_server",
        "_store",
        "_text",
        "_uniform",
        "episode_steps",
        "max_num_keep_alive_refs",
    )

    def __init__(self, server: Serving, options: ChunkerOptions, checks: str) -> None:
        self.max_num_keep_alive_refs = keep_of(options)
        server.check_open()
        self.episode_steps = 0
        self._server = server
        self._store = server.store
        self._core = self._store.core.create_trajectory_writer()
        self._store.watch(self)
        self._default_keep = self.max_num_keep_alive_refs
        self._keeps: dict[int, int] | None = None  # by column, where it is not the default
        self._columns = server.shared.columns(checks)  # those whose first cell came
        self._uniform = False  # open, and the core has the columns in the same order
        self._text: tuple[int, ...] = ()  # columns whose leaves want converting
        self._open: set[int] | None = None  # columns that the open step has already
        self._closed = False

    def abandon(self) -> _core.TrajectoryWriter:
        """In a forked child: the core's writer, which must not be touched there."""
        return self._core

    # Steps.

    def Append(self, data: Sequence[Any]) -> list[WeakCellRef | None]:
        """Ends the step with these leaves, None where a column has none.

        Raises:
            StepMismatchError: a dtype or shape is not the column's; nothing is stored.
            TypeError: a leaf cannot be stored; nothing is stored.
            RuntimeError: a column was given in this step before; closed; stopped.
        """
        return self._refs(self.append(data, partial=False))

    def AppendPartial(self, data: Sequence[Any]) -> list[WeakCellRef | None]:
        """As Append, and the step goes on."""
        return self._refs(self.append(data, partial=True))

    def append_whole(self, leaves: list[Any]) -> bool:
        """Stores a step in which every column has a leaf, if that is all it takes.

        The fast way: False, and nothing is stored, where `append` must have a look.
        May replace entries of `leaves`.

        Raises:
            RuntimeError: closed, or the server was stopped.
        """
        if not self._uniform or self._open is not None or not self._store.is_open:
            return False
        for leaf in leaves:
            if leaf is None:
                return False
        if len(leaves) != len(self._columns):
            return False
        for i in self._text:
            leaf = leaves[i]
            if type(leaf) in _TEXTS:
                try:
                    leaves[i] = cells.cell_of(leaf)[0]
                except TypeError:
                    return False
        try:
            if self._core.append(leaves) >= 0:
                return False
        except _core.Closed:
            raise self._closed_error() from None
        self.episode_steps += 1
        return True

    def append(self, data: Sequence[Any], *, partial: bool) -> list[int | None]:
        """As Append and AppendPartial; returns the new cells' numbers instead."""
        self._check_open()
        numbers = self._append_known(data)
        given = self._append_new(data) if numbers is None else numbers
        if partial:
            filled = {i for i, number in enumerate(given) if number is not None}
            self._open = filled | (self._open or set())
        else:
            self._open = None
            self.episode_steps += 1
        return given

    def _append_known(self, data: Sequence[Any]) -> list[int | None] | None:
        """Stores leaves that are as they should be; None, and nothing, where one is not."""
        opened = self._open or ()
        core_of = self._columns.core_of
        row: list[Any] = [None] * len(core_of)
        numbers: list[int | None] = [None] * len(data)
        for i, leaf in enumerate(data):
            if leaf is None:
                continue
            index = core_of.get(i)
            if index is None or i in opened:
                return None
            if i in self._text and type(leaf) in _TEXTS:
                try:
                    leaf = cells.cell_of(leaf)[0]
                except TypeError:
                    return None
            row[index] = leaf
            numbers[i] = self._core.next_number(index)
        try:
            return numbers if self._core.append(row) < 0 else None
        except _core.Closed:
            raise self._closed_error() from None

    def _append_new(self, data: Sequence[Any]) -> list[int | None]:
        """Stores leaves after a look at each, or says what is wrong with one."""
        opened = self._open or set()
        found: list[tuple[int, Any, CellSpec]] = []
        for i, leaf in enumerate(data):
            if leaf is None:
                continue
            if i in opened:
                raise RuntimeError(
                    "Append/AppendPartial called with data containing column that was present "
                    f"in previous AppendPartial call: column {i}. Nothing was stored."
                )
            try:
                cell, spec = cells.cell_of(leaf)
            except TypeError as error:
                raise leaf_error(i, error) from None
            self._check_leaf(i, spec)
            if spec.is_text and i not in self._text:
                self._text = (*self._text, i)
            found.append((i, cell, spec))
        self._add_columns(found)
        core_of = self._columns.core_of
        row: list[Any] = [None] * len(core_of)
        for i, cell, _ in found:
            row[core_of[i]] = cell
        try:
            wrong = self._core.append(row)
        except _core.Closed:
            raise self._closed_error() from None
        if wrong >= 0:  # not contiguous, or of a subclass
            row = [_plain(cell) for cell in row]
            wrong = self._core.append(row)
        if wrong >= 0:
            raise StepMismatchError(f"Column {wrong} of the core refused a leaf of its dtype.")
        self._uniform = self._columns.is_uniform
        numbers: list[int | None] = [None] * len(data)
        for i, _, _ in found:
            numbers[i] = self._core.next_number(core_of[i]) - 1
        return numbers

    def _add_columns(self, found: Sequence[tuple[int, Any, CellSpec]]) -> None:
        """Makes columns of those that are new."""
        added: list[tuple[int, CellSpec]] = []
        try:
            for i, _, spec in found:
                if i not in self._columns.core_of:
                    self._core.add_column(spec.layout, self._keep_of(i))
                    added.append((i, spec))
        finally:  # what the core has stays
            if added:
                self._columns = self._columns.grown(self._server.shared, added)

    def ConfigureChunker(self, column: int, options: ChunkerOptions) -> None:
        """Sets how many of a column's latest cells new items may refer to."""
        keep = keep_of(options)
        self._keeps = {**(self._keeps or {}), column: keep}
        self.max_num_keep_alive_refs = max(self._default_keep, *self._keeps.values())
        if column in self._columns.core_of:
            self._core.set_keep(self._columns.core_of[column], keep)

    # Cells.

    def next_number(self, column: int) -> int:
        """The number that the next cell of a column will have."""
        index = self._columns.core_of.get(column)
        return 0 if index is None else self._core.next_number(index)

    def ref(self, column: int, number: int) -> WeakCellRef:
        """A reference to a cell."""
        return WeakCellRef(self, column, number)

    def take(self, column: int, numbers: Sequence[int], squeeze: bool) -> TrajectoryColumn:
        """Cells as a column of an item. The caller sees to it that there are such."""
        taken = TrajectoryColumn.__new__(TrajectoryColumn)
        taken.writer = self
        taken.column = column
        taken.numbers = numbers
        taken.refs = ()
        taken.is_squeezed = squeeze
        return taken

    def keeps(self, column: int, number: int) -> bool:
        """Whether new items can refer to a cell."""
        return number >= self._core.first_kept(self._columns.core_of[column])

    def spec(self, column: int) -> CellSpec:
        """What the cells of a column are."""
        return self._columns.spec_of[column]

    def read(self, column: int, number: int) -> NDArray[Any]:
        """A copy of a cell.

        Raises:
            RuntimeError: it has expired.
        """
        try:
            cell = self._core.read(self._columns.core_of[column], number)
        except KeyError:
            raise self.expired_error(column, number) from None
        return unpack_texts(cell) if isinstance(cell, bytes) else np.asarray(cell)

    def expired_error(self, column: int, number: int) -> RuntimeError:
        """That a cell has expired, and why."""
        return RuntimeError(
            f"Cannot access data from expired WeakCellRef: cell {number} of column {column}. "
            f"The writer keeps the latest {self._keep_of(column)} of an episode; see "
            "num_keep_alive_refs and configure()."
        )

    def Close(self) -> None:
        """Refuses later use; items that wait go on waiting. Idempotent."""
        if not self._closed:
            self._closed = True
            self._uniform = False
            if self._store.is_open:  # else there is nothing to free, or it must not be touched
                self._core.close()

    # Inside.

    def _refs(self, numbers: list[int | None]) -> list[WeakCellRef | None]:
        return [
            None if number is None else WeakCellRef(self, i, number)
            for i, number in enumerate(numbers)
        ]

    def _keep_of(self, column: int) -> int:
        return (self._keeps or {}).get(column, self._default_keep)

    def _check_leaf(self, column: int, found: CellSpec) -> None:
        wanted = self._columns.spec_of.get(column, found)
        if wanted == found:
            return
        if found.dtype != wanted.dtype:
            raise column_error(
                StepMismatchError,
                "Tensor of wrong dtype provided",
                column,
                f". Got {cells.dtype_name(found.dtype)} but expected "
                f"{cells.dtype_name(wanted.dtype)}.",
                "A column keeps the dtype of its first value: convert this one. Nothing was "
                "stored.",
            )
        raise column_error(
            StepMismatchError,
            "Tensor of incompatible shape provided",
            column,
            f". Got {cells.shape_name(found.shape)} which is incompatible with "
            f"{cells.shape_name(wanted.shape)}.",
            "A column keeps the shape of its first value. Nothing was stored.",
        )

    def _check_open(self) -> None:
        if self._closed:
            raise self._closed_error()
        self._store.check_open()

    def _closed_error(self) -> Exception:
        if self._closed:
            return ClosedWriterError(
                "TrajectoryWriter::Close has been called. Make a new one with "
                "client.trajectory_writer()."
            )
        try:
            self._store.check_open()
        except Exception as error:  # which one is what is wanted
            return error
        return ClosedWriterError("The store behind this writer was closed.")


def _plain(cell: Any) -> Any:
    return cell if cell is None or isinstance(cell, bytes) else np.array(cell, order="C")
