"""The reverb backend: the conformance suite on real dm-reverb, and what is special there."""

from __future__ import annotations

import gc
import pickle
import shutil
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

reverb = pytest.importorskip("reverb", reason="needs dm-reverb")
pytest.importorskip("tf_agents", reason="needs TF-Agents")

import tensorflow as tf  # noqa: E402
from reverb.platform.checkpointers_lib import DefaultCheckpointer  # noqa: E402
from tests.tf_agents.backend_support import TABLE, add, items, make, server, size_of  # noqa: E402
from tests.tf_agents.support import SPEC, episode, same, windows  # noqa: E402
from tf_agents.replay_buffers import reverb_replay_buffer, reverb_utils  # noqa: E402

from reverie import ArraySpec, ReplayBufferManager  # noqa: E402
from reverie.backends.reverb import start  # noqa: E402
from reverie.backends.reverb.folder import DATA_FILES  # noqa: E402
from reverie.errors import (  # noqa: E402
    CheckpointCorruptError,
    CheckpointMismatchError,
    ClosedError,
    ForkedProcessError,
    InvalidArgumentError,
    ReverieError,
    SpecError,
)
from reverie.samplers import Prioritized  # noqa: E402
from reverie.testing import conformance_failures, conformance_suite  # noqa: E402

SEED_CHECKPOINTS = (
    Path(__file__).resolve().parents[1] / "golden/smart_buildings/initial_exploration_buffer"
)

TestReverb = conformance_suite(
    lambda folder, **settings: ReplayBufferManager(
        checkpoint_dir=folder, backend="reverb", **settings
    )
)


# The handles -----------------------------------------------------------------------------


def test_the_handles_are_tf_agents_own(tmp_path: Path) -> None:
    with make(tmp_path) as manager:
        buffer, observer = manager.create_replay_buffer()
        assert isinstance(buffer, reverb_replay_buffer.ReverbReplayBuffer)
        assert isinstance(observer, reverb_utils.ReverbAddTrajectoryObserver)
        assert isinstance(buffer.py_client, reverb.Client)
        assert isinstance(buffer.local_server, reverb.Server)
        assert buffer.capacity == 20
        tf.nest.assert_same_structure(buffer.data_spec, SPEC)


def test_items_hold_the_steps_of_tf_agents(tmp_path: Path) -> None:
    steps = episode(8)
    with make(tmp_path, sequence_length=3) as manager:
        add(manager, *steps)
        assert all(same(a, b) for a, b in zip(items(manager), windows(steps, 3), strict=True))


def test_num_frames_counts_the_calls_of_observers_made_by_hand(tmp_path: Path) -> None:
    with make(tmp_path) as manager:
        buffer, _ = manager.create_replay_buffer()
        observer = reverb_utils.ReverbAddTrajectoryObserver(buffer.py_client, TABLE, 2)
        for number, step in enumerate(episode(12)):
            observer(step)
            assert buffer.num_frames() == manager.num_frames() == number


def test_without_the_managers_client_num_frames_lags_which_the_test_above_sees() -> None:
    running = server(size=100)
    try:
        buffer = reverb_replay_buffer.ReverbReplayBuffer(SPEC, TABLE, 2, local_server=running)
        observer = reverb_utils.ReverbAddTrajectoryObserver(buffer.py_client, TABLE, 2)
        lags = []
        for number, step in enumerate(episode(100)[:99]):
            observer(step)
            lags.append(number - buffer.num_frames())
        assert max(lags) > 0
    finally:
        running.stop()


def test_the_client_goes_to_another_process_as_a_plain_one(tmp_path: Path) -> None:
    with make(tmp_path) as manager:
        add(manager, *episode(3))
        client = manager.get_replay_buffer_and_observer()[0].py_client
        copy = pickle.loads(pickle.dumps(client))
        assert type(copy) is reverb.Client
        manager.num_frames()  # everything is delivered
        assert copy.server_info()[TABLE].current_size == 2


