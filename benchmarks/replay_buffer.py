"""What a replay buffer costs, beside plain NumPy arrays: `python -m benchmarks.replay_buffer`.

Steps of a small environment (four floats, a discrete action, a reward). Each figure is the
median over rounds in which ours and the plain arrays take turns, in microseconds: adding a
step of 64 environments at once, by environment; a batch of 256 transitions, three-step ones,
prioritized ones with weights and their update; 64 sequences of 80 steps with masks. The plain
arrays are a ring of columns, with the next observation stored a second time and no episodes,
n-step returns or priorities: what one would write in ten lines.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import reverie
from reverie.views import Sequences, Transitions

ENVS = 64
BATCH = 256
EPISODE = 200


class Plain:
    """A ring of columns."""

    def __init__(self, capacity: int) -> None:
        self.columns = {
            "observation": np.zeros((capacity, 4), np.float32),
            "next_observation": np.zeros((capacity, 4), np.float32),
            "action": np.zeros(capacity, np.int64),
            "reward": np.zeros(capacity, np.float32),
            "terminated": np.zeros(capacity, np.bool_),
        }
        self.at, self.size, self.capacity = 0, 0, capacity
        self.rng = np.random.default_rng(0)

    def add(self, obs: Any, act: Any, reward: Any, after: Any, end: Any, _: Any) -> None:
        """A step of each environment; the capacity is a multiple of them."""
        rows = slice(self.at, self.at + len(end))
        for column, value in zip(
            self.columns.values(), (obs, after, act, reward, end), strict=True
        ):
            column[rows] = value
        self.at = (self.at + len(end)) % self.capacity
        self.size = min(self.size + len(end), self.capacity)

    def sample(self, count: int) -> dict[str, Any]:
        """Transitions, with replacement."""
        rows = self.rng.integers(0, self.size, count)
        return {name: column[rows] for name, column in self.columns.items()}


def buffer_of(capacity: int, **settings: Any) -> reverie.ReplayBuffer:
    """Ours, empty."""
    spec = {
        "observation": reverie.ArraySpec((4,), np.float32),
        "action": reverie.ArraySpec((), np.int64),
        "reward": reverie.ArraySpec((), np.float32),
    }
    return reverie.ReplayBuffer(spec, capacity, num_envs=ENVS, seed=0, **settings)


def fill(add: Callable[..., Any], steps: int) -> None:
    """So many steps, of all environments together."""
    obs, action = np.zeros((ENVS, 4), np.float32), np.zeros(ENVS, np.int64)
    reward, no, yes = np.ones(ENVS, np.float32), np.zeros(ENVS, bool), np.ones(ENVS, bool)
    calls = steps // ENVS
    for t in range(calls):
        after = obs + np.float32(1)
        ends = t % EPISODE == EPISODE - 1 or t == calls - 1
        add(obs, action, reward, after, yes if ends else no, no)
        obs = np.zeros_like(after) if ends else after


def microseconds(call: Callable[[], Any], calls: int) -> float:
    """Of one call, the mean of some."""
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls * 1e6


def measure(capacity: int, rounds: int, calls: int) -> dict[str, float]:
    """All figures, by name."""
    plain, ours = Plain(capacity), buffer_of(capacity)
    prioritized = buffer_of(capacity, sampler=reverie.samplers.Prioritized(0.6))
    for each in (plain, ours, prioritized):
        fill(each.add, capacity)
    three, sequences = Transitions(3, 0.99), Sequences(80, burn_in=40)
    keys = prioritized.steps().key
    rng = np.random.default_rng(1)
    prioritized.update_priorities(keys, rng.exponential(size=len(keys)))
    errors = rng.exponential(size=BATCH)

    def update() -> None:
        prioritized.update_priorities(prioritized.sample(BATCH, beta=0.4).key, errors)

    figures: dict[str, tuple[Callable[[], Any], float]] = {
        "add, plain": (lambda: fill(plain.add, ENVS * 10), 10 * ENVS),
        "add": (lambda: fill(ours.add, ENVS * 10), 10 * ENVS),
        "transitions, plain": (lambda: plain.sample(BATCH), 1),
        "transitions": (lambda: ours.sample(BATCH), 1),
        "three-step": (lambda: ours.sample(BATCH, view=three), 1),
        "prioritized with weights": (lambda: prioritized.sample(BATCH, beta=0.4), 1),
        "the same and an update": (update, 1),
        "64 sequences of 80": (lambda: ours.sample(64, view=sequences), 1),
    }
    found: dict[str, list[float]] = {name: [] for name in figures}
    for _ in range(rounds):
        for name, (call, parts) in figures.items():
            found[name].append(microseconds(call, calls) / parts)
    return {name: statistics.median(values) for name, values in found.items()}


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--capacity", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--json", type=Path, help="a file for the figures, too")
    given = parser.parse_args()
    capacity = given.capacity // ENVS * ENVS
    found = measure(capacity, given.rounds, given.calls)
    for name, value in found.items():
        print(f"{name:28} {value:9.3f} us")
    if given.json is not None:
        given.json.write_text(json.dumps({"capacity": capacity, **found}, indent=1), "utf-8")


if __name__ == "__main__":
    main()
