"""What every library is given and asked for, and whether what it returned is right.

64 environments step together; an episode has 200 steps. Steps are made so that each tells its
place: the first number of an observation is the time in its episode, the second its
environment, the reward is the time again, the action the parity of both. So a batch shows
whether its columns belong together, whatever library it came from.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ENVS = 64
EPISODE = 200
BATCH = 256
SEQUENCES, LENGTH = 64, 80
N_STEP, GAMMA = 3, 0.99
ALPHA, BETA = 0.6, 0.4

ROWS = {
    "add": f"an environment's step, of {ENVS} added at once",
    "transitions": f"{BATCH} transitions",
    "n-step": f"{BATCH} transitions of {N_STEP} steps",
    "prioritized": f"{BATCH} prioritized, with weights",
    "updated": "the same, and their new priorities",
    "sequences": f"{SEQUENCES} sequences of {LENGTH} steps",
}


class Step(NamedTuple):
    """A step of all environments together: `[ENVS, ...]`, each dtype exactly the buffer's."""

    observation: NDArray[np.float32]
    action: NDArray[np.int64]
    reward: NDArray[np.float32]
    next_observation: NDArray[np.float32]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]


@dataclass(frozen=True)
class Row:
    """How a library does one thing.

    Attributes:
        call: what is timed.
        named: from what it returned, outside the time: a dict of arrays by the names of
            `check_batch`; None where nothing comes back.
        note: what it does not do that ours does.
    """

    call: Callable[[], Any]
    named: Callable[[Any], dict[str, Any]] | None = None
    note: str = ""


Rows = dict[str, Row | str]
"""By the names of `ROWS`; a text says why a library has no such thing."""


def steps() -> list[Step]:
    """One episode, of all environments."""
    env = np.arange(ENVS)
    found = []
    for t in range(EPISODE):
        observation = np.zeros((ENVS, 4), np.float32)
        observation[:, 0], observation[:, 1] = t, env
        after = observation.copy()
        after[:, 0] += 1
        reward = np.full(ENVS, t, np.float32)
        ends = np.full(ENVS, t == EPISODE - 1)
        found.append(
            Step(observation, (t + env) % 2, reward, after, ends, np.zeros(ENVS, bool))
        )
    return found


def filled(add: Callable[..., Any], given: list[Any], capacity: int) -> Callable[[], Any]:
    """Fills a buffer, episode after episode; then, what adds the next step of all.

    Args:
        add: takes one of `given`.
        given: `steps()` in the library's own form, made before the time is taken.
        capacity: in steps of an environment.
    """
    stream: Iterator[Any] = itertools.cycle(given)
    for step in itertools.islice(stream, capacity // ENVS):
        add(step)
    return lambda: add(next(stream))


def priorities(count: int) -> NDArray[np.float64]:
    """Of all items, before the time is taken."""
    return np.random.default_rng(1).exponential(size=count) + 1e-3


ERRORS = priorities(BATCH)
"""Of a batch: what its priorities are updated to."""


class WrongBatchError(Exception):
    """What a library returned is not what was asked of it."""


def check(name: str, row: Row) -> None:
    """Calls a row once, and raises WrongBatchError where its columns are not what is wanted."""
    found = row.call()
    if row.named is not None:
        check_batch(name, row.named(found))


def check_batch(row: str, named: dict[str, Any]) -> None:
    """Raises WrongBatchError where a batch's columns are not what its row wants.

    Args:
        row: of `ROWS`.
        named: arrays of any library: `observation`, `action`, `reward`, `next_observation`
            and `terminated` of transitions, and `weight` if prioritized; of sequences
            `observation`, `action`, `reward`, and `mask`, without which they may run on into
            the next episode.
    """
    arrays = {name: np.asarray(value) for name, value in named.items()}
    if row == "sequences":
        _check_sequences(arrays)
        return
    _expect(arrays["observation"].shape, (BATCH, 4), f"{row}: observation")
    _expect(arrays["next_observation"].shape, (BATCH, 4), f"{row}: next_observation")
    for name in arrays.keys() - {"observation", "next_observation"}:
        _expect(arrays[name].shape, (BATCH,), f"{row}: {name}")
    time, env = arrays["observation"][:, 0], arrays["observation"][:, 1]
    m = arrays["next_observation"][:, 0] - time
    most = N_STEP if row == "n-step" else 1
    _hold((m >= 1) & (m <= most), f"{row}: next_observation is 1 to {most} steps later")
    _hold(arrays["next_observation"][:, 1] == env, f"{row}: of the same environment")
    _hold(arrays["action"] == (time + env) % 2, f"{row}: action")
    wanted = sum(GAMMA**k * (time + k) * (k < m) for k in range(most))
    _hold(np.isclose(arrays["reward"], wanted), f"{row}: reward")
    _hold(arrays["terminated"].astype(bool) == (time + m == EPISODE), f"{row}: terminated")
    if row in ("prioritized", "updated"):
        weight = arrays["weight"]
        _hold((weight > 0) & (weight < 1.001), f"{row}: weights are above 0, at most 1")
        _hold(np.ptp(weight) > 0, f"{row}: weights differ, as priorities do")


def _check_sequences(arrays: dict[str, NDArray[Any]]) -> None:
    _expect(arrays["observation"].shape, (SEQUENCES, LENGTH, 4), "sequences: observation")
    for name in arrays.keys() - {"observation"}:
        _expect(arrays[name].shape, (SEQUENCES, LENGTH), f"sequences: {name}")
    time, env = arrays["observation"][..., 0], arrays["observation"][..., 1]
    follows = time[:, 1:] == time[:, :-1] + 1
    if "mask" not in arrays:
        mask = np.ones((SEQUENCES, LENGTH), bool)
        follows |= (time[:, :-1] == EPISODE - 1) & (time[:, 1:] == 0)
    else:
        mask = arrays["mask"].astype(bool)
        _hold(mask[:, 0], "sequences: the first step counts")
        _hold(mask[:, :-1] | ~mask[:, 1:], "sequences: steps that count come first")
    pairs = mask[:, 1:]
    _hold(follows | ~pairs, "sequences: each step follows the one before")
    _hold((env[:, 1:] == env[:, :-1]) | ~pairs, "sequences: of one environment")
    _hold((arrays["action"] == (time + env) % 2) | ~mask, "sequences: action")
    _hold((arrays["reward"] == time) | ~mask, "sequences: reward")


def _expect(found: tuple[int, ...], wanted: tuple[int, ...], what: str) -> None:
    if found != wanted:
        raise WrongBatchError(f"{what}: found the shape {found}, wanted {wanted}.")


def _hold(right: Any, what: str) -> None:
    if not np.all(right):
        wrong = np.argwhere(~np.asarray(right))[:3].tolist()
        raise WrongBatchError(f"{what}: not so, first at {wrong}.")
