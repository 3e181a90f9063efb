"""Sampling is uniform, batch by batch and draw by draw, also where items have gone.

Every check is a chi-square test with a false-alarm rate of ALARM, and is itself shown to
refuse samplers that are wrong in just the ways that such samplers are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from reverie import ArraySpec, ReplayBufferManager

ALARM = 1e-9  # one false alarm in a thousand million checks; the seeds are fixed besides
CAPACITY = 100
DRAWS = 500_000

Sampler = Callable[[int], NDArray[np.int64]]  # n draws, numbers from 0


def check_uniform(draw: Sampler, choices: int) -> None:
    """Raises AssertionError unless all of `choices` are drawn equally often."""
    counts = np.bincount(draw(DRAWS), minlength=choices)
    assert len(counts) == choices, "a draw that is not among the choices"
    check_counts(counts)


def check_independent(draw: Sampler, choices: int) -> None:
    """Raises AssertionError unless each draw comes equally often after each other one."""
    found = draw(DRAWS).reshape(-1, 2)
    check_counts(np.bincount(found[:, 0] * choices + found[:, 1], minlength=choices**2))


def check_counts(counts: NDArray[np.int64]) -> None:
    expected = counts.sum() / len(counts)
    assert expected >= 20, "too few draws for the chi-square approximation"
    statistic = float(((counts - expected) ** 2).sum() / expected)
    # Both tails: counts that are too even come from no random sampler, either.
    low, high = stats.chi2.ppf(ALARM, len(counts) - 1), stats.chi2.isf(ALARM, len(counts) - 1)
    assert low < statistic < high, f"chi-square {statistic:.1f}, wanted {low:.1f} to {high:.1f}"


def filled(items: int, *, seed: int = 11, length: int = 1, delete: Any = ()) -> Any:
    """A manager whose step number i holds i; `delete` are rows of the table."""
    manager = ReplayBufferManager(
        ArraySpec((), np.int64), CAPACITY, "never made", length, stride_length=length, seed=seed
    )
    buffer, observer = manager.create_replay_buffer()
    for number in range(items * length):
        observer(np.int64(number))
    keys = buffer.item_info()["key"]
    assert buffer._table.core.delete(keys[np.array(delete, np.int64)]) == 0
    return manager


def ranks(
    manager: ReplayBufferManager, batch_size: int, num_steps: int | None = None
) -> Sampler:
    """Draws as ranks among what can be drawn: items, or their pieces."""
    first_steps = manager.gather_all()[:, :: num_steps or 1].reshape(-1)

    def draw(n: int) -> NDArray[np.int64]:
        batches = [
            manager.sample(batch_size, num_steps)[0][:, 0] for _ in range(n // batch_size)
        ]
        return np.searchsorted(first_steps, np.concatenate(batches))

    return draw


TABLES = {
    "full": {"items": CAPACITY},
    "a third full": {"items": 33},
    "half evicted": {"items": CAPACITY * 3 // 2},
    "evicted many times": {"items": CAPACITY * 7 + 13},
    "holes at one end": {"items": CAPACITY, "delete": range(60)},
    "holes everywhere": {"items": CAPACITY * 3 // 2, "delete": range(0, CAPACITY, 3)},
    "one large hole": {"items": CAPACITY, "delete": range(20, 90)},
}


@pytest.mark.parametrize("batch_size", [1, 256])
@pytest.mark.parametrize("table", TABLES)
def test_items_are_drawn_uniformly(table: str, batch_size: int) -> None:
    with filled(**TABLES[table]) as manager:
        items = len(manager.gather_all())
        draw = ranks(manager, batch_size)
        few = DRAWS // 10 if batch_size == 1 else DRAWS
        check_uniform(lambda n: draw(min(n, few)), items)


@pytest.mark.parametrize("table", ["full", "half evicted", "holes everywhere"])
def test_draws_follow_each_other_independently(table: str) -> None:
    with filled(**TABLES[table]) as manager:
        items = len(manager.gather_all())
        check_independent(ranks(manager, 250), items)


@pytest.mark.parametrize("num_steps", [1, 2, 3])
@pytest.mark.parametrize("table", ["full", "holes everywhere"])
def test_pieces_of_items_are_drawn_uniformly(table: str, num_steps: int) -> None:
    with filled(**TABLES[table], length=6) as manager:
        pieces = len(manager.gather_all()) * 6 // num_steps
        check_uniform(ranks(manager, 256, num_steps), pieces)


def test_the_stated_probability_is_the_true_one() -> None:
    with filled(**TABLES["holes everywhere"]) as manager:
        _, info = manager.sample(100)
        assert set(info.probability.tolist()) == {1 / manager.num_frames()}


def test_priorities_do_not_bend_a_uniform_sampler() -> None:
    with filled(CAPACITY) as manager:
        core = manager.get_replay_buffer_and_observer()[0].table.core
        keys = core.items()["key"]
        assert core.update_priorities(keys, np.where(keys % 2 == 0, 0.0, 1e6)) == 0
        check_uniform(ranks(manager, 256), CAPACITY)


def batches_of(manager: ReplayBufferManager) -> bytes:
    sizes = [1, 7, 64, 3]
    return b"".join(manager.sample(size)[0].tobytes() for size in sizes)


@pytest.mark.parametrize("table", TABLES)
def test_the_same_seed_gives_the_same_batches_and_another_seed_others(table: str) -> None:
    found = []
    for seed in (0, 0, 1, 2**64 - 1):
        with filled(**TABLES[table], seed=seed) as manager:
            found.append(batches_of(manager))
    assert found[0] == found[1]
    assert len(set(found)) == 3


def test_without_a_seed_two_buffers_differ() -> None:
    with filled(CAPACITY, seed=None) as one, filled(CAPACITY, seed=None) as other:
        assert batches_of(one) != batches_of(other)


# Samplers that are wrong, as real ones are, and what must notice it.

RNG = np.random.default_rng(5)


def fair(n: int) -> NDArray[np.int64]:
    return RNG.integers(0, CAPACITY, n)


def never_the_newest(n: int) -> NDArray[np.int64]:
    return RNG.integers(0, CAPACITY - 1, n)


def a_little_more_of_some(n: int) -> NDArray[np.int64]:
    """Half of the items are drawn 5 % too often."""
    weights = np.where(np.arange(CAPACITY) % 2, 1.05, 1.0)
    return RNG.choice(CAPACITY, n, p=weights / weights.sum())


def one_item_by_half(n: int) -> NDArray[np.int64]:
    weights = np.where(np.arange(CAPACITY) == 17, 1.5, 1.0)
    return RNG.choice(CAPACITY, n, p=weights / weights.sum())


def next_after_a_hole(n: int) -> NDArray[np.int64]:
    """Draws a slot of 150, a third of them empty, and takes the next live one."""
    live = np.flatnonzero(np.arange(150) % 3)
    return np.searchsorted(live, RNG.integers(0, 150, n)) % CAPACITY


def modulo_of_few_bits(n: int) -> NDArray[np.int64]:
    return RNG.integers(0, 1024, n) % CAPACITY


def in_turn(n: int) -> NDArray[np.int64]:
    """Never by chance: all counts are equal."""
    return np.arange(n) % CAPACITY


def without_replacement(n: int) -> NDArray[np.int64]:
    """Each epoch is a permutation: no item twice in a row within it."""
    return np.concatenate([RNG.permutation(CAPACITY) for _ in range(n // CAPACITY)])


def stuck_sometimes(n: int) -> NDArray[np.int64]:
    """One draw in 50 repeats the one before it."""
    draws = fair(n)
    again = np.flatnonzero(RNG.random(n - 1) < 0.02) + 1
    draws[again] = draws[again - 1]
    return draws


def test_a_fair_sampler_passes_both_checks() -> None:
    for _ in range(20):
        check_uniform(fair, CAPACITY)
        check_independent(fair, CAPACITY)


@pytest.mark.parametrize(
    "biased",
    [
        never_the_newest,
        a_little_more_of_some,
        one_item_by_half,
        next_after_a_hole,
        modulo_of_few_bits,
        in_turn,
        without_replacement,
    ],
)
def test_a_biased_sampler_is_found_out(biased: Sampler) -> None:
    with pytest.raises(AssertionError, match="chi-square"):
        check_uniform(biased, CAPACITY)


@pytest.mark.parametrize("dependent", [in_turn, without_replacement, stuck_sometimes])
def test_draws_that_depend_on_each_other_are_found_out(dependent: Sampler) -> None:
    with pytest.raises(AssertionError, match="chi-square"):
        check_independent(dependent, CAPACITY)


def test_a_draw_from_outside_the_table_is_found_out() -> None:
    with pytest.raises(AssertionError, match="not among the choices"):
        check_uniform(lambda n: RNG.integers(0, CAPACITY + 1, n), CAPACITY)
