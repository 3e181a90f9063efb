"""A server of this process: tables under a port number, and their checkpoints."""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from reverie.checkpoint.disk.limits import check_limit
from reverie.checkpoint.folder.place import folder_of, is_folder
from reverie.errors import InvalidArgumentError
from reverie.reverb.engine import registry
from reverie.reverb.engine.writing.known_columns import Shared
from reverie.reverb.errors import UnknownTableError, UnreachableServerError
from reverie.runtime.checks import as_int
from reverie.runtime.waiting import wait_until
from reverie.tables.store import Store
from reverie.tables.table import Table


class Checkpointer:
    """Where a server's checkpoints go, and where it starts from.

    Args:
        path: the folder, or a function that makes one when it is first wanted.
        group: ignored, as Reverb's outside of its authors' own machines.
        fallback_checkpoint_path: one checkpoint's own folder, to start from where
            `path` holds none.
        max_nbytes: most bytes that a checkpoint may take to start from; None: in
            proportion to what its files take on the disk.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | Callable[[], str],
        group: str = "",
        fallback_checkpoint_path: str | os.PathLike[str] | None = None,
        *,
        max_nbytes: int | None = None,
    ) -> None:
        self._path = path if callable(path) else str(folder_of("path", path))
        self.group = group
        self.max_nbytes = check_limit(max_nbytes)
        fallback = fallback_checkpoint_path
        self.fallback = (
            str(folder_of("fallback_checkpoint_path", fallback)) if fallback else None
        )

    @property
    def path(self) -> str:
        """The folder."""
        return self._path() if callable(self._path) else self._path

    @property
    def may_hold_one(self) -> bool:
        """Whether there might be something to load."""
        try:
            known = not callable(self._path) and is_folder(Path(self._path))
        except OSError:
            known = True  # loading says why it cannot be looked at
        return known or self.fallback is not None

    def __repr__(self) -> str:
        """`Checkpointer(path='...')`."""
        path = "a temporary folder" if callable(self._path) else repr(self._path)
        return f"Checkpointer(path={path})"


def create_default_checkpointer(
    path: str, group: str = "", fallback_checkpoint_path: str | None = None
) -> Checkpointer:
    """A `Checkpointer` with these settings."""
    return Checkpointer(path, group, fallback_checkpoint_path)


class Server:
    """Tables over one store, found by clients of this process under its port.

    Stop and Wait are named as Reverb's engine has them.

    Nothing listens on the port. All tables share one copy of the steps. Thread-safe.

    Args:
        tables: at least one; each belongs to this server from now on.
        port: 1 to 65535; None or 0 takes an unused one.
        checkpointer: if given, the newest checkpoint of its folder is loaded; its
            tables' settings replace those of the tables here.

    Raises:
        TypeError: an argument is of another type.
        InvalidArgumentError: no tables, two of one name, a table of another server, a
            port out of range or taken.
        CheckpointError: the checkpoint cannot be read.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        port: int | None = None,
        checkpointer: Checkpointer | None = None,
    ) -> None:
        self._stopped = threading.Event()
        self._checkpointer = checkpointer
        self.port = _checked_port(port) or registry.unused_port()
        _check_tables(tables)
        self._store = Store(
            f"The server on port {self.port}",
            error=UnreachableServerError,
            way_out="Make a new Server, with new tables (Table.replace() makes an empty one of "
            "the same settings), and a new Client.",
            anew=registry.WAY_OUT,
        )
        self.tables: dict[str, Table] = {}
        self.shared = Shared()  # by its writers
        before = [table.settings for table in tables]
        try:
            for table in tables:
                table.attach(self._store)
                self.tables[table.name] = table
            self._load()
            for table in tables:
                _ = table.core
            registry.register(self.port, self)
        except BaseException:
            self._store.close("could not be made.")
            for table, settings in zip(self.tables.values(), before, strict=False):
                table.detach()
                table.configure(settings)
            raise

    def _load(self) -> None:
        checkpointer = self._checkpointer
        if checkpointer is None or not checkpointer.may_hold_one:
            return
        from reverie.reverb.engine import checkpoints

        checkpoints.load(
            self._store,
            self.tables,
            checkpointer.path,
            checkpointer.fallback,
            checkpointer.max_nbytes,
        )

    @property
    def store(self) -> Store:
        """The store that the tables share."""
        return self._store

    @property
    def is_open(self) -> bool:
        """Whether it serves."""
        return self._store.is_open

    def check_open(self) -> None:
        """Raises UnreachableServerError or ForkedProcessError where it does not serve."""
        self._store.check_open()

    def table(self, name: str) -> Table:
        """The table of that name.

        Raises:
            UnknownTableError: there is none.
        """
        table = self.tables.get(name) if isinstance(name, str) else None
        if table is None:
            raise UnknownTableError(
                f"Priority table {name!r:.200} was not found; the tables of the server on port "
                f"{self.port}: {', '.join(map(repr, self.tables)):.200}."
            )
        return table

    def checkpoint(self) -> str:
        """Writes a checkpoint of all tables; returns its path.

        Raises:
            RuntimeError: the server has no checkpointer.
            UnreachableServerError, ForkedProcessError: it does not serve.
            CheckpointError: it could not be written.
        """
        self.check_open()
        if self._checkpointer is None:
            raise RuntimeError(
                f"The server on port {self.port} has no checkpointer: pass "
                "Server(checkpointer=DefaultCheckpointer(path))."
            )
        from reverie.reverb.engine import checkpoints

        return checkpoints.save(self._store, self._checkpointer.path)

    def Stop(self) -> None:
        """Refuses later use and wakes who waits. Idempotent."""
        registry.unregister(self.port, self)
        self._store.close("was stopped.")
        self._stopped.set()

    def Wait(self) -> bool:
        """Waits until the server is stopped, open to Ctrl-C. Always False.

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
            what=lambda: f"for the server on port {self.port} to be stopped",
            way_out=(
                "nobody could stop it: a server of Reverie is found by clients of its own "
                "process alone. Start the threads that use it first, or run a server for other "
                "processes with dm-reverb."
            ),
            progress=self._store.progress,
        )
        return False

    def __del__(self) -> None:
        """Stops the server; not where it goes with the interpreter, whose names are gone."""
        finalizing = sys is None or sys.is_finalizing()
        if not finalizing and hasattr(self, "_store") and self._store.is_open:
            self.Stop()

    def __repr__(self) -> str:
        """The port, the tables and the checkpointer."""
        tables = ", ".join(map(repr, self.tables.values()))
        return f"Server(port={self.port}, tables=[{tables}], checkpointer={self._checkpointer})"


def _checked_port(port: int | None) -> int:
    if port is None:
        return 0
    number = as_int("port", port)
    if not 0 <= number <= 65535:
        raise InvalidArgumentError(
            f"port ({number}): wanted 1 to 65535, or None for an unused one. (Reverb: Failed "
            "to BuildAndStart gRPC server.)"
        )
    return number


def _check_tables(tables: Sequence[Table]) -> None:
    if not tables:
        raise InvalidArgumentError("At least one table must be provided")
    for table in tables:
        if not isinstance(table, Table):
            raise TypeError(f"tables: found {table!r:.200} among them, wanted Tables.")
    counts = Counter(table.name for table in tables)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise InvalidArgumentError(
            f"Multiple items in tables have the same name: {', '.join(twice):.200}"
        )
