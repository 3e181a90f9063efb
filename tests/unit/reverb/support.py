"""Servers for the tests of Reverb's API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from reverie.reverb import item_selectors, rate_limiters
from reverie.reverb.client import Client
from reverie.reverb.server import Table
from reverie.reverb.trajectory_writer import TrajectoryWriter

Serve: TypeAlias = Callable[..., Client]


def fifo_table(name: str = "t", **settings: Any) -> Table:
    """A table whose samples come in the order of inserts; `settings` override."""
    given: dict[str, Any] = {
        "sampler": item_selectors.Fifo(),
        "remover": item_selectors.Fifo(),
        "max_size": 1000,
        "rate_limiter": rate_limiters.MinSize(1),
    }
    return Table(name, **{**given, **settings})


def only_item(client: Client, table: str = "t") -> tuple[Any, list[Any]]:
    """Info and columns of a table's one item."""
    assert client.server_info()[table].current_size == 1
    (sample,) = client.sample(table, 1, emit_timesteps=False)
    return sample.info, sample.data


def steps(writer: TrajectoryWriter, n: int, start: int = 0) -> None:
    """Appends `n` steps: `a` is the step's number twice, `b` once."""
    for i in range(start, start + n):
        writer.append({"a": np.full(2, i, np.float32), "b": np.int32(i)})
