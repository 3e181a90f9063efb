"""Short ways to say what goes into structured writers and what comes out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("google.protobuf", reason="needs protobuf")

from reverie import reverb
from reverie.reverb import structured_writer as structured
from reverie.reverb.cc import patterns_pb2

TABLES = ("a", "b")


def tables() -> list[reverb.Table]:
    """The tables, with room for whatever a test writes."""
    return [reverb.Table.queue(name, 10_000) for name in TABLES]


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
