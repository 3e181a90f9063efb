"""The engine's structured writer: steps in, and items wherever a config's conditions hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from reverie.errors import InvalidArgumentError
from reverie.reverb.cc import patterns_pb2
from reverie.reverb.engine.patterns.configs import TDError, parse
from reverie.reverb.engine.patterns.matcher import PatternMatcher, PatternState, Runs
from reverie.reverb.engine.serving import Serving
from reverie.reverb.engine.writing.chunker_options import ConstantChunkerOptions
from reverie.reverb.engine.writing.column_errors import about, wrong_column
from reverie.reverb.engine.writing.item_writer import TrajectoryWriter

_TD_DTYPES = ("float32", "float64", "int32", "int64")


class StructuredWriter:
    """Reverb's StructuredWriter. For one thread at a time.

    Items are not compared with their table's signature, as in Reverb. Only leaves that
    a config looks at are stored, and no more of them than configs can ask for.

    Args:
        server: where the tables are.
        configs: serialized StructuredWriterConfig messages.

    Raises:
        InvalidArgumentError: there is none, or one is invalid.
        UnknownTableError: a config names a table that the server does not have.
        UnreachableServerError, ForkedProcessError: the server does not serve.
    """

    def __init__(self, server: Serving, configs: Sequence[bytes]) -> None:
        patterns = parse([_parsed(config) for config in configs], want_priority=True)
        server.check_open()
        for pattern in patterns:
            server.table(pattern.table)
        self._matcher = matcher = PatternMatcher(patterns)
        self._columns = matcher.columns
        self._all = list(range(len(self._columns)))  # what _columns is if all are used
        self._writer = TrajectoryWriter(
            server, ConstantChunkerOptions(1, 1), validate_items=False
        )
        for place, history in enumerate(matcher.histories):
            self._writer.ConfigureChunker(place, ConstantChunkerOptions(1, history))

    @property
    def step_is_open(self) -> bool:
        """Whether the last step was a partial one."""
        return self._matcher.step_is_open

    def Append(self, data: Sequence[Any]) -> None:
        """Ends the step with these leaves, None where there is none, and makes items.

        Raises:
            StepMismatchError: a dtype or shape is not its column's; nothing is stored.
            TypeError: a leaf cannot be stored; nothing is stored.
            InvalidArgumentError: an item's priority or TD error is impossible; the step
                is stored, and the items of this and later configs are not made.
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

        An open step ends too. Errors as Append's and TrajectoryWriter.EndEpisode's; after
        one the episode goes on, and a second call makes none of these items again.
        """
        self._create(at_end=True)
        self._writer.EndEpisode(clear_buffers, timeout_ms)
        self._matcher.end_episode(clear=bool(clear_buffers))

    def _append(self, data: Sequence[Any], *, partial: bool) -> None:
        matcher = self._matcher
        if len(self._columns) == len(data) and self._columns == self._all:
            leaves = list(data)
        else:
            n = len(data)
            leaves = [data[column] if column < n else None for column in self._columns]
        try:
            if not (partial or matcher.step_is_open) and self._writer.append_whole(leaves):
                matcher.add_whole(leaves)
            else:
                self._append_slowly(leaves, partial=partial)
        except Exception:
            raise
        except BaseException:  # Ctrl-C: the two may no longer agree on the numbers of cells
            matcher.realign([self._writer.next_number(place) for place in self._all])
            raise
        self._create(at_end=False)

    def _append_slowly(self, leaves: list[Any], *, partial: bool) -> None:
        place = self._matcher.check(leaves)
        if place >= 0:
            raise RuntimeError(
                f"A value for column {self._columns[place]} was provided by multiple "
                "Append/AppendPartial calls in the same step. Nothing was stored."
            )
        try:
            self._writer.append(leaves, partial=partial)
        except (ValueError, TypeError) as error:
            place = wrong_column(error)
            if place is None:
                raise
            raise about(error, self._columns[place]) from None
        self._matcher.add(leaves, partial=partial)

    def _create(self, *, at_end: bool) -> None:
        matcher = self._matcher
        for state in matcher.due(at_end=at_end):
            runs = matcher.runs(state)
            pattern = state.pattern
            priority = pattern.priority
            if isinstance(priority, TDError):
                priority = self._td_priority(priority, state, runs)
            assert priority is not None
            self._writer.create_runs(
                pattern.table,
                priority,
                runs.places,
                runs.starts,
                runs.lengths,
                runs.counts,
                state.squeezed,
                None,
            )

    def _td_priority(self, wanted: TDError, state: PatternState, runs: Runs) -> float:
        """Of the last column that holds the errors; 0 without one, as in Reverb."""
        ends = np.cumsum(runs.counts)
        for i in reversed(range(len(ends))):
            if state.pattern.slices[i].column == wanted.column:
                errors = [
                    self._td_error(wanted.column, runs.places[run], runs.starts[run] + k)
                    for run in range(ends[i] - runs.counts[i], ends[i])
                    for k in range(runs.lengths[run])
                ]
                mean = float(np.add.accumulate(errors)[-1]) / len(errors)
                return wanted.weight * max(errors) + (1 - wanted.weight) * mean
        return 0.0

    def _td_error(self, column: int, place: int, number: int) -> float:
        found = self._writer.read(place, number)
        if found.dtype.name not in _TD_DTYPES:
            raise InvalidArgumentError(
                "TD Error expects a double/float/int tensor and it is "
                f"{found.dtype} (column {column})."
            )
        if found.size != 1:
            raise InvalidArgumentError(
                f"TD Error expects a scalar tensor; found shape {found.shape} (column "
                f"{column})."
            )
        return abs(float(found.item()))


def _parsed(config: bytes) -> Any:
    try:
        return patterns_pb2.StructuredWriterConfig.FromString(config)
    except Exception as error:  # implementations of protobuf differ in what they raise
        raise InvalidArgumentError(
            "Unable to deserialize StructuredWriterConfig from serialized proto bytes: "
            f"{config!r:.200} ({error!s:.200})."
        ) from None
