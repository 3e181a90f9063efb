"""The observer: a step is stored whole or not at all, and windows come by themselves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optree
import pytest

from reverie import ArraySpec, ReplayBufferManager, Trajectory
from reverie.errors import ClosedError, InvalidArgumentError, StepMismatchError
from reverie.observers import TrajectoryObserver

SPEC = {
    "obs": ArraySpec((2, 3), np.float32),
    "n": ArraySpec((), np.int64),
    "flags": (ArraySpec((), np.bool_), [ArraySpec((), np.uint8)]),
}


def step(n: int) -> dict[str, Any]:
    return {
        "obs": np.full((2, 3), n, np.float32),
        "n": np.int64(n),
        "flags": (np.bool_(n % 2), [np.uint8(n % 256)]),
    }


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ReplayBufferManager]:
    with ReplayBufferManager(SPEC, 100, tmp_path, 3) as manager:
        manager.create_replay_buffer()
        yield manager


@pytest.fixture
def observer(manager: ReplayBufferManager) -> TrajectoryObserver:
    return manager.get_replay_buffer_and_observer()[1]


def windows(manager: ReplayBufferManager) -> list[list[int]]:
    """Every item by the numbers of its steps."""
    return [item["n"].tolist() for _, item in manager.iter_items()]


# Atomic steps ---------------------------------------------------------------------

BAD_STEPS: dict[str, Any] = {
    "not a dict": np.zeros(3),
    "None": None,
    "missing key": {"obs": np.zeros((2, 3)), "n": 1},
    "extra key": {**step(0), "more": 1},
    "wrong node": {**step(0), "flags": [True, [1]]},
    "wrong length": {**step(0), "flags": (True, [1, 2])},
    "wrong shape": {**step(0), "obs": np.zeros((3, 2))},
    "batch axis": {**step(0), "obs": np.zeros((1, 2, 3))},
    "whole step batched": optree.tree_map(lambda leaf: np.asarray(leaf)[None], step(0)),
    "float into int": {**step(0), "n": 1.5},
    "out of range": {**step(0), "n": 2**63},
    "last leaf is bad": {**step(0), "obs": np.zeros((2, 3)), "n": "text"},
    "first leaf cast, last bad": {**step(0), "flags": (True, [256]), "obs": None},
    "overflow": {**step(0), "obs": np.full((2, 3), 1e300)},
    "object": {**step(0), "obs": object()},
}


def trace_of_a_bad_step(manager: ReplayBufferManager, observer: Any, bad: Any) -> list[str]:
    """What a refused step has changed, in words; it must be refused."""
    before = (manager.num_frames(), observer._cached_steps, manager.info().steps)
    items = windows(manager)
    with pytest.raises(StepMismatchError, match="Nothing was stored"):
        observer(bad)
    after = (manager.num_frames(), observer._cached_steps, manager.info().steps)
    names = ("num_frames", "_cached_steps", "info().steps")
    found = [n for n, a, b in zip(names, before, after, strict=True) if a != b]
    return found + ["items"] * (windows(manager) != items)


@pytest.mark.parametrize("steps_before", [0, 1, 4])
@pytest.mark.parametrize("what", BAD_STEPS)
def test_a_bad_step_leaves_no_trace_and_the_next_good_one_works(
    what: str, steps_before: int, manager: ReplayBufferManager, observer: TrajectoryObserver
) -> None:
    for n in range(steps_before):
        observer(step(n))
    assert trace_of_a_bad_step(manager, observer, BAD_STEPS[what]) == []
    for n in range(steps_before, 5):
        observer(step(n))
    assert windows(manager) == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]


def test_the_check_sees_an_observer_that_stores_before_it_refuses(
    manager: ReplayBufferManager, observer: TrajectoryObserver
) -> None:
    class Broken:
        _cached_steps = property(lambda self: observer._cached_steps)

        def __call__(self, bad: Any) -> None:
            for n in range(3):
                observer(step(n))
            observer(bad)

    assert trace_of_a_bad_step(manager, Broken(), None) == [
        "num_frames",
        "_cached_steps",
        "info().steps",
        "items",
    ]


def test_last_in_a_bad_step_does_not_end_the_episode(
    manager: ReplayBufferManager, observer: TrajectoryObserver
) -> None:
    observer(step(0))
    observer(step(1))
    with pytest.raises(StepMismatchError):
        observer({}, last=True)
    observer(step(2))
    assert windows(manager) == [[0, 1, 2]]


# Values ---------------------------------------------------------------------------


def test_arrays_that_change_after_the_call_do_not_change_what_is_stored(
    manager: ReplayBufferManager, observer: TrajectoryObserver
) -> None:
    obs = np.zeros((2, 3), np.float32)
    for n in range(3):
        obs[:] = n
        observer({**step(n), "obs": obs})
    obs[:] = 99
    assert manager.gather_all()["obs"][0, :, 0, 0].tolist() == [0, 1, 2]


def test_every_layout_of_a_leaf_is_stored_as_the_same_values(
    manager: ReplayBufferManager, observer: TrajectoryObserver
) -> None:
    plain = np.arange(6, dtype=np.float32).reshape(2, 3)
    read_only = plain.copy()
    read_only.flags.writeable = False
    unaligned = np.frombuffer(b"x" + plain.tobytes(), np.uint8)[1:].view(np.float32)
    variants = [
        plain,
        read_only,
        unaligned.reshape(2, 3),
        np.asfortranarray(plain),
        plain[::-1, ::-1].copy()[::-1, ::-1],
        np.repeat(plain, 2, axis=0)[::2],
        plain.astype(">f4"),
        plain.astype(np.float64),
        plain.tolist(),
        np.ma.masked_array(plain),  # nothing of it is masked
    ]
    for variant in variants:
        observer({**step(0), "obs": variant})
    stored = [item["obs"][0] for _, item in manager.iter_items()]
    assert len(stored) == len(variants) - 2
    assert all(np.array_equal(found, plain) for found in stored)


@pytest.mark.parametrize(
    "one", [1, np.int64(1), np.array(1), np.uint8(1), True, np.array(1, ">i8")]
)
def test_scalars_of_every_make_are_stored(
    one: Any, manager: ReplayBufferManager, observer: TrajectoryObserver
) -> None:
    for _ in range(3):
        observer({**step(0), "n": one})
    assert windows(manager) == [[1, 1, 1]]


def test_nan_is_data_like_any_other(
    manager: ReplayBufferManager, observer: TrajectoryObserver
) -> None:
    for _ in range(3):
        observer({**step(0), "obs": np.full((2, 3), np.nan)})
    assert np.isnan(manager.gather_all()["obs"]).all()


# Episodes -------------------------------------------------------------------------


def test_windows_do_not_cross_the_end_of_an_episode(
    manager: ReplayBufferManager, observer: TrajectoryObserver
) -> None:
    for n in range(8):
        observer(step(n), last=n == 3)
    assert windows(manager) == [[0, 1, 2], [1, 2, 3], [4, 5, 6], [5, 6, 7]]


def trajectory(n: int, step_type: int, dtype: Any = np.int32) -> Trajectory:
    return Trajectory(
        dtype(step_type),
        np.float32(n),
        np.float32(0),
        (),
        dtype(0),
        np.float32(0),
        np.float32(1),
    )


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_a_trajectory_is_asked_for_its_boundary(dtype: Any, tmp_path: Path) -> None:
    with ReplayBufferManager(trajectory(0, 0, dtype), 50, tmp_path) as manager:
        _, observer = manager.create_replay_buffer()
        for n, step_type in enumerate([0, 1, 2, 0, 1]):
            observer(trajectory(n, step_type, dtype))
        assert manager.gather_all().observation.tolist() == [[0, 1], [1, 2], [3, 4]]


def test_last_may_repeat_but_not_contradict_a_trajectory(tmp_path: Path) -> None:
    with ReplayBufferManager(trajectory(0, 0), 50, tmp_path, 1) as manager:
        _, observer = manager.create_replay_buffer()
        observer(trajectory(0, 2), last=True)
        with pytest.raises(
            InvalidArgumentError, match=r"last=False.*is_boundary\(\) says True"
        ):
            observer(trajectory(1, 2), last=False)
        assert (manager.num_frames(), observer._cached_steps) == (1, 0)


def test_a_batched_trajectory_is_refused(tmp_path: Path) -> None:
    class Vague(NamedTuple):
        n: Any
        done: Any

        def is_boundary(self) -> Any:
            return self.done

    spec = Vague(ArraySpec((), np.int64), ArraySpec((2,), np.bool_))
    with ReplayBufferManager(spec, 50, tmp_path, 1) as manager:
        _, observer = manager.create_replay_buffer()
        with pytest.raises(StepMismatchError, match=r"is_boundary\(\) has shape \(2,\)"):
            observer(Vague(1, np.array([True, False])))
        assert manager.num_frames() == 0


def test_reset_without_padding_says_how_many_steps_are_lost_and_goes_on(
    manager: ReplayBufferManager, observer: TrajectoryObserver
) -> None:
    observer(step(0))
    observer(step(1))
    with pytest.raises(InvalidArgumentError, match="last 2 steps fill no window of 3"):
        observer.reset()
    for n in range(2, 5):
        observer(step(n))
    observer.reset()  # a complete window: nothing is lost, nothing is written twice
    observer.reset()
    assert windows(manager) == [[2, 3, 4]]


def test_reset_without_writing_drops_the_open_episode(
    manager: ReplayBufferManager, observer: TrajectoryObserver
) -> None:
    observer(step(0))
    observer.reset(False)
    assert observer._cached_steps == 0
    for n in range(1, 4):
        observer(step(n))
    assert windows(manager) == [[1, 2, 3]]


def test_a_padded_rest_is_zeros(tmp_path: Path) -> None:
    with ReplayBufferManager(SPEC, 50, tmp_path, 3, pad_end_of_episodes=True) as manager:
        _, observer = manager.create_replay_buffer()
        observer(step(7), last=True)
        assert windows(manager) == [[7, 0, 0]]
        assert not manager.gather_all()["obs"][0, 1:].any()


# Open and closed --------------------------------------------------------------------


def test_a_closed_observer_says_so_and_works_again_after_open(
    manager: ReplayBufferManager, observer: TrajectoryObserver
) -> None:
    observer(step(0))
    observer.close()
    observer.close()
    assert repr(observer) == "TrajectoryObserver('uniform_table', closed)"
    for call in (lambda: observer(step(1)), observer.flush):
        with pytest.raises(ClosedError, match=r"could not obtain a writer.*open\(\)"):
            call()
    assert observer._cached_steps == 0
    observer.open()
    observer.open()
    for n in range(1, 4):
        observer(step(n))
    observer.flush()
    assert windows(manager) == [[1, 2, 3]]


def test_reset_opens_a_closed_observer(observer: TrajectoryObserver) -> None:
    observer.close()
    observer.reset()
    observer(step(0))
    assert repr(observer) == "TrajectoryObserver('uniform_table', 1 steps into its episode)"


def test_after_the_buffer_is_closed_open_and_reset_say_so_too(
    manager: ReplayBufferManager, observer: TrajectoryObserver
) -> None:
    manager.close()
    calls = (observer.open, observer.reset, observer.flush, lambda: observer(step(0)))
    for call in calls:
        with pytest.raises(ClosedError, match="Table 'uniform_table' is closed"):
            call()
    observer.close()


def test_the_signature_is_the_spec(observer: TrajectoryObserver) -> None:
    assert observer.get_table_signature() == SPEC


@pytest.mark.parametrize("priority", [-1.0, np.nan, np.inf, "high", None])
def test_a_priority_must_be_a_number_that_is_finite_and_not_negative(
    priority: Any, manager: ReplayBufferManager
) -> None:
    buffer = manager.get_replay_buffer_and_observer()[0]
    with pytest.raises(InvalidArgumentError, match="priority"):
        TrajectoryObserver(
            buffer.py_client, buffer.table_name, buffer.sequence_length, priority=priority
        )


def test_an_observers_priority_is_that_of_its_items(manager: ReplayBufferManager) -> None:
    buffer = manager.get_replay_buffer_and_observer()[0]
    observer = TrajectoryObserver(
        buffer.py_client, buffer.table_name, buffer.sequence_length, priority=0.25
    )
    for n in range(4):
        observer(step(n))
    assert buffer.item_info()["priority"].tolist() == [0.25, 0.25]


def test_streams_of_several_observers_and_threads_never_mix(
    manager: ReplayBufferManager,
) -> None:
    buffer = manager.get_replay_buffer_and_observer()[0]

    def one(start: int) -> None:
        observer = TrajectoryObserver(
            buffer.py_client, buffer.table_name, buffer.sequence_length
        )
        for n in range(start, start + 20):
            observer(step(n))

    threads = [threading.Thread(target=one, args=(1000 * i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = sorted(windows(manager))
    assert found == [
        [n, n + 1, n + 2] for i in range(4) for n in range(1000 * i, 1000 * i + 18)
    ]
