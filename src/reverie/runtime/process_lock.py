"""A lock that does not outlive a fork."""

from __future__ import annotations

import contextlib
import os
import threading


class ProcessLock:
    """A reentrant lock of one process; a context manager.

    A thread that held it at an `os.fork()` is not in the child, and could never let it go
    there. So the child finds it free. What it guards may be half done in the child, which
    must refuse to use it.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._pid = os.getpid()

    def __enter__(self) -> None:
        """Waits until no other thread of this process has it."""
        if os.getpid() != self._pid:
            self.__init__()  # type: ignore[misc]
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        """Lets it go."""
        with contextlib.suppress(RuntimeError):  # made anew meanwhile: a fork while we had it
            self._lock.release()
