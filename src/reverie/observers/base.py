"""What all observers share: a writer of the core, its life, and waiting for the limiter."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from reverie import _core
from reverie.errors import InvalidArgumentError, StepMismatchError
from reverie.nests.casts import convert
from reverie.nests.nest import Nest
from reverie.nests.specs import ArraySpec, Column
from reverie.nests.trajectory import LAST
from reverie.observers.targets import Target, spec_of
from reverie.runtime.checks import as_array, as_priority, check_int, check_timeout
from reverie.runtime.handle import Handle
from reverie.runtime.waiting import wait_until

_WAY_OUT = (
    "nobody could sample to let them in. They are kept and go in by themselves as soon as "
    "samples permit it: sample from another thread, or choose a rate limiter that permits more."
)
ASKS_COLUMN = -1
"""Tells the core that the step's boundary column says whether it is a boundary."""


class Observer(Handle):
    """Base of the observers: steps come in, the core makes the items.

    Its own errors are those of the subclasses' documentation.
    """

    _ITEMS: int = _core.WINDOWS
    _BATCH_AXES = 0

    def __init__(
        self,
        py_client: Any,
        table_name: str | Sequence[str],
        *,
        length: tuple[str, Any],
        stride_length: Any = 1,
        priority: Any = 1,
        pad_end: bool = False,
        tile_end: bool = False,
        items: int | None = None,
        num_streams: int = 1,
    ) -> None:
        if tile_end and not pad_end:
            raise InvalidArgumentError(
                "Must set `pad_end_of_episodes=True` when using `tile_end_of_episodes`."
            )
        items = self._ITEMS if items is None else items
        self._settings: dict[str, Any] = {
            "sequence_length": check_int(*length, 1, 2**32 - 1),
            "stride_length": check_int("stride_length", stride_length, 1, 2**32 - 1),
            "priority": as_priority(priority),
            "pad_end": bool(pad_end),
            "tile_end": bool(tile_end),
            "boundary_value": LAST,
            "items": items,
            "num_streams": num_streams,
        }
        self._client = py_client
        self._target = Target(py_client, table_name)
        self._writer: _core.Writer | None = None
        self._is_open = False
        # What the core is told of a step that comes without `last`, if that is always so.
        self._ends_unsaid: int | None = None
        self._starting = threading.Lock()
        self._target.prepare(self._settings["sequence_length"], fixed=items != _core.EPISODES)
        self.open()

    def flush(self, timeout: float | None = None) -> None:
        """Waits until every item so far is in its tables.

        They are there when the call that made them returns, but for a table whose rate
        limiter does not permit more inserts yet: there they wait, in order, and go in by
        themselves as soon as samples or deletions permit it.

        Args:
            timeout: seconds; None waits, 0 does not.

        Raises:
            WaitTimeoutError: `timeout` passed.
            EndlessWaitError: nobody is left who could end the wait.
            ClosedError: the observer is closed; UnreachableServerError: its server is.
        """
        timeout = check_timeout(timeout)
        if not self._is_open:
            raise self._target.closed_error()
        self._target.check_open()
        self._wait_for_items(timeout)

    def open(self) -> None:
        """Makes a closed observer work again; does nothing for an open one.

        Raises:
            ClosedError, UnreachableServerError: its buffer or server is closed.
        """
        if not self._is_open:
            self._target.check_open()
            self._is_open = True  # the first step makes the writer, and its thread known

    def close(self) -> None:
        """Ends the episode; steps in no item are dropped. Idempotent.

        Does not wait: items that a rate limiter holds back stay queued at their tables.
        """
        writer, self._writer = self._writer, None
        self._is_open = False
        if writer is not None:
            writer.close()

    def drop_episode(self) -> None:
        """Forgets the open episode's steps: no later item holds one of them."""
        if self._writer is not None:
            for stream in range(self._settings["num_streams"]):
                self._writer.reset(False, stream)

    @property
    def py_client(self) -> Any:
        """The client that it was made with."""
        return self._client

    def get_table_signature(self) -> Any:
        """The first table's signature, None without one; of a manager's, the data spec."""
        return self._target.signature

    @property
    def _priority(self) -> float:
        return float(self._settings["priority"])

    def abandon(self) -> Any:
        """In a forked child, which must not touch the core: gives the writer up."""
        writer, self._writer = self._writer, None
        return writer

    def _new_writer(self) -> _core.Writer:
        records = self._target.records
        assert records is not None
        nest = records.nest
        if nest.boundary is not None:
            self._ends_unsaid = ASKS_COLUMN
        elif type(nest.spec) is dict:  # whose steps have no `is_boundary`
            self._ends_unsaid = 0
        self._nest = nest
        self._flatten = nest.flatten_up_to
        self._writer = self._target.writer(self, **self._settings)
        self._target.store.watch(self)
        return self._writer

    def _start(self, step: Any) -> _core.Writer:
        """The writer for `step`: it is the first one, or the observer is closed."""
        if not self._is_open:
            raise self._target.closed_error()
        self._target.check_open()
        with self._starting:  # one writer, whichever thread's step is the first
            if self._writer is not None:
                return self._writer
            if self._target.records is None:
                self._target.learn(Nest(spec_of(step, self._BATCH_AXES)))
            return self._new_writer()

    def _cast(
        self,
        leaves: list[Any],
        misfit: int,
        append: Callable[[], int],
        leading: tuple[int, ...] = (),
    ) -> int:
        """Casts the leaves that the core could not take as they are, and appends again.

        Args:
            leaves: of the step or steps; cast ones take their places.
            misfit: the first that is not of its column's dtype and shape.
            append: appends the leaves; returns the next misfit, or what became of them.
            leading: axes before those of a step.

        Raises:
            StepMismatchError: see `convert`.
        """
        while misfit >= 0:
            before, column = misfit, self._nest.columns[misfit]
            if leading:
                shape, dtype = (*leading, *column.spec.shape), column.spec.dtype
                column = Column(column.path, ArraySpec(shape, dtype))
            leaves[before] = convert(leaves[before], column)
            misfit = append()
            if misfit == before:  # rather an error than an endless loop
                raise AssertionError(f"{column.path!r}: no use for {leaves[before]!r:.200}")
        return misfit

    def _boundaries(self, step: Any, last: Any, shape: tuple[int, ...]) -> Any:
        """Whether steps of the slow paths end their episodes: bools of `shape`."""
        boundary = getattr(step, "is_boundary", None)
        if not callable(boundary):
            return (
                np.zeros(shape, np.bool_) if last is None else self._flags("last", last, shape)
            )
        found = self._flags("is_boundary()", boundary(), shape)
        if last is not None and not np.array_equal(self._flags("last", last, shape), found):
            raise InvalidArgumentError(
                f"last={last!r:.200}, but the step's own is_boundary() says "
                f"{found.tolist()!r:.200}. Leave `last` out for steps that know their "
                "boundary. Nothing was stored."
            )
        return found

    def _flags(self, name: str, value: Any, shape: tuple[int, ...]) -> Any:
        found = as_array(f"Step: {name}", value)
        if found.shape != shape:
            hint = " Steps have no batch axis: pass one step at a time." if shape == () else ""
            wanted = "one bool" if shape == () else f"bools of shape {shape}"
            raise StepMismatchError(
                f"Step: {name} has shape {found.shape}, wanted {wanted}.{hint} "
                "Nothing was stored."
            )
        kind = found.dtype.kind
        # Ends in numbers are 0 and 1; "False" is true, and NaN neither.
        if kind != "b" and (kind not in "iuf" or not np.isin(found, (0, 1)).all()):
            raise InvalidArgumentError(
                f"Step: {name} is {value!r:.200}, wanted True or False (0 or 1). "
                "Nothing was stored."
            )
        return found.astype(np.bool_)

    def _wait_for_items(self, timeout: float | None = None) -> None:
        writer = self._writer
        if writer is None:
            return
        try:
            if writer.pending:
                wait_until(
                    lambda slice_s: writer.wait_pending(0, slice_s),
                    timeout=timeout,
                    what=lambda: self._target.describe_wait(writer.pending),
                    way_out=_WAY_OUT,
                    progress=self._target.store.progress,
                )
                self._target.check_open()  # what waits at a server is dropped when it stops
        except _core.Closed:
            raise self._target.closed_error() from None

    def _uncovered(self, what: str) -> InvalidArgumentError:
        return InvalidArgumentError(
            f"reset(write_cached_steps=True): {what} fill no window of "
            f"{self._settings['sequence_length']}. They were dropped. Use "
            "pad_end_of_episodes=True to keep them, or write_cached_steps=False to say that "
            "they may go."
        )


def misused(wanted: str, unnamed: Sequence[Any], unknown: Mapping[str, Any]) -> TypeError:
    """That an observer was called with what it does not take.

    Args:
        wanted: how it is called.
        unnamed: what was passed by position beyond that.
        unknown: what was passed by name.
    """
    found = [f"{len(unnamed)} more by position"] if unnamed else []
    found += [f"{name}=" for name in unknown]
    whole = ""
    if len(unnamed) > 1:
        whole = " A step that is a tuple is passed whole: observer(step), not observer(*step)."
    return TypeError(
        f"An observer is called as {wanted}: found {', '.join(found):.200}. Whether the step "
        f"ends its episode (done, or terminated or truncated) is passed as last=.{whole} "
        "Nothing was stored."
    )
