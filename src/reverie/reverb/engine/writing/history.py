"""History of a writer's columns, and the slices of it that items are made of."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reverie.nests.structure import Path
from reverie.reverb.engine.writing.references import CellSlice, WeakCellRef
from reverie.tables import cells

if TYPE_CHECKING:
    from reverie.reverb.engine.writing.writer import TrajectoryWriter


class Steps:
    """Steps of the history, shared by its columns."""

    __slots__ = ("count", "gaps")

    def __init__(self) -> None:
        self.count = 0
        self.gaps = 0  # columns whose latest step has no value


class ColumnHistory:
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
            chosen: Sequence[int] = self._within_reach(steps[key], key)
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

    def _within_reach(self, chosen: Sequence[int], key: slice) -> Sequence[int]:
        """Where a slice runs to or from an open end, Reverb leaves evicted steps out."""
        backwards = key.start is not None and (key.step or 1) < 0
        if not backwards and (key.start is not None or key.stop is None):
            return chosen
        first = len(self) - self._buffer_size
        return [i for i in chosen if i >= first] or chosen

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


class RefHistory(ColumnHistory):
    """Of a writer that gives references one by one, a test double for example."""

    __slots__ = ("_offset", "_refs")

    def __init__(self, path: Path, buffer_size: int, steps: int) -> None:
        super().__init__(path, buffer_size)
        self._refs: list[Any] = [None] * min(buffer_size, steps)
        self._offset = steps - len(self._refs)

    @property
    def can_set_last(self) -> bool:
        """Whether the latest step has no value yet."""
        return bool(self._refs) and self._refs[-1] is None

    def add(self, value: Any, to_last: bool) -> None:
        """As the base class has it."""
        if not to_last:
            self._refs.append(value)
            if len(self._refs) > self._buffer_size:
                del self._refs[0]
                self._offset += 1
        elif value is not None:
            self._refs[-1] = value

    def reset(self) -> None:
        """Forgets all steps."""
        self._refs = []
        self._offset = 0

    def __len__(self) -> int:
        return self._offset + len(self._refs)

    def _at(self, step: int) -> Any:
        return None if step < self._offset else self._refs[step - self._offset]


class NumberHistory(ColumnHistory):
    """Of our own writer: the cells' numbers follow from the steps', in stretches."""

    __slots__ = ("_column", "_engine", "_steps", "_stretches")

    def __init__(
        self, path: Path, buffer_size: int, steps: Steps, engine: TrajectoryWriter, column: int
    ) -> None:
        super().__init__(path, buffer_size)
        self._steps = steps
        self._engine = engine
        self._column = column
        # [first step, step after the last or None while it goes on, number - step]
        self._stretches: list[tuple[int, int | None, int]] = []

    @property
    def can_set_last(self) -> bool:
        """Whether the latest step has no value yet."""
        return not self.is_dense

    @property
    def is_dense(self) -> bool:
        """Whether the next value may follow the last one without a word."""
        return bool(self._stretches) and self._stretches[-1][1] is None

    def add(self, value: int | None, to_last: bool) -> None:
        """As the base class has it."""
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
        gone = 0  # stretches follow one another, so that no other can have gone
        for _, end, _ in self._stretches:
            if end is None or end > oldest:
                break
            gone += 1
        del self._stretches[:gone]
        self._stretches.append((step, None, shift))

    def realign(self) -> None:
        """Ends a stretch in which steps and numbers no longer go together, after a Ctrl-C."""
        if self.is_dense:
            first, _, shift = self._stretches[-1]
            known = self._engine.next_number(self._column) - shift
            if known != self._steps.count:
                self._stretches[-1] = (first, min(known, self._steps.count), shift)

    def reset(self) -> None:
        """Forgets all steps."""
        self._stretches = []

    def __len__(self) -> int:
        return self._steps.count

    def __getitem__(self, key: Any) -> TrajectoryColumn:
        """As the base class has it; slices of what is there, fast."""
        kind = type(key)
        if (kind is slice or kind is int) and self._stretches:
            count = self._steps.count
            first, end, shift = self._stretches[-1]
            if kind is int:
                low = key + count if key < 0 else key
                high = low + 1
            else:
                low, high = key.start, key.stop
                if key.step is not None or type(low) is not int:
                    return super().__getitem__(key)
                low = low + count if low < 0 else low
                high = count if high is None else high + count if high < 0 else high
            if (
                end is None
                and first <= low < high <= count
                and low >= count - self._buffer_size
            ):
                numbers = range(low + shift, high + shift)
                return _of_numbers(self._engine, self._column, numbers, kind is int)
        return super().__getitem__(key)

    def _number(self, step: int) -> int | None:
        if step >= self._steps.count - self._buffer_size:
            i = bisect.bisect_right(self._stretches, step, key=_first_step)
            if i:
                _, end, shift = self._stretches[i - 1]
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
                low, high = (steps[0], steps[-1]) if steps.step > 0 else (steps[-1], steps[0])
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


def _first_step(stretch: tuple[int, int | None, int]) -> int:
    return stretch[0]


def _of_numbers(
    writer: TrajectoryWriter, column: int, numbers: Sequence[int], squeeze: bool
) -> TrajectoryColumn:
    made = TrajectoryColumn.__new__(TrajectoryColumn)
    made.writer = writer
    made.column = column
    made.numbers = numbers
    made.refs = ()
    made.is_squeezed = squeeze
    return made
