"""Steps of every kind for TensorFlow's door, comparisons, and a clock for datasets."""

from __future__ import annotations

import functools
import os
import time
from typing import Any

import numpy as np
import optree
import pytest

from reverie import ArraySpec, ReplayBuffer, views
from reverie.runtime import pace

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

SPEC: dict[str, Any] = {
    "observation": {
        "achieved_goal": ArraySpec((2,), np.float32),
        "desired_goal": ArraySpec((2,), np.float32),
        "camera": (ArraySpec((4, 3), np.uint8), ArraySpec((), np.bool_)),
        "nothing": ArraySpec((0, 3), np.int16),
    },
    "action": ArraySpec((2,), np.float32),
    "reward": ArraySpec((), np.float64),
}
LENGTHS = (5, 9, 3)


def state(number: int) -> dict[str, Any]:
    rng = np.random.default_rng(number)
    return {
        "achieved_goal": np.array([number, -number], np.float32),
        "desired_goal": rng.normal(size=2).astype(np.float32),
        "camera": (rng.integers(0, 256, (4, 3), dtype=np.uint8), number % 3 == 0),
        "nothing": np.zeros((0, 3), np.int16),
    }


def filled(lengths: tuple[int, ...] = LENGTHS, **settings: Any) -> ReplayBuffer:
    """Episodes of these lengths, of which each second one was cut off; rewards count steps."""
    buffer = ReplayBuffer(SPEC, 1_000, **{"seed": 3, **settings})
    number = 0
    for episode, length in enumerate(lengths):
        for step in range(length):
            after, last = 100 * episode + step + 1, step == length - 1
            buffer.add_step(
                {
                    "observation": state(after - 1),
                    "action": np.full(2, number, np.float32),
                    "reward": float(number),
                },
                {"observation": state(after)},
                terminated=last and episode % 2 == 0,
                truncated=last and episode % 2 == 1,
            )
            number += 1
    return buffer


def same(found: Any, wanted: Any) -> bool:
    """Whether two nests have one structure, and leaves of the same dtypes and bytes."""
    leaves, structure = optree.tree_flatten(found)
    others, other = optree.tree_flatten(wanted)
    pairs = [(np.asarray(a), np.asarray(b)) for a, b in zip(leaves, others, strict=False)]
    return structure == other and all(
        (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes()) for a, b in pairs
    )


def reached(achieved: Any, desired: Any, info: Any) -> Any:
    return -(achieved != desired).any(axis=-1).astype(np.float64)


def halved(data: dict[str, Any]) -> dict[str, Any]:
    return {**data, "half": data["reward"] / data["reward"].dtype.type(2)}


HINDSIGHT = views.Hindsight(reached)
# The view that is asked for, and the buffer's own where that is another.
VIEWS: dict[str, tuple[Any, Any]] = {
    "own": (None, None),
    "n-step": (views.Transitions(3, 0.9), None),
    "sequences": (views.Sequences(4, burn_in=1, once=("action",)), None),
    "own sequences": (None, views.Sequences(4, burn_in=1)),
    "windows": (None, views.Windows(3)),
    "stacks": (views.Transitions(2, stack={"observation": 2}),) * 2,
    "stacked sequences": (views.Sequences(3, stack={"observation": 2}),) * 2,
    "hindsight": (HINDSIGHT, None),
    "own hindsight": (None, HINDSIGHT),
    "mapped": (views.Transitions(2).map(halved), None),
    "shifted": (views.Transitions().shift({"camera/0": 1}, axes=(0, 1)), None),
    "mapped episodes": (views.Episodes(12).map(halved).fixed,) * 2,
}


def set_clock(monkeypatch: pytest.MonkeyPatch, late_s: float) -> None:
    """Every dataset's call seems to have waited so long."""
    clock = (lambda: time.time() + late_s) if late_s else (lambda: 0.0)
    monkeypatch.setattr("reverie.tf.source.Pace", functools.partial(pace.Pace, clock=clock))
