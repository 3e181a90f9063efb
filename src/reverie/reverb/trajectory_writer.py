"""The writer that most programs want: steps in, items over any of their parts out."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, NoReturn

from reverie.nests import structure
from reverie.nests.structure import Path
from reverie.reverb import errors
from reverie.reverb.engine.writing.cell_refs import TrajectoryColumn
from reverie.reverb.engine.writing.chunker_options import (
    AutoTunedChunkerOptions,
    ChunkerOptions,
    ConstantChunkerOptions,
)
from reverie.reverb.engine.writing.column_errors import named
from reverie.reverb.engine.writing.history import ColumnHistory, Steps
from reverie.reverb.engine.writing.item_writer import TrajectoryWriter as _Engine
from reverie.reverb.engine.writing.stand_in import StandIn
from reverie.reverb.engine.writing.step_nests import StepNest
from reverie.runtime.checks import as_int
from reverie.runtime.handle import Handle

__all__ = ["TrajectoryColumn", "TrajectoryWriter"]

_ColumnHistory = ColumnHistory  # by which name Reverb's programs know it


class ItemWriter(Handle):
    """What writers share whose items wait in a queue until their table has room."""

    __slots__ = ()
    _writer: Any

    def flush(self, block_until_num_items: int = 0, timeout_ms: int | None = None) -> None:
        """Waits until all but so many items are in their tables. Open to Ctrl-C.

        Args:
            block_until_num_items: so many may still wait.
            timeout_ms: None waits for ever.

        Raises:
            ValueError: `block_until_num_items` < 0.
            DeadlineExceededError: the timeout passed. The items go in later.
            EndlessWaitError: a wait without timeout that nobody could end.
            RuntimeError: closed, or the server was stopped.
        """
        if block_until_num_items < 0:
            raise ValueError(f"block_until_num_items must be >= 0, got {block_until_num_items}")
        try:
            self._writer.Flush(block_until_num_items, -1 if timeout_ms is None else timeout_ms)
        except RuntimeError as error:
            _reraise("Flush", error, timeout_ms)

    def end_episode(self, clear_buffers: bool = True, timeout_ms: int | None = None) -> None:
        """Waits for all items, as `flush` does; later steps are of another episode.

        Args:
            clear_buffers: whether no item may span the episodes.
            timeout_ms: None waits for ever.

        Raises:
            DeadlineExceededError: the timeout passed; the episode goes on.
            EndlessWaitError: a wait without timeout that nobody could end.
            RuntimeError: closed, or the server was stopped.
        """
        try:
            self._writer.EndEpisode(clear_buffers, timeout_ms)
        except RuntimeError as error:
            _reraise("End episode", error, timeout_ms)


class TrajectoryWriter(ItemWriter):
    """Writes items that may refer to any cells of a stream's latest steps.

    Made by `Client.trajectory_writer`. For one thread at a time. A step is any nest;
    each leaf path is a column. The nest may grow: fields that were not there before
    are new columns. An item is a nest of slices of `history`:

        with client.trajectory_writer(num_keep_alive_refs=5) as writer:
            for step in episode:
                writer.append({"observation": step.observation, "reward": step.reward})
                if writer.episode_steps >= 5:
                    writer.create_item("table", 1.0, {
                        "observations": writer.history["observation"][-5:],
                        "last_reward": writer.history["reward"][-1],
                    })
            writer.end_episode()

    As a context manager it flushes on the way out, except after a ReverbError.
    """

    _WAY_OUT = "Make each its own with client.trajectory_writer()."
    # A program may have thousands of them. With a dict, made where a program wants one.
    __slots__ = (
        "__dict__",
        "__weakref__",
        "_columns",
        "_flatten",
        "_flatten_item",
        "_last_step_is_open",
        "_nest",
        "_pending_options",
        "_steps",
        "_writer",
    )

    def __init__(self, internal_writer: Any) -> None:
        """Takes a pybind.TrajectoryWriter, or what has its methods."""
        # By its class: a mock with a spec passes for an instance of ours.
        ours = issubclass(type(internal_writer), _Engine)
        self._writer: _Engine | StandIn = internal_writer if ours else StandIn(internal_writer)
        self._nest: StepNest | None = None  # None where no step came yet
        self._columns: list[ColumnHistory] = []
        self._pending_options: dict[Path, ChunkerOptions] | None = None
        self._last_step_is_open = False
        self._steps = Steps()
        self._flatten: Callable[[Any], list[Any]] | None = None  # the nest's
        self._flatten_item: Callable[[Any], list[Any]] | None = None

    def __enter__(self) -> TrajectoryWriter:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if exc_type is None or not issubclass(exc_type, errors.ReverbError):
            self.flush()

    def __del__(self) -> None:
        # Absent where __init__ failed.
        writer = getattr(self, "_writer", None)
        if writer is not None:
            writer.Close()

    def __repr__(self) -> str:
        """`TrajectoryWriter(2 columns, 12 steps in this episode)`."""
        return (
            f"TrajectoryWriter({len(self._columns)} columns, {self._writer.episode_steps} "
            "steps in this episode)"
        )

    @property
    def history(self) -> Any:
        """The columns, in the nest of the steps; index one to get a column of an item.

        Indices are those of all steps since the episode began, whatever has been
        evicted: an int (squeezed, without a time axis), a slice, or a list of ints.

        Raises:
            RuntimeError: nothing was appended yet.
        """
        if not self._columns:
            raise RuntimeError(
                "history cannot be accessed before `append` is called at least once."
            )
        columns, nest = self._columns, self._nest
        assert nest is not None
        if not nest.in_order:
            columns = [columns[i] for i in nest.order]
        if nest.treespec is not None:
            return nest.treespec.unflatten(columns)
        return structure.unflatten_as(nest.structure, columns)

    @property
    def episode_steps(self) -> int:
        """Steps of this episode, a partial one not counted."""
        steps: int = self._writer.episode_steps
        return steps

    def configure(
        self, path: Path, *, num_keep_alive_refs: int, max_chunk_length: int | None
    ) -> None:
        """Sets options of one column, also before its first value comes.

        Args:
            path: of the leaf, such as `("observation", "position")`.
            num_keep_alive_refs: latest values that new items may refer to.
            max_chunk_length: checked, but without effect here: chunks are cut by size.

        Raises:
            ValueError: `num_keep_alive_refs` < 1, or `max_chunk_length` out of range.
            TypeError: the path is a str or no path, or a number is no integer.
        """
        if isinstance(path, str) or not isinstance(path, Iterable):
            raise TypeError(
                f"path: found {path!r:.200}, wanted a tuple of keys and indices, for example "
                f"('observation', 'position')."
            )
        num_keep_alive_refs = as_int("num_keep_alive_refs", num_keep_alive_refs)
        if num_keep_alive_refs < 1:
            raise ValueError(
                f"num_keep_alive_refs ({num_keep_alive_refs}) must be a positive integer"
            )
        if max_chunk_length is None:
            options: ChunkerOptions = AutoTunedChunkerOptions(num_keep_alive_refs, 1.0)
        elif 1 <= max_chunk_length <= num_keep_alive_refs:
            options = ConstantChunkerOptions(max_chunk_length, num_keep_alive_refs)
        else:
            raise ValueError(
                f"max_chunk_length ({max_chunk_length}) must be None or a positive integer <= "
                f"num_keep_alive_refs ({num_keep_alive_refs})"
            )
        path = tuple(path)
        column_of = {} if self._nest is None else self._nest.column_of
        if path in column_of:
            self._writer.ConfigureChunker(column_of[path], options)
            for column in self._columns:
                column.widen(self._writer.max_num_keep_alive_refs)
        else:
            self._pending_options = {**(self._pending_options or {}), path: options}

    def append(self, data: Any, *, partial_step: bool = False) -> None:
        """Appends the leaves of a step to their columns.

        Every value of a column has the dtype and shape of its first one. Python
        numbers become int64, float64 and bool; str and bytes become bytes. A leaf that
        is None, or left out, has no value in this step. About a microsecond.

        Args:
            data: the step, any nest.
            partial_step: the step goes on with the next call, which may give columns
                that this one left out.

        Raises:
            ValueError: a dtype or shape is not its column's; a column was given before
                in this step; a leaf is where earlier steps have a node, or the reverse.
                Names the path. Nothing is stored.
            TypeError: a leaf cannot be stored; nothing is stored.
            RuntimeError: closed, or the server was stopped.
        """
        try:
            self._append(data, partial_step)
        except Exception:
            raise
        except BaseException:  # Ctrl-C: a step may be stored that the history does not know
            for column in self._columns:
                column.realign()
            self._steps.gaps = sum(not column.is_dense for column in self._columns)
            raise

    def create_item(self, table: str, priority: float, trajectory: Any) -> None:
        """Makes an item of slices of `history`. Never waits; see `flush`.

        Args:
            table: name of the table.
            priority: of the item.
            trajectory: nest of `TrajectoryColumn`s, the slices. Its leaves in their
                order are what samplers get.

        Raises:
            TypeError: a leaf is no TrajectoryColumn.
            ValueError: the trajectory is empty; a column has cells that have expired or
                are another writer's, or of several dtypes or shapes; the priority is
                NaN, or negative where the table draws by priority; with
                `validate_items`: an unknown table or one with another signature.
            RuntimeError: an unknown table, without `validate_items`; closed; stopped.
        """
        columns = self._columns_of(trajectory)
        squeezed = [column.is_squeezed for column in columns]
        try:
            self._writer.CreateItem(table, priority, columns, squeezed)
        except ValueError as error:
            paths = [path for path, _ in structure.flatten_with_path(trajectory)]
            raise named(error, paths) from None

    def end_episode(self, clear_buffers: bool = True, timeout_ms: int | None = None) -> None:
        """As the base class has it; with `clear_buffers` the `history` becomes empty."""
        super().end_episode(clear_buffers, timeout_ms)
        if clear_buffers:
            self._steps.count = 0
            self._steps.gaps = len(self._columns)
            for column in self._columns:
                column.reset()
        self._last_step_is_open = False

    def close(self) -> None:
        """Refuses later use. Items that wait for their table go on waiting. Idempotent."""
        self._writer.Close()

    def _append(self, data: Any, partial: bool) -> None:
        if self._flatten is not None and not (partial or self._last_step_is_open):
            try:
                leaves = self._flatten(data)
            except (ValueError, TypeError):
                leaves = None
            if leaves is not None:
                nest = self._nest
                if nest is not None and not nest.in_order:
                    ordered = [None] * len(leaves)
                    for leaf, column in zip(leaves, nest.order, strict=True):
                        ordered[column] = leaf
                    leaves = ordered
                if self._writer.append_whole(leaves):
                    self._steps.count += 1
                    if self._steps.gaps:
                        self._fill_gaps()
                    return
        if not self._append_known(data, partial):
            self._append_new(data, partial)

    def _append_new(self, data: Any, partial: bool) -> None:
        leaves, nest = structure.flatten_with_path(data), self._nest
        known: Mapping[Path, int] = {} if nest is None else nest.column_of
        if nest is None or any(path not in known for path, _ in leaves):
            union = structure.map_structure(lambda _: None, data)
            if nest is not None:
                union = structure.union(nest.structure, union)
            grown = dict(known)
            for path, _ in structure.flatten_with_path(union):
                grown.setdefault(path, len(grown))
            nest = StepNest.of(union, grown)
        column_of = nest.column_of
        flat: list[Any] = [None] * len(column_of)
        for path, leaf in leaves:
            flat[column_of[path]] = leaf
        if self._last_step_is_open:
            for column, leaf in zip(self._columns, flat, strict=False):
                if leaf is not None and column.is_dense:
                    raise ValueError(
                        f"Field {column.path()} has already been set in the active step by "
                        "previous (partial) append call and thus must be omitted or set to "
                        f"None but got: {leaf!s:.200}"
                    )
        for path, options in (self._pending_options or {}).items():
            if path in column_of and path not in known:
                self._writer.ConfigureChunker(column_of[path], options)
        stored = self._store(flat, partial, nest)
        if nest is not self._nest:
            self._grow(nest)
        nest.remember(data, [path for path, _ in leaves])
        self._note(stored, partial)

    def _append_known(self, data: Any, partial: bool) -> bool:
        """Appends a step of a structure that came before, if nothing is wrong with it."""
        nest = self._nest
        layout = None if nest is None else nest.layout(data)
        if nest is None or layout is None:
            return False
        flatten, columns = layout
        try:
            leaves = flatten(data)
        except (ValueError, TypeError):
            return False
        if any(map(structure.is_nested, leaves)):
            return False
        flat: list[Any] = [None] * len(self._columns)
        for column, leaf in zip(columns, leaves, strict=True):
            flat[column] = leaf
            if self._last_step_is_open and leaf is not None and self._columns[column].is_dense:
                return False
        self._note(self._store(flat, partial, nest), partial)
        return True

    def _note(self, stored: Sequence[int | None], partial: bool) -> None:
        if not self._last_step_is_open:
            self._steps.count += 1
        for column, value in zip(self._columns, stored, strict=True):
            column.add(value, self._last_step_is_open)
        self._steps.gaps = sum(not column.is_dense for column in self._columns)
        self._last_step_is_open = partial

    def _store(self, flat: list[Any], partial: bool, nest: StepNest) -> Sequence[int | None]:
        try:
            return self._writer.append(flat, partial=partial)
        except (ValueError, TypeError) as error:
            raise named(error, nest.paths) from None

    def _grow(self, nest: StepNest) -> None:
        keep = self._writer.max_num_keep_alive_refs
        for path in nest.paths[len(self._columns) :]:
            column = len(self._columns)
            self._columns.append(ColumnHistory(path, keep, self._steps, self._writer, column))
        self._nest = nest
        self._flatten = nest.flatten

    def _fill_gaps(self) -> None:
        for i, column in enumerate(self._columns):
            if not column.is_dense:
                column.add(self._writer.next_number(i) - 1, False)
        self._steps.gaps = 0

    def _columns_of(self, trajectory: Any) -> list[TrajectoryColumn]:
        if self._flatten_item is not None:
            try:
                columns = self._flatten_item(trajectory)
                for column in columns:
                    if type(column) is not TrajectoryColumn:
                        break
                else:
                    return columns
            except (ValueError, TypeError):
                pass
        columns = structure.flatten(trajectory)
        if not all(isinstance(column, TrajectoryColumn) for column in columns):
            raise TypeError(
                "All leaves of `trajectory` must be `TrajectoryColumn` but got "
                f"{trajectory!r:.500}. Take slices of writer.history."
            )
        fast = structure.fast_flatten(trajectory)
        self._flatten_item = None if fast is None else fast[0]
        return columns


def _reraise(what: str, error: RuntimeError, timeout_ms: int | None) -> NoReturn:
    """Raises `error`, or DeadlineExceededError where it tells of a timeout."""
    if "Timeout exceeded" in str(error) and timeout_ms is not None:
        raise errors.DeadlineExceededError(
            f"{what} call did not complete within provided timeout of "
            f"{datetime.timedelta(milliseconds=timeout_ms)}. {error}"
        ) from None
    raise error
