"""Prioritized samplers and removers choose in proportion to priority ** exponent.

Every check is a chi-square test with a false-alarm rate of ALARM, and is itself shown to
refuse selectors that are wrong in just the ways that such selectors are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from tests.selector_support import CoreTable

from reverie.weights import importance_weights

ALARM = 1e-9  # one false alarm in a thousand million checks; the seeds are fixed besides
CAPACITY = 100
DRAWS = 500_000

Sampler = Callable[[int], NDArray[np.int64]]  # n draws, each an index into the weights


def check_proportions(draw: Sampler, weights: NDArray[np.float64], draws: int = DRAWS) -> None:
    """Raises AssertionError unless each index is drawn in proportion to its weight."""
    check_counts(np.bincount(draw(draws), minlength=len(weights)), weights)


def check_pairs(draw: Sampler, weights: NDArray[np.float64]) -> None:
    """Raises AssertionError unless each draw is independent of the one before it."""
    found = draw(DRAWS).reshape(-1, 2)
    counts = np.bincount(found @ [len(weights), 1], minlength=len(weights) ** 2)
    check_counts(counts, np.outer(weights, weights).ravel())


def check_counts(counts: NDArray[np.int64], weights: NDArray[np.float64]) -> None:
    assert len(counts) == len(weights), "a draw that is not among the choices"
    assert not counts[weights == 0].any(), "a draw that has no weight"
    counts, weights = counts[weights > 0], weights[weights > 0]
    expected = counts.sum() * weights / weights.sum()
    # What is rare is counted together, lest the approximation be bad.
    rare = expected < 20
    if rare.any():
        counts = np.append(counts[~rare], counts[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
    if len(counts) == 1:
        return
    statistic = float(((counts - expected) ** 2 / expected).sum())
    # Both tails: counts that are too even come from no random selector, either.
    low, high = stats.chi2.ppf(ALARM, len(counts) - 1), stats.chi2.isf(ALARM, len(counts) - 1)
    assert low < statistic < high, f"chi-square {statistic:.1f}, wanted {low:.1f} to {high:.1f}"


def some_priorities(n: int) -> NDArray[np.float64]:
    """From 0 to 2, unlike each other; every seventh is 0, a few are high."""
    priorities = np.random.default_rng(3).uniform(0.1, 2, n)
    priorities[::7] = 0
    priorities[::30] = 9
    return priorities


def table_of(priorities: NDArray[np.float64], exponent: float, seed: int = 11) -> CoreTable:
    core = CoreTable(
        len(priorities), sampler="prioritized", sampler_exponent=exponent, seed=seed
    )
    for priority in priorities:
        core.insert(priority)
    return core


def ranks(core: CoreTable, batch_size: int) -> Sampler:
    """Draws as ranks among the present items."""
    numbers = np.array(core.numbers())

    def draw(n: int) -> NDArray[np.int64]:
        batches = [core.sample(batch_size)[0].ravel() for _ in range(n // batch_size)]
        return np.searchsorted(numbers, np.concatenate(batches))

    return draw


def powers(priorities: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    return np.where(priorities > 0, priorities**exponent, 0.0)


@pytest.mark.parametrize("exponent", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("size", [1, 8, 9, CAPACITY])
def test_items_are_drawn_in_proportion(size: int, exponent: float) -> None:
    priorities = some_priorities(size)
    core = table_of(priorities, exponent)
    check_proportions(ranks(core, 256), powers(priorities, exponent))


def test_single_draws_are_drawn_in_proportion_too() -> None:
    priorities = some_priorities(CAPACITY)
    core = table_of(priorities, 0.6)
    check_proportions(ranks(core, 1), powers(priorities, 0.6), DRAWS // 10)

    def one_by_one(n: int) -> NDArray[np.int64]:
        return core.sample_items(n)[0].ravel()

    check_proportions(one_by_one, powers(priorities, 0.6), DRAWS // 10)


def test_draws_follow_each_other_independently() -> None:
    priorities = some_priorities(30)
    check_pairs(ranks(table_of(priorities, 0.6), 250), powers(priorities, 0.6))


def test_updates_evictions_and_deletions_show_at_once() -> None:
    rng = np.random.default_rng(8)
    core = table_of(some_priorities(CAPACITY), 0.6)
    for _ in range(250):  # more than the table holds
        core.insert(rng.uniform(0, 2))
    info = core.item_info()
    changed = rng.permutation(CAPACITY)[:60]
    assert core.update(info["key"][changed], rng.uniform(0, 5, 60)) == 0
    assert core.delete(info["key"][rng.permutation(CAPACITY)[:40]]) == 0
    check_proportions(ranks(core, 256), core.item_info()["priority"] ** 0.6)


def test_a_table_of_zeros_is_drawn_uniformly_until_one_is_not() -> None:
    core = table_of(np.zeros(CAPACITY), 0.6)
    assert core.delete(core.item_info()["key"][20:70:3]) == 0
    size = len(core.numbers())
    check_proportions(ranks(core, 256), np.ones(size))
    assert set(core.sample(100)[1].probability.tolist()) == {1 / size}
    assert core.update(core.item_info()["key"][5:6], [1e-300]) == 0
    assert set(ranks(core, 256)(2560).tolist()) == {5}


def test_the_stated_probability_is_the_true_one() -> None:
    priorities = some_priorities(CAPACITY)
    weights = powers(priorities, 0.6)
    numbers, info = table_of(priorities, 0.6).sample(5000)
    wanted = weights[numbers.ravel()] / weights.sum()
    np.testing.assert_allclose(info.probability, wanted, rtol=1e-13)


def changed_often() -> CoreTable:
    """A table whose items came, went and changed their priorities in any order."""
    rng = np.random.default_rng(4)
    core = table_of(some_priorities(CAPACITY), 0.6)
    for _ in range(400):
        core.insert(None if rng.random() < 0.2 else rng.uniform(0.1, 2))
        keys = core.item_info()["key"]
        core.update(rng.choice(keys, 3), rng.uniform(0, 3, 3))
        if len(keys) > 50:
            core.delete(rng.choice(keys, 1))
    return core


def test_the_rarest_item_comes_as_often_as_the_least_probability_says() -> None:
    core = changed_often()
    priorities, least = core.item_info()["priority"], core.table.min_probability()
    found = ranks(core, 256)(DRAWS)
    rarest = int((found == np.where(priorities > 0, priorities, np.inf).argmin()).sum())
    counts = np.array([rarest, len(found) - rarest])
    check_counts(counts, np.array([least, 1 - least]))
    with pytest.raises(AssertionError, match="chi-square"):
        check_counts(counts, np.array([1.5 * least, 1 - 1.5 * least]))


def test_weights_undo_that_items_are_drawn_unequally() -> None:
    core = changed_often()
    values = core.item_info()["priority"] ** 2  # far from even, and larger where it is likely
    numbers, info = core.sample(DRAWS)
    drawn = values[np.searchsorted(core.numbers(), numbers.ravel())]
    possible = values[core.item_info()["priority"] > 0].sum() / len(values)

    def sigmas(weights: NDArray[Any]) -> float:
        """How far the weighted mean is from that over all items."""
        each = drawn * weights
        return abs(each.mean() - possible) / (each.std() / np.sqrt(len(each)))

    def weigh(probability: NDArray[np.float64], beta: float = 1.0) -> NDArray[np.float32]:
        return importance_weights(probability, info.table_size, beta, normalize=None)

    assert sigmas(weigh(info.probability)) < 6  # a false alarm in 5e8
    assert sigmas(weigh(info.probability, 0.9)) > 6
    twice = info.probability**0.6  # alpha, once more
    assert sigmas(weigh(twice / twice.sum() * len(twice) * info.probability.mean())) > 6
    divided = importance_weights(
        info.probability, info.table_size, 1.0, min_probability=core.table.min_probability()
    )
    assert divided.max() == pytest.approx(1.0)
    ratio = divided / weigh(info.probability)
    assert ratio.max() == pytest.approx(ratio.min(), rel=1e-5)


def test_a_remover_draws_its_victim_in_proportion() -> None:
    priorities = np.array([0.0, 1.0, 2.0, 0.5, 3.0, 1.0])  # the last one is the newcomer's
    core = CoreTable(5, remover="prioritized", remover_exponent=2.0, seed=4)

    def draw(n: int) -> NDArray[np.int64]:
        gone = []
        for _ in range(n):
            core.table.clear()
            for priority in priorities:
                core.insert(priority)
            first = core.inserted - len(priorities)
            gone.append(sum(range(first, core.inserted)) - sum(core.numbers()) - first)
        return np.array(gone)

    check_proportions(draw, priorities**2, 5000)


def test_the_same_seed_gives_the_same_batches_and_another_seed_others() -> None:
    found = [
        table_of(some_priorities(CAPACITY), 0.6, seed).sample(256)[0].tobytes()
        for seed in (0, 0, 1, 2**64 - 1)
    ]
    assert found[0] == found[1]
    assert len(set(found)) == 3


# Selectors that are wrong, as real ones are, and what must notice it.

RNG = np.random.default_rng(5)
PRIORITIES = some_priorities(CAPACITY)
WEIGHTS = powers(PRIORITIES, 0.6)


def drawn_from(weights: NDArray[np.float64]) -> Sampler:
    return lambda n: RNG.choice(len(weights), n, p=weights / weights.sum())


def stratified(n: int) -> NDArray[np.int64]:
    """One draw from each of n equal parts of the total: less random than is said."""
    targets = (np.arange(n) + RNG.random(n)) / n
    return np.searchsorted(np.cumsum(WEIGHTS) / WEIGHTS.sum(), targets)


def with_a_stale_total(n: int) -> NDArray[np.int64]:
    """The total is 2 % too large, and what lies beyond the end goes to the last item."""
    targets = RNG.random(n) * WEIGHTS.sum() * 1.02
    return np.minimum(np.searchsorted(np.cumsum(WEIGHTS), targets), CAPACITY - 1)


def in_single_precision(n: int) -> NDArray[np.int64]:
    """Sums rounded to so few bits as a large table's float32 sums are."""
    sums = np.cumsum(WEIGHTS).astype(np.float16)
    return np.searchsorted(sums, RNG.random(n) * float(sums[-1]))


