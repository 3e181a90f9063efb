"""Our observer beside TF-Agents' own on a real Reverb server: the same items, in order."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

tf = pytest.importorskip("tensorflow", reason="needs TensorFlow")
pytest.importorskip("tf_agents", reason="needs TF-Agents")
reverb = pytest.importorskip("reverb", reason="needs dm-reverb")

from tests.tf_agents.support import SPEC, episode, new_manager, same  # noqa: E402
from tf_agents.drivers import py_driver  # noqa: E402
from tf_agents.environments import random_py_environment  # noqa: E402
from tf_agents.policies import random_py_policy  # noqa: E402
from tf_agents.replay_buffers import reverb_utils  # noqa: E402
from tf_agents.specs import array_spec  # noqa: E402
from tf_agents.trajectories import time_step, trajectory  # noqa: E402

import reverie  # noqa: E402
from reverie import observers  # noqa: E402

TABLE = "queue"
# What an observer is told: the numbers of steps of whole episodes, and in between
# steps of one that is not finished, resets that keep or drop it, and reopenings.
CALLS = st.lists(
    st.one_of(
        st.tuples(st.just("episode"), st.integers(1, 9)),
        st.tuples(st.just("steps"), st.integers(1, 6)),
        st.just(("reset", True)),
        st.just(("reset", False)),
        st.just(("reopen", None)),
        st.just(("flush", None)),
    ),
    min_size=1,
    max_size=8,
)


@dataclass(frozen=True, slots=True)
class Settings:
    """Arguments that both observers take."""

    sequence_length: int
    stride_length: int = 1
    pad_end_of_episodes: bool = False
    tile_end_of_episodes: bool = False


SETTINGS = st.builds(
    lambda length, stride, padding: Settings(length, stride, padding > 0, padding > 1),
    st.integers(1, 5),
    st.integers(1, 6),
    st.integers(0, 2),
)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Of a server on this machine with one queue."""
    server = reverb.Server([reverb.Table.queue(TABLE, max_size=100_000)])
    yield reverb.Client(f"localhost:{server.port}")
    server.stop()


class Both:
    """Tells two observers the same, and keeps their books."""

    def __init__(self, client: Any, chosen: Settings, ours: Any) -> None:
        client.reset(TABLE)
        self.client = client
        self.chosen = chosen
        self.ours = ours
        self.theirs = reverb_utils.ReverbAddTrajectoryObserver(
            client,
            TABLE,
            chosen.sequence_length,
            chosen.stride_length,
            pad_end_of_episodes=chosen.pad_end_of_episodes,
            tile_end_of_episodes=chosen.tile_end_of_episodes,
        )
        self.cached = 0
        self.number = 0

    def tell(self, what: str, argument: Any) -> None:
        if what == "episode":
            self.steps(episode(argument, self.number))
            self.cached = 0
        elif what == "steps":
            self.steps(episode(argument + 1, self.number)[:-1])
            self.cached += argument
        elif what == "flush":
            self.ours.flush()
            self.theirs.flush()
        elif what == "reopen":
            for observer in (self.ours, self.theirs):
                observer.close()
                observer.open()
            self.theirs._last_trajectory = None  # see test_repairs
            self.cached = 0
        else:
            self.reset(argument)
        assert self.ours._cached_steps == self.theirs._cached_steps == self.cached
        self.number += 1

    def steps(self, steps: list[Any]) -> None:
        for step in steps:
            self.ours(step)
            self.theirs(step)

    def reset(self, write: bool) -> None:
        if write and self.cached and not self.chosen.pad_end_of_episodes:
            past = self.cached - self.chosen.sequence_length
            if past < 0 or past % self.chosen.stride_length:
                for observer in (self.ours, self.theirs):
                    with pytest.raises(ValueError, match="pad_end_of_episodes"):
                        observer.reset(True)
            write = False  # the repairs, see test_repairs
        self.ours.reset(write)
        self.theirs.reset(write)
        self.cached = 0

    def their_items(self) -> list[Any]:
        """Every item in insertion order; empties the queue."""
        self.theirs.close()
        size = self.client.server_info()[TABLE].current_size
        if size == 0:
            return []
        samples = self.client.sample(TABLE, size, emit_timesteps=False)
        return [tf.nest.pack_sequence_as(SPEC, sample.data) for sample in samples]


def compare(
    client: Any,
    chosen: Settings,
    calls: list[tuple[str, Any]],
    make: Callable[[reverie.ReplayBuffer, observers.TrajectoryObserver], Any] = lambda _, o: o,
) -> int:
    """Asserts that both hold the same items after `calls`; returns how many."""
    with tempfile.TemporaryDirectory() as folder:
        manager, replay_buffer, observer = new_manager(
            Path(folder),
            sequence_length=chosen.sequence_length,
            stride_length=chosen.stride_length,
            pad_end_of_episodes=chosen.pad_end_of_episodes,
            tile_end_of_episodes=chosen.tile_end_of_episodes,
        )
        with manager:
            both = Both(client, chosen, make(replay_buffer, observer))
            for what, argument in calls:
                both.tell(what, argument)
            wanted = both.their_items()
            found = [item for _, item in replay_buffer.iter_items()]
    assert len(found) == len(wanted)
    for ours, theirs in zip(found, wanted, strict=True):
        assert same(ours, theirs)
    return len(found)


@given(chosen=SETTINGS, calls=CALLS)
@settings(max_examples=400, deadline=None)
def test_both_make_the_same_items_in_the_same_order(
    client: Any, chosen: Settings, calls: list[tuple[str, Any]]
) -> None:
    compare(client, chosen, calls)


