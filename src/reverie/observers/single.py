"""Observers of one environment: a call is one step, without a batch axis."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Any, NoReturn

from reverie import _core
from reverie.errors import InvalidArgumentError
from reverie.observers.base import Observer, misused
from reverie.runtime.checks import as_priority, check_int

_log = logging.getLogger("reverie")


class StepObserver(Observer):
    """Base of the observers of one environment. A thread of its own may call each."""

    def __repr__(self) -> str:
        """`TrajectoryObserver('uniform_table', 3 steps into its episode)`."""
        state = "closed"
        if self._is_open:
            state = f"{self._cached_steps} steps into its episode"
        return f"{type(self).__name__}({self._target!r}, {state})"

    def __call__(
        self,
        step: Any,
        *unnamed: NoReturn,
        last: bool | None = None,
        **unknown: NoReturn,
    ) -> None:
        """Stores one step. Atomic: on an error nothing was stored, unless it says so.

        Args:
            step: nest that matches the tables' steps, without a batch axis. Values
                are copied, and cast where none is lost: see `nests.casts.convert`.
            last: True marks an episode's boundary record, 1 too: what the last action
                led to, with values beside its observation that mean nothing. (On the
                record of that action itself it would keep it from beginning a
                window.) A step that knows its boundary (a Trajectory) is asked
                instead; then `last` may only repeat what it says.
            *unnamed: nothing: it is there to say what was meant.
            **unknown: likewise.

        Raises:
            StepMismatchError: structure, dtype, shape or range; names the path.
            InvalidArgumentError: `last` contradicts the Trajectory, or is neither true
                nor false.
            TypeError: any other argument.
            ClosedError: the observer or its buffer is closed; UnreachableServerError:
                its server was stopped.
            EndlessWaitError: the step ended an episode, and its items wait for a rate
                limiter in a process where nobody is left to sample. All is stored;
                the items stay queued.
        """
        if unnamed or unknown:
            raise misused("observer(step, last=...)", unnamed, unknown)
        writer = self._writer
        if writer is None:
            writer = self._start(step)
        try:
            leaves: list[Any] = self._flatten(step)
        except (ValueError, TypeError):
            raise self._nest.explain(step) from None
        ends = self._ends_unsaid if last is None else None
        if ends is None:
            ends = self._ends(step, last)
        try:
            result = writer.append(leaves, ends)
            if result >= 0:
                # No closure: it would make this method's names slow cells.
                again = functools.partial(writer.append, leaves, ends)
                result = self._cast(leaves, result, again)
        except _core.Closed:
            raise self._target.closed_error() from None
        if result != _core.STORED:
            self._not_just_stored(result)

    def reset(self, write_cached_steps: bool = True) -> None:
        """Ends the open episode; reopens a closed observer.

        Waits for the items as `flush` does.

        Args:
            write_cached_steps: with padding, the rest of the episode is padded
                and written as at its end. False drops it.

        Raises:
            InvalidArgumentError: `write_cached_steps` without padding, and the last
                steps are in no window. The episode is ended all the same.
            ClosedError, UnreachableServerError: the buffer or server is closed.
            EndlessWaitError: as when a step ends an episode.
        """
        uncovered = self._reset(write_cached_steps)
        self._wait_for_items()
        if uncovered:
            raise self._uncovered(f"the episode's last {uncovered} steps")

    @property
    def _cached_steps(self) -> int:
        """Steps of the open episode."""
        writer = self._writer
        return 0 if writer is None else writer.num_cached

    def _reset(self, write_cached_steps: bool) -> int:
        self.open()
        self._target.check_open()
        if self._writer is None:  # no step has come yet
            return 0
        try:
            return self._writer.reset(bool(write_cached_steps))
        except _core.Closed:
            raise self._target.closed_error() from None

    def _ends(self, step: Any, last: bool | None) -> int:
        """What `append` is told of the episode's end, for steps of the slow paths."""
        if not hasattr(step, "is_boundary"):
            if last is None:
                return 0
            if type(last) is bool:
                return int(last)
        return int(self._boundaries(step, last, ()))

    def _not_just_stored(self, result: int) -> None:
        if result == _core.STORED_BUT_BLOCKED:
            self._wait_for_items()


