"""The observer: one call per step, windows come by themselves."""

from __future__ import annotations

import math
import numbers
from typing import TYPE_CHECKING, Any

import numpy as np

from reverie import _core
from reverie.checks import check_int
from reverie.errors import ClosedError, InvalidArgumentError, StepMismatchError
from reverie.nests import convert
from reverie.table import Handle, ReplayTable
from reverie.trajectory import LAST

if TYPE_CHECKING:
    from reverie.replay_buffer import LocalClient


class TrajectoryObserver(Handle):
    """Stores each step it is called with and makes an item of every window.

    The behaviour is that of TF-Agents' `ReverbAddTrajectoryObserver`: with N
    steps in the open episode, the last `sequence_length` of them become an item
    when N >= sequence_length and (N - sequence_length) is a multiple of
    `stride_length`. Windows never cross the end of an episode; a boundary step
    may be a window's last. Items can be sampled as soon as the call returns.

    Differences, meant as repairs: after `reset()` without padding a complete
    window is not written twice, and an error there still ends the episode, so
    that no later window crosses it; after `close()`, `open()` and `reset()` with
    padding, no window of nothing but pads is written.

    Thread-safe, but the steps of one episode are meant to come from one thread:
    `ReplayBufferManager.new_observer` makes one for each thread or environment.

    Args:
        table: where items go.
        client: answers `py_client`.
        stride_length: steps between the starts of two windows.
        priority: of each new item.
        pad_end_of_episodes: an episode's rest that fills no window is padded with
            boundary steps of zeros.
        tile_end_of_episodes: each of an episode's last steps starts a padded
            window; needs padding.

    Raises:
        InvalidArgumentError: a number is out of range, or tiling without padding.
    """

    def __init__(
        self,
        table: ReplayTable,
        client: LocalClient,
        *,
        stride_length: int = 1,
        priority: float = 1.0,
        pad_end_of_episodes: bool = False,
        tile_end_of_episodes: bool = False,
    ) -> None:
        if tile_end_of_episodes and not pad_end_of_episodes:
            raise InvalidArgumentError(
                "Must set `pad_end_of_episodes=True` when using `tile_end_of_episodes`."
            )
        number: Any = priority
        if not isinstance(number, numbers.Real) or not 0 <= float(number) < math.inf:
            raise InvalidArgumentError(
                f"priority: found {priority!r:.200}, wanted a finite number >= 0."
            )
        boundary = table.nest.boundary
        self._table = table
        self._client = client
        self._settings = {
            "sequence_length": table.sequence_length,
            "stride_length": check_int("stride_length", stride_length, 1, 2**32 - 1),
            "priority": float(priority),
            "pad_end": bool(pad_end_of_episodes),
            "tile_end": bool(tile_end_of_episodes),
            "boundary_column": -1 if boundary is None else boundary.step_type,
            "boundary_value": LAST,
        }
        self._columns = table.nest.columns
        self._flatten = table.nest.flatten_up_to
        self._asks_column = boundary is not None
        self._writer: _core.Writer | None = None
        self.open()

    def __repr__(self) -> str:
        """`TrajectoryObserver('uniform_table', 3 steps into its episode)`."""
        state = (
            "closed" if self._writer is None else f"{self._cached_steps} steps into its episode"
        )
        return f"TrajectoryObserver({self._table.name!r}, {state})"

    def __call__(self, step: Any, *, last: bool | None = None) -> None:
        """Stores one step. Atomic: on any error nothing was stored.

        Args:
            step: nest that matches the data spec, without a batch axis. Values
                are copied, with NumPy's `same_kind` casting.
            last: True marks the final step of an episode. A step that knows its
                boundary (a Trajectory) is asked instead; then `last` may only
                repeat what it says.

        Raises:
            StepMismatchError: structure, dtype, shape or range; names the path.
            InvalidArgumentError: `last` contradicts the Trajectory.
            ClosedError: the observer or its buffer is closed.
        """
        writer = self._writer
        if writer is None or self._table._closed:
            raise self._closed_error()
        try:
            leaves: list[Any] = self._flatten(step)
        except (ValueError, TypeError):
            raise self._table.nest.explain(step) from None
        ends = -1 if self._asks_column and last is None else self._ends(step, last)
        try:
            mismatch = writer.append(leaves, ends)
            while mismatch >= 0:
                before, column = mismatch, self._columns[mismatch]
                leaves[before] = convert(leaves[before], column)
                mismatch = writer.append(leaves, ends)
                if mismatch == before:  # rather an error than an endless loop
                    raise AssertionError(f"{column.path!r}: no use for {leaves[before]!r:.200}")
        except _core.Closed as error:
            raise self._table.translate(error) from None

    def flush(self) -> None:
        """Does nothing: items can be sampled once the call that made them returns.

        Raises:
            ClosedError: the observer is closed.
        """
        self._open_writer()

    def reset(self, write_cached_steps: bool = True) -> None:
        """Ends the open episode; reopens a closed observer.

        Args:
            write_cached_steps: with padding, the rest of the episode is padded
                and written as at its end. False drops it.

        Raises:
            InvalidArgumentError: `write_cached_steps` without padding, and the last
                steps are in no window. The episode is ended all the same.
            ClosedError: the buffer is closed.
        """
        self.open()
        try:
            uncovered = self._open_writer().reset(bool(write_cached_steps))
        except _core.Closed as error:
            raise self._table.translate(error) from None
        if uncovered:
            raise InvalidArgumentError(
                f"reset(write_cached_steps=True): the episode's last {uncovered} steps fill no "
                f"window of {self._table.sequence_length}. They were dropped. Use "
                "pad_end_of_episodes=True to keep them, or write_cached_steps=False to say "
                "that they may go."
            )

    def open(self) -> None:
        """Makes a closed observer work again; does nothing for an open one.

        Raises:
            ClosedError: the buffer is closed.
        """
        if self._writer is None:
            self._writer = self._table.writer(self, **self._settings)

    def close(self) -> None:
        """Ends the episode; steps in no window are dropped. Idempotent."""
        if self._table.is_forked:
            return  # not even the writer's destructor may touch the core here
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def drop_episode(self) -> None:
        """Forgets the open episode's steps: no later window holds one of them."""
        if self._writer is not None:
            self._writer.reset(False)

    @property
    def py_client(self) -> LocalClient:
        """The client of the buffer that it writes to."""
        return self._client

    def get_table_signature(self) -> Any:
        """The data spec with `ArraySpec` leaves."""
        return self._table.nest.spec

    @property
    def _cached_steps(self) -> int:
        """Steps of the open episode."""
        writer = None if self._table.is_forked else self._writer  # its mutex may be held
        return 0 if writer is None else writer.num_cached

    @property
    def _priority(self) -> float:
        return float(self._settings["priority"])

    def _ends(self, step: Any, last: bool | None) -> int:
        """What `append` is told of the episode's end, for steps of the slow paths."""
        boundary = getattr(step, "is_boundary", None)
        if not callable(boundary):
            return int(bool(last))
        found = np.asarray(boundary())
        if found.shape != ():
            raise StepMismatchError(
                f"Step: is_boundary() has shape {found.shape}, wanted one bool. Steps have no "
                "batch axis: pass one step at a time. Nothing was stored."
            )
        if last is not None and bool(last) != bool(found):
            raise InvalidArgumentError(
                f"last={last!r}, but the step's own is_boundary() says {bool(found)}. Leave "
                "`last` out for steps that know their boundary. Nothing was stored."
            )
        return int(bool(found))

    def _open_writer(self) -> _core.Writer:
        if self._writer is None or self._table._closed:
            raise self._closed_error()
        return self._writer

    def _closed_error(self) -> Exception:
        try:
            self._table.check_open()
        except Exception as error:
            return error
        return ClosedError(
            "The observer is closed: could not obtain a writer. Call open() to go on."
        )
