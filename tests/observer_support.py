"""Tables that a server of this process serves, and what observers have put into them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from reverie import Trajectory, reverb
from reverie.nests.trajectory import FIRST, LAST, MID
from reverie.observers import (
    EpisodeObserver,
    ParallelObserver,
    TrajectoryObserver,
    TrajectorySequenceObserver,
)


class Served:
    """Queues of a running server, and a client of it."""

    def __init__(self, *names: str, limiter: Any = None, signature: Any = None) -> None:
        tables = [
            reverb.Table(
                name=name,
                sampler=reverb.selectors.Fifo(),
                remover=reverb.selectors.Fifo(),
                max_size=100_000,
                rate_limiter=limiter or reverb.rate_limiters.MinSize(1),
                max_times_sampled=1,
                signature=signature,
            )
            for name in names or ("queue",)
        ]
        self.tables = {table.name: table.internal_table for table in tables}
        self.server = reverb.Server(tables)
        self.client = reverb.Client(f"localhost:{self.server.port}")

    def items(self, name: str = "queue") -> list[list[Any]]:
        """Each item's columns, in order of insertion; empties the table."""
        core = self.tables[name].core
        return [sample[-1] for sample in core.sample_items(core.size)] if core.size else []

    def numbers(self, name: str = "queue") -> list[list[int]]:
        """Each item by the numbers of its steps, PAD for a pad; empties the table."""
        return [numbers_of(columns) for columns in self.items(name)]


PAD = -1


def trajectory(n: int, last: bool = False) -> Trajectory:
    """A step that `numbers_of` knows again by `n`."""
    return Trajectory(
        np.int32(LAST if last else MID),
        {"x": np.full(2, n, np.float32)},
        np.int64(n),
        (),
        np.int32(FIRST if last else MID),
        np.float32(n),
        np.float32(1),
    )


def batch(numbers: Sequence[int], lasts: Iterable[bool]) -> Trajectory:
    """Steps `trajectory(number, last)` along a first axis."""
    steps = [trajectory(n, last) for n, last in zip(numbers, lasts, strict=True)]
    return Trajectory(
        np.array([step.step_type for step in steps], np.int32),
        {"x": np.array([step.observation["x"] for step in steps], np.float32).reshape(-1, 2)},
        np.array([step.action for step in steps], np.int64),
        (),
        np.array([step.next_step_type for step in steps], np.int32),
        np.array([step.reward for step in steps], np.float32),
        np.array([step.discount for step in steps], np.float32),
    )


def numbers_of(columns: list[Any]) -> list[int]:
    """The numbers of an item's steps; all its columns must agree on them."""
    step_type, x, action, next_type, reward, discount = columns
    found = []
    for t in range(len(action)):
        is_pad = discount[t] == 0
        wanted = trajectory(0 if is_pad else int(action[t]), last=step_type[t] == LAST)
        assert next_type[t] == wanted.next_step_type
        assert x[t].tolist() == wanted.observation["x"].tolist()
        assert (action[t], reward[t]) == (wanted.action, wanted.reward)
        assert not is_pad or step_type[t] == LAST
        found.append(PAD if is_pad else int(action[t]))
    return found


SINGLE = [
    lambda client, table: TrajectoryObserver(client, table, 2),
    lambda client, table: TrajectorySequenceObserver(client, table, 2),
    lambda client, table: EpisodeObserver(client, table, 9),
]
EVERY = [*SINGLE, lambda client, table: ParallelObserver(client, table, 2, num_envs=1)]


def tell(observer: Any, n: int, last: bool = False) -> None:
    """One step of one environment."""
    if isinstance(observer, ParallelObserver):
        observer(batch([n], [last]))
    else:
        observer(trajectory(n, last))
