"""A manager's windows: as they are, and `flat=True`, transitions as a replay buffer's."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.tf_support import same, set_clock

import reverie
from reverie import ArraySpec, Trajectory
from reverie.errors import InvalidArgumentError
from reverie.runtime.pace import Pace

tf: Any = pytest.importorskip("tensorflow", reason="needs TensorFlow: nox -s tf")
importlib.import_module("reverie.tf")

FIRST, MID, LAST = 0, 1, 2
SPEC = Trajectory(
    step_type=ArraySpec((), np.int32),
    observation={"at": ArraySpec((2,), np.float32), "seen": (ArraySpec((3,), np.uint8),)},
    action=ArraySpec((), np.int64),
    policy_info=(),
    next_step_type=ArraySpec((), np.int32),
    reward=ArraySpec((), np.float32),
    discount=ArraySpec((), np.float32),
)
# Steps without their boundary record, and the last discount.
EPISODES = ((4, 0.0), (1, 0.5), (7, 1.0), (2, 0.0))
COUNT = sum(length for length, _ in EPISODES)


def state(number: int) -> Any:
    return {
        "at": np.array([number, -number], np.float32),
        "seen": (np.full(3, number % 250, np.uint8),),
    }


def trajectories() -> list[list[Any]]:
    """Episodes whose rewards count their steps from 1 on; a boundary record's is -1."""
    found, number = [], 1
    for episode, (length, discount) in enumerate(EPISODES):
        steps = []
        for t in range(length + 1):
            last = t == length - 1
            steps.append(
                Trajectory(
                    LAST if t == length else MID if t else FIRST,
                    state(100 * episode + t),
                    number,
                    (),
                    FIRST if t == length else LAST if last else MID,
                    np.float32(-1 if t == length else number),
                    np.float32(discount if last else 1),
                )
            )
            number += t < length
        found.append(steps)
    return found


def transitions() -> dict[float, Any]:
    """What a ReplayBuffer makes of the same steps, by reward."""
    spec = {"observation": SPEC.observation, "action": SPEC.action, "reward": SPEC.reward}
    with reverie.ReplayBuffer(spec, 100) as buffer:
        for steps in trajectories():
            for step, after in itertools.pairwise(steps):
                ended = step.next_step_type == LAST
                buffer.add_step(
                    {key: getattr(step, key) for key in spec},
                    {"observation": after.observation},
                    terminated=ended and step.discount == 0,
                    truncated=ended and step.discount != 0,
                )
        data = buffer.steps().data
    del data["n_steps"], data["discount"]  # the step's own may be another
    return {
        float(reward): tf.nest.map_structure(lambda leaf, n=n: leaf[n], data)
        for n, reward in enumerate(data["reward"])
    }


def filled(
    folder: Path, sequence_length: int = 2, steps: Iterable[Any] | None = None, **settings: Any
) -> Any:
    manager = reverie.ReplayBufferManager(SPEC, 1000, folder, sequence_length, **settings)
    _, observer = manager.create_replay_buffer()
    for step in [s for e in trajectories() for s in e] if steps is None else steps:
        observer(step)
    return manager


def rows(dataset: Any, count: int) -> list[tuple[Any, Any]]:
    """Single rows of so many batches, in NumPy."""
    found = []
    for data, info in dataset.take(count):
        for n in range(len(info.key)):
            one = tf.nest.map_structure(lambda leaf, n=n: np.asarray(leaf)[n], (data, info))
            found.append(one)
    return found


@pytest.mark.parametrize("batch", [None, 4])
@pytest.mark.parametrize("preprocess", [None, lambda data: data])
def test_windows_come_as_they_are_stored(
    batch: int | None, preprocess: Any, tmp_path: Path
) -> None:
    with filled(tmp_path, 3) as manager:
        items = dict(manager.iter_items())
        buffer, _ = manager.get_replay_buffer_and_observer()
        dataset = buffer.as_dataset(batch, sequence_preprocess_fn=preprocess)
        for data, info in (dataset if batch else dataset.batch(4)).take(20):
            assert isinstance(data, Trajectory)
            assert info.key.shape == (4, 3)
            for n in range(4):
                found = tf.nest.map_structure(lambda leaf, n=n: np.asarray(leaf)[n], data)
                assert same(found, items[int(info.key[n, 0])])


