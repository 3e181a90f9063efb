"""The writer under Reverb's TrajectoryWriter: cells in, items out.

`TrajectoryWriter` has the methods of Reverb's own, with lists of cell references.
Beside them stand a few that the facade uses where the writer is ours: a whole step
in one call, and items made from ranges of cell numbers, with no Python per cell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from reverie import _core
from reverie.errors import InvalidArgumentError, StepMismatchError, WaitTimeoutError
from reverie.reverb.engine.server import Server
from reverie.reverb.engine.writing.plans import Plan, joined, priority_error
from reverie.reverb.engine.writing.references import (
    AutoTunedChunkerOptions,
    CellSlice,
    ChunkerOptions,
    ConstantChunkerOptions,
    WeakCellRef,
    keep_of,
)
from reverie.reverb.errors import ClosedWriterError
from reverie.runtime.checks import as_float, as_int, as_timeout
from reverie.runtime.waiting import wait_until
from reverie.tables import cells, signature
from reverie.tables.cells import CellSpec
from reverie.tables.table import Table
from reverie.tables.text_cells import unpack_texts

__all__ = [
    "AutoTunedChunkerOptions",
    "CellSlice",
    "ChunkerOptions",
    "ConstantChunkerOptions",
    "TrajectoryWriter",
    "WeakCellRef",
]

_MAX_PLANS = 1024  # shapes of items remembered; programs have a handful
_SCALARS = (float, int, bool, str, bytes)
Check: TypeAlias = Callable[[str, Any, Sequence[CellSpec]], None]


class _Column:
    """One column once its first cell is known."""

    __slots__ = ("core", "spec")

    def __init__(self, core: int, spec: CellSpec) -> None:
        self.core = core  # index among the core's columns
        self.spec = spec


class TrajectoryWriter:
    """A stream of steps into a server's tables. For one thread at a time.

    The methods in capitals are Reverb's own. Columns are numbered by their position
    in the lists that Append gets; the first cell of each decides its dtype and shape.

    Args:
        server: where the tables are.
        options: of columns that ConfigureChunker does not speak of.
        validate_items: whether items are checked against their table's signature.

    Raises:
        InvalidArgumentError: `num_keep_alive_refs` < 1.
        UnreachableServerError, ForkedProcessError: the server does not serve.
    """

    def __init__(self, server: Server, options: ChunkerOptions, validate_items: bool) -> None:
        self.max_num_keep_alive_refs = keep_of(options)
        server.check_open()
        self.episode_steps = 0
        self._server = server
        self._host = server.host
        self._core = server.store.create_trajectory_writer()
        self._host.watch(self)
        self._check: Check | None = signature.check_trajectory if validate_items else None
        self._validate = validate_items
        self._default_keep = self.max_num_keep_alive_refs
        self._keeps: dict[int, int] = {}
        self._columns: list[_Column | None] = []
        self._num_core = 0  # columns that the core knows
        self._uniform = False  # all columns known to the core, in the same order
        self._weak: set[int] = set()  # columns whose leaves want converting
        self._open: set[int] | None = None  # columns that the open step has already
        self._closed = False
        self._plans: dict[Any, Plan] = {}

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
        if not self._uniform or self._open is not None or not self._host.is_open:
            return False
        for leaf in leaves:
            if leaf is None:
                return False
        if len(leaves) != self._num_core:
            return False
        for i in self._weak:
            leaf = leaves[i]
            if type(leaf) in _SCALARS:
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
        row: list[Any] = [None] * self._num_core
        numbers: list[int | None] = [None] * len(data)
        for i, leaf in enumerate(data):
            if leaf is None:
                continue
            known = self._columns[i] if i < len(self._columns) else None
            if known is None or i in opened:
                return None
            if i in self._weak and type(leaf) in _SCALARS:
                try:
                    leaf = cells.cell_of(leaf)[0]
                except TypeError:
                    return None
            row[known.core] = leaf
            numbers[i] = self._core.next_number(known.core)
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
                raise TypeError(
                    f"Append(): incompatible leaf for column {i}. It is {error!s} Nothing was "
                    "stored."
                ) from None
            self._check_leaf(i, spec)
            if type(leaf) in _SCALARS or spec.is_text:
                self._weak.add(i)
            found.append((i, cell, spec))
        for i, _, spec in found:
            self._declare(i, spec)
        self._columns.extend([None] * (len(data) - len(self._columns)))
        row: list[Any] = [None] * self._num_core
        for i, cell, _ in found:
            row[self._core_index(i)] = cell
        try:
            wrong = self._core.append(row)
        except _core.Closed:
            raise self._closed_error() from None
        if wrong >= 0:  # not contiguous, or of a subclass
            row = [_plain(cell) for cell in row]
            wrong = self._core.append(row)
        if wrong >= 0:
            raise StepMismatchError(f"Column {wrong} of the core refused a leaf of its dtype.")
        self._uniform = all(c is not None and c.core == i for i, c in enumerate(self._columns))
        numbers: list[int | None] = [None] * len(data)
        for i, _, _ in found:
            numbers[i] = self._core.next_number(self._core_index(i)) - 1
        return numbers

    def ConfigureChunker(self, column: int, options: ChunkerOptions) -> None:
        """Sets how many of a column's latest cells new items may refer to."""
        keep = keep_of(options)
        self._keeps[column] = keep
        self.max_num_keep_alive_refs = max(self._default_keep, *self._keeps.values())
        if column < len(self._columns) and (known := self._columns[column]) is not None:
            self._core.set_keep(known.core, keep)

    # Cells.

    def next_number(self, column: int) -> int:
        """The number that the next cell of a column will have."""
        known = self._columns[column] if column < len(self._columns) else None
        return 0 if known is None else self._core.next_number(known.core)

    def keeps(self, column: int, number: int) -> bool:
        """Whether new items can refer to a cell."""
        return number >= self._core.first_kept(self._core_index(column))

    def spec(self, column: int) -> CellSpec:
        """What the cells of a column are."""
        known = self._columns[column]
        assert known is not None
        return known.spec

    def read(self, column: int, number: int) -> NDArray[Any]:
        """A copy of a cell.

        Raises:
            RuntimeError: it has expired.
        """
        try:
            cell = self._core.read(self._core_index(column), number)
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

    # Items.

    def CreateItem(
        self,
        table: str,
        priority: float,
        refs_per_column: Sequence[Sequence[Any]],
        squeeze_per_column: Sequence[bool],
    ) -> None:
        """Makes an item of the cells that the references name; see `create_item`."""
        columns = []
        for refs, squeeze in zip(refs_per_column, squeeze_per_column, strict=True):
            column = CellSlice()
            column.writer, column.column, column.numbers = None, 0, ()
            column.refs, column.is_squeezed = tuple(refs), bool(squeeze)
            columns.append(column)
        self.create_item(table, priority, columns)

    def create_item(self, table: str, priority: float, trajectory: Sequence[CellSlice]) -> None:
        """Makes an item whose columns are these cells. Never waits.

        Where the table's limiter forbids it now, the item goes in by itself as soon
        as samples or deletions permit.

        Raises:
            InvalidArgumentError: no column, an empty one, one of several dtypes or
                shapes; expired cells or another writer's; a priority that is NaN, or
                negative where the table draws by priority; the table is unknown or its
                signature another (only with `validate_items`).
            UnknownTableError: the table is unknown (without `validate_items`).
            RuntimeError: closed, or the server was stopped.
        """
        columns: list[int] = []
        starts: list[int] = []
        lengths: list[int] = []
        runs: list[int] = []
        squeezed: list[bool] = []
        for column in trajectory:
            numbers = column.numbers
            if column.writer is self and type(numbers) is range and numbers.step == 1:
                columns.append(column.column)
                starts.append(numbers.start)
                lengths.append(len(numbers))
                runs.append(1 if numbers else 0)
                if not numbers:
                    del columns[-1], starts[-1], lengths[-1]
            else:
                before = len(columns)
                for index, number in self._cells_of(column, len(runs)):
                    if (
                        len(columns) > before
                        and columns[-1] == index
                        and starts[-1] + lengths[-1] == number
                    ):
                        lengths[-1] += 1
                    else:
                        columns.append(index)
                        starts.append(number)
                        lengths.append(1)
                runs.append(len(columns) - before)
            squeezed.append(column.is_squeezed)
        self.create_runs(table, priority, columns, starts, lengths, runs, squeezed, self._check)

    def create_runs(
        self,
        table: str,
        priority: float,
        columns: Sequence[int],
        starts: Sequence[int],
        lengths: Sequence[int],
        runs: Sequence[int],
        squeezed: Sequence[bool],
        check: Check | None,
    ) -> None:
        """As `create_item`, for runs of consecutive cells.

        Args:
            table: its name.
            priority: of the item.
            columns: of each run.
            starts: number of each run's first cell.
            lengths: cells of each run.
            runs: how many runs each column of the item has.
            squeezed: whether each is without a time axis.
            check: what compares the item with the table's signature, or None.
        """
        key = (table, tuple(columns), tuple(lengths), tuple(runs), tuple(squeezed))
        plan = self._plans.get(key)
        if plan is None or not self._host.is_open or self._closed:
            plan = self._plan(key, check)
        if type(priority) is not float:
            priority = as_float("priority", priority)
        if not plan.lowest <= priority <= plan.highest:
            raise priority_error(priority, table)
        try:
            self._core.create_item(
                plan.table,
                priority,
                plan.columns,
                np.array(starts, np.uint64),
                plan.lengths,
                plan.runs,
                plan.squeezed,
            )
        except ValueError:
            raise self._cells_error(columns, starts, lengths, runs) from None
        except _core.Closed:
            raise self._closed_error() from None

    @property
    def core(self) -> _core.TrajectoryWriter:
        """The core's writer; not to be touched in a forked child."""
        return self._core

    @property
    def pending(self) -> int:
        """Items that wait for their table's limiter."""
        return self._core.pending

    def Flush(self, ignore_last_num_items: int, timeout_ms: int | None = None) -> None:
        """Waits until at most so many items wait for their table.

        Args:
            ignore_last_num_items: so many.
            timeout_ms: None or a negative number waits for ever.

        Raises:
            RuntimeError: "Timeout exceeded", with the numbers; closed, or stopped.
            EndlessWaitError: no timeout, and no other thread that could end the wait.
        """
        self._check_open()
        self.wait_pending(ignore_last_num_items, timeout_ms)

    def EndEpisode(self, clear_buffers: bool, timeout_ms: int | None = None) -> None:
        """Waits until no item waits; then begins a new episode. Errors as Flush's.

        After a timeout the episode goes on.
        """
        self._check_open()
        self.wait_pending(0, timeout_ms)
        self.begin_episode(bool(clear_buffers))

    def begin_episode(self, clear: bool) -> None:
        """Begins a new episode without a wait; `clear`: all cells expire."""
        self._core.end_episode(clear)
        self._open = None
        self.episode_steps = 0

    def Close(self) -> None:
        """Refuses later use; items that wait go on waiting. Idempotent."""
        if not self._closed:
            self._closed = True
            self._uniform = False
            if self._host.is_open:  # else there is nothing to free, or it must not be touched
                self._core.close()

    def wait_pending(self, at_most: int, timeout_ms: int | None) -> None:
        """Waits until at most so many items wait; errors as Flush's."""
        timeout = as_timeout("timeout_ms", timeout_ms, 0.001)
        at_most = as_int("block_until_num_items", at_most)
        self._host.check_process()
        core = self._core
        if core.pending <= at_most:
            return
        try:
            wait_until(
                lambda slice_s: core.wait_pending(at_most, slice_s),
                timeout=timeout,
                what=lambda: (
                    f"for {core.pending} items of a writer to be inserted, of which "
                    f"{at_most} may wait"
                ),
                way_out=(
                    "nobody could sample from the full table or delete from it, which its "
                    "rate limiter waits for. Sample from another thread, write less, or pass "
                    "timeout_ms."
                ),
            )
        except WaitTimeoutError:
            raise RuntimeError(
                f"Timeout exceeded with {core.pending} items waiting for the rate limiter of "
                "their table. They stay in the queue and go in as soon as samples or "
                "deletions permit."
            ) from None
        except _core.Closed:
            raise self._closed_error() from None
        self._host.check_open()  # a store that closes drops what waits

    def __repr__(self) -> str:
        """`TrajectoryWriter(6 columns, 12 steps in this episode)`."""
        state = ", closed" if self._closed else ""
        return (
            f"TrajectoryWriter({len(self._columns)} columns, {self.episode_steps} steps in "
            f"this episode{state})"
        )

    # Inside.

    def _refs(self, numbers: list[int | None]) -> list[WeakCellRef | None]:
        return [
            None if number is None else WeakCellRef(self, i, number)
            for i, number in enumerate(numbers)
        ]

    def _core_index(self, column: int) -> int:
        known = self._columns[column]
        assert known is not None
        return known.core

    def _keep_of(self, column: int) -> int:
        return self._keeps.get(column, self._default_keep)

    def _check_leaf(self, column: int, found: CellSpec) -> None:
        known = self._columns[column] if column < len(self._columns) else None
        if known is None or known.spec == found:
            return
        wanted = known.spec
        if found.dtype != wanted.dtype:
            raise StepMismatchError(
                f"Tensor of wrong dtype provided for column {column}. Got "
                f"{cells.dtype_name(found.dtype)} but expected "
                f"{cells.dtype_name(wanted.dtype)}. A column keeps the dtype of its first "
                "value: convert this one. Nothing was stored."
            )
        raise StepMismatchError(
            f"Tensor of incompatible shape provided for column {column}. Got "
            f"{cells.shape_name(found.shape)} which is incompatible with "
            f"{cells.shape_name(wanted.shape)}. A column keeps the shape of its first value. "
            "Nothing was stored."
        )

    def _declare(self, column: int, spec: CellSpec) -> None:
        self._columns.extend([None] * (column + 1 - len(self._columns)))
        if self._columns[column] is None:
            index = self._core.add_column(spec.layout, self._keep_of(column))
            self._columns[column] = _Column(index, spec)
            self._num_core += 1

    def _cells_of(self, column: CellSlice, position: int) -> list[tuple[int, int]]:
        if column.writer is self:
            return [(column.column, number) for number in column.numbers]
        refs: Sequence[Any] = column.refs
        if column.writer is not None:
            refs = [WeakCellRef(column.writer, column.column, n) for n in column.numbers]
        for ref in refs:
            if not isinstance(ref, WeakCellRef):
                raise TypeError(
                    f"Error in column {position}: found a reference of type "
                    f"{type(ref).__name__}, wanted a WeakCellRef of this writer's history."
                )
            if ref.writer is not self:
                raise InvalidArgumentError(
                    f"Error in column {position}: Column contains a reference to another "
                    "writer's history. An item can only hold what its own writer appended."
                )
        return [(ref.column, ref.number) for ref in refs]

    def _plan(self, key: Any, check: Check | None) -> Plan:
        self._check_open()
        name, columns, lengths, runs, squeezed = key
        if not runs:
            raise InvalidArgumentError("trajectory must not be empty.")
        specs = []
        at = 0
        for i, count in enumerate(runs):
            own = [self.spec(column) for column in columns[at : at + count]]
            specs.append(joined(i, own, sum(lengths[at : at + count]), squeezed[i]))
            at += count
        table = self._table(name)
        if check is not None and table.signature is not None:
            check(name, table.signature, specs)
        indices = [self._core_index(column) for column in columns]
        plan = Plan(table, indices, lengths=lengths, runs=runs, squeezed=squeezed)
        if len(self._plans) >= _MAX_PLANS:
            self._plans.clear()
        self._plans[key] = plan
        return plan

    def _table(self, name: str) -> Table:
        if self._validate and name not in self._server.tables:
            raise InvalidArgumentError(
                f"Unable to create item in table '{name}' since the table could not be found. "
                f"The server has: {', '.join(map(repr, self._server.tables)):.200}."
            )
        return self._server.table(name)

    def _cells_error(
        self,
        columns: Sequence[int],
        starts: Sequence[int],
        lengths: Sequence[int],
        runs: Sequence[int],
    ) -> Exception:
        if self._closed:
            return self._closed_error()
        run = 0
        for position, count in enumerate(runs):
            for _ in range(count):
                column, start = columns[run], starts[run]
                if not self.keeps(column, start):
                    first = self._core.first_kept(self._core_index(column))
                    return InvalidArgumentError(
                        f"Error in column {position}: Column contains expired CellRef. It "
                        f"asks for cells {start} to {start + lengths[run] - 1} of column "
                        f"{column}, of which {first} and later are kept: the latest "
                        f"{self._keep_of(column)} of an episode. See num_keep_alive_refs and "
                        "configure()."
                    )
                run += 1
        return InvalidArgumentError("The trajectory refers to cells that do not exist.")

    def _check_open(self) -> None:
        if self._closed:
            raise self._closed_error()
        self._host.check_open()

    def _closed_error(self) -> Exception:
        if self._closed:
            return ClosedWriterError(
                "TrajectoryWriter::Close has been called. Make a new one with "
                "client.trajectory_writer()."
            )
        try:
            self._host.check_open()
        except Exception as error:  # which one is what is wanted
            return error
        return ClosedWriterError("The store behind this writer was closed.")


def _plain(cell: Any) -> Any:
    return cell if cell is None or isinstance(cell, bytes) else np.array(cell, order="C")
