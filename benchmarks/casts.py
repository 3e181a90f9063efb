"""What environments return, into a buffer: `python -m benchmarks.casts [--json FILE]`.

Steps of `one_table.SPEC` (17 float32, 6 float32, a float32 and a bool) in every spelling that
environments have, by `TrajectoryObserver` and, in batches of 8 and 64, by `ParallelObserver`.
`asarray first` is what a caller pays who brings each leaf to NumPy before; torch, JAX and
TensorFlow are measured where they are installed. All take turns, round by round; printed are
the medians of microseconds a call. With `PYTHONPATH` on another checkout's `src` it measures
that one.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import reverie
from benchmarks.first_figures import in_turns, machine
from benchmarks.one_table import SPEC
from reverie.observers import ParallelObserver

Step = dict[str, Any]
BATCHES = (8, 64)
ROUNDS, CALLS = 15, 4_000


def exact(count: int | None) -> Step:
    """Steps of every column's dtype; None for one, without an axis."""
    rng = np.random.default_rng(0)
    leading = () if count is None else (count,)
    step = {
        name: np.asarray(rng.random((*leading, *spec.shape))).astype(spec.dtype)
        for name, spec in SPEC.items()
    }
    return {name: leaf[()] for name, leaf in step.items()}  # scalars, not arrays of one


def scalars(step: Step) -> Step:
    """Rewards and ends as Python has them: numbers, or lists of them."""
    return {**step, "reward": step["reward"].tolist(), "done": step["done"].tolist()}


def wide(step: Step) -> Step:
    """Observations, actions and rewards in float64, as most environments compute them."""
    return {
        name: leaf if leaf.dtype == np.bool_ else leaf.astype(np.float64)
        for name, leaf in step.items()
    }


def strided(step: Step) -> Step:
    """Every second number of an array, where there are axes."""
    return {
        name: np.repeat(leaf, 2, axis=-1)[..., ::2] if leaf.ndim else leaf
        for name, leaf in step.items()
    }


def lists(step: Step) -> Step:
    """Python's numbers alone."""
    return {name: leaf.tolist() for name, leaf in step.items()}


def frameworks() -> dict[str, Callable[[Any], Any]]:
    """How each framework that is installed makes its own of an array."""
    found: dict[str, Callable[[Any], Any]] = {}
    try:
        import torch

        found["torch"] = lambda leaf: torch.from_numpy(np.array(leaf))
    except ImportError:
        pass
    try:
        import jax.numpy as jnp

        found["jax"] = jnp.asarray
    except ImportError:
        pass
    try:
        import tensorflow as tf

        found["tensorflow"] = tf.constant
    except ImportError:
        pass
    return found


def spellings(step: Step) -> dict[str, tuple[Step, bool]]:
    """By name: a step, and whether the caller brings it to NumPy first."""
    found = {
        "exact": (step, False),
        "Python scalars": (scalars(step), False),
        "float64": (wide(step), False),
        "strided": (strided(step), False),
        "lists": (lists(step), False),
    }
    if step["reward"].ndim:
        arrays = {name: list(leaf) for name, leaf in step.items()}
        found["lists of arrays"] = (arrays, False)
    for name, make in frameworks().items():
        theirs = {key: make(leaf) for key, leaf in step.items()}
        found[name] = (theirs, False)
        found[f"{name}, asarray first"] = (theirs, True)
    return found


def call(observer: Any, step: Step, first: bool, **last: Any) -> Callable[[], object]:
    """Stores a step, of NumPy's arrays if `first`."""
    if first:
        return lambda: observer({k: np.asarray(leaf) for k, leaf in step.items()}, **last)
    return lambda: observer(step, **last)


def measured(folder: Path, count: int | None, rounds: int, calls: int) -> dict[str, float]:
    """Median microseconds a call, of one environment or of `count` together."""
    with reverie.ReplayBufferManager(SPEC, 1000, folder, 2, seed=0) as manager:
        observer: Any
        buffer, observer = manager.create_replay_buffer()
        last: dict[str, Any] = {}
        if count is not None:
            observer = ParallelObserver(buffer.py_client, "uniform_table", 2, num_envs=count)
            last["last"] = np.zeros(count, np.bool_)
        functions = {
            name: call(observer, step, first, **last)
            for name, (step, first) in spellings(exact(count)).items()
        }
        times = in_turns(functions, calls, rounds)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Measures all, and prints one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--calls", type=int, default=CALLS, help="of each in a round")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"machine": machine()}
    for name, value in figures["machine"].items():
        print(f"{name}: {value}")
    print(f"reverie: {Path(reverie.__file__).parent}")
    with tempfile.TemporaryDirectory() as scratch:
        for count in (None, *BATCHES):
            label = "a step" if count is None else f"a batch of {count}"
            calls = arguments.calls if count is None else max(1, arguments.calls // 4)
            found = measured(Path(scratch) / str(count), count, arguments.rounds, calls)
            figures[label] = found
            print(f"\nmicroseconds {label}")
            for name, value in found.items():
                print(f"  {name:<28}{value:>8.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
