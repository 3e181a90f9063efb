"""How deep the stack is when a step or a batch reaches the core: two frames of ours at most."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.manager_support import SPEC, add, make

from reverie import ReplayBufferManager


def deepest(call: Callable[[], Any], core_method: str) -> int:
    """Frames of ours between `call` and the core's method of that name."""
    found: list[int] = []

    def profile(frame: Any, event: str, function: Any) -> None:
        if event != "c_call" or getattr(function, "__name__", "") != core_method:
            return
        ours = 0
        while frame is not None:
            ours += str(frame.f_globals.get("__name__")).startswith("reverie.")
            frame = frame.f_back
        found.append(ours)

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    assert found, f"{core_method} was not called"
    return max(found)


@pytest.fixture
def manager(tmp_path: Path) -> Any:
    with make(tmp_path) as manager:
        add(manager, *range(9))
        yield manager


def test_a_step_passes_one_frame(manager: ReplayBufferManager) -> None:
    _, observer = manager.get_replay_buffer_and_observer()
    step = {"n": np.int64(9), "x": np.zeros(2, np.float32)}
    assert deepest(lambda: observer(step), "append") == 1


def test_a_batch_passes_two(manager: ReplayBufferManager) -> None:
    buffer, _ = manager.get_replay_buffer_and_observer()
    assert deepest(lambda: buffer.sample(3), "sample") == 1
    assert deepest(lambda: manager.sample(3), "sample") == 2
    out = {name: np.empty((3, 2, *spec.shape), spec.dtype) for name, spec in SPEC.items()}
    assert deepest(lambda: manager.sample(3, 2, out, 1.0), "sample") == 2


def test_a_frame_more_would_be_seen(manager: ReplayBufferManager) -> None:
    space: dict[str, Any] = {"__name__": "reverie.planted", "manager": manager}
    exec("def detour():\n    return manager.sample(3)", space)
    assert deepest(space["detour"], "sample") == 3
