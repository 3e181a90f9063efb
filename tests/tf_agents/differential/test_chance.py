"""What is drawn at random is drawn with the same probabilities as Reverb's.

Each test compares counts with the probabilities that the priorities define, by
chi-square, for Reverb and for Reverie alike. A correct implementation fails one of them
with probability P_VALUE; there are fewer than 40 counts here, so a whole run fails by
chance less than once in 25 000. The seeds of both are theirs, not ours to set.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

reverb = pytest.importorskip("reverb", reason="needs dm-reverb")
stats = pytest.importorskip("scipy.stats", reason="needs SciPy")

from tests.tf_agents.differential import twins  # noqa: E402

from reverie import reverb as ours  # noqa: E402

P_VALUE = 1e-6
DRAWS = 6000
PRIORITIES = (1.0, 2.0, 4.0, 0.5, 3.0, 1.0)
MODULES = pytest.mark.parametrize("rv", [reverb, ours], ids=["dm-reverb", "reverie"])


class Served:
    """A table of six items, the n-th holding the number n."""

    def __init__(self, rv: Any, sampler: Any, remover: Any = None, max_size: int = 100) -> None:
        table = rv.Table(
            name="t",
            sampler=sampler,
            remover=remover or rv.selectors.Fifo(),
            max_size=max_size,
            rate_limiter=rv.rate_limiters.MinSize(1),
        )
        self.server = rv.Server([table])
        self.client = rv.Client(f"localhost:{self.server.port}")

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()

    def fill(self, priorities: Any) -> None:
        with self.client.trajectory_writer(1) as writer:
            for n, priority in enumerate(priorities):
                writer.append(np.int64(n))
                writer.create_item("t", priority, writer.history[-1:])
                writer.flush()

    def draw(self, n: int) -> list[Any]:
        return list(self.client.sample("t", n, emit_timesteps=False))


def number(sample: Any) -> int:
    return int(sample.data[0][0])


def p_of(counts: Counter[int], weights: Any) -> float:
    """How likely counts at least as odd are under these weights; 0 if one is impossible."""
    weights = np.asarray(weights, float)
    seen = np.array([counts[n] for n in range(len(weights))])
    if seen[weights == 0].any() or seen.sum() != sum(counts.values()):
        return 0.0
    expected = weights[weights > 0] / weights.sum() * seen.sum()
    return float(stats.chisquare(seen[weights > 0], expected).pvalue)


def uniform_p(rv: Any) -> float:
    with Served(rv, rv.selectors.Uniform()) as served:
        served.fill(PRIORITIES)
        return p_of(Counter(map(number, served.draw(DRAWS))), [1] * 6)


@MODULES
def test_uniform_is_uniform(rv: Any) -> None:
    assert uniform_p(rv) > P_VALUE


def test_a_biased_uniform_is_found_out() -> None:
    assert uniform_p(twins.biased_uniform()) < P_VALUE


@pytest.mark.parametrize("exponent", [-1.0, 0.0, 0.5, 1.0, 2.0])
@MODULES
def test_prioritized_follows_the_exponent(rv: Any, exponent: float) -> None:
    with Served(rv, rv.selectors.Prioritized(exponent)) as served:
        served.fill(PRIORITIES)
        samples = served.draw(DRAWS)
        weights = np.array(PRIORITIES) ** exponent
        assert p_of(Counter(map(number, samples)), weights) > P_VALUE
        for sample in samples[:100]:
            share = weights[number(sample)] / weights.sum()
            assert sample.info.probability == pytest.approx(share, rel=1e-6)


def test_a_wrong_exponent_is_found_out() -> None:
    with Served(ours, ours.selectors.Prioritized(0.75)) as served:
        served.fill(PRIORITIES)
        assert p_of(Counter(map(number, served.draw(DRAWS))), PRIORITIES) < P_VALUE


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
@MODULES
def test_prioritized_follows_updates_and_deletes(rv: Any, exponent: float) -> None:
    with Served(rv, rv.selectors.Prioritized(exponent)) as served:
        served.fill(PRIORITIES)
        keys = {number(sample): sample.info.key for sample in served.draw(DRAWS)}
        new = {0: 5.0, 2: 0.25, 3: 0.0, 4: 3.0}
        updates = {keys[n]: priority for n, priority in new.items()}
        served.client.mutate_priorities("t", updates, [keys[5]])
        weights = np.array([5.0, 2.0, 0.25, 0.0, 3.0, 0.0]) ** exponent
        assert p_of(Counter(map(number, served.draw(DRAWS))), weights) > P_VALUE


@MODULES
def test_items_of_priority_zero_are_drawn_alike_where_there_are_no_others(rv: Any) -> None:
    with Served(rv, rv.selectors.Prioritized(1.0)) as served:
        served.fill([0.0] * 4)
        assert p_of(Counter(map(number, served.draw(DRAWS))), [1] * 4) > P_VALUE


@pytest.mark.parametrize("kind", ["Uniform", "Prioritized"])
@MODULES
def test_removers_remove_at_random(rv: Any, kind: str) -> None:
    # Of five items one has to go, the new one included.
    remover = rv.selectors.Uniform() if kind == "Uniform" else rv.selectors.Prioritized(1.0)
    gone: Counter[int] = Counter()
    priorities = PRIORITIES[:5]
    with Served(rv, rv.selectors.Fifo(), remover, max_size=4) as served:
        for _ in range(400):
            served.client.reset("t")
            served.fill(priorities)
            left = set()
            for _ in range(4):
                [sample] = served.draw(1)
                left.add(number(sample))
                served.client.mutate_priorities("t", {}, [sample.info.key])
            gone.update(set(range(5)) - left)
    assert sum(gone.values()) == 400
    assert p_of(gone, [1] * 5 if kind == "Uniform" else priorities) > P_VALUE
