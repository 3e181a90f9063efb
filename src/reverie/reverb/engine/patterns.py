"""Patterns: trajectories built from the latest steps wherever conditions hold.

`PatternMatcher` knows nothing of writers: cells go in step by step, trajectories of
cells come out. `StructuredWriter` makes items of them; a dataset can yield them.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from reverie.errors import InvalidArgumentError
from reverie.reverb.cc import patterns_pb2
from reverie.reverb.engine.pattern_config import Node, Pattern, histories, parse
from reverie.reverb.engine.server import Server
from reverie.reverb.engine.writers import AutoTunedChunkerOptions, TrajectoryWriter

_log = logging.getLogger("reverie")
# What a cell of a column holds, as an array.
ValueOf: TypeAlias = Callable[[int, Any], Any]
_TD_DTYPES = ("float32", "float64", "int32", "int64")


@dataclass(frozen=True, slots=True)
class Match:
    """A trajectory that a pattern found.

    Attributes:
        config: index of its config.
        table: for which it is.
        priority: of the item.
        columns: the cells of each column, oldest first.
        nodes: what each column is.
    """

    config: int
    table: str
    priority: float
    columns: tuple[list[Any], ...]
    nodes: tuple[Node, ...]


class _State:
    """What a pattern remembers from step to step."""

    __slots__ = ("applied", "checked", "pattern", "since")

    def __init__(self, pattern: Pattern) -> None:
        self.pattern = pattern
        self.since = 0  # steps since it was applied
        self.applied: tuple[int, int] | None = None
        self.checked: tuple[int, int] | None = None


class PatternMatcher:
    """Applies configs to a stream of steps. For one thread at a time.

    A pattern is applied at most once per step, in the order of the configs, when all
    its conditions hold and no cell that it needs is missing.

    Args:
        configs: StructuredWriterConfig messages.
        value: what a cell holds: `value(column, cell)` as an array; asked for by data
            conditions and TD errors alone.

    Raises:
        InvalidArgumentError: there is no config, or one is invalid; names its position.

    Attributes:
        history: how many of its latest cells each column is asked for; 0: never used.
    """

    def __init__(self, configs: Sequence[Any], *, value: ValueOf) -> None:
        if not configs:
            raise InvalidArgumentError("At least one config must be provided.")
        self.patterns = [parse(config, i) for i, config in enumerate(configs)]
        self.history = histories(self.patterns)
        self._states = [_State(pattern) for pattern in self.patterns]
        self._value = value
        self._columns: list[deque[Any]] = []
        self._episode = 0
        self._step = 0
        self._latest = (0, 0)  # of the step that the newest cells belong to
        self.step_is_open = False

    def append(self, cells: Sequence[Any], *, partial: bool = False) -> list[Match]:
        """Takes a step, or part of one; returns the trajectories that it completes.

        Args:
            cells: of each column, None for none. Those of columns that no pattern uses
                are ignored.
            partial: whether the step goes on with the next call.

        Raises:
            RuntimeError: a column was given before in the same step.
            InvalidArgumentError: a column is no number of which a TD error could be made.
        """
        used = range(len(self.history))
        given = [cells[i] if i < len(cells) and self.history[i] else None for i in used]
        if not self._columns:
            self._columns = [deque(maxlen=length) for length in self.history]
        for i, cell in enumerate(given):
            if self.step_is_open and cell is not None and self._columns[i][-1] is not None:
                raise RuntimeError(
                    f"A value for column {i} was provided by multiple Append/AppendPartial "
                    "calls in the same step."
                )
        for column, cell in zip(self._columns, given, strict=True):
            if not self.step_is_open or not column:
                column.append(cell)
            elif cell is not None:
                column[-1] = cell
        self.step_is_open = partial
        self._latest = (self._episode, self._step)
        if not partial:
            self._step += 1
        return self._apply(is_end=False)

    def finish(self) -> list[Match]:
        """The trajectories of configs that wait for the end of the episode."""
        return self._apply(is_end=True)

    def end_episode(self, clear: bool) -> None:
        """Begins another episode, after `finish`.

        Args:
            clear: whether its trajectories may not reach back into this one.
        """
        if clear:
            self._columns = []
        self.step_is_open = False
        self._episode += 1
        self._step = 0

    def _apply(self, *, is_end: bool) -> list[Match]:
        matches: list[Match] = []
        if not any(column and column[-1] is not None for column in self._columns):
            return matches
        for index, state in enumerate(self._states):
            if state.applied == self._latest:
                continue
            if state.checked != self._latest:
                state.since += 1
                state.checked = self._latest
            pattern = state.pattern
            if max(map(len, self._columns)) < pattern.history:
                continue
            if not all(self._holds(c, state.since, is_end) for c in pattern.conditions):
                continue
            columns = self._build(pattern.nodes)
            if columns is None:
                continue
            priority = self._priority(pattern, columns)
            matches.append(Match(index, pattern.table, priority, columns, pattern.nodes))
            state.applied = self._latest
            state.since = 0
        return matches

    def _build(self, nodes: Sequence[Node]) -> tuple[list[Any], ...] | None:
        columns = []
        for node in nodes:
            column = self._columns[node.source]
            first = len(column) + node.offset
            if first < 0:
                return None
            found = [column[first + i] for i in range(0, node.length, node.step)]
            if any(cell is None for cell in found):
                return None
            columns.append(found)
        return tuple(columns)

    def _holds(self, condition: Any, since: int, is_end: bool) -> bool:
        left = self._left(condition, since, is_end)
        if left is None:
            return False
        kind = condition.WhichOneof("cmp")
        if kind == "eq":
            result = left == condition.eq
        elif kind == "ge":
            result = left >= condition.ge
        else:  # the remainder has the sign of `left`, as in C
            result = math.fmod(left, condition.mod_eq.mod) == condition.mod_eq.eq
        return bool(result != condition.inverse)

    def _left(self, condition: Any, since: int, is_end: bool) -> int | None:
        kind = condition.WhichOneof("left")
        if kind == "step_index":
            return self._latest[1]
        if kind == "steps_since_applied":
            return since
        if kind == "buffer_length":
            return max(map(len, self._columns))
        if kind == "is_end_episode":
            return int(is_end)
        source = condition.flat_source_index
        cell = self._columns[source][-1]
        if cell is None:
            return None
        found = np.asarray(self._value(source, cell))
        if found.size != 1 or found.dtype.kind not in "biu":
            _log.error(
                "A data condition on column %d does not hold: it wants one integer or bool, "
                "but found dtype %s, shape %s.",
                source,
                found.dtype,
                found.shape,
            )
            return None
        return int(found.item())

    def _priority(self, pattern: Pattern, columns: Sequence[Sequence[Any]]) -> float:
        function = pattern.priority
        if function.WhichOneof("priority_fn") == "constant_fn":
            return float(function.constant_fn.value)
        source = function.td_error.flat_source_index
        priority = 0.0
        for node, cells in zip(pattern.nodes, columns, strict=True):
            if node.source == source:  # of several, the last one counts
                errors = np.array([self._td_error(source, cell) for cell in cells])
                weight = float(function.td_error.max_priority_weight)
                priority = float(weight * errors.max() + (1 - weight) * errors.mean())
        return priority

    def _td_error(self, source: int, cell: Any) -> float:
        found = np.asarray(self._value(source, cell))
        if found.dtype.name not in _TD_DTYPES:
            raise InvalidArgumentError(
                "TD Error expects a double/float/int tensor and it is "
                f"{found.dtype} (column {source})."
            )
        if found.ndim:
            raise InvalidArgumentError(
                f"TD Error expects a scalar tensor; found shape {found.shape} (column "
                f"{source})."
            )
        return abs(float(found))


class StructuredWriter:
    """Steps in, items by patterns out: Reverb's StructuredWriter. One thread at a time.

    Items are not compared with their table's signature, as in Reverb.

    Args:
        server: where the tables are.
        configs: serialized StructuredWriterConfig messages.

    Raises:
        InvalidArgumentError: there is none, or one is invalid.
        UnreachableServerError, ForkedProcessError: the server does not serve.
    """

    def __init__(self, server: Server, configs: Sequence[bytes]) -> None:
        parsed = [patterns_pb2.StructuredWriterConfig.FromString(c) for c in configs]
        self._matcher = PatternMatcher(parsed, value=self._read)
        options = AutoTunedChunkerOptions(max(self._matcher.history))
        self._writer = TrajectoryWriter(server, options, validate_items=False)

    @property
    def step_is_open(self) -> bool:
        """Whether the last step was a partial one."""
        return self._matcher.step_is_open

    def Append(self, data: Sequence[Any]) -> None:
        """Ends the step with these leaves, None where a column has none.

        Raises:
            StepMismatchError: a dtype or shape is not its column's; nothing is stored.
            TypeError: a leaf cannot be stored; nothing is stored.
            InvalidArgumentError: an item's priority, or a TD error, is impossible.
            UnknownTableError: a config names a table that there is not.
            RuntimeError: a column was given in this step before; the server stopped.
        """
        self._append(data, partial=False)

    def AppendPartial(self, data: Sequence[Any]) -> None:
        """As Append, and the step goes on."""
        self._append(data, partial=True)

    def Flush(self, ignore_last_num_items: int, timeout_ms: int | None = None) -> None:
        """Waits until at most so many items wait; errors as TrajectoryWriter.Flush."""
        self._writer.Flush(ignore_last_num_items, timeout_ms)

    def EndEpisode(self, clear_buffers: bool, timeout_ms: int | None = None) -> None:
        """Makes the items of the episode's end, waits for all, and begins another.

        Errors as Append's and TrajectoryWriter.EndEpisode's.
        """
        self._create(self._matcher.finish())
        self._writer.EndEpisode(clear_buffers, timeout_ms)
        self._matcher.end_episode(bool(clear_buffers))

    def _append(self, data: Sequence[Any], *, partial: bool) -> None:
        history = self._matcher.history
        used = [
            leaf if i < len(history) and history[i] else None for i, leaf in enumerate(data)
        ]
        numbers = self._writer.append(used, partial=partial)
        self._create(self._matcher.append(numbers, partial=partial))

    def _create(self, matches: Sequence[Match]) -> None:
        for match in matches:
            columns: list[int] = []
            starts: list[int] = []
            lengths: list[int] = []
            runs: list[int] = []
            for node, numbers in zip(match.nodes, match.columns, strict=True):
                before = len(columns)
                for number in numbers:
                    if len(columns) > before and starts[-1] + lengths[-1] == number:
                        lengths[-1] += 1
                    else:
                        columns.append(node.source)
                        starts.append(number)
                        lengths.append(1)
                runs.append(len(columns) - before)
            squeezed = [node.squeeze for node in match.nodes]
            self._writer.create_runs(
                match.table, match.priority, columns, starts, lengths, runs, squeezed, None
            )

    def _read(self, column: int, number: Any) -> Any:
        return self._writer.read(column, number)
