"""A round of datasets and iterators made anew for each batch, for `tests.memory.soak`."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from tests.memory import soak
from tests.tf_agents.reverb_support import fill, serve, timesteps, trajectories, uniform

import reverie
from reverie.tf import generator

SPEC = {"o": reverie.ArraySpec((4,), np.float32)}


def one_round(manager: Any, buffer: Any, address: str) -> None:
    for steps in (None, 1):
        dataset = manager.get_dataset(8, steps)
        next(iter(dataset))
        next(iter(dataset.take(1)))
    next(iter(buffer.as_dataset()))
    reader = threading.Thread(target=lambda: next(iter(dataset)))
    reader.start()
    reader.join()
    for make in (trajectories, timesteps):
        next(iter(make(address)))


def short_lived() -> None:
    """A manager of its own, whose dataset is read, and ends."""
    with tempfile.TemporaryDirectory() as folder:
        manager = reverie.ReplayBufferManager(SPEC, 10, folder, 2)
        buffer, observer = manager.create_replay_buffer()
        for number in range(5):
            observer({"o": np.full(4, number, np.float32)}, last=False)
        next(iter(manager.get_dataset(2)))
        buffer.clear()
        for _ in buffer.as_dataset(2, timeout_s=0).take(20):
            pass
        manager.close()


def main(arguments: list[str]) -> None:
    seconds, *planted = arguments
    with tempfile.TemporaryDirectory() as folder:
        manager = reverie.ReplayBufferManager(SPEC, 100, folder, 2)
        buffer, observer = manager.create_replay_buffer()
        for number in range(20):
            observer({"o": np.full(4, number, np.float32)}, last=False)
        server, client, address = serve(uniform())
        fill(client, [2] * 9)

        def each() -> None:
            if planted:  # as if each dataset had functions of its own
                generator._functions.cached.cache_clear()
            one_round(manager, buffer, address)
            short_lived()

        soak.run(each, float(seconds), warm_up=10)
        server.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
