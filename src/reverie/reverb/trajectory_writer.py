"""The writer that most programs want: steps in, items over any of their parts out."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from reverie.reverb import errors, structure
from reverie.reverb.engine import cells
from reverie.reverb.engine.writers import (
    AutoTunedChunkerOptions,
    CellSlice,
    ChunkerOptions,
    ConstantChunkerOptions,
    WeakCellRef,
)
from reverie.reverb.engine.writers import TrajectoryWriter as _Engine
from reverie.reverb.structure import Path


class TrajectoryWriter:
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

    def __init__(self, internal_writer: Any) -> None:
        """Takes a pybind.TrajectoryWriter, or what has its methods."""
        self._writer = internal_writer
        # Where the writer is ours, whole steps and slices of history cross in one call.
        self._engine = internal_writer if isinstance(internal_writer, _Engine) else None
        self._structure: Any = None  # the union of all steps, None where no step came yet
        self._seen = False
        self._columns: list[_ColumnHistory] = []
        self._column_of: dict[Path, int] = {}
        self._pending_options: dict[Path, ChunkerOptions] = {}
        self._last_step_is_open = False
        self._steps = _Steps()
        self._order: list[int] = []  # column of each leaf of the structure
        self._in_order = False  # the columns stand in the order of the leaves
        self._flatten: Callable[[Any], list[Any]] | None = None
        self._treespec: Any = None
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
        columns = self._columns
        if not self._in_order:
            columns = [columns[i] for i in self._order]
        if self._treespec is not None:
            return self._treespec.unflatten(columns)
        return structure.unflatten_as(self._structure, columns)

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
        """
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
        if path in self._column_of:
            self._writer.ConfigureChunker(self._column_of[path], options)
            if self._engine is not None:
                for column in self._columns:
                    column.widen(self._engine.max_num_keep_alive_refs)
        else:
            self._pending_options[path] = options

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
        if self._flatten is not None and not (partial_step or self._last_step_is_open):
            try:
                leaves = self._flatten(data)
            except (ValueError, TypeError):
                leaves = None
            if leaves is not None:
                if not self._in_order:
                    ordered = [None] * len(leaves)
                    for leaf, column in zip(leaves, self._order, strict=True):
                        ordered[column] = leaf
                    leaves = ordered
                if self._engine is not None and self._engine.append_whole(leaves):
                    self._steps.count += 1
                    if self._steps.gaps:
                        self._fill_gaps()
                    return
        self._append(data, partial_step)

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
        if self._engine is not None:
            self._engine.create_item(table, priority, columns)
        else:
            self._writer.CreateItem(
                table,
                priority,
                [list(column) for column in columns],
                [column.is_squeezed for column in columns],
            )

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
            raise ValueError(
                f"block_until_num_items must be >= 0, got {block_until_num_items}"
            )
        try:
            self._writer.Flush(block_until_num_items, -1 if timeout_ms is None else timeout_ms)
        except RuntimeError as error:
            reraise("Flush", error, timeout_ms)

    def end_episode(self, clear_buffers: bool = True, timeout_ms: int | None = None) -> None:
        """Waits for all items, as `flush` does; later steps are of another episode.

        Args:
            clear_buffers: whether `history` becomes empty, so that no item spans the
                episodes.
            timeout_ms: None waits for ever.

        Raises:
            DeadlineExceededError: the timeout passed; the episode goes on.
            EndlessWaitError: a wait without timeout that nobody could end.
            RuntimeError: closed, or the server was stopped.
        """
        try:
            self._writer.EndEpisode(clear_buffers, timeout_ms)
        except RuntimeError as error:
            reraise("End episode", error, timeout_ms)
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
        leaves = structure.flatten_with_path(data)
        union = self._structure
        grown = not self._seen or any(path not in self._column_of for path, _ in leaves)
        if grown:
            empty = structure.map_structure(lambda _: None, data)
            union = structure.union(union, empty) if self._seen else empty
        new = [path for path, _ in structure.flatten_with_path(union)] if grown else []
        column_of = dict(self._column_of)
        for path in new:
            column_of.setdefault(path, len(column_of))
        flat: list[Any] = [None] * len(column_of)
        for path, leaf in leaves:
            flat[column_of[path]] = leaf
        if self._last_step_is_open:
            for column, leaf in zip(self._columns, flat, strict=False):
                if leaf is not None and not column.can_set_last:
                    raise ValueError(
                        f"Field {column.path()} has already been set in the active step by "
                        "previous (partial) append call and thus must be omitted or set to "
                        f"None but got: {leaf!s:.200}"
                    )
        for path in column_of:
            if path in self._pending_options and path not in self._column_of:
                self._writer.ConfigureChunker(column_of[path], self._pending_options[path])
        stored = self._store(flat, partial, list(column_of))
        if grown:
            self._grow(union, column_of)
        if not self._last_step_is_open:
            self._steps.count += 1
        for column, value in zip(self._columns, stored, strict=True):
            column.add(value, self._last_step_is_open)
        self._steps.gaps = sum(not column.is_dense for column in self._columns)
        self._last_step_is_open = partial

    def _store(self, flat: list[Any], partial: bool, paths: Sequence[Path]) -> Sequence[Any]:
        try:
            if self._engine is not None:
                return self._engine.append(flat, partial=partial)
            append = self._writer.AppendPartial if partial else self._writer.Append
            refs: Sequence[Any] = append(flat)
            return refs
        except (ValueError, TypeError) as error:
            message = str(error)
            found = re.findall(r" for column (\d+)", message)
            if len(found) != 1:
                raise
            named = message.replace(
                f" for column {found[0]}", f" for column {paths[int(found[0])]}"
            )
            raise type(error)(named) from None

    def _grow(self, union: Any, column_of: dict[Path, int]) -> None:
        keep = self._writer.max_num_keep_alive_refs
        for path in list(column_of)[len(self._columns) :]:
            if self._engine is None:
                self._columns.append(_RefHistory(path, keep, self._steps.count))
            else:
                column = len(self._columns)
                self._columns.append(
                    _NumberHistory(path, keep, self._steps, self._engine, column)
                )
        self._column_of = column_of
        self._structure = union
        self._seen = True
        self._order = [column_of[path] for path, _ in structure.flatten_with_path(union)]
        self._in_order = self._order == list(range(len(self._order)))
        fast = structure.fast_flatten(union)
        self._treespec = None if fast is None else fast[1]
        self._flatten = None if fast is None or self._engine is None else fast[0]

    def _fill_gaps(self) -> None:
        for i, column in enumerate(self._columns):
            if not column.is_dense and self._engine is not None:
                column.add(self._engine.next_number(i) - 1, False)
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


