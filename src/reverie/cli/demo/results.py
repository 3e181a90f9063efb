"""What the two processes measure, as plain values that travel as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np

import reverie

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class Stopwatch:
    """Seconds spent in one kind of call, and how many there were."""

    calls: int = 0
    seconds: float = 0.0

    def time(self, call: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
        """What the call returns; adds its time."""
        start = time.perf_counter()
        result = call(*args, **more)
        self.seconds += time.perf_counter() - start
        self.calls += 1
        return result

    @property
    def microseconds(self) -> float:
        """Mean of a call; 0 without any."""
        return 1e6 * self.seconds / max(self.calls, 1)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of a buffer: steps that can be drawn, bytes of all that is stored."""

    steps: int
    nbytes: int

    @classmethod
    def of(cls, buffer: reverie.ReplayBuffer) -> Sizes:
        """Those of the buffer now."""
        return cls(len(buffer), buffer.info().nbytes)


@dataclass(frozen=True, slots=True)
class Collected:
    """What the first process has done.

    Attributes:
        returns: of the random policy's finished episodes: the baseline.
        sizes: of the buffer when it was saved.
        adds: calls of `buffer.add`.
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
        loaded_steps: in the buffer after it was opened.
        load_seconds: spent in opening it.
        curve: the learning curve, the untrained network first.
        ended: why the training ended: "solved", "steps" or "time".
        adds: calls of `buffer.add`.
        batches: calls of `buffer.sample`.
        updates: calls of `buffer.update_priorities`.
        returns: of fresh episodes by the policy of the curve's best point.
        sizes: of the buffer at the end.
        seconds: in all, but for the start of Python.
    """

    loaded_steps: int
    load_seconds: float
    curve: list[Point] = field(default_factory=list)
    ended: str = "steps"
    adds: Stopwatch = field(default_factory=Stopwatch)
    batches: Stopwatch = field(default_factory=Stopwatch)
    updates: Stopwatch = field(default_factory=Stopwatch)
    returns: tuple[float, ...] = ()
    sizes: Sizes = field(default_factory=lambda: Sizes(0, 0))
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
        values |= {name: Stopwatch(**values[name]) for name in ("adds", "batches", "updates")}
        return cls(**values)
