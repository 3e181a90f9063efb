"""A manager's sampler, remover and limiter: the public way to any table."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.manager_support import SPEC, add, contents, make

import reverie
from reverie import ReplayBufferManager, limiters, removers, samplers
from reverie.errors import InvalidArgumentError, WaitTimeoutError

EVERY = {
    "uniform": samplers.Uniform(),
    "fifo": samplers.Fifo(),
    "lifo": samplers.Lifo(),
    "prioritized": samplers.Prioritized(0.6),
    "min_heap": samplers.MinHeap(),
    "max_heap": samplers.MaxHeap(),
}


def firsts(manager: ReplayBufferManager, batch_size: int = 64) -> set[int]:
    """First steps of sampled items, which must be whole."""
    data, _ = manager.sample(batch_size)
    assert (data["n"][:, 1] - data["n"][:, 0] == 1).all()
    return set(data["n"][:, 0].tolist())


def prepared(folder: Path, **settings: Any) -> ReplayBufferManager:
    """Ten items; the one of steps 3 and 4 has priority 9, that of 6 and 7 priority 0.5."""
    manager = make(folder, **settings)
    add(manager, *range(11))
    keys = {steps[0]: key for key, steps in contents(manager)}
    known = {key: priority for n, priority in ((3, 9.0), (6, 0.5)) if (key := keys.get(n))}
    core = manager.get_replay_buffer_and_observer()[0].table.core  # it takes them unread, too
    core.update_priorities(np.array(list(known), np.uint64), np.array(list(known.values())))
    return manager


@pytest.mark.parametrize(
    ("sampler", "chosen"),
    [
        ("fifo", {0}),
        ("lifo", {9}),
        ("min_heap", {6}),
        ("max_heap", {3}),
        ("uniform", set(range(10))),
    ],
)
def test_the_sampler_chooses_the_batch(sampler: str, chosen: set[int], tmp_path: Path) -> None:
    with prepared(tmp_path, sampler=EVERY[sampler], seed=1) as manager:
        assert firsts(manager, 300) == chosen


def test_a_prioritized_batch_goes_by_the_power_of_priorities(tmp_path: Path) -> None:
    with prepared(tmp_path, sampler=samplers.Prioritized(2.0), seed=1) as manager:
        data, info = manager.sample(4000)
        weights = np.array([81.0 if n == 3 else 0.25 if n == 6 else 1.0 for n in range(10)])
        wanted = weights / weights.sum()
        first = data["n"][:, 0]
        assert np.allclose(info.probability, wanted[first])
        found = np.bincount(first, minlength=10) / 4000
        # Six standard deviations: one run in 10^9 would fail by chance, and this one is seeded.
        assert (abs(found - wanted) < 6 * np.sqrt(wanted * (1 - wanted) / 4000)).all()


@pytest.mark.parametrize(
    ("remover", "gone"), [("fifo", 0), ("lifo", 20), ("min_heap", 6), ("max_heap", 3)]
)
def test_the_remover_makes_room(remover: str, gone: int, tmp_path: Path) -> None:
    with prepared(tmp_path, remover=EVERY[remover]) as manager:
        add(manager, *range(11, 22))  # 21 items, one too many
        left = {steps[0] for _, steps in contents(manager)}
        assert left == set(range(21)) - {gone}


def test_the_limiter_holds_samples_back(tmp_path: Path) -> None:
    with make(tmp_path, limiter=limiters.MinSize(5)) as manager:
        add(manager, *range(5))
        with pytest.raises(WaitTimeoutError, match="wants at least 5"):
            manager.sample(1, timeout=0)
        add(manager, 5)
        assert manager.sample(1, timeout=0)[1].table_size.tolist() == [5]
        assert manager.info().min_size_to_sample == 5


def test_a_limiter_holds_inserts_back_until_someone_samples(tmp_path: Path) -> None:
    ratio = limiters.SampleToInsertRatio(1.0, 2, 2.0)
    with make(tmp_path, limiter=ratio) as manager:
        _, observer = manager.create_replay_buffer()
        add(manager, *range(8))
        assert manager.num_frames() == 4  # 4 - 0 samples is 2 above the centre of 2
        waiting = threading.Thread(target=observer.flush)
        waiting.start()
        for _ in range(5):
            manager.sample(1)
        waiting.join(10)
        assert not waiting.is_alive()
        assert manager.num_frames() == 7


@pytest.mark.parametrize("sampler", EVERY)
@pytest.mark.parametrize("remover", EVERY)
def test_any_pair_of_them_is_saved_and_goes_on_as_it_would_have(
    sampler: str, remover: str, tmp_path: Path
) -> None:
    chosen: dict[str, Any] = {"sampler": EVERY[sampler], "remover": EVERY[remover]}
    with prepared(tmp_path, capacity=8, **chosen) as manager:
        manager.sample(5)
        manager.save()
        wanted = [info.key.tolist() for _, info in (manager.sample(7) for _ in range(3))]
    with make(tmp_path, capacity=8, **chosen) as again:
        again.load_replay_buffer()
        assert again.num_frames() == 8
        found = [info.key.tolist() for _, info in (again.sample(7) for _ in range(3))]
    assert found == wanted


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sampler": "prioritized"}, "sampler of table 'uniform_table': found 'prioritized'"),
        ({"remover": samplers.Fifo}, "remover of table"),
        ({"limiter": 5}, "rate_limiter of table"),
        ({"limiter": limiters.MinSize(21)}, "would never let a sample pass"),
    ],
)
def test_what_is_none_of_them_is_refused_at_once(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises((TypeError, InvalidArgumentError), match=words):
        make(tmp_path, **changes)


@pytest.mark.parametrize("alpha", [float("nan"), float("inf")])
def test_an_exponent_that_is_no_number_is_refused_by_its_name(alpha: float) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^alpha: found"):
        samplers.Prioritized(alpha)


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"initial": 0}, InvalidArgumentError, "initial: found 0, wanted 'max'"),
        ({"initial": -1.0}, InvalidArgumentError, "initial: found -1.0"),
        ({"initial": float("nan")}, InvalidArgumentError, "initial: found nan"),
        ({"initial": float("inf")}, InvalidArgumentError, "initial: found inf"),
        ({"initial": "largest"}, InvalidArgumentError, "initial: found 'largest'"),
        ({"initial": [1.0]}, TypeError, "initial: found"),
        ({"eps": -1e-6}, InvalidArgumentError, "eps: found -1e-06"),
        ({"eps": float("nan")}, InvalidArgumentError, "eps: found nan"),
        ({"eps": float("inf")}, InvalidArgumentError, "eps: found inf"),
        ({"eps": None}, TypeError, "eps: found None"),
    ],
)
def test_priorities_to_come_that_cannot_be_are_refused(
    wrong: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        samplers.Prioritized(0.6, **wrong)


def test_a_prioritized_sampler_says_what_new_items_get() -> None:
    one = samplers.Prioritized(0.6)
    assert (one.exponent, one.initial, one.eps) == (0.6, "max", 1e-6)
    same = samplers.Prioritized(0.6, initial="max", eps=1e-6)
    others = [
        samplers.Prioritized(0.6, initial=1),
        samplers.Prioritized(0.6, initial=None),
        samplers.Prioritized(0.6, eps=0),
        samplers.Prioritized(0.5),
    ]
    assert (one, hash(one)) == (same, hash(same))
    assert one not in others
    assert repr(one) == "PrioritizedSelector(priority_exponent=0.6, initial='max', eps=1e-06)"
    assert (samplers.Uniform().initial, samplers.Uniform().eps) == (None, 0.0)


def test_they_are_values() -> None:
    assert samplers.Prioritized(0.6) == samplers.Prioritized(0.6) != samplers.Prioritized(1.0)
    assert samplers.Fifo() == removers.Fifo() != removers.Lifo()
    assert samplers.MinHeap() != samplers.MaxHeap()
    assert limiters.MinSize(2) == limiters.MinSize(2) != limiters.MinSize(3)
    assert limiters.MinSize(2) != samplers.Fifo() != limiters.MinSize(2)
    assert len({*map(hash, (samplers.Fifo(), removers.Fifo()))}) == 1


def test_reverbs_names_are_names_of_the_same_values() -> None:
    reverb = reverie.reverb
    ours = samplers.Prioritized(0.6, initial=None, eps=0)
    assert reverb.selectors.Prioritized(0.6) == ours != samplers.Prioritized(0.6)
    assert reverb.selectors.MinHeap() == samplers.MinHeap()
    assert reverb.rate_limiters.MinSize(3).internal_limiter == limiters.MinSize(3)
    ratio = reverb.rate_limiters.SampleToInsertRatio(2.0, 3, 7.0).internal_limiter
    assert ratio == limiters.SampleToInsertRatio(2.0, 3, 7.0)


def test_a_spec_with_nodes_that_reverb_has_no_words_for_works_all_the_same(
    tmp_path: Path,
) -> None:
    spec = {"a": SPEC, "nothing": None}
    with make(tmp_path, data_spec=spec, sampler=samplers.Prioritized()) as manager:
        _, observer = manager.create_replay_buffer()
        for n in range(3):
            observer({"a": {"n": n, "x": np.zeros(2)}, "nothing": None})
        manager.save()
        manager.load_replay_buffer()
        assert manager.gather_all()["a"]["n"].tolist() == [[0, 1], [1, 2]]
