"""What the tests of Reverb's API share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.unit.reverb.support import Serve, fifo_table

from reverie.reverb.client import Client
from reverie.reverb.server import Server, Table


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server with the given tables, by default one FIFO table "t"; its client."""
    servers = []

    def start(*tables: Table) -> Client:
        servers.append(Server(list(tables) or [fifo_table()]))
        return Client(f"localhost:{servers[-1].port}")

    yield start
    for server in servers:
        server.stop()
