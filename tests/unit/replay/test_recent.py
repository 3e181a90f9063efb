"""Among the newest steps alone, and every step once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import reverie
from reverie import ArraySpec, ReplayBuffer
from reverie.errors import ClosedError, InvalidArgumentError
from reverie.samplers import Prioritized
from reverie.views import Hindsight, Sequences, Transitions
from reverie.weights import emphasize_recent

SPEC = {
    "observation": ArraySpec((), np.float32),
    "action": ArraySpec((), np.int64),
    "reward": ArraySpec((), np.float32),
}


def filled(steps: int, capacity: int = 1000, **settings: Any) -> ReplayBuffer:
    buffer = ReplayBuffer(SPEC, capacity, seed=0, **settings)
    for k in range(steps):
        buffer.add(float(k), k, 0.0, float(k + 1), k % 10 == 9, False)
    return buffer


@pytest.mark.parametrize("capacity", [1000, 60])
@pytest.mark.parametrize("newest", [1, 7, 50, 400])
def test_newest_are_the_newest_and_equally_likely(newest: int, capacity: int) -> None:
    buffer = filled(200, capacity)
    among = min(newest, len(buffer))
    batch = buffer.sample(20_000, newest=newest)
    counts = np.bincount(batch.action, minlength=200)
    assert counts[: 200 - among].sum() == 0
    expected = 20_000 / among
    chi = ((counts[200 - among :] - expected) ** 2 / expected).sum()
    assert chi < among + 6 * np.sqrt(2 * among) + 6
    np.testing.assert_allclose(batch.probability, 1 / among)


def test_where_items_have_left_from_the_middle() -> None:
    buffer = filled(100)
    keys = buffer.steps().key
    buffer.table.core.delete(keys[[90, 92, 94, 50, 3]])
    found = set(buffer.sample(5000, newest=6).action.tolist())
    assert found == {99, 98, 97, 96, 95, 93}


def test_age_counts_steps_and_not_the_places_where_they_were() -> None:
    def by_place(buffer: ReplayBuffer, newest: int) -> set[int]:
        """Planted: of the newest places, those whose step is still there."""
        return set(buffer.steps().action.tolist()) & set(range(100 - newest, 100))

    def ours(buffer: ReplayBuffer, newest: int) -> set[int]:
        return set(buffer.sample(5000, newest=newest).action.tolist())

    def look(among: Any) -> None:
        buffer = filled(100)
        buffer.table.core.delete(buffer.steps().key[91:99])
        assert among(buffer, 4) == {99, 90, 89, 88}

    look(ours)
    with pytest.raises(AssertionError):
        look(by_place)


def test_newest_is_for_a_uniform_sampler(tmp_path: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="newest: found the sampler"):
        filled(5, sampler=Prioritized()).sample(2, newest=3)
    for wrong in (0, -1, 2**32, 1.5):
        with pytest.raises((InvalidArgumentError, TypeError), match="newest"):
            filled(5).sample(2, newest=wrong)  # type: ignore[arg-type]
    manager = reverie.ReplayBufferManager(SPEC, 10, tmp_path, 2)
    buffer, _ = manager.create_replay_buffer()
    with pytest.raises(InvalidArgumentError, match="newest="):
        buffer.sample(1, newest=3)
    manager.close()


def test_the_share_of_the_newest() -> None:
    # Wang and Ross 2019: N = 1e6, K = 1000, eta 0.996.
    found = [emphasize_recent(10**6, k, 1000) for k in (1, 500, 1000)]
    assert found == [996_000, 134_793, 18_169]
    assert emphasize_recent(10**6, 1000, 1000, eta=0.99) == 5000
    assert emphasize_recent(10**6, 1000, 1000, eta=1) == 10**6
    assert emphasize_recent(300, 7, 10) == 300
    for wrong in ((0, 1, 1), (5, 0, 3), (5, 4, 3)):
        with pytest.raises(InvalidArgumentError):
            emphasize_recent(*wrong)
    with pytest.raises(InvalidArgumentError, match="eta"):
        emphasize_recent(5, 1, 1, eta=1.5)


@pytest.mark.parametrize("size", [1, 7, 64, 500])
def test_an_epoch_has_every_item_once(size: int) -> None:
    buffer = filled(200, 150)
    batches = list(buffer.epoch(size, seed=1))
    assert all(len(each.key) == size for each in batches[:-1])
    actions = np.concatenate([each.action for each in batches])
    assert sorted(actions.tolist()) == list(range(50, 200))
    assert actions.tolist() != list(range(50, 200))
    again = np.concatenate([each.action for each in buffer.epoch(size, seed=1)])
    other = np.concatenate([each.action for each in buffer.epoch(size, seed=2)])
    assert again.tolist() == actions.tolist() != other.tolist()
    whole = sum(len(each.key) for each in buffer.epoch(size, drop_last=True))
    assert whole == 150 // size * size
    assert (buffer.steps().info.times_sampled == 0).all()


def test_an_epoch_leaves_out_what_leaves() -> None:
    buffer = filled(100, 100)
    seen: list[int] = []
    for number, batch in enumerate(buffer.epoch(10, seed=0)):
        seen += batch.action.tolist()
        if number == 2:
            there = set(range(100, 160))
            for k in range(100, 160):
                buffer.add(float(k), k, 0.0, float(k + 1), False, False)
    assert len(seen) == len(set(seen))
    assert not there & set(seen)
    assert {k for k in range(60, 100)} <= set(seen)
    assert len(seen) < 100


def test_an_epoch_of_another_view() -> None:
    buffer = filled(30)
    batches = list(buffer.epoch(8, view=Sequences(4)))
    assert sum(len(each.mask) for each in batches) == 30
    assert list(ReplayBuffer(SPEC, 5).epoch(4)) == []
    with pytest.raises(InvalidArgumentError, match="chance is a part"):
        buffer.epoch(8, view=Hindsight(lambda *_: 0.0))
    with pytest.raises(InvalidArgumentError, match="batch_size"):
        buffer.epoch(0)
    passing = buffer.epoch(8, view=Transitions(2))
    next(passing)
    buffer.close()
    with pytest.raises(ClosedError):
        next(passing)
