"""A ring of arrays, as many libraries have it: right, or with a mistake that one had."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

FAULTS = {
    "spills over where an episode was cut": "TF-Agents #939",
    "crosses ends": "windows by design, as in SheepRL, skrl and Dreamer",
    "crosses the seam": "Flashbax PR 50 and 51, FastTD3 #6",
    "gamma to the n though cut short": "RLlib #4626",
    "takes a cut for an end": "bootstraps nothing after a time limit",
    "loses tails": "CleanRL's Rainbow",
    "changes flags while it samples": "Stable-Baselines3's n-step buffer",
    "seeks goals without the wrap": "Tianshou #811",
    "has no goals before the end": "stable-baselines #353",
}

Row = tuple[float, float, float, float]


class Ring:
    """Steps in a circle, the newest over the oldest; samples follow it when they are asked for.

    Args:
        capacity: steps.
        fault: one of FAULTS; "": none.
    """

    def __init__(self, capacity: int, fault: str = "") -> None:
        assert not fault or fault in FAULTS
        self.capacity, self.fault = capacity, fault
        self.obs, self.next_obs, self.reward = np.zeros((3, capacity))
        self.terminated, self.truncated = np.zeros((2, capacity), bool)
        self.count = 0

    def add(
        self, obs: float, reward: float, next_obs: float, terminated: bool, truncated: bool
    ) -> None:
        at = self.count % self.capacity
        self.obs[at], self.reward[at], self.next_obs[at] = obs, reward, next_obs
        self.terminated[at], self.truncated[at] = terminated, truncated
        self.count += 1

    def order(self) -> list[int]:
        """Places, from the oldest step to the newest."""
        size = min(self.count, self.capacity)
        return [(self.count - size + k) % self.capacity for k in range(size)]

    def reach(self, first: int, most: int) -> list[int]:
        """The places of up to so many steps of one episode."""
        found = [first]
        newest = (self.count - 1) % self.capacity
        while len(found) < most:
            here = found[-1]
            ends = self.terminated[here] or self.truncated[here]
            if self.fault == "crosses ends":
                ends = False
            elif self.fault == "spills over where an episode was cut":
                ends = self.terminated[here]
            if ends or (here == newest and self.fault != "crosses the seam"):
                break
            found.append((here + 1) % self.capacity)
            if found[-1] == first:
                return found[:-1]
        return found

    def n_step(
        self, n: int, gamma: float, meanwhile: Callable[[], None] = lambda: None
    ) -> list[Row]:
        """Of each step: its state, the return, the state after, the discount of its value."""
        return list(self._n_step(n, gamma, meanwhile))

    def _n_step(self, n: int, gamma: float, meanwhile: Callable[[], None]) -> Iterator[Row]:
        newest = (self.count - 1) % self.capacity
        before = self.truncated[newest]
        if self.fault == "changes flags while it samples":
            self.truncated[newest] = True
        meanwhile()
        for first in self.order():
            places = self.reach(first, n)
            last, m = places[-1], len(places)
            if self.fault == "loses tails" and m < n:
                continue
            discount = gamma ** (n if self.fault == "gamma to the n though cut short" else m)
            cut = self.truncated[last] and self.fault == "takes a cut for an end"
            yield (
                float(self.obs[first]),
                float(gamma ** np.arange(m) @ self.reward[places]),
                float(self.next_obs[last]),
                0.0 if self.terminated[last] or cut else discount,
            )
        self.truncated[newest] = before

    def flags(self) -> list[bool]:
        """Whether episodes were cut off, step by step."""
        return self.truncated[self.order()].tolist()

    def sequences(self, length: int) -> list[list[float]]:
        """From each step on: states of one episode."""
        return [self.obs[self.reach(first, length)].tolist() for first in self.order()]

    def goals(self) -> dict[float, set[float]]:
        """By state: the states that an agent reached from it on, in its episode."""
        found = {}
        for first in self.order():
            places = self.reach(first, self.capacity)
            last = places[-1]
            if self.fault == "seeks goals without the wrap" and last < first:
                places = list(range(last, first + 1))
            if self.fault == "has no goals before the end":
                places = places if self.terminated[last] or self.truncated[last] else []
            found[float(self.obs[first])] = set(self.next_obs[places].tolist())
        return found
