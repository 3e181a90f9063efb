"""A server for structured writers, and short ways to say what goes in and comes out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("google.protobuf", reason="needs protobuf")

from reverie import reverb
from reverie.reverb import structured_writer as structured
from reverie.reverb.cc import patterns_pb2

TABLES = ("a", "b")


@pytest.fixture
def server() -> Iterator[reverb.Server]:
    server = reverb.Server([reverb.Table.queue(name, 10_000) for name in TABLES])
    yield server
    server.stop()


@pytest.fixture
def client(server: reverb.Server) -> reverb.Client:
    return reverb.Client(f"localhost:{server.port}")


def drained(client: reverb.Client, table: str = "a") -> list[Any]:
    """The items of a table, oldest first, as plain lists."""
    size = client.server_info()[table].current_size
    if not size:
        return []
    samples = client.sample(table, num_samples=size, emit_timesteps=False)
    return [[np.asarray(column).tolist() for column in sample.data] for sample in samples]


def config(*nodes: Any, conditions: Any = (), table: str = "a", priority: Any = None) -> Any:
    return patterns_pb2.StructuredWriterConfig(
        flat=nodes,
        conditions=conditions,
        table=table,
        priority=priority or structured.constant_priority_fn(1.0),
    )
