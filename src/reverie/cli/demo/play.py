"""Playing the environment: steps into an observer, and returns of a policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import reverie
from reverie.cli.demo.results import Stopwatch
from reverie.cli.demo.settings import ENVIRONMENT, need
from reverie.nests.trajectory import FIRST, LAST, MID

Policy = Callable[[NDArray[np.float32]], NDArray[np.int64]]
"""Actions `[N]` for observations `[N, 4]`."""


@dataclass(slots=True)
class Player:
    """Plays episode after episode and shows each step to an observer.

    An episode of k transitions makes k + 1 observer calls: the last one is the
    boundary, which holds the final observation.

    Attributes:
        observer: called with each step, a `reverie.Trajectory`.
        seed: of the environment and of the random actions.
        returns: sum of rewards of each finished episode.
        adds: time spent in the observer.
    """

    observer: Callable[[reverie.Trajectory], None]
    seed: int
    returns: list[float] = field(default_factory=list)
    adds: Stopwatch = field(default_factory=Stopwatch)
    _environment: Any = None
    _observation: Any = None
    _rng: Any = None
    _step_type: int = FIRST
    _return: float = 0.0

    def __post_init__(self) -> None:
        """Opens the environment at the start of an episode."""
        self._environment = make_environment()
        self._observation, _ = self._environment.reset(seed=self.seed)
        self._rng = np.random.default_rng(self.seed)

    def step(self, policy: Policy | None, exploration: float) -> None:
        """Plays one step.

        Args:
            policy: asked for the action, unless the step explores.
            exploration: probability of a random action; 1.0 needs no policy.
        """
        seen = self._observation
        if policy is None or self._rng.random() < exploration:
            action = np.int64(self._rng.integers(2))
        else:
            action = policy(seen[None])[0]
        found, reward, terminated, truncated, _ = self._environment.step(int(action))
        last = terminated or truncated
        self._show(seen, action, LAST if last else MID, reward, 0.0 if terminated else 1.0)
        self._observation, self._step_type = found, MID
        self._return += float(reward)
        if last:
            self._step_type = LAST
            self._show(found, np.int64(0), FIRST, 0.0, 1.0)
            self.returns.append(self._return)
            self._observation, _ = self._environment.reset()
            self._step_type, self._return = FIRST, 0.0

    def _show(
        self, observation: Any, action: Any, next_type: int, reward: float, discount: float
    ) -> None:
        step = reverie.Trajectory(
            step_type=np.int32(self._step_type),
            observation=observation,
            action=action,
            policy_info=(),
            next_step_type=np.int32(next_type),
            reward=np.float32(reward),
            discount=np.float32(discount),
        )
        self.adds.time(self.observer, step)


def play_episodes(policy: Policy, seeds: list[int]) -> NDArray[np.float64]:
    """Returns of one episode for each seed, `[len(seeds)]`.

    The episodes run side by side, so that the policy is asked once for all.
    """
    environments = [make_environment() for _ in seeds]
    started = [env.reset(seed=seed)[0] for env, seed in zip(environments, seeds, strict=True)]
    observations = np.stack(started)
    returns = np.zeros(len(seeds))
    running = np.ones(len(seeds), bool)
    while running.any():
        actions = policy(observations)
        for i in np.flatnonzero(running):
            step = environments[i].step(int(actions[i]))
            observations[i] = step[0]
            returns[i] += step[1]
            running[i] = not (step[2] or step[3])
    return returns


def make_environment() -> Any:
    """A fresh environment.

    Raises:
        MissingDependencyError: Gymnasium is not installed.
    """
    return need("gymnasium").make(ENVIRONMENT, disable_env_checker=True)
