"""What a fork, and the end of the process, mean for the tables that live in it.

A fork copies memory but no threads: a core mutex that another thread held at
that moment stays locked for ever in the child. So the child must not touch its
copy, not even to destroy it.

At the interpreter's exit Python's own daemon threads stay where they are when they next
want the GIL, in the core as anywhere (bindings/no_gil.h). Tables stay open, so that exit
handlers that run later still save. But a thread that Python did not start, one of
TensorFlow's that is about to call us, would want the GIL from a runtime that is going
away, which ends the process by abort(). So these are refused, and those inside are given
a moment to leave.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import weakref
from types import FrameType
from typing import Any, Protocol

from reverie.errors import ClosedError
from reverie.runtime import company

_LEAVING_S = 2.0  # the longest that the exit waits for other threads
_LOOK_S = 0.002
# Foreign threads come and go: they are gone when so many looks in a row saw none inside.
_FOREIGN_LOOKS = 11
_EXITS = "The interpreter exits."


class Guarded(Protocol):
    """What is watched over."""

    def abandon(self) -> Any:
        """Refuses all use in a forked child; returns what must never be destroyed there."""


_live: weakref.WeakSet[Any] = weakref.WeakSet()
_abandoned: list[Any] = []
_exiting = False
_foreign = False  # whether threads that Python did not start have called


def guard(table: Guarded) -> None:
    """Watches over `table` for as long as it lives."""
    _live.add(table)


def enter_from_outside(reader: object) -> None:
    """To be called first in what TensorFlow's threads call: they outlive the interpreter.

    Args:
        reader: whose data they fetch; while it lives, such threads are waited for.

    Raises:
        StopIteration: the interpreter is exiting. TensorFlow ends the dataset, which it
            does not log.
    """
    global _foreign
    _foreign = True
    company.read_from_outside(reader)
    if _exiting:
        raise StopIteration(_EXITS)


def check_staying() -> None:
    """Raises ClosedError in a thread that Python did not start, once the interpreter exits."""
    if _exiting and is_foreign(threading.get_ident()):
        raise ClosedError(_EXITS)


def foreign_inside() -> bool:
    """Whether a thread that Python did not start is in a call of ours."""
    frames = sys._current_frames().items()
    return any(_is_ours(frame) and is_foreign(ident) for ident, frame in frames)


def _after_fork_in_child() -> None:
    _abandoned.extend(table.abandon() for table in list(_live))


@atexit.register
def _at_exit() -> None:
    """Refuses threads that Python did not start, and waits until none is inside."""
    global _exiting
    _exiting = True
    if not _foreign:
        return
    hook = threading.excepthook

    def quiet(problem: Any) -> None:
        """What a thread reports that was refused because of the exit is no news."""
        error = problem.exc_value
        while error is not None:
            if _EXITS in str(error) or isinstance(error, StopIteration):
                return
            error = error.__cause__ or error.__context__
        hook(problem)

    threading.excepthook = quiet
    end = time.monotonic() + _LEAVING_S
    looks = 0
    while time.monotonic() < end and looks < _FOREIGN_LOOKS:
        looks = 0 if foreign_inside() else looks + 1
        time.sleep(_LOOK_S)


def is_foreign(ident: int) -> bool:
    """Whether Python did not start the thread."""
    thread = threading._active.get(ident)  # type: ignore[attr-defined]
    return thread is None or isinstance(thread, threading._DummyThread)


def _is_ours(frame: FrameType | None) -> bool:
    """Whether a thread with this stack is in a call of ours."""
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith("reverie."):
            return True
        frame = frame.f_back
    return False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
