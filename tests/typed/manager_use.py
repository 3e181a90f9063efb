"""What users of a manager write, and which types they get back. It also runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import assert_type

import reverie
from reverie import limiters, observers, removers, samplers


def main(folder: Path) -> None:
    """Writes, samples, saves, loads."""
    spec = {"obs": reverie.ArraySpec((4,), np.float32), "rew": np.zeros((), np.float32)}
    with reverie.ReplayBufferManager(
        spec,
        100,
        folder,
        sequence_length=2,
        sampler=samplers.Prioritized(0.6),
        remover=removers.Fifo(),
        limiter=limiters.MinSize(1),
        seed=0,
    ) as manager:
        buffer, observer = manager.create_replay_buffer()
        assert_type(buffer, reverie.ReplayBuffer)
        assert_type(observer, observers.TrajectoryObserver)
        assert_type(manager.new_observer(), observers.TrajectoryObserver)
        for t in range(10):
            observer({"obs": np.full(4, t), "rew": 1.0}, last=t == 9)
        assert_type(manager.num_frames(), int)
        batch = manager.sample(8)
        assert_type(batch, reverie.Batch)
        data, info = batch
        assert_type(data, Any)
        assert_type(info.key, NDArray[np.uint64])
        assert_type(manager.update_priorities(info.key, np.ones(8)), int)
        assert_type(manager.iter_items(), Iterator[tuple[int, Any]])
        assert_type(manager.gather_all(), Any)
        assert_type(manager.info(), reverie.BufferInfo)
        assert_type(manager.save(), Path)
        assert_type(manager.save(wait=False), Path | None)
        assert_type(manager.save_checkpoint(), str)
        manager.load_replay_buffer()