def test_each_buffer_updates_the_priorities_of_its_own_table(tmp_path: Path) -> None:
    sampler = Prioritized()
    with (
        make(tmp_path / "1", sampler=sampler) as one,
        make(tmp_path / "2", sampler=sampler) as two,
    ):
        for number, manager in enumerate((one, two), 2):
            add(manager, *episode(4))
            buffer, _ = manager.get_replay_buffer_and_observer()
            keys = np.array([key for key, _ in manager.iter_items()], np.uint64)
            buffer.update_priorities(keys, np.full(len(keys), float(number)))
        found = [set(manager.sample(20)[1].priority.tolist()) for manager in (one, two)]
        assert found == [{2.0}, {3.0}]


def test_weights_are_relative_to_the_batch(tmp_path: Path) -> None:
    with make(tmp_path, sampler=Prioritized(1.0)) as manager:
        add(manager, *episode(4))
        keys = np.array([key for key, _ in manager.iter_items()], np.uint64)
        manager.update_priorities(keys, np.arange(1.0, len(keys) + 1))
        batch = manager.sample(50, beta=0.5, normalize="batch")
        chances = batch.probability
        np.testing.assert_allclose(batch.weight, (chances.min() / chances) ** 0.5, rtol=1e-6)
        with pytest.raises(InvalidArgumentError, match="pass 'batch' or None"):
            manager.sample(5, beta=0.5)
    with make(tmp_path / "uniform") as manager:
        add(manager, *episode(4))
        with pytest.raises(InvalidArgumentError, match="beta: found the sampler"):
            manager.sample(5, beta=0.5, normalize="batch")


def test_a_forked_child_is_told_so(tmp_path: Path) -> None:
    with make(tmp_path) as manager:
        buffer, observer = manager.create_replay_buffer()
        gate = buffer.py_client._gate
        gate._pid += 1
        for call in (buffer.num_frames, manager.num_frames, lambda: observer(episode(2)[0])):
            with pytest.raises(ForkedProcessError, match="spawn"):
                call()
        gate._pid -= 1


def test_closing_ends_a_wait_for_the_server(tmp_path: Path) -> None:
    running = server()
    manager = make(tmp_path, server_address=f"localhost:{running.port}")
    add(manager, *episode(3)[:2])
    running.stop()
    found: list[BaseException] = []

    def ask() -> None:
        try:
            manager.num_frames()
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.3)
    manager.close()
    thread.join(15)
    assert [type(error) for error in found] == [ClosedError] or not thread.is_alive()


# Checkpoints -----------------------------------------------------------------------------


def test_reverb_and_the_embedded_backend_load_what_was_saved(tmp_path: Path) -> None:
    steps = episode(10)
    with make(tmp_path) as manager:
        add(manager, *steps)
        manager.save()
    running = server(tmp_path)
    assert size_of(running) == 9
    running.stop()
    with make(tmp_path, backend="embedded") as manager:
        manager.load_replay_buffer()
        assert all(same(a, b) for a, b in zip(items(manager), windows(steps, 2), strict=True))


def test_the_seeds_checkpoint_loads_and_its_folder_is_left_alone(tmp_path: Path) -> None:
    before = sorted(SEED_CHECKPOINTS.rglob("*"))
    spec = SPEC._replace(
        observation=tf.TensorSpec((53,), tf.float32), action=tf.TensorSpec((2,), tf.float32)
    )
    with make(SEED_CHECKPOINTS, data_spec=spec, capacity=50_000) as manager:
        manager.load_replay_buffer()
        assert manager.num_frames() == 49
        data, _ = manager.sample(64)
        assert data.observation.shape == (64, 2, 53)
    assert sorted(SEED_CHECKPOINTS.rglob("*")) == before


def test_what_reverb_takes_for_nothing_is_an_error(tmp_path: Path) -> None:
    """A power cut leaves such files: Reverb then starts with nothing, without an error."""
    with make(tmp_path) as manager:
        add(manager, *episode(10))
        path = manager.save()
    assert path is not None
    for name in DATA_FILES:
        (path / name).write_bytes(b"")
    running = server(tmp_path)
    assert size_of(running) == 0
    running.stop()
    with make(tmp_path) as manager, pytest.raises(CheckpointCorruptError, match="power cut"):
        manager.load_replay_buffer()


