"""The client that a replay buffer hands out: its `py_client`."""

from __future__ import annotations

from collections.abc import Sequence

from reverie.errors import InvalidArgumentError
from reverie.reverb.client import Client
from reverie.reverb.engine.buffer_server import BufferServer
from reverie.reverb.engine.local_client import BoundClient
from reverie.runtime.handle import Handle
from reverie.tables.table import Table


class BufferClient(Handle, Client):
    """Reverb's client, of a replay buffer: what TF-Agents' and our observers take.

    Every call of Reverb's client does what it does there, on the buffer's table.
    `checkpoint` saves as the buffer does, `reset` clears as it does. Calls raise
    ClosedError once the buffer is closed. Thread-safe.

    Args:
        server: the buffer's; the client keeps it.
    """

    def __init__(self, server: BufferServer) -> None:
        self._client = BoundClient(server)
        self._signature_cache = {}

    def __repr__(self) -> str:
        """`BufferClient(BufferServer('uniform_table', 49 of 50000 items))`."""
        return f"BufferClient({self._client.bound!r})"

    @property
    def server_address(self) -> str:
        """Under which other clients of this process, and datasets, find the buffer.

        Raises:
            ClosedError: nobody has asked for it before the buffer was closed.
        """
        return f"localhost:{self._client.bound.port}"

    def _tables_of(self, names: Sequence[str]) -> list[Table]:
        """The table once for each name, for observers."""
        tables = self._client.bound.tables
        for name in names:
            if name not in tables:
                raise InvalidArgumentError(
                    f"table_name: found {name!r:.200}, wanted {', '.join(map(repr, tables))}, "
                    "the only table of this replay buffer."
                )
        return [tables[name] for name in names]