@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize(("length", "stride"), [(1, 1), (2, 1), (4, 1), (4, 2), (3, 5)])
def test_both_agree_on_each_length_of_an_episode(
    client: Any, length: int, stride: int, padding: int
) -> None:
    chosen = Settings(length, stride, padding > 0, padding > 1)
    calls = [("episode", num_steps) for num_steps in range(1, 12)]
    assert compare(client, chosen, calls) > 5


def test_the_comparison_sees_a_wrong_observer(client: Any) -> None:
    def other(**changes: Any) -> Callable[[Any, Any], Any]:
        return lambda replay_buffer, observer: observers.TrajectoryObserver(
            replay_buffer.py_client,
            replay_buffer.table_name,
            replay_buffer.sequence_length,
            **changes,
        )

    class ForgetsBoundaries:
        """Windows that cross the ends of episodes."""

        def __init__(self, observer: Any) -> None:
            self._observer = observer

        def __call__(self, step: Any) -> None:
            mid = np.asarray(time_step.StepType.MID, np.int32)
            self._observer(step._replace(step_type=mid) if step.is_boundary() else step)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._observer, name)

    calls = [("episode", 7), ("steps", 5), ("reset", False), ("episode", 4), ("episode", 2)]
    chosen = Settings(3, 2)
    assert compare(client, chosen, calls, other(stride_length=2)) == 6
    for wrong in (
        other(stride_length=3),
        other(stride_length=2, pad_end_of_episodes=True),
        lambda _, observer: ForgetsBoundaries(observer),
    ):
        with pytest.raises(AssertionError):
            compare(client, chosen, calls, wrong)


def test_repairs(client: Any, tmp_path: Path) -> None:
    """Where we mean to differ: TF-Agents' side is asserted too, so that we notice a change."""

    def sizes(both: Both) -> tuple[int, int]:
        ours = int(both.ours._target.tables[0].core.size)
        return ours, len(both.their_items())

    def new(chosen: Settings) -> Both:
        _, _, observer = new_manager(
            tmp_path,
            sequence_length=chosen.sequence_length,
            pad_end_of_episodes=chosen.pad_end_of_episodes,
        )
        return Both(client, chosen, observer)

    # A complete window at reset(): theirs is written twice.
    both = new(Settings(2))
    both.steps(episode(4)[:3])
    both.ours.reset(True)
    both.theirs.reset(True)
    assert sizes(both) == (2, 3)

    # An error in reset() leaves their episode open, and later windows cross it.
    both = new(Settings(3))
    both.steps(episode(4)[:2])
    for observer in (both.ours, both.theirs):
        with pytest.raises(ValueError, match="pad_end_of_episodes"):
            observer.reset(True)
    both.steps(episode(4, 1)[:2])
    assert sizes(both) == (0, 2)

    # After close() and open() their reset() pads an episode that is no more.
    both = new(Settings(3, pad_end_of_episodes=True))
    both.steps(episode(4)[:1])
    for observer in (both.ours, both.theirs):
        observer.close()
        observer.open()
        observer.reset(True)
    assert sizes(both) == (0, 1)


def test_tensors_as_leaves_are_stored_like_arrays(client: Any) -> None:
    class Tensors:
        """Hands each step on as tf.Tensors."""

        def __init__(self, observer: Any) -> None:
            self._observer = observer

        def __call__(self, step: Any) -> None:
            self._observer(tf.nest.map_structure(tf.constant, step))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._observer, name)

    chosen = Settings(3, 1, True, True)
    calls = [("episode", 5), ("steps", 2), ("reset", True), ("episode", 1)]
    assert compare(client, chosen, calls, lambda _, observer: Tensors(observer)) == 8


def test_a_closed_observer_refuses_steps_as_theirs_does(client: Any, tmp_path: Path) -> None:
    _, _, observer = new_manager(tmp_path)
    both = Both(client, Settings(2), observer)
    for each in (both.ours, both.theirs):
        each.close()
        each.close()
        with pytest.raises(ValueError, match=r"obtain.* writer"):
            each(episode(2)[0])
        with pytest.raises(ValueError, match=r"obtain.* writer"):
            each.flush()
        each.open()
        each(episode(2)[0])


def test_a_py_driver_collects_into_ours(tmp_path: Path) -> None:
    observation = array_spec.BoundedArraySpec((3,), np.float32, -1.0, 1.0)
    action = array_spec.BoundedArraySpec((2,), np.float32, -1.0, 1.0)
    environment = random_py_environment.RandomPyEnvironment(
        observation, action, episode_end_probability=0.2, seed=3
    )
    policy = random_py_policy.RandomPyPolicy(environment.time_step_spec(), action, seed=4)
    spec = policy.trajectory_spec
    seen: list[trajectory.Trajectory] = []
    with reverie.ReplayBufferManager(spec, 1000, tmp_path, 3) as manager:
        replay_buffer, observer = manager.create_replay_buffer()
        driver = py_driver.PyDriver(
            environment, policy, [seen.append, observer], max_steps=None, max_episodes=12
        )
        driver.run(environment.reset())
        stored = [item for _, item in replay_buffer.iter_items()]
    ends = [index for index, step in enumerate(seen) if step.is_boundary()]
    assert len(ends) == 12
    wanted = [
        tf.nest.map_structure(lambda *leaves: np.stack(leaves), *seen[index : index + 3])
        for index in range(len(seen) - 2)
        if not any(index <= end < index + 2 for end in ends)
    ]
    assert len(stored) == len(wanted) > 5
    assert all(same(a, b) for a, b in zip(stored, wanted, strict=True))
