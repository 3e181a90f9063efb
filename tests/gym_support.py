"""Environments whose observations say where they are, and what they give when run alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import optree
from gymnasium import spaces
from numpy.typing import NDArray

import reverie

TERMINATED, TRUNCATED, BOTH = "terminated", "truncated", "both"
Script = Sequence[tuple[int, str]]
"""Episodes: how many steps, and how they end; after the last one comes the first."""


class Step(NamedTuple):
    """One transition, as a single environment gives it."""

    obs: Any
    action: int
    reward: float
    next_obs: Any
    terminated: bool
    truncated: bool


class Kind(NamedTuple):
    """A kind of observation: its space, how (seed, episode, step) become one, and back."""

    space: spaces.Space[Any]
    encode: Callable[[NDArray[np.int64]], Any]
    decode: Callable[[Any], NDArray[np.int64]]


def _number(where: NDArray[np.int64]) -> Any:
    return (where * (10_000, 100, 1)).sum(-1)


def _places(number: Any) -> NDArray[np.int64]:
    number = np.asarray(number)
    return np.stack([number // 10_000, number // 100 % 100, number % 100], -1)


_BOX = spaces.Box(-np.inf, np.inf, (3,), np.float64)
_IMAGE = spaces.Box(0, 255, (3, 4, 1), np.uint8)
_DISCRETE = spaces.Discrete(10**6)
_MANY = spaces.MultiDiscrete([10_000] * 3)
_BITS = spaces.MultiBinary((3, 8))


def _image(where: NDArray[np.int64]) -> NDArray[np.uint8]:
    return np.repeat(where[..., None, None], 4, axis=-2).astype(np.uint8)


def _bits(where: NDArray[np.int64]) -> NDArray[np.int8]:
    return (where[..., None] >> np.arange(8) & 1).astype(np.int8)


def _of_bits(bits: Any) -> NDArray[np.int64]:
    return (np.asarray(bits, np.int64) << np.arange(8)).sum(-1)


KINDS = {
    "box": Kind(_BOX, lambda w: w.astype(np.float64), lambda o: o.astype(np.int64)),
    "image": Kind(_IMAGE, _image, lambda o: o[..., 0, 0].astype(np.int64)),
    "discrete": Kind(_DISCRETE, _number, _places),
    "multi discrete": Kind(_MANY, lambda w: w, lambda o: o),
    "multi binary": Kind(_BITS, _bits, _of_bits),
    "dict": Kind(
        spaces.Dict({"z": _BOX, "a": _IMAGE}),
        lambda w: {"z": w.astype(np.float64), "a": _image(w)},
        lambda o: o["z"].astype(np.int64),
    ),
    "tuple": Kind(
        spaces.Tuple((_DISCRETE, _IMAGE)),
        lambda w: (_number(w), _image(w)),
        lambda o: _places(o[0]),
    ),
    "nested": Kind(
        spaces.Dict({"b": spaces.Tuple((_BOX, spaces.Dict({"n": _DISCRETE}))), "a": _BITS}),
        lambda w: {"b": (w.astype(np.float64), {"n": _number(w)}), "a": _bits(w)},
        lambda o: _places(o["b"][1]["n"]),
    ),
}


def policy(where: NDArray[np.int64]) -> Any:
    """The action in a state, whatever environments are beside it."""
    return (where * (7, 3, 1)).sum(-1) % 5


class Scripted(gym.Env[Any, Any]):
    """An environment that plays its script, whatever is done."""

    def __init__(self, seed: int, script: Script, kind: str = "box") -> None:
        self.kind = KINDS[kind]
        self.observation_space, self.action_space = self.kind.space, spaces.Discrete(5)
        self.number, self.script = seed, script
        self.episode, self.at = -1, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        super().reset(seed=seed)
        self.episode, self.at = self.episode + 1, 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        length, how = self.script[self.episode % len(self.script)]
        self.at += 1
        reward = 100 * self.number + 10 * self.episode + self.at + float(action) / 8
        over = self.at >= length
        ends = over and how in (TERMINATED, BOTH), over and how in (TRUNCATED, BOTH)
        return self._observe(), reward, *ends, {}

    def _observe(self) -> Any:
        return self.kind.encode(np.array([self.number, self.episode, self.at]))


def alone(seed: int, script: Script, steps: int, kind: str = "box") -> list[Step]:
    """The first transitions of one environment that nobody else is near."""
    env, found = Scripted(seed, script, kind), []
    obs, _ = env.reset()
    for _ in range(steps):
        action = int(policy(env.kind.decode(obs)))
        next_obs, reward, terminated, truncated, _ = env.step(action)
        # Ended for good is ended: nothing is bootstrapped from what a limit cut off as well.
        found.append(
            Step(obs, action, reward, next_obs, terminated, truncated and not terminated)
        )
        obs = env.reset()[0] if terminated or truncated else next_obs
    return found


def vector(
    scripts: Sequence[Script],
    mode: Any,
    kind: str = "box",
    make: Any = gym.vector.SyncVectorEnv,
) -> Any:
    """A vector of such environments; they are numbered from 1."""
    makers = [
        lambda seed=seed, script=script: Scripted(seed, script, kind)
        for seed, script in enumerate(scripts, 1)
    ]
    return make(makers, autoreset_mode=mode)


def play(
    envs: Any,
    buffer: reverie.ReplayBuffer,
    calls: int,
    kind: str = "box",
    before: Callable[[int], None] = lambda _: None,
) -> None:
    """The loop of the README; `before` is told the number of each call."""
    mode = envs.metadata["autoreset_mode"].value
    obs, _ = envs.reset()
    for call in range(calls):
        before(call)
        action = policy(KINDS[kind].decode(obs))
        next_obs, reward, terminated, truncated, infos = envs.step(action)
        buffer.add(obs, action, reward, next_obs, terminated, truncated, infos)
        obs = next_obs
        over = terminated | truncated
        if mode == "Disabled" and over.any():
            obs, _ = envs.reset(options={"reset_mask": over})


def steps_in(script: Script, calls: int, mode: str) -> int:
    """How many of so many calls are steps."""
    if mode != "NextStep":
        return calls
    found = episode = 0
    while calls > 0:
        length = min(script[episode % len(script)][0], calls)
        found, calls, episode = found + length, calls - length - 1, episode + 1
    return found


def check(
    buffer: reverie.ReplayBuffer,
    expected: Sequence[list[Step]],
    kind: str = "box",
    n_step: int = 1,
    gamma: float = 0.5,
) -> None:
    """That a buffer holds just these transitions, of environments numbered from 1."""
    view = reverie.views.Transitions(n_step, gamma)
    data = buffer.steps(view).data
    seeds = KINDS[kind].decode(data["observation"])[..., 0]
    assert len(seeds) == len(buffer) == sum(map(len, expected))
    for seed, steps in enumerate(expected, 1):
        rows = np.flatnonzero(seeds == seed)
        found = [optree.tree_map(lambda leaf, row=row: leaf[row], data) for row in rows]
        assert len(found) == len(steps)
        for t, one in enumerate(found):
            _same(one, _returns(steps[t : t + n_step], gamma))


def _returns(steps: Sequence[Step], gamma: float) -> dict[str, Any]:
    """What `Transitions` gives of a transition and those that follow it."""
    over = [i for i, step in enumerate(steps) if step.terminated or step.truncated]
    steps = steps[: over[0] + 1] if over else steps
    last, m = steps[-1], len(steps)
    return {
        "observation": steps[0].obs,
        "action": steps[0].action,
        "reward": np.float32(sum(gamma**k * step.reward for k, step in enumerate(steps))),
        "next_observation": last.next_obs,
        "terminated": last.terminated,
        "truncated": last.truncated,
        "discount": np.float32(gamma**m * (not last.terminated)),
        "n_steps": m,
    }


def _same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        leaves, structure = optree.tree_flatten(value)
        for one, other in zip(structure.flatten_up_to(found[key]), leaves, strict=True):
            assert np.array_equal(one, other), (key, one, other)
            assert key == "action" or np.asarray(one).dtype == np.asarray(other).dtype, key
