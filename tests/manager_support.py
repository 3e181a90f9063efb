"""A small manager, its calls, what goes into it, and what is found in it again."""

from __future__ import annotations

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


def joins(windows: list[list[int]]) -> list[list[int]]:
    """Windows whose steps are not consecutive, or that join negative with positive ones."""
    return [w for w in windows if w != list(range(w[0], w[0] + len(w))) or w[0] < 0 <= w[-1]]
