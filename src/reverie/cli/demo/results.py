"""What the two processes measure, as plain values that travel as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import reverie


@dataclass(slots=True)
class Stopwatch:
    """Seconds spent in one kind of call, and how many there were."""

    calls: int = 0
    seconds: float = 0.0

    def time(self, call: Callable[..., Any], *args: Any) -> Any:
        """What `call(*args)` returns; adds its time."""
        start = time.perf_counter()
        result = call(*args)
        self.seconds += time.perf_counter() - start
        self.calls += 1
        return result

    @property
    def microseconds(self) -> float:
        """Mean of a call; 0 without any."""
        return 1e6 * self.seconds / max(self.calls, 1)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a buffer: items, steps (each counted once), bytes of these steps."""

    items: int
    steps: int
    nbytes: int

    @classmethod
    def of(cls, manager: reverie.ReplayBufferManager) -> Sizes:
        """Those of the manager's buffer now."""
        info = manager.info()
        return cls(info.items, info.steps, info.nbytes)


@dataclass(frozen=True, slots=True)
class Collected:
    """What the first process has done.

    Attributes:
        returns: of the random policy's finished episodes: the baseline.
        sizes: of the buffer when it was saved.
        adds: observer calls.
        checkpoint: folder of the checkpoint.
        save_seconds: until it was durable on disk.
    """

    returns: tuple[float, ...]
    sizes: Sizes
    adds: Stopwatch
    checkpoint: Path
    save_seconds: float


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the learning curve.

    Attributes:
        batches: learned from before it.
        returns: of each episode played without exploration.
    """

    batches: int
    returns: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(np.mean(self.returns))


@dataclass(slots=True)
class Trained:
    """What the training process has done.

    Attributes:
        loaded_items: in the buffer after the checkpoint was loaded.
        load_seconds: spent in loading it.
        curve: the learning curve, the untrained network first.
        ended: why the training ended: "solved", "steps" or "time".
        adds: observer calls.
        batches: calls of `manager.sample`.
        returns: of fresh episodes by the policy of the curve's best point.
        sizes: of the buffer at the end.
        seconds: in all, but for the start of Python.
    """

    loaded_items: int
    load_seconds: float
    curve: list[Point] = field(default_factory=list)
    ended: str = "steps"
    adds: Stopwatch = field(default_factory=Stopwatch)
    batches: Stopwatch = field(default_factory=Stopwatch)
    returns: tuple[float, ...] = ()
    sizes: Sizes = field(default_factory=lambda: Sizes(0, 0, 0))
    seconds: float = 0.0

    def write(self, path: Path) -> None:
        """Writes a JSON file."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n", "utf-8")

    @classmethod
    def read(cls, path: Path) -> Trained:
        """What `write` wrote."""
        values = json.loads(path.read_text("utf-8"))
        values["curve"] = [Point(p["batches"], tuple(p["returns"])) for p in values["curve"]]
        values["returns"] = tuple(values["returns"])
        values["sizes"] = Sizes(**values["sizes"])
        values |= {name: Stopwatch(**values[name]) for name in ("adds", "batches")}
        return cls(**values)
