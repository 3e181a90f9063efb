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


def deepest(call: Callable[[], Any], holder: Any, attribute: str, method: str) -> int:
    """Frames of ours between `call` and a method of the core object that `holder` has."""
    found: list[int] = []
    core = getattr(holder, attribute)

    class Spy:
        def __getattr__(self, name: str) -> Any:
            if name == method:
                frame, ours = sys._getframe(1), 0
                while frame is not None:
                    ours += str(frame.f_globals.get("__name__")).startswith("reverie.")
                    frame = frame.f_back
                found.append(ours)
            return getattr(core, name)

    setattr(holder, attribute, Spy())
    try:
        call()
    finally:
        setattr(holder, attribute, core)
    assert found, f"{method} was not called"
    return max(found)


@pytest.fixture
def manager(tmp_path: Path) -> Any:
    with make(tmp_path) as manager:
        add(manager, *range(9))
        yield manager


def test_a_step_passes_one_frame(manager: ReplayBufferManager) -> None:
    _, observer = manager.get_replay_buffer_and_observer()
    step = {"n": np.int64(9), "x": np.zeros(2, np.float32)}
    assert deepest(lambda: observer(step), observer, "_writer", "append") == 1


def test_a_batch_passes_two(manager: ReplayBufferManager) -> None:
    buffer, _ = manager.get_replay_buffer_and_observer()
    assert deepest(lambda: buffer.sample(3), buffer, "_core", "sample") == 1
    assert deepest(lambda: manager.sample(3), buffer, "_core", "sample") == 2
    out = {name: np.empty((3, 2, *spec.shape), spec.dtype) for name, spec in SPEC.items()}
    whole = lambda: manager.sample(3, 2, out, 1.0)  # noqa: E731
    assert deepest(whole, buffer, "_core", "sample") == 2


def test_a_frame_more_would_be_seen(manager: ReplayBufferManager) -> None:
    buffer, _ = manager.get_replay_buffer_and_observer()
    space: dict[str, Any] = {"__name__": "reverie.planted", "manager": manager}
    exec("def detour():\n    return manager.sample(3)", space)
    assert deepest(space["detour"], buffer, "_core", "sample") == 3
