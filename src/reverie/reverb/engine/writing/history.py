"""History of a writer's columns, whose slices items are made of."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

from reverie.nests.structure import Path
from reverie.reverb.engine.writing.cell_refs import TrajectoryColumn
from reverie.reverb.engine.writing.cell_writer import CellWriter
from reverie.reverb.engine.writing.stand_in import StandIn

Writer: TypeAlias = CellWriter | StandIn


class Steps:
    """Steps of the history, shared by its columns."""

    __slots__ = ("count", "gaps")

    def __init__(self) -> None:
        self.count = 0
        self.gaps = 0  # columns whose latest step has no value


class ColumnHistory:
    """References to the values of one column, one or none for each step.

    The cells' numbers follow from the steps', in stretches.

    Args:
        path: of the leaf in the step.
        buffer_size: latest steps within reach.
        steps: of the whole history.
        writer: who numbers the cells.
        column: the writer's.
    """

    __slots__ = (
        "__weakref__",
        "_buffer_size",
        "_column",
        "_path",
        "_steps",
        "_stretches",
        "_writer",
    )

    def __init__(
        self, path: Path, buffer_size: int, steps: Steps, writer: Writer, column: int
    ) -> None:
        self._path = path
        self._buffer_size = buffer_size
        self._steps = steps
        self._writer = writer
        self._column = column
        # [first step, step after the last or None while it goes on, number - step]
        self._stretches: list[tuple[int, int | None, int]] = []

    def path(self) -> Path:
        """Of the leaf in the step."""
        return self._path

    def widen(self, buffer_size: int) -> None:
        """From now on at least so many steps stay within reach."""
        self._buffer_size = max(self._buffer_size, buffer_size)

    @property
    def is_dense(self) -> bool:
        """Whether the latest step has a value: the next may follow without a word."""
        return bool(self._stretches) and self._stretches[-1][1] is None

    def add(self, value: int | None, to_last: bool) -> None:
        """Takes the cell of a new step, or (`to_last`) of the latest; None for none."""
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
            known = self._writer.next_number(self._column) - shift
            if known != self._steps.count:
                self._stretches[-1] = (first, min(known, self._steps.count), shift)

    def reset(self) -> None:
        """Forgets all steps."""
        self._stretches = []

    def __len__(self) -> int:
        return self._steps.count

    def __iter__(self) -> Iterator[Any]:
        for step in range(len(self)):
            number = self._number(step)
            yield None if number is None else self._writer.ref(self._column, number)

    def __getitem__(self, key: Any) -> TrajectoryColumn:
        """Values as a column of an item.

        Raises:
            TypeError: the key is no int, slice or list of ints.
            IndexError: an index is beyond the latest step.
            ValueError: a step has no value here, or it was evicted.
        """
        kind = type(key)
        if (kind is slice or kind is int) and self._stretches:
            count = self._steps.count
            first, end, shift = self._stretches[-1]
            if kind is int:
                low = key + count if key < 0 else key
                high = low + 1
            else:
                low, high = key.start, key.stop
                low = 0 if low is None and high is None else low
                if key.step is not None or type(low) is not int:
                    return self._chosen(key)
                low = low + count if low < 0 else low
                high = count if high is None else high + count if high < 0 else high
            if (
                end is None
                and first <= low < high <= count
                and low >= count - self._buffer_size
            ):
                numbers = range(low + shift, high + shift)
                return self._writer.take(self._column, numbers, kind is int)
        return self._chosen(key)

    def _chosen(self, key: Any) -> TrajectoryColumn:
        """`__getitem__` for any key."""
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

    def _number(self, step: int) -> int | None:
        if step >= self._steps.count - self._buffer_size:
            i = bisect.bisect_right(self._stretches, step, key=_first_step)
            if i:
                _, end, shift = self._stretches[i - 1]
                return step + shift if end is None or step < end else None
        return None

    def _take(self, steps: Sequence[int], squeeze: bool, key: Any) -> TrajectoryColumn:
        numbers = []
        for step in steps:
            number = self._number(step)
            if number is None:
                raise self._none_error(key, step)
            numbers.append(number)
        return self._writer.take(self._column, numbers, squeeze)

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


def _first_step(stretch: tuple[int, int | None, int]) -> int:
    return stretch[0]
