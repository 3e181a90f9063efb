"""A reservoir keeps each item that there ever was with the same probability."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

import reverie
from reverie import removers

SPEC = {"observation": reverie.ArraySpec((), np.int64)}
CAPACITY, STEPS, SEEDS = 8, 64, 1_500
ALARM = 1e-9


def kept(remover: Any, seed: int) -> NDArray[np.int64]:
    """Which of STEPS steps are left."""
    buffer = reverie.ReplayBuffer(SPEC, CAPACITY, remover=remover, seed=seed)
    buffer.add_episode({"observation": np.arange(STEPS + 1)})
    left = buffer.steps().observation
    buffer.close()
    assert len(left) == CAPACITY
    return left


def counts(left: Callable[[int], NDArray[np.int64]]) -> NDArray[np.int64]:
    return np.bincount(np.concatenate([left(seed) for seed in range(SEEDS)]), minlength=STEPS)


def statistic(found: NDArray[np.int64]) -> float:
    expected = SEEDS * CAPACITY / STEPS
    # A step is kept or not: the variance of each count is smaller by (1 - CAPACITY / STEPS),
    # and the sum of all is fixed.
    spread = expected * (1 - CAPACITY / STEPS) * STEPS / (STEPS - 1)
    return float(((found - expected) ** 2).sum() / spread)


LIMIT = float(stats.chi2.isf(ALARM, STEPS - 1))


def test_each_step_is_kept_equally_often() -> None:
    found = counts(lambda seed: kept(removers.Reservoir(), seed))
    assert float(stats.chi2.ppf(ALARM, STEPS - 1)) < statistic(found) < LIMIT


@pytest.mark.parametrize("remover", [removers.Uniform(), removers.Fifo(), removers.Lifo()])
def test_other_removers_do_not_do_that(remover: Any) -> None:
    assert statistic(counts(lambda seed: kept(remover, seed))) > LIMIT


def test_one_that_always_keeps_the_newest_is_found_out() -> None:
    def planted(seed: int) -> NDArray[np.int64]:
        rng = np.random.default_rng(seed)
        left = np.arange(CAPACITY)
        for step in range(CAPACITY, STEPS):
            left[rng.integers(CAPACITY)] = step
        return left

    assert statistic(counts(planted)) > LIMIT


def test_pairs_are_kept_together_no_more_often_than_others() -> None:
    pairs = np.zeros((STEPS, STEPS), np.int64)
    for seed in range(SEEDS):
        left = kept(removers.Reservoir(), seed)
        pairs[np.ix_(left, left)] += 1
    neighbours = np.array([pairs[i, i + 1] for i in range(STEPS - 1)])
    expected = SEEDS * CAPACITY * (CAPACITY - 1) / (STEPS * (STEPS - 1))
    assert abs(neighbours.mean() - expected) < 6 * np.sqrt(expected / len(neighbours))


def test_the_seed_says_what_is_kept() -> None:
    one, same, other = (kept(removers.Reservoir(), seed).tolist() for seed in (4, 4, 5))
    assert one == same != other


def is_even(share: float, draws: int) -> bool:
    """Whether half of so many that are left are new; a false alarm in 1e9."""
    return abs(share - 0.5) < 6.2 * 0.5 / np.sqrt(draws)


def test_a_saved_one_knows_how_many_there_were(tmp_path: Path) -> None:
    """As many new ones come as there were old ones: of what is left half is new."""
    seeds, share = 60, 0.0
    for seed in range(seeds):
        buffer = reverie.ReplayBuffer(SPEC, CAPACITY, remover=removers.Reservoir(), seed=seed)
        buffer.add_episode({"observation": np.arange(STEPS + 1)})
        again = reverie.open(buffer.save(path=tmp_path / str(seed)))
        again.add_episode({"observation": np.arange(1_000, 1_001 + STEPS)})
        share += (again.steps().observation >= 1_000).mean() / seeds
        for each in (buffer, again):
            each.close()
    assert is_even(share, seeds * CAPACITY)
    assert not is_even(forgetful(seeds), seeds * CAPACITY)


def forgetful(seeds: int) -> float:
    """Planted: after a save it counts from what it holds."""
    rng, share = np.random.default_rng(0), 0.0
    for _ in range(seeds):
        is_new = np.zeros(CAPACITY, bool)
        for seen in range(CAPACITY + 1, CAPACITY + STEPS + 1):
            if rng.integers(seen) < CAPACITY:
                is_new[rng.integers(CAPACITY)] = True
        share += is_new.mean() / seeds
    return share


def test_a_saved_one_goes_on_as_it_would_have(tmp_path: Path) -> None:
    buffer = reverie.ReplayBuffer(SPEC, CAPACITY, remover=removers.Reservoir(), seed=3)
    buffer.add_episode({"observation": np.arange(STEPS + 1)})
    again = reverie.open(buffer.save(path=tmp_path))
    assert repr(again.table.settings.remover) == "ReservoirSelector"
    for one in (buffer, again):
        one.add_episode({"observation": np.arange(1_000, 1_000 + STEPS)})
    np.testing.assert_array_equal(again.steps().observation, buffer.steps().observation)
    # It knows how many there were: of 64 more, about half of what is left is new.
    assert 1 <= (buffer.steps().observation >= 1_000).sum() <= 7
