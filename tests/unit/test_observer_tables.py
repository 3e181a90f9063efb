"""Observers on tables of a server: where items go, and what steps are."""

from __future__ import annotations

import collections
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.observer_support import EVERY, PAD, SINGLE, Served, batch, tell, trajectory

import reverie
from reverie import ReplayBufferManager, reverb
from reverie.errors import InvalidArgumentError, SpecError, StepMismatchError
from reverie.observers import (
    EpisodeObserver,
    ParallelObserver,
    TrajectoryObserver,
    TrajectorySequenceObserver,
)
from reverie.reverb.errors import UnknownTableError

# Where items go -------------------------------------------------------------------


@pytest.mark.parametrize("make", EVERY)
def test_each_table_gets_each_item_in_the_order_of_names(make: Any) -> None:
    served = Served("a", "b", "c")
    observer = make(served.client, ("c", "a"))
    for n in range(3):
        tell(observer, n, last=n == 2)
    assert served.tables["a"].store.core.info()["num_steps"] == 3  # one copy
    found = served.numbers("c")
    assert found == served.numbers("a")
    assert len(found) > 0
    assert served.numbers("b") == []


def test_a_name_that_occurs_twice_or_is_none_is_refused() -> None:
    served = Served("a", "b")
    for names, words in [
        (("a", "b", "a"), "'a' occurs 2 times"),
        ((), "wanted a str or several"),
        (None, "wanted a str or several"),
        (("a", 3), "wanted a str or several"),
    ]:
        with pytest.raises(InvalidArgumentError, match=words):
            TrajectoryObserver(served.client, names, 2)
    with pytest.raises(UnknownTableError, match="'other' was not found"):
        TrajectoryObserver(served.client, ("a", "other"), 2)


@pytest.mark.parametrize("client", [None, object(), "localhost:1"])
def test_what_is_no_client_is_refused(client: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"py_client: found .*reverb\.Client"):
        EpisodeObserver(client, "queue", 2)


def test_items_have_the_observers_priority() -> None:
    served = Served()
    observer = TrajectoryObserver(served.client, "queue", 1, 1, 0.5)
    observer(trajectory(0))
    assert served.tables["queue"].core.sample_items(1)[0][3] == 0.5
    assert observer._priority == 0.5


def test_a_managers_table_takes_windows_of_its_own_length(tmp_path: Path) -> None:
    with ReplayBufferManager(trajectory(0), 50, tmp_path, 2) as manager:
        buffer, _ = manager.create_replay_buffer()
        client, table = buffer.py_client, buffer.table_name
        sequence = TrajectorySequenceObserver(client, table, 2)
        parallel = ParallelObserver(client, table, 2, num_envs=2)
        for n in range(3):
            sequence(trajectory(n, last=True))
            parallel(batch([10 + n, 20 + n], [False, n == 1]))
        found = [item.action.tolist() for _, item in manager.iter_items()]
        assert found == [[0, 1], [10, 11], [20, 21], [1, 2], [11, 12]]
        with pytest.raises(InvalidArgumentError, match="sequence_length: found 3, wanted 2"):
            TrajectoryObserver(client, table, 3)
        with pytest.raises(InvalidArgumentError, match="'other', wanted 'uniform_table'"):
            TrajectoryObserver(client, "other", 2)


def test_clearing_a_managers_table_drops_every_open_episode(tmp_path: Path) -> None:
    with ReplayBufferManager(trajectory(0), 50, tmp_path, 2) as manager:
        buffer, _ = manager.create_replay_buffer()
        parallel = ParallelObserver(buffer.py_client, buffer.table_name, 2, num_envs=2)
        episodes = EpisodeObserver(buffer.py_client, buffer.table_name, 9)
        parallel(batch([0, 1], [False, False]))
        episodes(trajectory(2))
        manager.clear()
        parallel(batch([3, 4], [True, False]))
        episodes(trajectory(5, last=True))
        assert [item.action.tolist() for _, item in manager.iter_items()] == [[5]]


@pytest.mark.parametrize("steps", [2, None])
def test_clients_see_an_item_in_the_structure_of_its_table(steps: int | None) -> None:
    served = Served(signature=signature(steps))
    observer = TrajectoryObserver(served.client, "queue", 2)
    for n in range(3):
        observer(trajectory(n))
    (first,) = served.client.sample(
        "queue", emit_timesteps=False, unpack_as_table_signature=True
    )
    assert isinstance(first.data, reverie.Trajectory)
    assert first.data.observation["x"].tolist() == [[0, 0], [1, 1]]
    (second,) = served.client.sample("queue")
    assert [step.data[2].tolist() for step in second] == [1, 2]


# What a step is -------------------------------------------------------------------