class TrajectoryObserver(StepObserver):
    """Stores each step it is called with and makes an item of every window.

    The behaviour is that of TF-Agents' `ReverbAddTrajectoryObserver`: with N
    steps in the open episode, the last `sequence_length` of them become an item
    when N >= sequence_length and (N - sequence_length) is a multiple of
    `stride_length`. Windows never cross the end of an episode; a boundary step
    may be a window's last. Items can be sampled as soon as the call returns, unless
    a table's rate limiter holds them back: then the end of an episode, `reset()` and
    `flush()` wait for them. All tables share one copy of the steps.

    Differences, meant as repairs: after `reset()` without padding a complete
    window is not written twice, and an error there still ends the episode, so
    that no later window crosses it; after `close()`, `open()` and `reset()` with
    padding, no window of nothing but pads is written; a batch axis is always refused,
    before anything is stored; `close()` does not wait, items reach their tables
    without the observer; `priority` is checked.

    Thread-safe, but the steps of one episode are meant to come from one thread:
    make one observer for each thread or environment, or a `ParallelObserver` for
    environments that step together.

    Args:
        py_client: a `reverie.reverb.Client`, or the `py_client` of a manager's replay
            buffer, whose own observers `ReplayBufferManager.new_observer` makes.
        table_name: where items go: a table's name or several, in this order.
        sequence_length: steps of an item.
        stride_length: steps between the starts of two windows.
        priority: of each new item.
        pad_end_of_episodes: an episode's rest that fills no window is padded with
            boundary steps of zeros.
        tile_end_of_episodes: each of an episode's last steps starts a padded
            window; needs padding.

    What a step looks like is said by the tables' signature (less its time axis), or,
    where they have none, by the first step.

    Raises:
        InvalidArgumentError: a number is out of range, tiling without padding, a table
            named twice, or a length that a table does not take.
        SpecError: a table's signature describes no run of steps.
        UnknownTableError, UnreachableServerError: as from the client.
    """

    def __init__(
        self,
        py_client: Any,
        table_name: str | Sequence[str],
        sequence_length: int,
        stride_length: int = 1,
        priority: float = 1,
        pad_end_of_episodes: bool = False,
        tile_end_of_episodes: bool = False,
    ) -> None:
        super().__init__(
            py_client,
            table_name,
            length=("sequence_length", sequence_length),
            stride_length=stride_length,
            priority=priority,
            pad_end=pad_end_of_episodes,
            tile_end=tile_end_of_episodes,
        )


class TrajectorySequenceObserver(TrajectoryObserver):
    """Makes an item of every window over the whole stream, across episodes.

    The behaviour is that of TF-Agents' `ReverbTrajectorySequenceObserver`: as
    `TrajectoryObserver`, but boundaries are steps like any other, and windows may hold
    them anywhere. Only `reset()` begins anew; padding matters there alone. `last` means
    nothing here. Nothing waits for a rate limiter but `flush()` and `reset()`.

    The repairs, arguments and errors are those of `TrajectoryObserver`.
    """

    _ITEMS = _core.STREAM

    def _ends(self, step: Any, last: bool | None) -> int:
        return 0


class EpisodeObserver(StepObserver):
    """Makes one item of each episode, its boundary step included. Lengths vary.

    The behaviour is that of TF-Agents' `ReverbAddEpisodeObserver`. Steps are in the
    store from their call on; the item comes with the episode's last step, or with
    `reset()`, which makes a shorter one of what there is. It can be sampled as soon as
    the call returns, unless a table's rate limiter holds it back (see
    `TrajectoryObserver`).

    An episode of more than `max_sequence_length` steps, its boundary included, is
    dropped whole: the step that is too many raises InvalidArgumentError, or logs an
    error with `bypass_partial_episodes`; the rest of the episode is ignored.

    Differences, meant as repairs: `reset()` never writes the first part of an episode
    that was too long, nor raises after one; if the step too many is the boundary
    itself, the next episode is stored normally; `priority` is checked.

    Args:
        py_client: see `TrajectoryObserver`.
        table_name: likewise.
        max_sequence_length: the most steps of an episode, its boundary included.
        priority: of each new item.
        bypass_partial_episodes: whether an episode that is too long is no error.

    Raises:
        InvalidArgumentError, SpecError and others: see `TrajectoryObserver`. A signature
            needs None as its time axis.
    """

    _ITEMS = _core.EPISODES

    def __init__(
        self,
        py_client: Any,
        table_name: str | Sequence[str],
        max_sequence_length: int,
        priority: float = 1,
        bypass_partial_episodes: bool = False,
    ) -> None:
        check_int("max_sequence_length", max_sequence_length, 1, 2**32 - 1)
        self._bypass = bool(bypass_partial_episodes)
        super().__init__(
            py_client,
            table_name,
            length=("max_sequence_length", max_sequence_length),
            priority=priority,
        )

    def update_priority(self, priority: float) -> None:
        """Sets the priority of items to come.

        Raises:
            InvalidArgumentError: it is no finite number >= 0.
        """
        number = as_priority(priority)
        self._settings["priority"] = number
        if self._writer is not None:
            self._writer.set_priority(number)

    def reset(self, write_cached_steps: bool = True) -> None:
        """Ends the open episode; reopens a closed observer. Waits as `flush` does.

        Args:
            write_cached_steps: what there is of the episode becomes an item; nothing
                if it was too long. False drops it.

        Raises:
            ClosedError, UnreachableServerError: the buffer or server is closed.
            EndlessWaitError: as when a step ends an episode.
        """
        if write_cached_steps and not self._cached_steps:
            _log.info("%r: reset() has no cached steps to write.", self)
        super().reset(write_cached_steps)

    def _not_just_stored(self, result: int) -> None:
        if result == _core.TOO_LONG:
            too_long(self._bypass, "The episode", self._settings["sequence_length"])
        super()._not_just_stored(result)


def too_long(bypass: bool, whose: str, limit: int) -> None:
    """Says that an episode was dropped: as an error in the log, or as an exception."""
    message = (
        f"{whose} exceeds `max_sequence_length`, {limit} steps with its boundary, and is "
        "dropped; steps up to its end are ignored. Raise max_sequence_length"
    )
    if not bypass:
        raise InvalidArgumentError(f"{message}, or set bypass_partial_episodes=True.")
    _log.error("%s.", message)
