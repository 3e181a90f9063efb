"""The one thread in which all listening servers of the process answer their calls.

One, because event loops that share gRPC's queue take each other's events, and say so.
"""

from __future__ import annotations

import asyncio
import os
import threading

from reverie.reverb.wire.waits import Waits
from reverie.runtime.company import met

_PATIENCE_S = 5.0


class Loop:
    """An event loop that runs in a daemon thread while anybody has it; see `acquire`.

    Attributes:
        loop: which runs.
        waits: for what would block it.
        thread: in which it runs.
    """

    def __init__(self, user: object) -> None:
        self.loop = asyncio.new_event_loop()
        self.waits = Waits(self.loop, "reverie-wire-wait")
        # In a forked child the stack of the thread that is not there keeps this, and this keeps
        # them: what is gRPC's must not be destroyed there.
        self._users = {user}
        self.thread = threading.Thread(
            target=self._run, name="reverie-wire: clients of other processes", daemon=True
        )
        self.thread.start()

    def add(self, user: object) -> None:
        """One more has it."""
        self._users.add(user)

    def release(self, user: object) -> None:
        """Gives it back; the last one who does ends the thread."""
        global _current
        with _lock:
            self._users.discard(user)
            if self._users:
                return
            _current = None
        self.loop.call_soon_threadsafe(self.loop.stop)
        if threading.current_thread() is not self.thread:
            self.thread.join(_PATIENCE_S)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        met()  # clients of other processes may end a wait of this one
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()


_lock = threading.Lock()
_current: Loop | None = None
_was_there = False  # since when gRPC has threads in this process
_is_lost = False  # they were another process's, before a fork


def acquire(user: object) -> Loop:
    """The process's loop, which `user` is to release."""
    global _current, _was_there
    with _lock:
        _was_there = True
        if _current is None:
            _current = Loop(user)
        else:
            _current.add(user)
        return _current


def is_lost() -> bool:
    """Whether gRPC cannot be used here: it was in use when this process was forked."""
    return _is_lost


def _after_fork_in_child() -> None:
    global _lock, _current, _is_lost
    _lock, _current = threading.Lock(), None
    _is_lost = _is_lost or _was_there


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