def signature(steps: int | None) -> Any:
    """Of items of `trajectory` steps."""

    class Spec:
        def __init__(self, like: Any) -> None:
            self.shape, self.dtype = (steps, *np.shape(like)), np.asarray(like).dtype

    step = trajectory(0)
    return reverie.Trajectory(
        Spec(step.step_type),
        {"x": Spec(step.observation["x"])},
        Spec(step.action),
        (),
        Spec(step.next_step_type),
        Spec(step.reward),
        Spec(step.discount),
    )


@pytest.mark.parametrize("steps", [2, None])
def test_the_signature_says_what_a_step_is_before_the_first_one(steps: int | None) -> None:
    served = Served(signature=signature(steps))
    observer = TrajectoryObserver(served.client, "queue", 2)
    assert observer.get_table_signature() is served.tables["queue"].signature
    with pytest.raises(StepMismatchError, match="Nothing was stored"):
        observer(trajectory(0)._replace(action=0.5))
    observer(trajectory(0)._replace(action=0, reward=0.0))  # cast to what it says
    observer(trajectory(1))
    assert served.numbers() == [[0, 1]]


def test_without_a_signature_the_first_step_says_what_a_step_is() -> None:
    served = Served()
    observer = TrajectoryObserver(served.client, "queue", 1)
    assert observer.get_table_signature() is None
    observer.reset()
    observer.flush()
    assert repr(observer) == "TrajectoryObserver('queue', 0 steps into its episode)"
    observer({"n": np.int16(3), "x": [1.0, np.float32(2)]})
    with pytest.raises(StepMismatchError, match="at 'x'"):
        observer({"n": np.int16(3), "x": 1.0})
    observer({"n": 4, "x": [5, 6]})
    found = served.items()
    assert [[c.tolist() for c in columns] for columns in found] == [
        [[3], [1.0], [2.0]],
        [[4], [5.0], [6.0]],
    ]
    assert [c.dtype for c in found[1]] == [np.int16, np.float64, np.float32]


@pytest.mark.parametrize("make", EVERY)
@pytest.mark.parametrize(
    ("leaf", "words"),
    [
        ("text", "dtype .*cannot be stored"),
        (object(), "cannot be stored"),
        (2**70, "cannot be stored"),
        (np.longdouble(1), "cannot be stored"),
        (np.ma.masked_array([1.0], [True]), r"masked array.*filled\(value\)"),
    ],
    ids=["text", "object", "int", "longdouble", "masked"],
)
def test_a_first_step_that_cannot_be_stored_settles_nothing(
    make: Any, leaf: Any, words: str
) -> None:
    served = Served()
    observer = make(served.client, "queue")
    if not isinstance(observer, ParallelObserver) or isinstance(leaf, np.ma.MaskedArray):
        value = leaf
    else:
        value = np.array([leaf])
    with pytest.raises(StepMismatchError, match=f"leaf 'o/x': .*{words}"):
        observer({"o": {"x": value}})
    tell(observer, 0)  # of another structure


def test_a_signature_that_no_run_of_steps_fits_is_refused_at_once() -> None:
    class Step:
        shape, dtype = (), np.dtype(np.float32)

    for bad, make, error, words in [
        (Step(), SINGLE[0], SpecError, "leading time axis"),
        (signature(3), SINGLE[0], InvalidArgumentError, "found 2, wanted 3.*time axis of 3"),
        (signature(3), SINGLE[2], InvalidArgumentError, "time axis is 3, but episodes vary"),
        (
            {"text": ArraySpecOf((None,), object)},
            SINGLE[0],
            SpecError,
            "'text'.*cannot be stored",
        ),
    ]:
        served = Served(signature=bad)
        with pytest.raises(error, match=words):
            make(served.client, "queue")


class ArraySpecOf:
    """A spec whose extents may be None."""

    def __init__(self, shape: Any, dtype: Any) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)


def test_an_open_extent_is_filled_in_by_the_first_step() -> None:
    spec = {"a": ArraySpecOf((None, None, 2), np.float32), "b": ArraySpecOf(None, np.int64)}
    served = Served(signature=spec)
    observer = TrajectoryObserver(served.client, "queue", 1)
    with pytest.raises(InvalidArgumentError, match="column 0"):
        observer({"a": np.zeros((3, 1), np.float32), "b": 0})
    observer({"a": np.zeros((3, 2), np.float32), "b": 0})
    with pytest.raises(StepMismatchError, match=r"\(4, 2\).*\(3, 2\)"):
        observer({"a": np.zeros((4, 2), np.float32), "b": 0})
    assert [[c.shape for c in columns] for columns in served.items()] == [[(1, 3, 2), (1,)]]


