"""The engine's writer of trajectories: steps in, items over any of their cells out.

`TrajectoryWriter` has the methods of Reverb's own. Beside them stand a few without
capitals that the facade and the other writers use, with no Python per cell: a whole
step in one call, and items made from ranges of cell numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np

from reverie import _core
from reverie.errors import InvalidArgumentError, WaitTimeoutError
from reverie.reverb.engine.serving import Serving
from reverie.reverb.engine.writing.cell_refs import TrajectoryColumn, WeakCellRef
from reverie.reverb.engine.writing.cell_writer import CellWriter
from reverie.reverb.engine.writing.chunker_options import ChunkerOptions
from reverie.reverb.engine.writing.item_plans import (
    ItemPlan,
    joined,
    priority_error,
    priority_limits,
)
from reverie.runtime.checks import as_float, as_int, as_timeout
from reverie.runtime.waiting import wait_until
from reverie.tables import signature
from reverie.tables.cells import CellSpec
from reverie.tables.table import Table

_MAX_PLANS = 1024  # shapes of items remembered; programs have a handful
Check: TypeAlias = Callable[[str, Any, Sequence[CellSpec]], None]


class TrajectoryWriter(CellWriter):
    """A stream of steps into a server's tables, and items of them. For one thread at a time.

    Args:
        server: where the tables are.
        options: of columns that ConfigureChunker does not speak of.
        validate_items: whether items are checked against their table's signature.
        checks: names the checks that `create_runs` is given instead.

    Raises:
        InvalidArgumentError: `num_keep_alive_refs` < 1.
        UnreachableServerError, ForkedProcessError: the server does not serve.
    """

    __slots__ = ("_check",)

    def __init__(
        self,
        server: Serving,
        options: ChunkerOptions,
        validate_items: bool,
        *,
        checks: str = "none",
    ) -> None:
        super().__init__(server, options, "items" if validate_items else checks)
        self._check: Check | None = signature.check_trajectory if validate_items else None

    def CreateItem(
        self,
        table: str,
        priority: float,
        refs_per_column: Sequence[Iterable[Any]],
        squeeze_per_column: Sequence[bool],
    ) -> None:
        """Makes an item of cells. Never waits.

        Where the table's limiter forbids it now, the item goes in by itself as soon
        as samples or deletions permit.

        Args:
            table: its name.
            priority: of the item.
            refs_per_column: for each column of the item the references of its cells; a
                `TrajectoryColumn` is that, too.
            squeeze_per_column: whether each is without a time axis.

        Raises:
            InvalidArgumentError: no column, an empty one, one of several dtypes or
                shapes; expired cells or another writer's; a priority that is NaN, or
                negative where the table draws by priority; the table is unknown or its
                signature another (only with `validate_items`).
            TypeError: a reference is none.
            UnknownTableError: the table is unknown (without `validate_items`).
            RuntimeError: closed, or the server was stopped.
        """
        columns: list[int] = []
        starts: list[int] = []
        lengths: list[int] = []
        runs: list[int] = []
        for refs, _ in zip(refs_per_column, squeeze_per_column, strict=True):
            if type(refs) is TrajectoryColumn and refs.writer is self:
                numbers = refs.numbers
                if numbers and type(numbers) is range and numbers.step == 1:
                    columns.append(refs.column)
                    starts.append(numbers.start)
                    lengths.append(len(numbers))
                    runs.append(1)
                    continue
            before = len(columns)
            for index, number in self._cells_of(refs, len(runs)):
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
        self.create_runs(
            table, priority, columns, starts, lengths, runs, squeeze_per_column, self._check
        )

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
        """As CreateItem, for runs of consecutive cells.

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
        plan = self._columns.plans.get(key)
        if plan is None or not self._store.is_open or self._closed:
            plan = self._plan(key, check)
        if type(priority) is not float:
            priority = as_float("priority", priority)
        lowest, highest = plan.limits
        if not lowest <= priority <= highest:
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
        self._core.end_episode(bool(clear_buffers))
        self._open = None
        self.episode_steps = 0

    def wait_pending(self, at_most: int, timeout_ms: int | None) -> None:
        """Waits until at most so many items wait; errors as Flush's."""
        timeout = as_timeout("timeout_ms", timeout_ms, 0.001)
        at_most = as_int("block_until_num_items", at_most)
        self._store.check_process()
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
                progress=self._store.progress,
            )
        except WaitTimeoutError:
            raise RuntimeError(
                f"Timeout exceeded with {core.pending} items waiting for the rate limiter of "
                "their table. They stay in the queue and go in as soon as samples or "
                "deletions permit."
            ) from None
        except _core.Closed:
            raise self._closed_error() from None
        self._store.check_open()  # a store that closes drops what waits

    def __repr__(self) -> str:
        """`TrajectoryWriter(6 columns, 12 steps in this episode)`."""
        state = ", closed" if self._closed else ""
        return (
            f"TrajectoryWriter({len(self._columns)} columns, {self.episode_steps} steps in "
            f"this episode{state})"
        )

    # Inside.

    def _cells_of(self, refs: Iterable[Any], position: int) -> list[tuple[int, int]]:
        if isinstance(refs, TrajectoryColumn) and refs.writer is self:
            return [(refs.column, number) for number in refs.numbers]
        found = []
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
            found.append((ref.column, ref.number))
        return found

    def _plan(self, key: Any, check: Check | None) -> ItemPlan:
        self._check_open()
        name, columns, lengths, runs, squeezed = key
        if not runs:
            raise InvalidArgumentError("trajectory must not be empty.")
        specs = []
        at = 0
        for i, count in enumerate(runs):
            own = [self._columns.spec_of[column] for column in columns[at : at + count]]
            specs.append(joined(i, own, sum(lengths[at : at + count]), squeezed[i]))
            at += count
        table = self._table(name)
        if check is not None and table.signature is not None:
            check(name, table.signature, specs)
        indices = [self._columns.core_of[column] for column in columns]
        plan = ItemPlan(
            table.core,
            priority_limits(table),
            columns=np.array(indices, np.uint32),
            lengths=np.array(lengths, np.uint32),
            runs=np.array(runs, np.uint32),
            squeezed=np.array(squeezed, np.uint8),
        )
        plans = self._columns.plans
        if len(plans) >= _MAX_PLANS:
            plans.clear()
        plans[key] = plan
        return plan

    def _table(self, name: str) -> Table:
        if self._check is not None and name not in self._server.tables:
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
                    first = self._core.first_kept(self._columns.core_of[column])
                    return InvalidArgumentError(
                        f"Error in column {position}: Column contains expired CellRef. It "
                        f"asks for cells {start} to {start + lengths[run] - 1} of column "
                        f"{column}, of which {first} and later are kept: the latest "
                        f"{self._keep_of(column)} of an episode. See num_keep_alive_refs and "
                        "configure()."
                    )
                run += 1
        return InvalidArgumentError("The trajectory refers to cells that do not exist.")