def reraise(what: str, error: RuntimeError, timeout_ms: int | None) -> NoReturn:
    """Raises `error`, or DeadlineExceededError where it tells of a timeout."""
    if "Timeout exceeded" in str(error) and timeout_ms is not None:
        raise errors.DeadlineExceededError(
            f"{what} call did not complete within provided timeout of "
            f"{datetime.timedelta(milliseconds=timeout_ms)}. {error}"
        ) from None
    raise error


class _Steps:
    """Steps of the history, shared by its columns."""

    __slots__ = ("count", "gaps")

    def __init__(self) -> None:
        self.count = 0
        self.gaps = 0  # columns whose latest step has no value


class _ColumnHistory:
    """References to the values of one column, one or none for each step."""

    __slots__ = ("__weakref__", "_buffer_size", "_path")

    def __init__(self, path: Path, buffer_size: int) -> None:
        self._path = path
        self._buffer_size = buffer_size

    def path(self) -> Path:
        """Of the leaf in the step."""
        return self._path

    def widen(self, buffer_size: int) -> None:
        """From now on at least so many steps stay within reach."""
        self._buffer_size = max(self._buffer_size, buffer_size)

    @property
    def can_set_last(self) -> bool:
        """Whether the latest step has no value yet."""
        raise NotImplementedError

    @property
    def is_dense(self) -> bool:
        """Whether the next value may follow the last one without a word."""
        return False

    def add(self, value: Any, to_last: bool) -> None:
        """Takes the value of a new step, or (`to_last`) of the latest; None for none."""
        raise NotImplementedError

    def reset(self) -> None:
        """Forgets all steps."""
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Any]:
        return (self._at(i) for i in range(len(self)))

    def __getitem__(self, key: Any) -> TrajectoryColumn:
        """Values as a column of an item.

        Raises:
            TypeError: the key is no int, slice or list of ints.
            IndexError: an index is beyond the latest step.
            ValueError: a step has no value here, or it was evicted.
        """
        steps = range(len(self))
        if isinstance(key, slice):
            chosen: Sequence[int] = steps[key]
            if key.start is not None and key.start < -len(steps) and (key.step or 1) > 0:
                raise self._none_error(key, key.start)
            return self._take(chosen, False, key)
        if isinstance(key, int):
            return self._take(self._index(key, key, steps), True, key)
        if isinstance(key, list):
            chosen = [i for each in key for i in self._index(each, key, steps)]
            return self._take(chosen, False, key)
        raise TypeError(
            f"_ColumnHistory indices must be integers, slices or lists of integers, not "
            f"{type(key)}"
        )

    def _index(self, key: int, whole: Any, steps: range) -> range:
        if not isinstance(key, int):
            raise TypeError(f"_ColumnHistory indices must be integers, not {type(key)}")
        if key < -len(steps):
            raise self._none_error(whole, key)
        if key >= len(steps):
            raise IndexError(
                f"list index out of range: history {self._path} has {len(steps)} steps, "
                f"found index {key}."
            )
        i = key % len(steps)
        return range(i, i + 1)

    def _take(self, steps: Sequence[int], squeeze: bool, key: Any) -> TrajectoryColumn:
        refs = [self._at(i) for i in steps]
        if any(ref is None for ref in refs):
            raise self._none_error(key, steps[refs.index(None)])
        return TrajectoryColumn(refs, squeeze=squeeze, path=(*self._path, key))

    def _at(self, step: int) -> Any:
        raise NotImplementedError

    def _none_error(self, key: Any, step: int) -> ValueError:
        first = max(0, len(self) - self._buffer_size)
        if step < 0:
            why = f"the history has only {len(self)} steps"
        elif step < first:
            why = (
                f"step {step} was evicted; the latest {self._buffer_size} of {len(self)} steps "
                "are within reach (num_keep_alive_refs)"
            )
        else:
            why = f"step {step} has no value in this column"
        return ValueError(
            "TrajectoryColumns cannot contain any None data references: TrajectoryColumn at "
            f"path {(*self._path, key)}: {why}."
        )

    def __str__(self) -> str:
        name = f"{type(self).__module__}._ColumnHistory"
        return f"{name}(path={self._path}, {len(self)} steps)"

    __repr__ = __str__