def test_tables_with_unequal_signatures_are_refused() -> None:
    tables = [
        reverb.Table.queue(name, 9, signature={"x": ArraySpecOf((None,), dtype)})
        for name, dtype in (("a", np.int32), ("b", np.int64))
    ]
    server = reverb.Server(tables)
    with pytest.raises(InvalidArgumentError, match="table 'b'"):
        TrajectoryObserver(reverb.Client(f"localhost:{server.port}"), ("a", "b"), 2)


def test_columns_come_in_the_order_that_reverbs_clients_know() -> None:
    served = Served()
    observer = TrajectoryObserver(served.client, "queue", 2, 2, 1, True, True)
    step = collections.OrderedDict(z=np.int64(1), a=np.float32(2))
    observer(step)
    with pytest.raises(StepMismatchError, match="'a'"):
        observer(collections.OrderedDict(z=np.int64(1), a="text"))
    observer(collections.OrderedDict(z=3, a=4), last=True)
    assert [[c.tolist() for c in columns] for columns in served.items()] == [
        [[2.0, 4.0], [1, 3]]
    ]


# Episodes and the stream ----------------------------------------------------------


def test_the_sequence_observer_knows_no_boundary() -> None:
    served = Served()
    observer = TrajectorySequenceObserver(served.client, "queue", 3)
    for n in range(4):
        observer(trajectory(n, last=n % 2 == 1))
    observer(trajectory(4), last=True)
    assert observer._cached_steps == 5
    observer.reset(False)
    observer(trajectory(9))
    assert served.numbers() == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]


def test_episodes_of_all_lengths_are_items_and_one_that_is_too_long_is_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    served = Served()
    strict = EpisodeObserver(served.client, "queue", 3)
    lax = EpisodeObserver(served.client, "queue", 3, bypass_partial_episodes=True)
    for observer in (strict, lax):
        for length in (1, 3, 4, 6, 2):
            for n in range(length):
                if observer is strict and n == 3:
                    with pytest.raises(ValueError, match="exceeds `max_sequence_length`, 3"):
                        observer(trajectory(n, last=n == length - 1))
                else:
                    observer(trajectory(n, last=n == length - 1))
        assert served.numbers() == [[0], [0, 1, 2], [0, 1]]
    assert [r.levelname for r in caplog.records] == ["ERROR", "ERROR"]
    assert "is dropped" in caplog.text


def test_reset_writes_a_shorter_episode_and_never_one_that_was_too_long(
    caplog: pytest.LogCaptureFixture,
) -> None:
    served = Served()
    observer = EpisodeObserver(served.client, "queue", 3, bypass_partial_episodes=True)
    observer(trajectory(0))
    observer(trajectory(1))
    observer.reset()
    for n in range(5):
        observer(trajectory(n))
    observer.reset()
    observer(trajectory(7))
    observer.reset(write_cached_steps=False)
    with caplog.at_level(logging.INFO, "reverie"):
        observer.reset()
    assert "no cached steps" in caplog.text
    assert served.numbers() == [[0, 1]]


def test_an_updated_priority_is_that_of_later_items_and_outlives_reopening() -> None:
    served = Served()
    observer = EpisodeObserver(served.client, "queue", 3, priority=2)
    observer(trajectory(0, last=True))
    observer.update_priority(5)
    observer(trajectory(1, last=True))
    observer.close()
    observer.open()
    observer(trajectory(2, last=True))
    core = served.tables["queue"].core
    assert [sample[3] for sample in core.sample_items(3)] == [2, 5, 5]
    for bad in (-1, np.nan, "high"):
        with pytest.raises(InvalidArgumentError, match="priority"):
            observer.update_priority(bad)
    assert not hasattr(TrajectoryObserver, "update_priority")


@pytest.mark.parametrize("bad", [0, -1, 2.5, None])
def test_a_length_must_be_a_positive_integer(bad: Any) -> None:
    client = Served().client
    with pytest.raises(ValueError, match="max_sequence_length"):
        EpisodeObserver(client, "queue", bad)
    with pytest.raises(ValueError, match="sequence_length"):
        TrajectorySequenceObserver(client, "queue", bad)


def test_the_arguments_stand_in_the_order_of_tf_agents() -> None:
    served = Served()
    observer = TrajectoryObserver(served.client, "queue", 3, 2, 1, True, True)
    for n in range(4):
        observer(trajectory(n, last=n == 3))
    assert served.numbers() == [[0, 1, 2], [2, 3, PAD]]
    assert observer.py_client is served.client
    with pytest.raises(ValueError, match="pad_end_of_episodes=True"):
        TrajectoryObserver(served.client, "queue", 3, 1, 1, False, True)