def stuck_sometimes(n: int) -> NDArray[np.int64]:
    """One draw in 30 repeats the one before it."""
    draws = drawn_from(WEIGHTS)(n)
    again = np.flatnonzero(RNG.random(n - 1) < 1 / 30) + 1
    draws[again] = draws[again - 1]
    return draws


def one_updated_too_late() -> NDArray[np.float64]:
    weights = WEIGHTS.copy()
    weights[17] *= 1.5
    return weights


BIASED = {
    "another exponent": drawn_from(powers(PRIORITIES, 0.65)),
    "no exponent": drawn_from(PRIORITIES),
    "uniform": drawn_from(np.ones(CAPACITY)),
    "a small constant added": drawn_from(WEIGHTS + 1e-3),
    "one item was updated too late": drawn_from(one_updated_too_late()),
    "shifted by one": lambda n: (drawn_from(WEIGHTS)(n) + 1) % CAPACITY,
    "never the newest": drawn_from(WEIGHTS * (np.arange(CAPACITY) != CAPACITY - 1)),
    "stratified": stratified,
    "stale total": with_a_stale_total,
    "single precision": in_single_precision,
}


def test_a_true_selector_passes_both_checks() -> None:
    for _ in range(20):
        check_proportions(drawn_from(WEIGHTS), WEIGHTS)
        check_pairs(drawn_from(WEIGHTS[:30]), WEIGHTS[:30])


@pytest.mark.parametrize("biased", BIASED)
def test_a_biased_selector_is_found_out(biased: str) -> None:
    with pytest.raises(AssertionError, match=r"chi-square|no weight"):
        check_proportions(BIASED[biased], WEIGHTS)


def test_draws_that_depend_on_each_other_are_found_out() -> None:
    check_proportions(stuck_sometimes, WEIGHTS)  # which this one cannot see
    with pytest.raises(AssertionError, match="chi-square"):
        check_pairs(stuck_sometimes, WEIGHTS)


def test_a_draw_from_outside_the_table_is_found_out() -> None:
    with pytest.raises(AssertionError, match="not among the choices"):
        check_proportions(lambda n: drawn_from(WEIGHTS)(n) + 1, WEIGHTS)
