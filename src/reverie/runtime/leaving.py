"""What a fork, and the end of the process, mean for the tables that live in it.

A fork copies memory but no threads: a core mutex that another thread held at
that moment stays locked for ever in the child. So the child must not touch its
copy, not even to destroy it.

At the interpreter's exit a daemon thread that is inside the core would want the
GIL back from a runtime that is going away, which ends the process by abort().
So tables are closed first, and the threads inside are given a moment to leave.
"""

from __future__ import annotations

import atexit
import os
import sys
import time
import weakref
from types import FrameType
from typing import Any, Protocol

_LEAVING_S = 2.0  # the longest that the exit waits for other threads


class Guarded(Protocol):
    """What is watched over."""

    def abandon(self) -> Any:
        """Refuses all use in a forked child; returns what must never be destroyed there."""

    def close(self, why: str = ...) -> None:
        """Refuses later use and wakes who waits."""


_live: weakref.WeakSet[Any] = weakref.WeakSet()
_abandoned: list[Any] = []


def guard(table: Guarded) -> None:
    """Watches over `table` for as long as it lives."""
    _live.add(table)


def _after_fork_in_child() -> None:
    _abandoned.extend(table.abandon() for table in list(_live))


@atexit.register
def _at_exit() -> None:
    """Closes what is still live, if any other thread might be using it."""
    if len(sys._current_frames()) == 1:
        return
    for table in list(_live):
        table.close("is closed: the interpreter is exiting.")
    end = time.monotonic() + _LEAVING_S
    own = sys._getframe()
    while time.monotonic() < end and any(
        _inside(frame) for frame in sys._current_frames().values() if frame is not own
    ):
        time.sleep(0.002)


def _inside(frame: FrameType | None) -> bool:
    """Whether a thread with this stack is in a call of ours."""
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith("reverie."):
            return True
        frame = frame.f_back
    return False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
