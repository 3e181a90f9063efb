"""One store of this process, with whether it still serves: what tables hang on."""

from __future__ import annotations

import os
import weakref
from typing import Any

from reverie import _core
from reverie.errors import ForkedProcessError
from reverie.reverb.errors import UnreachableServerError
from reverie.runtime.leaving import guard

_GATHER_THREADS = min(4, os.cpu_count() or 1)


class Host:
    """The store behind a server's tables. Thread-safe.

    Args:
        where: whose it is, for messages: "The server on port 8000".

    Attributes:
        store: the core's store; one copy of every step, however many tables refer
            to it.
        cores: the core's tables in it.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.store = _core.Store(gather_threads=_GATHER_THREADS)
        self.cores: list[_core.Table] = []
        self._writers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._stopped = ""
        self._forked = False
        guard(self)

    @property
    def is_open(self) -> bool:
        """Whether it serves: neither stopped nor a forked child's copy."""
        return not (self._stopped or self._forked)

    def check_open(self) -> None:
        """Raises where nothing can be written or sampled any more.

        Raises:
            UnreachableServerError: the server was stopped.
            ForkedProcessError: see `check_process`.
        """
        self.check_process()
        if self._stopped:
            raise UnreachableServerError(
                f"{self.where} {self._stopped} Make a new Server, with new tables "
                "(Table.replace() makes an empty one of the same settings), and a new Client."
            )

    def check_process(self) -> None:
        """Raises in a child process that inherited the store by a fork.

        Raises:
            ForkedProcessError: the child's copy must not be touched.
        """
        if self._forked:
            raise ForkedProcessError(
                f"{self.where} was made before os.fork() and cannot be used in the child "
                "process. Make a Server there, or start the process with the 'spawn' method."
            )

    def close(self, why: str = "was stopped.") -> None:
        """Refuses later use and wakes who waits; what is stored can still be looked at."""
        if self.is_open:
            self._stopped = why
            self.store.close()

    def watch(self, writer: Any) -> None:
        """Keeps a forked child from destroying the core of `writer`, its attribute `core`."""
        self._writers.add(writer)

    def abandon(self) -> Any:
        """In a forked child: refuses all use; see `reverie.runtime.leaving`."""
        self._forked = True
        return self, self.store, self.cores, [writer.core for writer in list(self._writers)]
