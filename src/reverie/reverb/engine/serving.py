"""What clients, writers and samplers ask a server for, whatever it is that serves."""

from __future__ import annotations

import abc
import threading
from collections.abc import Iterable

from reverie.reverb.engine.writing.known_columns import Shared
from reverie.reverb.errors import UnknownTableError
from reverie.runtime.optional import install_command
from reverie.runtime.waiting import wait_until
from reverie.tables.store import Store
from reverie.tables.table import Table


class Serving(abc.ABC):
    """Tables over one store. Thread-safe. Stop and Wait are named as Reverb's engine has them.

    Args:
        where: what serves, for messages: "the server on port 8000".
        store: of all tables.
        tables: of different names.

    Attributes:
        tables: by name.
        shared: what its writers know of their columns.
    """

    def __init__(self, where: str, store: Store, tables: Iterable[Table]) -> None:
        self._where = where
        self._store = store
        self._stopped = threading.Event()
        self.tables: dict[str, Table] = {table.name: table for table in tables}
        self.shared = Shared()

    @property
    @abc.abstractmethod
    def port(self) -> int:
        """The number under which clients find it."""

    @property
    def store(self) -> Store:
        """The store that the tables share."""
        return self._store

    @property
    def is_open(self) -> bool:
        """Whether it serves."""
        return self._store.is_open

    def check_open(self) -> None:
        """Raises the store's own error or ForkedProcessError where it does not serve."""
        self._store.check_open()

    def table(self, name: str) -> Table:
        """The table of that name.

        Raises:
            UnknownTableError: there is none.
        """
        table = self.tables.get(name) if isinstance(name, str) else None
        if table is None:
            raise UnknownTableError(
                f"Priority table {name!r:.200} was not found; the tables of {self._where}: "
                f"{', '.join(map(repr, self.tables)):.200}."
            )
        return table

    def reset(self, name: str) -> None:
        """Deletes a table's items and resets its rate limiter; errors as `table`'s."""
        self.table(name).core.clear()

    @abc.abstractmethod
    def checkpoint(self) -> str:
        """Writes a checkpoint; returns its path."""

    @abc.abstractmethod
    def Stop(self) -> None:
        """Refuses later use and wakes who waits. Idempotent."""

    def Wait(self) -> bool:
        """Waits until it is stopped, open to Ctrl-C. Always False.

        Raises:
            EndlessWaitError: nobody is left in the process who could stop it, nor use it:
                other processes cannot.
            ForkedProcessError: made before `os.fork()`.
        """

        def stopped(slice_s: float) -> bool:
            self._store.check_process()
            return self._stopped.wait(slice_s) or not self.is_open

        wait_until(
            stopped,
            timeout=None,
            what=lambda: f"for {self._where} to be stopped",
            way_out=(
                "nobody could stop it: it is found by clients of its own process alone. Start "
                "the threads that use it first, or let it listen for other processes: "
                f"{install_command('wire')}."
            ),
            progress=self._store.progress,
        )
        return False
