"""Reverie and dm-reverb side by side in the `seed` scenario, in one process.

    python -m benchmarks.reverb_pair [--quick] [--json FILE]

Needs `tf-agents[reverb]==0.19.0` (Linux x86-64, Python 3.11). Smart Control's step
(236 bytes), 20 000 of them in episodes of 200, windows of 2, batches of 256 through
`tf.data`. Each figure is the median of rounds that alternate A B A B; "times" is the
median of the rounds' ratios, which drift less than the figures do.

What is compared: Reverb is used as TF-Agents' tutorials do, the server in this
process, so that it is spared the network. Its observer hands steps to a thread
and returns; ours has stored them. Its checkpoint is written without fsync, ours with.
`floor` is a dataset of one constant batch: what `tf.data` and eager TensorFlow cost
without any replay buffer.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import reverie

try:
    import reverb
    import tensorflow as tf
    from reverb.platform.checkpointers_lib import DefaultCheckpointer
    from tf_agents.replay_buffers.reverb_replay_buffer import ReverbReplayBuffer
    from tf_agents.replay_buffers.reverb_utils import ReverbAddTrajectoryObserver
    from tf_agents.trajectories.trajectory import Trajectory
except ImportError as error:
    sys.exit(f"A peer is missing ({error}): pip install 'tf-agents[reverb]==0.19.0' 'numpy<2'")

BATCH = 256
LENGTH = 2
EPISODE = 200
TABLE = "uniform_table"
PEERS = ("reverie", "reverb", "floor")


def data_spec() -> Any:
    """Smart Control's step."""
    scalar = tf.TensorSpec((), tf.float32)
    kind = tf.TensorSpec((), tf.int32)
    observation, action = tf.TensorSpec((53,), tf.float32), tf.TensorSpec((2,), tf.float32)
    return Trajectory(kind, observation, action, (), kind, scalar, scalar)


def steps(count: int) -> list[Any]:
    """Episodes of `EPISODE` steps, all different."""
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(count, 53)).astype(np.float32)
    actions = rng.normal(size=(count, 2)).astype(np.float32)
    kinds = [np.asarray(kind, np.int32) for kind in (0, 1, 2)]
    result = []
    for index in range(count):
        place = index % EPISODE
        kind = kinds[2 if place == EPISODE - 1 else 1 if place else 0]
        after = kinds[0 if place == EPISODE - 1 else 2 if place == EPISODE - 2 else 1]
        reward, discount = np.float32(index), np.float32(1)
        result.append(
            Trajectory(kind, observations[index], actions[index], (), after, reward, discount)
        )
    return result


class ReverbManager:
    """What Smart Control's manager does, on dm-reverb."""

    def __init__(self, capacity: int, folder: Path) -> None:
        table = reverb.Table(
            TABLE,
            sampler=reverb.selectors.Uniform(),
            remover=reverb.selectors.Fifo(),
            max_size=capacity,
            rate_limiter=reverb.rate_limiters.MinSize(1),
        )
        self.server = reverb.Server([table], checkpointer=DefaultCheckpointer(str(folder)))
        self.buffer = ReverbReplayBuffer(
            data_spec(), table_name=TABLE, sequence_length=LENGTH, local_server=self.server
        )

    def observer(self) -> Any:
        """TF-Agents' observer."""
        return ReverbAddTrajectoryObserver(self.buffer.py_client, TABLE, LENGTH)

    def dataset(self) -> Any:
        """As `ReplayBufferManager.get_dataset`."""
        return self.buffer.as_dataset(sample_batch_size=BATCH, num_steps=LENGTH).prefetch(2)


