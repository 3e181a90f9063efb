"""A server of this process: tables under a port number, and their checkpoints."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from reverie.checkpoint.disk.limits import check_limit
from reverie.checkpoint.folder.place import folder_of, is_folder
from reverie.errors import InvalidArgumentError
from reverie.reverb.engine import registry
from reverie.reverb.engine.serving import Serving
from reverie.reverb.errors import UnreachableServerError
from reverie.runtime.checks import as_int
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


class Server(Serving):
    """Tables over one store, found by clients of this process under its port.

    Nothing listens on the port: that is `reverie.reverb.wire`'s. All tables share one
    copy of the steps. Thread-safe.

    Args:
        tables: at least one; each belongs to this server from now on. Those of a server
            that was stopped are served with their items: all of them, others beside.
        port: 1 to 65535; None or 0 takes an unused one.
        checkpointer: if given, the newest checkpoint of its folder is loaded; its
            tables' settings replace those of the tables here.

    Raises:
        TypeError: an argument is of another type.
        InvalidArgumentError: no tables, two of one name, one of a server that runs, some
            of the tables of a stopped one, or its tables and a checkpoint; a port out of
            range or taken.
        CheckpointError: the checkpoint cannot be read.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        port: int | None = None,
        checkpointer: Checkpointer | None = None,
    ) -> None:
        self._checkpointer = checkpointer
        self._port = checked_port(port) or registry.unused_port()
        _check_tables(tables)
        before = _store_before(tables)
        self._marks: list[Callable[[], None]] = []
        super().__init__(f"the server on port {self._port}", self._new_store(before), tables)
        try:
            self._attach()
            self._load()
            if before is not None:
                self._store.reopen()
            registry.register(self.port, self)
            for table in tables:
                _ = table.core
        except BaseException:
            registry.unregister(self.port, self)
            self._give_back()
            raise
        self._marks.clear()

    def _new_store(self, before: Store | None = None) -> Store:
        return Store(
            f"The server on port {self._port}",
            error=UnreachableServerError,
            way_out="Make a new Server, which may serve the same tables, and a new Client.",
            anew=registry.WAY_OUT,
            before=before,
        )

    def _attach(self) -> None:
        for table in self.tables.values():
            mark = table.mark()
            table.attach(self._store)
            self._marks.append(mark)

    def _give_back(self) -> None:
        """Gives the tables back as they were before this server took them."""
        self._store.close("could not be made.")
        while self._marks:
            self._marks.pop()()

    def _load(self) -> None:
        checkpointer = self._checkpointer
        if checkpointer is None or not checkpointer.may_hold_one:
            return
        from reverie.reverb.engine import checkpoints

        if self._store.before is not None:
            if checkpoints.there_is_one(checkpointer.path, checkpointer.fallback):
                raise InvalidArgumentError(
                    f"{checkpointer.path!r:.200} holds a checkpoint, whose items would take "
                    "the place of those that the tables hold from the server before. Serve "
                    "them without this checkpointer, or new tables with it: Table.replace() "
                    "makes an empty one of the same settings."
                )
            return

        def fresh() -> Store:
            self._give_back()
            self._store = self._new_store()
            self._attach()
            return self._store

        checkpoints.load(
            fresh,
            self.tables,
            checkpointer.path,
            checkpointer.fallback,
            checkpointer.max_nbytes,
        )

    @property
    def port(self) -> int:
        """The number under which clients find it."""
        return self._port

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

    def __del__(self) -> None:
        """Stops the server; not where it goes with the interpreter, whose names are gone."""
        finalizing = sys is None or sys.is_finalizing()
        if not finalizing and hasattr(self, "_store") and self._store.is_open:
            self.Stop()

    def __repr__(self) -> str:
        """The port, the tables and the checkpointer."""
        tables = ", ".join(map(repr, self.tables.values()))
        return f"Server(port={self.port}, tables=[{tables}], checkpointer={self._checkpointer})"


def checked_port(port: int | None) -> int:
    """The number of a port; 0: an unused one is wanted.

    Raises:
        TypeError: it is no integer.
        InvalidArgumentError: it is out of range.
    """
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


def _store_before(tables: Sequence[Table]) -> Store | None:
    """The store of a stopped server whose tables are to be served again; None: all are new."""
    before = next(filter(None, (table.served_before for table in tables)), None)
    if before is None:
        return None
    again = [table.name for table in tables if table.served_before is before]
    missing = [settings.name for settings in before.settings if settings.name not in again]
    if missing:
        raise InvalidArgumentError(
            f"tables: found {again!r:.200} of a server that was stopped, wanted its tables "
            f"{missing!r:.200} as well: they share their steps. Serve all of them, or "
            "Table.replace(), which makes a new, empty table of the same settings."
        )
    return before
