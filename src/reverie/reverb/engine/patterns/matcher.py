"""Which items are due at which step, and of which cells they are made. No writer here."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from reverie.reverb.engine.patterns.configs import Pattern, Test

_HALF = 2**31


class Runs(NamedTuple):
    """An item's cells as runs of consecutive numbers, in the order of its columns.

    Attributes:
        places: the matcher's, for each run.
        starts: number of each run's first cell.
        lengths: cells of each run.
        counts: how many runs each column of the item has.
    """

    places: tuple[int, ...]
    starts: Sequence[int]
    lengths: tuple[int, ...]
    counts: tuple[int, ...]


class PatternState:
    """A pattern, and what there is to know about it from step to step.

    Attributes:
        pattern: itself.
        squeezed: for each column of the item, whether it has no time axis.
    """

    __slots__ = ("_dense", "applied", "pattern", "sources", "squeezed", "tests")

    def __init__(self, pattern: Pattern, place_of: dict[int, int]) -> None:
        self.pattern = pattern
        self.sources = [place_of[part.column] for part in pattern.slices]
        self.squeezed = tuple(part.squeeze for part in pattern.slices)
        # Those on data come last, for they cost most.
        tests = sorted(pattern.tests, key=lambda test: test.left == "flat_source_index")
        self.tests: list[tuple[Test, int]] = [(t, place_of.get(t.column, 0)) for t in tests]
        self.applied = 0  # the step at which it was applied last
        self._dense: Runs | None = None

    @property
    def dense(self) -> Runs:
        """The runs where no cell is missing; each starts so far from its next cell's number.

        Made when the pattern is due, when there are as many steps as it may take: its
        config is a few bytes that may name any number of them.
        """
        if self._dense is None:
            ages = [part.ages for part in self.pattern.slices]
            self._dense = _runs_of(self.sources, [[-age for age in one] for one in ages])
        return self._dense


class PatternMatcher:
    """Applies patterns to a stream of steps. For one thread at a time.

    Cells are known by their numbers alone: the n-th that a column was given has
    number n, from 0. A pattern is applied at most once per step, and only in steps
    that have a cell of any column. Steps without gaps cost little.

    Args:
        patterns: in the order in which they are applied.

    Attributes:
        columns: leaves of a step that patterns look at, sorted. The position of a leaf
            herein is its place.
        histories: how many of its latest cells may be needed, for each place.
        step_is_open: whether the newest step is still a part of one.
    """

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self.columns = sorted(set().union(*(pattern.columns for pattern in patterns)))
        place_of = {column: place for place, column in enumerate(self.columns)}
        self.histories = [1] * len(self.columns)
        for pattern in patterns:
            for part in pattern.slices:
                place = place_of[part.column]
                self.histories[place] = max(self.histories[place], part.ages[0])
        self.step_is_open = False
        self._longest = max(pattern.history for pattern in patterns)
        states = [PatternState(pattern, place_of) for pattern in patterns]
        self._on_append = [state for state in states if not state.pattern.at_end]
        self._at_end = [state for state in states if state.pattern.at_end]
        self._next = [0] * len(self.columns)  # number of the next cell of each column
        self._values: Sequence[Any] = ()  # of the newest step
        self._is_empty = True  # the newest step
        self._count = 0  # steps ever, but for those without any cell
        self._steps = 0  # of this episode
        self._rows = 0  # steps that may be referred to, were there no limit
        self._whole = 0  # how many of the latest steps have a cell in every column
        # Numbers of the cells of the latest steps, None for none; `_behind` whole steps
        # that came last are missing here.
        self._cells: list[deque[int | None]] = [deque(maxlen=n) for n in self.histories]
        self._behind = 0

    def add_whole(self, values: Sequence[Any]) -> None:
        """A whole step, with a cell in each place. No step may be open.

        Args:
            values: of the cells, in the order of places; for conditions on data.
        """
        self._values = values
        self._next = [number + 1 for number in self._next]
        self._count += 1
        self._is_empty = False
        self._steps += 1
        self._rows += 1
        self._whole += 1
        self._behind += 1

    def check(self, values: Sequence[Any]) -> int:
        """The first place whose cell the open step has already, or -1."""
        if self.step_is_open:
            for place, value in enumerate(values):
                if value is not None and self._cells[place][-1] is not None:
                    return place
        return -1

    def add(self, values: Sequence[Any], *, partial: bool) -> None:
        """A step or a part of one; `check` it first.

        Args:
            values: of the cells, in the order of places; None for no cell.
            partial: whether the step goes on.
        """
        self._catch_up()
        if not self.step_is_open:
            self._is_empty = True
            self._steps += 1
            self._rows += 1
            self._whole = 0
            self._values = [None] * len(values)
            for cells in self._cells:
                cells.append(None)
        merged = list(self._values)
        for place, value in enumerate(values):
            if value is not None:
                merged[place] = value
                self._count += self._is_empty
                self._is_empty = False
                self._cells[place][-1] = self._next[place]
                self._next[place] += 1
        self._values = merged
        self.step_is_open = partial

    def due(self, *, at_end: bool = False) -> Iterator[PatternState]:
        """The patterns to be applied now; going on to the next tells that one was.

        Args:
            at_end: those that wait for the end of the episode, instead of the others.
                They count as applied at once, so that an error is told only once.
        """
        whole = self._whole
        if not self._steps or self._is_empty:
            return
        for state in self._at_end if at_end else self._on_append:
            if self._rows < state.pattern.history or state.applied == self._count:
                continue
            if not self._holds(state) or (
                whole < state.pattern.history and not self._is_there(state)
            ):
                continue
            if at_end:
                state.applied = self._count
            yield state
            state.applied = self._count

    def runs(self, state: PatternState) -> Runs:
        """The cells of a pattern that is due."""
        if self._whole < state.pattern.history:
            return _runs_of(state.sources, list(self._numbers(state)))
        newest, dense = self._next, state.dense
        starts = [
            newest[place] + start
            for place, start in zip(dense.places, dense.starts, strict=True)
        ]
        return Runs(dense.places, starts, dense.lengths, dense.counts)

    def end_episode(self, *, clear: bool) -> None:
        """The next step begins another episode.

        Args:
            clear: whether items may no longer refer to the steps so far.
        """
        self.step_is_open = False
        self._steps = 0
        if clear:
            self._forget()

    def realign(self, numbers: Sequence[int]) -> None:
        """Forgets all steps, after an interrupt in the midst of one.

        Args:
            numbers: of the next cell of each column, in the order of places.
        """
        self.step_is_open = False
        self._next = list(numbers)
        self._forget()

    def _forget(self) -> None:
        self._rows = self._whole = self._behind = 0
        for cells in self._cells:
            cells.clear()

    def _catch_up(self) -> None:
        if self._behind:
            for cells, number in zip(self._cells, self._next, strict=True):
                cells.extend(range(number - min(self._behind, self._longest), number))
            self._behind = 0

    def _numbers(self, state: PatternState) -> Iterator[list[Any]]:
        self._catch_up()
        for place, part in zip(state.sources, state.pattern.slices, strict=True):
            cells = self._cells[place]
            yield [cells[-age] for age in part.ages]

    def _is_there(self, state: PatternState) -> bool:
        return all(None not in numbers for numbers in self._numbers(state))

    def _holds(self, state: PatternState) -> bool:
        for test, place in state.tests:
            left = test.left
            if left == "step_index":
                found = self._steps - 1
            elif left == "steps_since_applied":
                found = self._count - state.applied
            elif left == "buffer_length":
                found = min(self._rows, self._longest)
            else:
                value = as_int32(self._values[place])
                if value is None:
                    return False
                found = value
            if not test.compare(found):
                return False
        return True


def as_int32(value: Any) -> int | None:
    """What a condition compares: one integer or bool, cut to 32 bits; None for all else."""
    if value is None:
        return None
    found = np.asarray(value)
    if found.size != 1 or found.dtype.kind not in "biu":
        return None
    return (int(found.item()) + _HALF) % (2 * _HALF) - _HALF


def _runs_of(places: Sequence[int], columns: Sequence[Sequence[int]]) -> Runs:
    of_runs: list[int] = []
    starts: list[int] = []
    lengths: list[int] = []
    counts: list[int] = []
    for place, numbers in zip(places, columns, strict=True):
        before = len(starts)
        for number in numbers:
            if len(starts) > before and starts[-1] + lengths[-1] == number:
                lengths[-1] += 1
            else:
                of_runs.append(place)
                starts.append(number)
                lengths.append(1)
        counts.append(len(starts) - before)
    return Runs(tuple(of_runs), starts, tuple(lengths), tuple(counts))