def seconds(call: Callable[[], Any]) -> float:
    """How long `call` takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def drain(iterator: Any, count: int) -> None:
    """`count` eager `next` calls."""
    for _ in range(count):
        next(iterator)


Row = dict[str, list[float]]


def measure(capacity: int, rounds: int, root: Path) -> dict[str, Row]:
    """Figures of every round, by row and peer: seconds per call."""
    all_steps = steps(capacity)
    ours = reverie.ReplayBufferManager(data_spec(), capacity, root / "reverie", LENGTH)
    _, our_observer = ours.create_replay_buffer()
    theirs = ReverbManager(capacity, root / "reverb")
    their_observer = theirs.observer()
    rows: dict[str, Row] = {}

    def record(row: str, peer: str, value: float) -> None:
        rows.setdefault(row, {}).setdefault(peer, []).append(value)

    def add(observer: Any, block: list[Any]) -> None:
        for step in block:
            observer(step)

    size = capacity // 20
    for start in range(0, capacity, size):
        block = all_steps[start : start + size]
        for peer, observer in (("reverie", our_observer), ("reverb", their_observer)):
            record("observer call", peer, seconds(partial(add, observer, block)) / size)
    their_observer.flush()
    if ours.num_frames() != theirs.buffer.num_frames():
        raise AssertionError(f"{ours.num_frames()} != {theirs.buffer.num_frames()} items")

    dataset = ours.get_dataset(BATCH)
    iterators = {
        "reverie": iter(dataset),
        "reverb": iter(theirs.dataset()),
        "floor": iter(tf.data.Dataset.from_tensors(next(iter(dataset))).repeat().prefetch(2)),
    }
    iterator: Any = None
    for iterator in iterators.values():
        drain(iterator, 20)
    for _ in range(2 * rounds):
        for peer, iterator in iterators.items():
            count = 20 if peer == "reverb" else 200
            drain(iterator, count // 10)  # what was fetched while the others ran
            spent = seconds(partial(drain, iterator, count))
            record("get_dataset, eager next", peer, spent / count)
    del iterators, iterator

    for _ in range(rounds):
        for peer, folder, save in (
            ("reverie", root / "reverie", ours.save),
            ("reverb", root / "reverb", theirs.buffer.py_client.checkpoint),
        ):
            for old in folder.glob("*/"):
                if old.is_dir():
                    shutil.rmtree(old)  # or ours would write only what is new
            record("checkpoint", peer, seconds(save))
            record("checkpoint, nothing new", peer, seconds(save))
    items = ours.num_frames()
    ours.close()
    their_observer.close()
    theirs.server.stop()

    for _ in range(rounds):
        manager = reverie.ReplayBufferManager(data_spec(), capacity, root / "reverie", LENGTH)
        record("load", "reverie", seconds(manager.load_replay_buffer))
        found = manager.num_frames()
        manager.close()
        start_s = time.perf_counter()
        loaded = ReverbManager(capacity, root / "reverb")
        record("load", "reverb", time.perf_counter() - start_s)
        if {found, loaded.buffer.num_frames()} != {items}:
            raise AssertionError(f"{found}, {loaded.buffer.num_frames()} of {items} items")
        loaded.server.stop()
    return rows


def shown(value_s: float) -> str:
    """Seconds in a unit that fits."""
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if value_s * factor >= 1:
            return f"{value_s * factor:.3g} {unit}"
    return f"{value_s * 1e6:.3g} µs"


def main(arguments: list[str] | None = None) -> int:
    """Runs the comparison, prints the table, writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="2000 steps, few rounds")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    chosen = parser.parse_args(arguments)
    load_before = os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(
            2_000 if chosen.quick else 20_000, 2 if chosen.quick else 7, Path(folder)
        )
    print(f"\n{'':26}" + "".join(f"{peer:>12}" for peer in PEERS) + f"{'times':>9}")
    ratios = {}
    for row, figures in rows.items():
        pairs = zip(figures["reverb"], figures["reverie"], strict=True)
        ratios[row] = statistics.median(theirs / ours for theirs, ours in pairs)
        medians = [shown(statistics.median(figures[p])) if p in figures else "" for p in PEERS]
        print(f"{row:26}" + "".join(f"{m:>12}" for m in medians) + f"{ratios[row]:>9.0f}")
    if chosen.json:
        facts = {
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "machine": platform.platform(),
            "cpus": os.cpu_count(),
            "load_before": load_before,
            "load_after": os.getloadavg(),
            "python": platform.python_version(),
            "versions": {
                name: version(name)
                for name in ("reverie-replay", "dm-reverb", "tf-agents", "tensorflow", "numpy")
            },
            "quick": chosen.quick,
        }
        report = {"facts": facts, "seconds": rows, "times": ratios}
        chosen.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
