"""Playing the environment: steps into a buffer, and returns of a policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

import reverie
from reverie.cli.demo.pole import Pole
from reverie.cli.demo.results import Stopwatch

Policy = Callable[[NDArray[np.float32]], NDArray[np.int64]]
"""Actions `[N]` for observations `[N, 4]`."""


@dataclass(slots=True)
class Player:
    """Plays episode after episode and adds each step to a buffer.

    Attributes:
        buffer: of the steps.
        seed: of the environment and of the random actions.
        returns: sum of rewards of each finished episode.
        adds: time spent in `buffer.add`.
    """

    buffer: reverie.ReplayBuffer
    seed: int
    returns: list[float] = field(default_factory=list)
    adds: Stopwatch = field(default_factory=Stopwatch)
    _pole: Pole = field(init=False)
    _observation: NDArray[np.float32] = field(init=False)
    _rng: np.random.Generator = field(init=False)
    _return: float = 0.0

    def __post_init__(self) -> None:
        """Stands at the start of an episode."""
        self._pole = Pole(self.seed)
        self._observation = self._pole.reset()
        self._rng = np.random.default_rng(self.seed)

    def step(self, policy: Policy | None, exploration: float) -> None:
        """Plays one step.

        Args:
            policy: asked for the action, unless the step explores.
            exploration: probability of a random action; 1.0 needs no policy.
        """
        seen = self._observation
        if policy is None or self._rng.random() < exploration:
            action = int(self._rng.integers(2))
        else:
            action = int(policy(seen[None])[0])
        found, reward, terminated, truncated = self._pole.step(action)
        self.adds.time(self.buffer.add, seen, action, reward, found, terminated, truncated)
        self._observation = found
        self._return += reward
        if terminated or truncated:
            self.returns.append(self._return)
            self._observation, self._return = self._pole.reset(), 0.0


def play_episodes(policy: Policy, seeds: list[int]) -> NDArray[np.float64]:
    """Returns of one episode for each seed, `[len(seeds)]`.

    The episodes run side by side, so that the policy is asked once for all.
    """
    poles = [Pole(seed) for seed in seeds]
    observations = np.stack([pole.reset() for pole in poles])
    returns = np.zeros(len(seeds))
    running = np.ones(len(seeds), bool)
    while running.any():
        actions = policy(observations)
        for i in np.flatnonzero(running):
            observations[i], reward, terminated, truncated = poles[i].step(int(actions[i]))
            returns[i] += reward
            running[i] = not (terminated or truncated)
    return returns
