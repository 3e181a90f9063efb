"""dm-reverb's client in this process on servers of two others: Reverie's, and dm-reverb's.

    python -m benchmarks.wire

Alternates between the two and prints the best and the median of the rounds. Needs
dm-reverb and the extra `wire`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

SERVER = """
import sys
import socket
%s
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
fifo, uniform = reverb.selectors.Fifo(), reverb.selectors.Uniform()
table = reverb.Table("t", uniform, fifo, 100_000, reverb.rate_limiters.MinSize(1))
server = reverb.Server([table], port)
print(port, flush=True)
sys.stdin.read()
"""
MODULES = {"reverie": "from reverie import reverb", "dm-reverb": "import reverb"}
BATCH = 256


def insert_us(client: Any, steps: int) -> float:
    """Of an append and an item of two steps, until all are confirmed."""
    import numpy as np

    start = time.perf_counter()
    with client.trajectory_writer(num_keep_alive_refs=2) as writer:
        for i in range(steps):
            writer.append(
                {"a": np.full(17, i, np.float32), "r": np.float32(i), "d": np.int32(0)}
            )
            if i:
                writer.create_item("t", 1.0, {k: v[-2:] for k, v in writer.history.items()})
        writer.flush()
        return (time.perf_counter() - start) / steps * 1e6


def sample_us(client: Any, items: int) -> float:
    """Of an item of `Client.sample`."""
    start = time.perf_counter()
    found = sum(1 for _ in client.sample("t", items))
    return (time.perf_counter() - start) / found * 1e6


def dataset_ms(address: str, batches: int) -> float:
    """Of a batch of a `TrajectoryDataset`."""
    import reverb
    import tensorflow as tf

    dataset = reverb.TrajectoryDataset(
        address,
        "t",
        dtypes={"a": tf.float32, "d": tf.int32, "r": tf.float32},
        shapes={
            "a": tf.TensorShape([2, 17]),
            "d": tf.TensorShape([2]),
            "r": tf.TensorShape([2]),
        },
        max_in_flight_samples_per_worker=2 * BATCH,
    ).batch(BATCH)
    iterator = iter(dataset)
    next(iterator)
    start = time.perf_counter()
    for _ in range(batches):
        next(iterator)
    return (time.perf_counter() - start) / batches * 1e3


def measured(rounds: int, steps: int) -> dict[str, dict[str, dict[str, float]]]:
    """What is measured, by server: the best and the median of the rounds."""
    import reverb

    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    env.pop("REVERIE_LISTEN", None)
    processes = {
        name: subprocess.Popen(
            [sys.executable, "-c", SERVER % module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )
        for name, module in MODULES.items()
    }
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    try:
        addresses = {
            name: f"localhost:{int(process.stdout.readline())}"
            for name, process in processes.items()
            if process.stdout is not None
        }
        clients = {name: reverb.Client(address) for name, address in addresses.items()}
        for _ in range(rounds):
            for name, client in clients.items():
                found["append and item, us"][name].append(insert_us(client, steps))
                found["Client.sample, us an item"][name].append(sample_us(client, steps // 2))
                per_batch = dataset_ms(addresses[name], max(1, steps // 150))
                found[f"TrajectoryDataset, ms for {BATCH}"][name].append(per_batch)
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()
    return {
        what: {
            name: {"best": min(times), "median": statistics.median(times)}
            for name, times in of.items()
        }
        for what, of in found.items()
    }


def main() -> None:
    """Prints the table, and writes it as JSON where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = measured(given.rounds, given.steps)
    for what, of in found.items():
        figures = ", ".join(
            f"{name} {row['best']:.1f} (median {row['median']:.1f})" for name, row in of.items()
        )
        print(f"{what}: {figures}")
    if given.json:
        given.json.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