@pytest.mark.parametrize("preprocess", [None, lambda data: data])
def test_windows_are_cut_in_pieces(preprocess: Any, tmp_path: Path) -> None:
    with filled(tmp_path, 4) as manager:
        buffer, _ = manager.get_replay_buffer_and_observer()
        for data, info in buffer.as_dataset(6, 2, sequence_preprocess_fn=preprocess).take(20):
            assert data.reward.shape == info.key.shape == (6, 2)
            steps = np.diff(np.where(data.reward < 0, np.nan, data.reward), axis=1)
            assert np.isin(steps[~np.isnan(steps)], 1).all()


LAYOUTS: dict[str, tuple[int, int | None, dict[str, Any]]] = {
    "two": (2, None, {}),
    "three": (3, None, {}),
    "pieces": (4, 2, {}),
    "pieces of three": (6, 3, {"pad_end_of_episodes": True}),
    "padded": (5, None, {"pad_end_of_episodes": True}),
    "tiled": (4, None, {"pad_end_of_episodes": True, "tile_end_of_episodes": True}),
    "strided": (4, None, {"stride_length": 3}),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_row_is_a_transition_of_a_replay_buffer(name: str, tmp_path: Path) -> None:
    length, num_steps, settings = LAYOUTS[name]
    wanted = transitions()
    by_reward = {float(s.reward): s for e in trajectories() for s in e}
    with filled(tmp_path, length, seed=1, **settings) as manager:
        items = dict(manager.iter_items())
        seen = set()
        for data, info in rows(manager.get_dataset(6, num_steps, flat=True), 80):
            reward = float(data["reward"])
            step = by_reward[reward]
            assert data.pop("discount") == step.discount
            assert data.pop("step_type") == step.step_type != LAST
            assert data.pop("next_step_type") == step.next_step_type
            assert data.pop("policy_info") == ()
            assert same(data, wanted[reward])
            assert reward in items[int(info.key)].reward[:-1]
            seen.add(reward)
        piece = num_steps or length
        inside = {
            float(reward)
            for item in items.values()
            for start in range(0, length, piece)
            for reward in item.reward[start : start + piece - 1]
        }
        assert seen == inside - {-1, 0}  # those of boundary records and of padding


def test_of_windows_of_two_steps_no_transition_is_missing(tmp_path: Path) -> None:
    with filled(tmp_path) as manager:
        found = rows(manager.get_dataset(8, flat=True), 60)
    assert {float(data["reward"]) for data, _ in found} == set(range(1, COUNT + 1))


def test_a_stream_over_the_ends_of_episodes_gives_no_row_that_begins_with_one(
    tmp_path: Path,
) -> None:
    manager = reverie.ReplayBufferManager(SPEC, 1000, tmp_path, 5, seed=2)
    buffer, _ = manager.create_replay_buffer()
    observer = reverie.observers.TrajectorySequenceObserver(
        buffer.py_client, buffer.table_name, 5
    )
    for step in [s for e in trajectories() for s in e]:
        observer(step)
    observer.flush()
    ends = [item.step_type[:-1] == LAST for _, item in buffer.iter_items()]
    assert np.any(ends)
    found = rows(buffer.as_dataset(7, flat=True), 60)
    assert len(found) == 7 * 60  # always full
    assert {float(data["reward"]) for data, _ in found} == set(range(1, COUNT + 1))
    assert not any(data["step_type"] == LAST for data, _ in found)
    manager.close()


@pytest.mark.parametrize("batch", [None, 3])
@pytest.mark.parametrize(("length", "num_steps"), [(1, None), (4, 1)])
def test_where_a_row_is_one_step_it_is_that_step(
    batch: int | None, length: int, num_steps: int | None, tmp_path: Path
) -> None:
    by_reward = {float(s.reward): s for e in trajectories() for s in e}
    with filled(tmp_path, length) as manager:
        buffer, _ = manager.get_replay_buffer_and_observer()
        dataset = buffer.as_dataset(batch, num_steps, flat=True)
        for data, info in dataset.batch(2).take(5) if batch is None else dataset.take(5):
            assert isinstance(data, Trajectory)
            assert info.key.shape == (batch or 2,)
            for n in range(batch or 2):
                row = tf.nest.map_structure(lambda leaf, n=n: np.asarray(leaf)[n], data)
                wanted = by_reward[float(row.reward)]
                if row.reward > 0:  # of boundary records there are several
                    for key in ("observation", "action", "step_type", "next_step_type"):
                        pair = tf.nest.map_structure(
                            lambda a, b: np.array_equal(a, b),
                            getattr(row, key),
                            getattr(wanted, key),
                        )
                        assert all(tf.nest.flatten(pair))


@pytest.mark.parametrize("batch", [None, 5])
def test_shapes_are_static_and_an_element_has_them(batch: int | None, tmp_path: Path) -> None:
    with filled(tmp_path, 3) as manager:
        buffer, _ = manager.get_replay_buffer_and_observer()
        dataset = buffer.as_dataset(batch, flat=True)
        data, info = dataset.element_spec
        leading = () if batch is None else (batch,)
        assert info.key.shape == leading
        assert data["next_observation"]["at"].shape == (*leading, 2)
        assert data["next_observation"]["seen"][0].dtype == tf.uint8
        assert data["terminated"].dtype == data["truncated"].dtype == tf.bool
        element = next(iter(dataset))
        for found, spec in zip(
            tf.nest.flatten(element), tf.nest.flatten(dataset.element_spec), strict=True
        ):
            assert (found.shape, found.dtype) == (spec.shape, spec.dtype)


class _Hurried(Pace):
    """As beside busy threads: each call brings another number of batches."""

    def end(self) -> None:
        self.batches = self.batches % self._most + 1


@pytest.mark.parametrize("name", ["two", "tiled"])
def test_rows_do_not_depend_on_how_many_batches_a_call_brings(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    length, num_steps, settings = LAYOUTS[name]

    def rewards(folder: str) -> list[float]:
        with filled(tmp_path / folder, length, seed=5, **settings) as manager:
            found = rows(manager.get_dataset(4, num_steps, flat=True), 60)
        return [float(data["reward"]) for data, _ in found]

    alone = rewards("a")
    monkeypatch.setattr("reverie.tf.source.Pace", _Hurried)
    assert rewards("b") == alone


def test_it_ends_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, 0)
    with filled(tmp_path, steps=()) as manager:
        assert list(manager.get_dataset(3, flat=True, timeout_s=0.2)) == []
        assert list(manager.get_dataset(3, timeout_s=0)) == []


def test_steps_of_a_dict_are_transitions_without_an_end_that_nobody_knows(
    tmp_path: Path,
) -> None:
    spec = {"observation": ArraySpec((2,), np.float32), "reward": ArraySpec((), np.float32)}
    with reverie.ReplayBufferManager(spec, 50, tmp_path, 3) as manager:
        _, observer = manager.create_replay_buffer()
        for t in range(6):
            observer({"observation": np.full(2, t), "reward": t}, last=t == 5)
        for data, _ in rows(manager.get_dataset(4, flat=True), 20):
            assert sorted(data) == ["next_observation", "observation", "reward"]
            assert (data["observation"] == data["reward"]).all()
            assert (data["next_observation"] == data["reward"] + 1).all()


LEAF = ArraySpec((2,), np.float32)


@pytest.mark.parametrize(
    ("spec", "found"),
    [
        ({"obs": LEAF}, r"\['obs'\]"),
        ((LEAF, LEAF), "ArraySpec"),
        (LEAF, "ArraySpec"),
        ({"observation": LEAF, "next_observation": LEAF}, r"none of \['next_observation'\]"),
    ],
)
def test_steps_that_are_no_transitions_are_refused_with_the_way_out(
    spec: Any, found: str, tmp_path: Path
) -> None:
    with reverie.ReplayBufferManager(spec, 50, tmp_path) as manager:
        manager.create_replay_buffer()
        with pytest.raises(InvalidArgumentError, match=rf"flat=True: .*{found}.*num_steps=1"):
            manager.get_dataset(4, flat=True)
        manager.get_dataset(4, 1, flat=True)


def test_a_function_that_may_change_items_is_refused_beside_it(tmp_path: Path) -> None:
    with filled(tmp_path) as manager:
        buffer, _ = manager.get_replay_buffer_and_observer()
        with pytest.raises(InvalidArgumentError, match="sequence_preprocess_fn"):
            buffer.as_dataset(4, sequence_preprocess_fn=lambda data: data, flat=True)
