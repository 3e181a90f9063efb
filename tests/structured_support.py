"""Short ways to say what goes into structured writers and what comes out."""

from __future__ import annotations

import random
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


def random_config(rng: random.Random, width: int, table: str = "a") -> Any:
    """Any sound config for steps of so many leaves."""
    nodes = []
    for _ in range(rng.randint(1, 3)):
        start = -rng.randint(1, 5)
        parts: dict[str, int] = {"stop": start}
        if rng.random() < 0.6:
            parts = {"start": start}
            if rng.random() < 0.5:
                parts["stop"] = rng.randint(start + 1, 0)
            if rng.random() < 0.4:
                parts["step"] = rng.randint(1, 3)
        nodes.append(patterns_pb2.PatternNode(flat_source_index=rng.randrange(width), **parts))
    conditions = []
    for _ in range(rng.choice([0, 0, 1, 1, 2])):
        left = rng.choice(["step_index", "steps_since_applied", "flat_source_index", "end"])
        if left == "end":
            conditions.append(structured.Condition.is_end_episode())
            continue
        made = patterns_pb2.Condition(inverse=rng.random() < 0.3)
        setattr(made, left, rng.randrange(width) if left == "flat_source_index" else True)
        how = rng.choice(["eq", "ge", "mod"])
        if how == "mod":
            made.mod_eq.mod, made.mod_eq.eq = rng.randint(1, 3), rng.randint(0, 2)
        else:
            setattr(made, how, rng.randint(-1, 4))
        conditions.append(made)
    return config(*nodes, conditions=conditions, table=table)
