"""Reverb's own calls, on `reverie.reverb` and on dm-reverb, in one process and one run.

    python -m benchmarks.reverb_api [--quick] [--json FILE]

Needs `tf-agents[reverb]==0.19.0` (Linux x86-64, Python 3.11). Smart Control's step of
six leaves (236 bytes). The same program runs on both, with a server in this process.
Each figure is the median of rounds that alternate A B A B; "times" is the median of
the rounds' ratios, which drift less than the figures do.

What is compared: dm-reverb's writer hands items to threads and returns, and flushing
at the end of a block of calls is part of that block; ours has inserted them when the
call returns. Its items travel over gRPC to a server in the same process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from reverie import reverb as ours

try:
    import reverb as theirs
    import tensorflow as tf
except ImportError as error:
    sys.exit(f"A peer is missing ({error}): pip install 'tf-agents[reverb]==0.19.0' 'numpy<2'")

PEERS = {"reverie": ours, "reverb": theirs}
WINDOW = 2


def step(index: int) -> dict[str, Any]:
    """Smart Control's step."""
    return {
        "step_type": np.int32(1),
        "observation": np.full(53, index, np.float32),
        "action": np.zeros(2, np.float32),
        "next_step_type": np.int32(1),
        "reward": np.float32(index),
        "discount": np.float32(1),
    }


class Program:
    """The same Reverb program on one of the two."""

    def __init__(self, peer: Any, items: int) -> None:
        tables = [
            peer.Table(
                name,
                sampler=sampler,
                remover=peer.selectors.Fifo(),
                max_size=items,
                rate_limiter=peer.rate_limiters.MinSize(1),
            )
            for name, sampler in (
                ("uniform", peer.selectors.Uniform()),
                ("prioritized", peer.selectors.Prioritized(0.8)),
            )
        ]
        self.server = peer.Server(tables)
        self.client = peer.Client(f"localhost:{self.server.port}")
        self.writer = self.client.trajectory_writer(num_keep_alive_refs=WINDOW)
        spec = {name: np.asarray(leaf) for name, leaf in step(0).items()}
        dataset = peer.TrajectoryDataset(
            server_address=f"localhost:{self.server.port}",
            table="uniform",
            dtypes={name: leaf.dtype for name, leaf in spec.items()},
            shapes={name: tf.TensorShape((WINDOW, *leaf.shape)) for name, leaf in spec.items()},
            max_in_flight_samples_per_worker=512,
        )
        self.dataset = dataset.batch(256, drop_remainder=True)
        self.iterator: Iterator[Any] | None = None
        self.steps = [step(i) for i in range(100)]
        self.keys: list[int] = []

    def append(self, calls: int) -> None:
        """`append` alone; the steps are in no item."""
        for i in range(calls):
            self.writer.append(self.steps[i % 100])
        self.writer.end_episode()

    def windows(self, calls: int) -> None:
        """A step, and an item of the last two in one table."""
        for i in range(calls):
            self.writer.append(self.steps[i % 100])
            if i + 1 < WINDOW:
                continue
            history = self.writer.history
            trajectory = {name: history[name][-WINDOW:] for name in history}
            self.writer.create_item("uniform", 1.0, trajectory)
        self.writer.end_episode()

    def insert(self, calls: int) -> None:
        """`Client.insert` of one step into a prioritized table."""
        for i in range(calls):
            self.client.insert(self.steps[i % 100], {"prioritized": 1.0 + i})

    def sample(self, calls: int) -> None:
        """Items of `Client.sample`, one by one."""
        for sample in self.client.sample("prioritized", calls, emit_timesteps=False):
            self.keys.append(sample.info.key)

    def mutate(self, calls: int) -> None:
        """Priorities of 256 items a call."""
        keys = (self.keys * 256)[:256]
        for i in range(calls):
            self.client.mutate_priorities("prioritized", {key: 1.0 + i for key in keys})

    def batch(self, calls: int) -> None:
        """Eager `next` of a TrajectoryDataset in batches of 256."""
        if self.iterator is None:
            self.iterator = iter(self.dataset)
            next(self.iterator)
        for _ in range(calls):
            next(self.iterator)


# Name of the row, the program's part, calls of a round.
ROWS: tuple[tuple[str, str, int], ...] = (
    ("append a step", "append", 2000),
    ("append and an item of 2 steps", "windows", 2000),
    ("Client.insert", "insert", 200),
    ("Client.sample, prioritized", "sample", 500),
    ("mutate_priorities, 256 keys", "mutate", 50),
    ("TrajectoryDataset, 256 items", "batch", 10),
)


def seconds(call: Callable[[], Any]) -> float:
    """How long `call` takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(rounds: int, scale: float) -> dict[str, dict[str, list[float]]]:
    """Seconds per call of every round, by row and peer; the first round warms up."""
    programs = {name: Program(peer, 20_000) for name, peer in PEERS.items()}
    rows: dict[str, dict[str, list[float]]] = {}
    for number in range(rounds + 1):
        for row, part, calls in ROWS:
            calls = max(2, int(calls * scale))
            for name, program in programs.items():
                taken = seconds(lambda: getattr(program, part)(calls)) / calls  # noqa: B023
                if number:
                    rows.setdefault(row, {}).setdefault(name, []).append(taken)
    for program in programs.values():
        program.iterator = None
        program.server.stop()
    return rows


def main() -> None:
    """Prints the table; writes the rounds as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small round")
    parser.add_argument("--json", type=Path, help="where every round's figures go")
    arguments = parser.parse_args()
    rows = measure(1 if arguments.quick else 7, 0.1 if arguments.quick else 1.0)
    print("| what | ours | Reverb | times |\n|---|---|---|---|")
    for row, figures in rows.items():
        own, other = figures["reverie"], figures["reverb"]
        times = statistics.median(b / a for a, b in zip(own, other, strict=True))
        cells = [f"{statistics.median(values) * 1e6:.3g} µs" for values in (own, other)]
        print(f"| {row} | {cells[0]} | {cells[1]} | {times:.3g} |")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
