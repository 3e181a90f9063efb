"""The server of a replay buffer: one table, its folder of checkpoints, and a port."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reverie.checkpoint.save import Saver
from reverie.reverb.engine import registry
from reverie.reverb.engine.serving import Serving
from reverie.runtime.handle import Handle
from reverie.tables.table import Table

if TYPE_CHECKING:
    from reverie.reverb.client import Client


class BufferServer(Handle, Serving):
    """A replay buffer's table as clients see it. Thread-safe.

    It gets its port when that is first asked for.

    Args:
        table: of the buffer. Its keys are the core's own from now on, so that an item has
            one key, whoever tells it.
        saver: of its checkpoints.
    """

    def __init__(self, table: Table, saver: Saver) -> None:
        super().__init__("this replay buffer", table.store, [table])
        self._table = table
        self._saver = saver
        self._port: int | None = None
        table.key_mask = 0

    def __repr__(self) -> str:
        """`BufferServer('uniform_table', 49 of 50000 items)`."""
        return f"BufferServer({self._table.name!r}, {self._table.describe()})"

    @property
    def port(self) -> int:
        """The number under which clients of this process find it.

        Raises:
            ClosedError: nobody has asked for it before the buffer was closed.
        """
        if self._port is None:
            self.check_open()
            # No lock, which a fork could leave locked: of two threads one makes a spare entry.
            self._port = registry.register_unused(self)
        return self._port

    def reset(self, name: str) -> None:
        """Empties the table, as the buffer's `clear`; errors as `table`'s."""
        self.table(name).clear()

    def checkpoint(self) -> str:
        """Saves a checkpoint, as the buffer's `save`; returns its path."""
        return str(self._saver.save(self._store))

    def stop(self) -> None:
        """Closes the buffer: ends a background save, then refuses later use. Idempotent.

        Raises:
            CheckpointError: the background save failed; the buffer is closed all the same.
        """
        try:
            self._saver.close()
        finally:
            if self._store.is_open:
                self._store.close()
                self._table.core.clear()
            if self._port is not None:
                registry.unregister(self._port, self)
            self._stopped.set()

    Stop = stop

    def wait(self) -> None:
        """Waits until the buffer is closed in another thread, open to Ctrl-C.

        Raises:
            EndlessWaitError: there is no other thread, so nothing could end the wait.
        """
        self.Wait()

    def localhost_client(self) -> Client:
        """A client of the buffer."""
        from reverie.reverb.client import Client

        return Client(f"localhost:{self.port}")
