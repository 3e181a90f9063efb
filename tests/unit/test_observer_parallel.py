"""The parallel observer: batches are stored whole or not at all, environments never mix."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.observer_support import PAD, Served, batch

from reverie.errors import InvalidArgumentError, StepMismatchError
from reverie.observers import ParallelObserver


@pytest.fixture
def served() -> Served:
    return Served()


def steps_of(served: Served) -> int:
    return int(served.tables["queue"].store.core.info()["num_steps"])


def test_each_environment_has_windows_of_its_own(served: Served) -> None:
    observer = ParallelObserver(served.client, "queue", 2, num_envs=3)
    observer(batch([0, 10, 20], [False, True, False]))
    observer(batch([1, 11, 21], [False, False, False]))
    observer(batch([22, 12], [True, False]), [2, 1])
    observer(batch([2, 23], [False, False]), np.array([0, 2], np.uint8))
    assert observer.cached_steps().tolist() == [3, 2, 1]
    assert served.numbers() == [[0, 1], [20, 21], [21, 22], [11, 12], [1, 2]]


def test_items_are_there_when_the_call_returns_in_the_order_of_environments(
    served: Served,
) -> None:
    observer = ParallelObserver(served.client, "queue", 1, num_envs=4)
    observer(batch([3, 1, 2, 0], [False] * 4))
    assert served.numbers() == [[3], [1], [2], [0]]
    observer(batch([5, 6], [False] * 2), [3, 0])
    assert served.numbers() == [[5], [6]]


def test_sequences_cross_boundaries_and_episodes_are_whole(served: Served) -> None:
    sequence = ParallelObserver(served.client, "queue", 2, num_envs=2, items="sequence")
    for n in range(3):
        sequence(batch([n, 10 + n], [True, False]))
    assert served.numbers() == [[0, 1], [10, 11], [1, 2], [11, 12]]
    episodes = ParallelObserver(served.client, "queue", 9, num_envs=2, items="episode")
    for n in range(4):
        episodes(batch([n, 10 + n], [n == 3, n == 1]))
    assert served.numbers() == [[10, 11], [0, 1, 2, 3]]
    episodes.reset()
    assert served.numbers() == [[12, 13]]


def test_padding_is_that_of_each_environment(served: Served) -> None:
    observer = ParallelObserver(served.client, "queue", 3, 1, 1, True, True, num_envs=2)
    observer(batch([0, 10], [False, True]))
    observer(batch([1, 11], [True, False]))
    assert served.numbers() == [[10, PAD, PAD], [0, 1, PAD], [1, PAD, PAD]]


def test_steps_without_a_boundary_are_told_their_last(served: Served) -> None:
    observer = ParallelObserver(served.client, "queue", 2, num_envs=2)
    for n in range(3):
        observer({"n": np.array([n, 10 + n])}, last=[n == 0, False])
    assert [columns[0].tolist() for columns in served.items()] == [[10, 11], [1, 2], [11, 12]]
    with pytest.raises(StepMismatchError, match=r"last has shape \(1,\).*\(2,\)"):
        observer({"n": np.array([3, 13])}, last=[True])


def test_last_may_repeat_but_not_contradict_what_steps_say(served: Served) -> None:
    observer = ParallelObserver(served.client, "queue", 1, num_envs=2)
    observer(batch([0, 1], [False, True]), last=[False, True])
    with pytest.raises(InvalidArgumentError, match=r"is_boundary\(\) says \[False, True\]"):
        observer(batch([0, 1], [False, True]), last=[True, True])
    assert served.numbers() == [[0], [1]]


GOOD = batch([0, 10], [False, False])
BAD: dict[str, Any] = {
    "no batch axis": batch([0, 10], [False, False])._replace(reward=np.float32(0)),
    "batch of three": batch([0, 1, 2], [False] * 3),
    "one leaf of three": GOOD._replace(reward=np.zeros(3, np.float32)),
    "shape of a cell": GOOD._replace(observation={"x": np.zeros((2, 3), np.float32)}),
    "dtype": GOOD._replace(action=np.zeros(2, np.float64)),
    "out of range": GOOD._replace(step_type=np.array([0, 2**40])),
    "structure": GOOD._replace(observation=np.zeros((2, 2), np.float32)),
    "None": None,
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_leaf_leaves_no_trace_in_any_environment(served: Served, what: str) -> None:
    observer = ParallelObserver(served.client, "queue", 2, num_envs=2)
    observer(GOOD)
    before = (steps_of(served), observer.cached_steps().tolist(), served.numbers())
    with pytest.raises(StepMismatchError, match="Nothing was stored"):
        observer(BAD[what])
    assert (steps_of(served), observer.cached_steps().tolist(), served.numbers()) == before
    observer(batch([1, 11], [False, False]))
    assert served.numbers() == [[0, 1], [10, 11]]


def test_the_check_would_see_a_batch_that_is_stored_in_part(served: Served) -> None:
    observer = ParallelObserver(served.client, "queue", 2, num_envs=2)
    observer(GOOD)
    before = (steps_of(served), observer.cached_steps().tolist())
    observer(batch([1], [False]), [0])
    assert (steps_of(served), observer.cached_steps().tolist()) != before


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([0, 2], "2 is no environment"),
        ([-1, 0], "-1 is no environment"),
        ([0, 2**32], "is no environment"),
        ([1, 1], "1 occurs twice"),
        ([0.0, 1.0], "wanted integers of shape"),
        ([True, False], "wanted integers of shape"),
        ([[0, 1]], "wanted integers of shape"),
    ],
)
def test_bad_environments_are_refused_before_anything_is_stored(
    served: Served, ids: Any, words: str
) -> None:
    observer = ParallelObserver(served.client, "queue", 1, num_envs=2)
    observer(GOOD)
    served.items()
    before = steps_of(served)
    with pytest.raises(InvalidArgumentError, match=words):
        observer(GOOD, ids)
    with pytest.raises(InvalidArgumentError, match=words):
        observer.reset(True, ids)
    assert (steps_of(served), served.items()) == (before, [])


def test_a_call_for_no_environment_does_nothing(served: Served) -> None:
    observer = ParallelObserver(served.client, "queue", 1, num_envs=2)
    observer(GOOD)
    observer(batch([], []), [])
    assert served.numbers() == [[0], [10]]


def test_every_layout_of_a_leaf_is_stored_as_the_same_values(served: Served) -> None:
    observer = ParallelObserver(served.client, "queue", 1, num_envs=2)
    x = np.arange(4, dtype=np.float32).reshape(2, 2)
    observer({"x": x})
    for variant in (x.astype(np.float64), np.asfortranarray(x), x.astype(">f4"), x[::-1][::-1]):
        observer({"x": variant})
    observer({"x": x[::-1]}, np.array([1, 0])[::1])
    found = [columns[0].tolist() for columns in served.items()]
    assert found == [[[0, 1]], [[2, 3]]] * 5 + [[[2, 3]], [[0, 1]]]


def test_an_episode_that_is_too_long_is_dropped_and_the_others_are_stored(
    served: Served,
) -> None:
    observer = ParallelObserver(served.client, "queue", 2, num_envs=3, items="episode")
    observer(batch([0, 10, 20], [False] * 3))
    observer(batch([1, 11], [False] * 2), [0, 1])
    with pytest.raises(ValueError, match=r"other environments' steps were stored.*\[1, 0\]"):
        observer(batch([12, 21, 2], [False, True, True]), [1, 2, 0])
    observer(batch([3, 13, 22], [True, True, True]))  # of 1, the rest of what is too long
    assert served.numbers() == [[20, 21], [3], [22]]


def test_a_bypassed_episode_is_a_line_in_the_log(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    observer = ParallelObserver(
        served.client, "queue", 1, num_envs=2, items="episode", bypass_partial_episodes=True
    )
    observer(batch([0, 10], [False, False]))
    observer(batch([1, 11], [False, True]))
    observer(batch([2, 12], [True, True]))
    assert served.numbers() == [[12]]
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "[0, 1]" in caplog.text


def test_single_environments_are_reset(served: Served) -> None:
    observer = ParallelObserver(served.client, "queue", 3, 1, 1, True, num_envs=3)
    observer(batch([0, 10, 20], [False] * 3))
    observer.reset(True, 1)
    observer.reset(False, [2])
    assert observer.cached_steps().tolist() == [1, 0, 0]
    observer(batch([1, 11, 21], [False] * 3))
    observer.reset()
    assert served.numbers() == [[10, PAD, PAD], [0, 1, PAD], [11, PAD, PAD], [21, PAD, PAD]]


def test_reset_without_padding_says_what_is_lost_where(served: Served) -> None:
    observer = ParallelObserver(served.client, "queue", 2, num_envs=3)
    observer(batch([0, 10, 20], [False, False, True]))
    observer(batch([1], [False]), [0])
    with pytest.raises(InvalidArgumentError, match=r"\{1: 1\} fill no window of 2"):
        observer.reset()
    observer.reset()
    assert observer.cached_steps().tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_envs": 0}, "num_envs"),
        ({"items": "windows"}, "items: found 'windows'"),
        ({"items": "episode", "stride_length": 2}, "mean nothing"),
        ({"items": "episode", "pad_end_of_episodes": True}, "mean nothing"),
        ({"bypass_partial_episodes": True}, 'needs items="episode"'),
        ({"tile_end_of_episodes": True}, "pad_end_of_episodes=True"),
    ],
)
def test_arguments_that_contradict_each_other_are_refused(
    served: Served, changes: dict[str, Any], words: str
) -> None:
    arguments = {"sequence_length": 2, "num_envs": 2, **changes}
    with pytest.raises(InvalidArgumentError, match=words):
        ParallelObserver(served.client, "queue", **arguments)


def test_it_shows_its_tables_and_environments(served: Served) -> None:
    observer = ParallelObserver(served.client, "queue", 2, num_envs=64)
    assert repr(observer) == "ParallelObserver('queue', 64 environments)"
    assert (observer.num_envs, observer.py_client) == (64, served.client)