def test_items_that_reverb_leaves_out_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make(tmp_path) as manager:
        add(manager, *episode(10))
        manager.save()
    monkeypatch.setattr(start, "_verify", lambda *_: (10, []))
    with make(tmp_path) as manager, pytest.raises(CheckpointCorruptError, match="9 of its 10"):
        manager.load_replay_buffer()


def test_the_managers_settings_win_over_the_checkpoints(tmp_path: Path) -> None:
    checkpointer = DefaultCheckpointer(path=str(tmp_path))
    table = reverb.Table(
        TABLE,
        sampler=reverb.selectors.Prioritized(1.0),
        remover=reverb.selectors.Lifo(),
        max_size=5,
        max_times_sampled=2,
        rate_limiter=reverb.rate_limiters.SampleToInsertRatio(1.0, 2, 5.0),
    )
    other = reverb.Table.queue("other", 3)
    running = reverb.Server([table, other], checkpointer=checkpointer)
    client = reverb.Client(f"localhost:{running.port}")
    with client.trajectory_writer(2) as writer:
        for step in episode(4):
            writer.append(step)
        history = tf.nest.map_structure(lambda column: column[-2:], writer.history)
        writer.create_item(TABLE, 1.0, history)
        writer.create_item("other", 1.0, history)
        writer.flush()
    client.checkpoint()
    running.stop()
    with make(tmp_path) as manager:
        buffer, _ = manager.load_replay_buffer()
        info = buffer.get_table_info()
        assert (info.max_size, info.max_times_sampled) == (20, 0)
        assert info.sampler_options.uniform
        assert info.remover_options.fifo
        assert manager.sample(50, timeout=5)[1].probability.tolist() == [1.0] * 50
        assert buffer.py_client.server_info()["other"].current_size == 1


def test_a_checkpoint_of_another_table_is_refused(tmp_path: Path) -> None:
    with make(tmp_path) as manager:
        add(manager, *episode(3))
        manager.save()
    with make(tmp_path, table_name="mine") as manager:
        with pytest.raises(CheckpointMismatchError, match=r"uniform_table.*table_name="):
            manager.load_replay_buffer()


@pytest.mark.parametrize("on_misfit", ["raise", "leave_out"])
def test_windows_of_another_length_are_refused(on_misfit: str, tmp_path: Path) -> None:
    with make(tmp_path) as manager:
        add(manager, *episode(5))
        manager.save()
    with make(tmp_path, sequence_length=3, on_misfit=on_misfit) as manager:
        with pytest.raises(CheckpointMismatchError, match=r"have 2 steps.*sequence_length=3"):
            manager.load_replay_buffer()


def test_the_windows_that_fit_may_be_asked_for(tmp_path: Path) -> None:
    steps = episode(5)
    with make(tmp_path) as manager:
        buffer, _ = manager.create_replay_buffer()
        add(manager, *steps)
        longer = reverb_utils.ReverbAddTrajectoryObserver(buffer.py_client, TABLE, 3)
        for step in steps:
            longer(step)
        longer.flush()
        manager.save()
    with make(tmp_path) as manager:
        with pytest.raises(CheckpointMismatchError, match=r"3 of the 7 .* have 3 steps.*=2"):
            manager.load_replay_buffer()
    with make(tmp_path, sequence_length=3, on_misfit="leave_out") as manager:
        with pytest.warns(UserWarning, match="4 of the 7 .* were left out") as caught:
            manager.load_replay_buffer()
        assert [Path(each.filename) for each in caught] == [Path(__file__)]
        assert all(same(a, b) for a, b in zip(items(manager), windows(steps, 3), strict=True))


def test_what_a_save_removed_after_the_look_is_looked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(count: int) -> None:
        with warnings.catch_warnings(), make(tmp_path, max_to_keep=1) as manager:
            warnings.simplefilter("ignore")
            add(manager, *episode(count))
            manager.save()

    real, left = start._load_one, [7, 6]

    def load_one(path: Path, *rest: Any) -> Any:
        if left:
            save(left.pop())
        return real(path, *rest)

    save(5)
    monkeypatch.setattr(start, "_load_one", load_one)
    with make(tmp_path, max_to_keep=1) as manager:
        manager.load_replay_buffer()
        assert manager.num_frames() == 6