class _RefHistory(_ColumnHistory):
    """Of a writer that gives references one by one, a test double for example."""

    __slots__ = ("_offset", "_refs")

    def __init__(self, path: Path, buffer_size: int, steps: int) -> None:
        super().__init__(path, buffer_size)
        self._refs: list[Any] = [None] * min(buffer_size, steps)
        self._offset = steps - len(self._refs)

    @property
    def can_set_last(self) -> bool:
        return bool(self._refs) and self._refs[-1] is None

    def add(self, value: Any, to_last: bool) -> None:
        if not to_last:
            self._refs.append(value)
            if len(self._refs) > self._buffer_size:
                del self._refs[0]
                self._offset += 1
        elif value is not None:
            self._refs[-1] = value

    def reset(self) -> None:
        self._refs = []
        self._offset = 0

    def __len__(self) -> int:
        return self._offset + len(self._refs)

    def _at(self, step: int) -> Any:
        return None if step < self._offset else self._refs[step - self._offset]


class _NumberHistory(_ColumnHistory):
    """Of our own writer: the cells' numbers follow from the steps', in stretches."""

    __slots__ = ("_column", "_engine", "_steps", "_stretches")

    def __init__(
        self, path: Path, buffer_size: int, steps: _Steps, engine: _Engine, column: int
    ) -> None:
        super().__init__(path, buffer_size)
        self._steps = steps
        self._engine = engine
        self._column = column
        # [first step, step after the last or None while it goes on, number - step]
        self._stretches: list[tuple[int, int | None, int]] = []

    @property
    def can_set_last(self) -> bool:
        return not self.is_dense

    @property
    def is_dense(self) -> bool:
        return bool(self._stretches) and self._stretches[-1][1] is None

    def add(self, value: int | None, to_last: bool) -> None:
        step = self._steps.count - 1
        if value is None:
            if self.is_dense and not to_last:
                first, _, shift = self._stretches[-1]
                self._stretches[-1] = (first, step, shift)
            return
        if self.is_dense:
            return
        shift = value - step
        if self._stretches and self._stretches[-1][1:] == (step, shift):
            self._stretches[-1] = (self._stretches[-1][0], None, shift)
            return
        oldest = step - self._buffer_size
        self._stretches = [s for s in self._stretches if s[1] is None or s[1] > oldest]
        self._stretches.append((step, None, shift))

    def reset(self) -> None:
        self._stretches = []

    def __len__(self) -> int:
        return self._steps.count

    def _number(self, step: int) -> int | None:
        if step >= self._steps.count - self._buffer_size:
            for first, end, shift in reversed(self._stretches):
                if step >= first:
                    return step + shift if end is None or step < end else None
        return None

    def _at(self, step: int) -> Any:
        number = self._number(step)
        return None if number is None else WeakCellRef(self._engine, self._column, number)

    def _take(self, steps: Sequence[int], squeeze: bool, key: Any) -> TrajectoryColumn:
        numbers: Sequence[int] = steps
        if steps:
            if type(steps) is range and self._stretches:
                first, end, shift = self._stretches[-1]
                low, high = (
                    (steps[0], steps[-1]) if steps.step > 0 else (steps[-1], steps[0])
                )
                if (
                    low >= first
                    and (end is None or high < end)
                    and low >= self._steps.count - self._buffer_size
                ):
                    numbers = range(steps.start + shift, steps.stop + shift, steps.step)
                    return _of_numbers(self._engine, self._column, numbers, squeeze)
            found = []
            for step in steps:
                number = self._number(step)
                if number is None:
                    raise self._none_error(key, step)
                found.append(number)
            numbers = found
        return _of_numbers(self._engine, self._column, numbers, squeeze)


class TrajectoryColumn(CellSlice):
    """One column of an item: references to cells, oldest first or in any order.

    Args:
        data_references: of cells of one dtype and shape.
        squeeze: whether the column is its one cell, without a time axis.
        path: where it stands, for messages.

    Raises:
        ValueError: a reference is None, or `squeeze` and there is not exactly one.

    Attributes:
        is_squeezed: as `squeeze`.
    """

    __slots__ = ()

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
        self.writer = None
        self.column = 0
        self.numbers = ()
        self.refs = refs
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
                "The writer keeps the latest num_keep_alive_refs values of an episode."
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


def _of_numbers(
    writer: _Engine, column: int, numbers: Sequence[int], squeeze: bool
) -> TrajectoryColumn:
    made = TrajectoryColumn.__new__(TrajectoryColumn)
    made.writer = writer
    made.column = column
    made.numbers = numbers
    made.refs = ()
    made.is_squeezed = squeeze
    return made
