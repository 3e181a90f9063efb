"""What a fork, and the end of the process, mean for the tables that live in it.

A fork copies memory but no threads: a core mutex that another thread held at
that moment stays locked for ever in the child. So the child must not touch its
copy, not even to destroy it.

At the interpreter's exit a thread that is inside the core, or one of TensorFlow's
that is about to call us, would want the GIL from a runtime that is going away, which
ends the process by abort(). So foreign threads are refused and tables are closed
first, and the threads inside are given a moment to leave.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
import weakref
from types import FrameType
from typing import Any, Protocol

from reverie.errors import ClosedError

_LEAVING_S = 2.0  # the longest that the exit waits for other threads
_LOOK_S = 0.002
# Foreign threads come and go: they are gone when so many looks in a row saw none inside.
_FOREIGN_LOOKS = 11


class Guarded(Protocol):
    """What is watched over."""

    def abandon(self) -> Any:
        """Refuses all use in a forked child; returns what must never be destroyed there."""

    def close(self, why: str = ...) -> None:
        """Refuses later use and wakes who waits."""


_live: weakref.WeakSet[Any] = weakref.WeakSet()
_abandoned: list[Any] = []
_exiting = False
_foreign = False  # whether threads that Python did not start have called


def guard(table: Guarded) -> None:
    """Watches over `table` for as long as it lives."""
    _live.add(table)


def enter_from_outside() -> None:
    """To be called first in what TensorFlow's threads call: they outlive the interpreter.

    Raises:
        ClosedError: the interpreter is exiting.
    """
    global _foreign
    _foreign = True
    if _exiting:
        raise ClosedError("The interpreter exits.")


def others_inside() -> bool:
    """Whether a thread other than this one, whoever started it, is in a call of ours."""
    own = sys._getframe()
    return any(_is_ours(frame) for frame in sys._current_frames().values() if frame is not own)


def _after_fork_in_child() -> None:
    _abandoned.extend(table.abandon() for table in list(_live))


@atexit.register
def _at_exit() -> None:
    """Closes what is still live, if any other thread might be using it."""
    global _exiting
    _exiting = True
    if len(sys._current_frames()) == 1 and not _foreign:
        return
    for table in list(_live):
        table.close("is closed: the interpreter is exiting.")
    end = time.monotonic() + _LEAVING_S
    wanted, looks = _FOREIGN_LOOKS if _foreign else 1, 0
    while time.monotonic() < end:
        looks = 0 if others_inside() else looks + 1
        if looks >= wanted:
            return
        time.sleep(_LOOK_S)


def _is_ours(frame: FrameType | None) -> bool:
    """Whether a thread with this stack is in a call of ours."""
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith("reverie."):
            return True
        frame = frame.f_back
    return False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
