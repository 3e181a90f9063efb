"""Figures of managers and servers on one table: `python -m benchmarks.one_table`.

One million steps of 97 bytes (17 float32, 6 float32, a float32 and a bool), windows of
2, batches of 256 into NumPy. What is compared is measured in turns within one run, and
the median is printed. Prioritized and uniform batches come through the same public
call, `ReplayBufferManager.sample`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import reverie
from reverie import reverb
from reverie.observers import TrajectoryObserver

SPEC = {
    "observation": reverie.ArraySpec((17,), np.float32),
    "action": reverie.ArraySpec((6,), np.float32),
    "reward": reverie.ArraySpec((), np.float32),
    "done": reverie.ArraySpec((), np.bool_),
}
STEP = {
    "observation": np.zeros(17, np.float32),
    "action": np.zeros(6, np.float32),
    "reward": np.float32(0),
    "done": np.bool_(False),
}


def median_us(
    calls: dict[str, Callable[[], Any]], rounds: int, repeat: int
) -> dict[str, float]:
    """Microseconds a call: medians over rounds, in each of which every call has its turn."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            start = time.perf_counter()
            for _ in range(repeat):
                call()
            found[name].append((time.perf_counter() - start) / repeat * 1e6)
    return {name: round(statistics.median(times), 3) for name, times in found.items()}


def filled(folder: Path, items: int, **settings: Any) -> reverie.ReplayBufferManager:
    """A manager with so many windows in it."""
    manager = reverie.ReplayBufferManager(SPEC, items, folder, 2, seed=0, **settings)
    _, observer = manager.create_replay_buffer()
    for _ in range(items + 1):
        observer(STEP)
    return manager


def batches(folder: Path, items: int) -> dict[str, Any]:
    """Uniform and prioritized batches, and the save of a manager."""
    uniform = filled(folder / "u", items)
    prioritized = filled(folder / "p", items, sampler=reverie.samplers.Prioritized(0.6))
    keys = prioritized.get_replay_buffer_and_observer()[0].item_info()["key"]
    prioritized.update_priorities(keys, np.random.default_rng(0).random(len(keys)) + 0.01)
    _, observer = uniform.get_replay_buffer_and_observer()
    result: dict[str, Any] = median_us(
        {
            "uniform_256_us": lambda: uniform.sample(256),
            "prioritized_256_us": lambda: prioritized.sample(256),
            "append_us": lambda: observer(STEP),
        },
        rounds=25,
        repeat=200,
    )
    ratio = result["prioritized_256_us"] / result["uniform_256_us"]
    result["prioritized_over_uniform"] = round(ratio, 2)
    saves = []
    for _ in range(5):
        start = time.perf_counter()
        uniform.save()
        saves.append(time.perf_counter() - start)
    result["save_s"] = round(statistics.median(saves), 3)
    uniform.close()
    prioritized.close()
    return result


def served(folder: Path, steps: int) -> dict[str, Any]:
    """A served prioritized table: its batches before and after a checkpoint, and its size."""

    def serve() -> tuple[reverb.Server, reverb.Client]:
        table = reverb.Table(
            "replay",
            reverb.selectors.Prioritized(0.6),
            reverb.selectors.Fifo(),
            steps,
            reverb.rate_limiters.MinSize(1),
        )
        checkpointer = reverb.checkpointers.DefaultCheckpointer(str(folder))
        server = reverb.Server([table], checkpointer=checkpointer)
        return server, server.localhost_client()

    server, client = serve()
    observer = TrajectoryObserver(client, "replay", 2)
    for _ in range(steps):
        observer(STEP)
    stored = server._server.store.core.info()
    checkpoint = Path(client.checkpoint())
    server.stop()
    again, _ = serve()
    loaded = again._server.store.core.info()
    buffer = reverie.open(checkpoint)
    batch = median_us({"opened": lambda: buffer.sample(256)}, rounds=15, repeat=100)
    again.stop()
    return {
        "record_mb": round(stored["record_nbytes_total"] / 1e6, 2),
        "loaded_record_mb": round(loaded["record_nbytes_total"] / 1e6, 2),
        "checkpoint_mb": round(sum(f.stat().st_size for f in checkpoint.iterdir()) / 1e6, 2),
        "chunks": stored["num_chunks"],
        "loaded_chunks": loaded["num_chunks"],
        "prioritized_256_after_load_us": batch["opened"],
    }


def construction(folder: Path) -> dict[str, float]:
    """Making a manager, which validates all settings."""
    make = {"manager_us": lambda: reverie.ReplayBufferManager(SPEC, 1000, folder, 2)}
    return median_us(make, rounds=9, repeat=20)


def main() -> None:
    """Prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    items = parser.parse_args().items
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = {
            "items": items,
            **batches(folder / "batches", items),
            "served": served(folder / "served", max(1000, items // 10)),
            **construction(folder / "construction"),
        }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
