"""A small manager, its calls, what goes into it, and what is found in it again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from reverie import ArraySpec, ReplayBufferManager

SPEC = {"n": ArraySpec((), np.int64), "x": ArraySpec((2,), np.float32)}


def make(folder: Path, **changes: Any) -> ReplayBufferManager:
    return ReplayBufferManager(
        **{"data_spec": SPEC, "capacity": 20, "checkpoint_dir": folder, **changes}
    )


def add(manager: ReplayBufferManager, *numbers: int) -> None:
    _, observer = manager.get_replay_buffer_and_observer()
    for n in numbers:
        observer({"n": n, "x": np.full(2, n)})


def contents(manager: ReplayBufferManager) -> list[tuple[int, list[int]]]:
    """Every item's key and step numbers; x must hold the same numbers."""
    found = []
    for key, item in manager.iter_items():
        assert item["x"][:, 0].tolist() == item["n"].tolist()
        found.append((key, item["n"].tolist()))
    return found


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("ckpt"))


# Every call, by what must have come before it.
CALLS: dict[str, Callable[[ReplayBufferManager], Any]] = {
    "get_dataset": lambda m: m.get_dataset(),
    "new_observer": lambda m: m.new_observer(),
    "sample": lambda m: m.sample(1),
    "gather_all": lambda m: m.gather_all(),
    "iter_items": lambda m: m.iter_items(),
    "update_priorities": lambda m: m.update_priorities([1], [1.0]),
    "info": lambda m: m.info(),
    "save": lambda m: m.save(),
}
ANY_TIME: dict[str, Callable[[ReplayBufferManager], Any]] = {
    "num_frames": lambda m: m.num_frames(),
    "clear": lambda m: m.clear(),
    "create_replay_buffer": lambda m: m.create_replay_buffer(),
    "load_replay_buffer": lambda m: m.load_replay_buffer(),
    "get_replay_buffer_and_observer": lambda m: m.get_replay_buffer_and_observer(),
}


def joins(windows: list[list[int]]) -> list[list[int]]:
    """Windows whose steps are not consecutive, or that join negative with positive ones."""
    return [w for w in windows if w != list(range(w[0], w[0] + len(w))) or w[0] < 0 <= w[-1]]
