"""Servers in this process with known items, and datasets over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from reverie import reverb

DTYPES = {"a": tf.float32, "n": tf.int64}
SHAPES = {"a": tf.TensorShape([None, 2]), "n": tf.TensorShape([None])}
STEP_SHAPES = {"a": tf.TensorShape([2]), "n": tf.TensorShape([])}


def queue(max_size: int = 1000, signature: Any = None) -> reverb.Table:
    """A table that hands each item out once, in order."""
    return reverb.Table.queue("t", max_size, signature=signature)


def uniform(max_times_sampled: int = 0, signature: Any = None) -> reverb.Table:
    """A table that samples with replacement."""
    return reverb.Table(
        name="t",
        sampler=reverb.selectors.Uniform(),
        remover=reverb.selectors.Fifo(),
        max_size=1000,
        rate_limiter=reverb.rate_limiters.MinSize(1),
        max_times_sampled=max_times_sampled,
        signature=signature,
    )


def serve(*tables: reverb.Table) -> tuple[reverb.Server, reverb.Client, str]:
    """A server, a client of it and its address."""
    server = reverb.Server(tables=list(tables))
    address = f"localhost:{server.port}"
    return server, reverb.Client(address), address


def fill(client: reverb.Client, lengths: Sequence[int], table: str = "t") -> None:
    """Adds items of these lengths; `n` counts the steps of all, `a` is n twice."""
    step = 0
    with client.trajectory_writer(num_keep_alive_refs=max(lengths)) as writer:
        for length in lengths:
            for _ in range(length):
                writer.append({"a": np.full(2, step, np.float32), "n": np.int64(step)})
                step += 1
            writer.create_item(
                table,
                1.0,
                {name: column[-length:] for name, column in writer.history.items()},
            )


def items(lengths: Sequence[int]) -> list[list[int]]:
    """The column `n` of what `fill` adds."""
    ends = np.cumsum(lengths)
    return [list(range(e - n, e)) for e, n in zip(ends, lengths, strict=True)]


def size(client: reverb.Client, table: str = "t") -> int:
    """Items in the table."""
    return int(client.server_info()[table].current_size)


LENGTHS = [3, 3, 1, 2, 2, 2, 5, 1, 1, 4]
INVALID = tf.errors.InvalidArgumentError


def trajectories(address: Any, in_flight: int = 10, **settings: Any) -> Any:
    settings = {"table": "t", "dtypes": DTYPES, "shapes": SHAPES, **settings}
    return reverb.TrajectoryDataset(
        address, max_in_flight_samples_per_worker=in_flight, **settings
    )


def timesteps(address: Any, in_flight: int = 10, **settings: Any) -> Any:
    settings = {"table": "t", "dtypes": DTYPES, "shapes": STEP_SHAPES, **settings}
    return reverb.TimestepDataset(
        address, max_in_flight_samples_per_worker=in_flight, **settings
    )


def numbers(dataset: Any) -> list[Any]:
    """The column `n` of each element."""
    return [np.asarray(sample.data["n"]).tolist() for sample in dataset]


def read(dataset: Any) -> Any:
    return next(iter(dataset))