def test_embedded_checkpoints_are_refused_or_warned_of(tmp_path: Path) -> None:
    with make(tmp_path, backend="embedded") as manager:
        add(manager, *episode(3))
        manager.save()
    with make(tmp_path) as manager:
        with pytest.raises(CheckpointMismatchError, match='backend="embedded" only'):
            manager.load_replay_buffer()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            add(manager, *episode(6))
        manager.save()
        with pytest.warns(UserWarning, match="may be newer") as caught:
            manager.load_replay_buffer()
        assert [Path(each.filename) for each in caught] == [Path(__file__)]
        assert manager.num_frames() == 5


def test_nothing_is_left_behind_by_a_manager_that_nobody_closes(tmp_path: Path) -> None:
    manager = make(tmp_path)
    add(manager, *episode(3))
    manager.gather_all()
    assert [path.name[:8] for path in tmp_path.iterdir()] == [".reverb-"]
    del manager
    gc.collect()
    assert list(tmp_path.iterdir()) == []


# Settings --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 3}, "seed.*embedded"),
        ({"server_address": "localhost"}, "server_address.*host:port"),
        ({"server_address": "localhost:99999"}, "server_address"),
        ({"server_address": 8000}, "server_address"),
        ({"server_address": "localhost:1", "backend": "embedded"}, "server_address.*reverb"),
        ({"data_spec": {"x": tf.TensorSpec((), tf.float32)}}, "wants a Trajectory"),
        ({"data_spec": SPEC._replace(reward=tf.TensorSpec((), tf.string))}, "reward"),
    ],
    ids=str,
)
def test_settings_that_reverb_has_no_use_for_are_refused(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises((InvalidArgumentError, SpecError), match=words) as caught:
        make(tmp_path, **changes)
    assert isinstance(caught.value, ReverieError)


def test_a_spec_without_tensorflow_gives_tf_agents_specs(tmp_path: Path) -> None:
    spec = tf.nest.map_structure(
        lambda leaf: ArraySpec(leaf.shape, leaf.dtype.as_numpy_dtype), SPEC
    )
    with make(tmp_path, data_spec=spec) as manager:
        buffer, _ = manager.create_replay_buffer()
        add(manager, *episode(4))
        assert all(
            isinstance(leaf, tf.TensorSpec) for leaf in tf.nest.flatten(buffer.data_spec)
        )
        element, _ = next(iter(manager.get_dataset(4)))
        assert element.observation["camera"][0].shape == (4, 2, 2, 2)


# The suite's check of datasets, which needs TensorFlow to be seen failing -------------------


class ReversesDatasets(ReplayBufferManager):
    def get_dataset(self, *args: Any, **kwargs: Any) -> Any:
        dataset = super().get_dataset(*args, **kwargs)
        return dataset.map(lambda data, info: (tf.nest.map_structure(_reversed, data), info))


def _reversed(leaf: Any) -> Any:
    return tf.reverse(leaf, [1])


@pytest.mark.parametrize("backend", ["embedded", "reverb"])
def test_the_suite_sees_a_dataset_with_other_items(backend: str, tmp_path: Path) -> None:
    check = "test_a_dataset_has_the_same_items"
    for manager, failed in ((ReplayBufferManager, []), (ReversesDatasets, [check])):
        failures = conformance_failures(
            lambda folder, m=manager, **settings: m(
                checkpoint_dir=folder, backend=backend, **settings
            ),
            tmp_path / manager.__name__,
            checks=[check],
        )
        assert list(failures) == failed


def test_clear_in_the_seeds_way_brings_the_checkpoint_back(tmp_path: Path) -> None:
    """What the seed does, to show that the suite's check of `clear` is about something."""
    running = server(tmp_path)
    client = reverb.Client(f"localhost:{running.port}")
    client.insert([np.float32(1)], {TABLE: 1.0})
    client.checkpoint()
    running.stop()
    again = server(tmp_path)
    assert size_of(again) == 1
    again.stop()
    shutil.rmtree(tmp_path)
