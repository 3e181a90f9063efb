"""TF-Agents' own observers on a manager's buffer: they take its `py_client`, as Reverb's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tf_agents", reason="needs TF-Agents")

import tensorflow as tf
from tests.tf_agents.support import SPEC, episode, new_manager, same, windows
from tf_agents.replay_buffers import reverb_utils

import reverie
from reverie import observers, reverb

LENGTH = 3
TABLE = "uniform_table"
# TF-Agents' observer, ours, and their arguments after the client and the table.
PAIRS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "windows": (
        reverb_utils.ReverbAddTrajectoryObserver,
        observers.TrajectoryObserver,
        {"sequence_length": LENGTH},
    ),
    "strides": (
        reverb_utils.ReverbAddTrajectoryObserver,
        observers.TrajectoryObserver,
        {"sequence_length": LENGTH, "stride_length": 2},
    ),
    "padded": (
        reverb_utils.ReverbAddTrajectoryObserver,
        observers.TrajectoryObserver,
        {"sequence_length": LENGTH, "pad_end_of_episodes": True, "tile_end_of_episodes": True},
    ),
    "sequences": (
        reverb_utils.ReverbTrajectorySequenceObserver,
        observers.TrajectorySequenceObserver,
        {"sequence_length": LENGTH},
    ),
    "episodes": (
        reverb_utils.ReverbAddEpisodeObserver,
        observers.EpisodeObserver,
        {"max_sequence_length": 9},
    ),
}


def items(manager: reverie.ReplayBufferManager) -> list[Any]:
    return [item for _, item in manager.iter_items()]


@pytest.fixture(params=PAIRS)
def both(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Any]:
    """A manager that TF-Agents' observer has filled, and one that ours has."""
    managers = []
    for number, kind in enumerate(PAIRS[request.param][:2]):
        manager, buffer, _ = new_manager(tmp_path / str(number), sequence_length=LENGTH)
        observer = kind(buffer.py_client, TABLE, **PAIRS[request.param][2])
        for length, seed in ((6, 0), (4, 1), (1, 2)):
            for step in episode(length, seed):
                observer(step)
        observer.flush()
        observer.close()
        managers.append(manager)
    return managers[0], managers[1]


def test_their_observer_makes_the_items_that_ours_makes(both: tuple[Any, Any]) -> None:
    theirs, ours = map(items, both)
    assert len(theirs) == len(ours) > 0
    assert all(map(same, theirs, ours))
    assert both[0].info().inserts == both[0].num_frames() == len(ours)


def test_such_a_buffer_is_saved_loaded_and_opened(
    both: tuple[Any, Any], tmp_path: Path
) -> None:
    manager, ours = both[0], items(both[1])
    manager.save_checkpoint()
    manager.load_checkpoint()
    assert all(map(same, items(manager), ours))
    opened = reverie.open(tmp_path / "0")
    assert all(map(same, (item for _, item in opened.iter_items()), ours))


def test_batches_and_datasets_mix_the_items_of_both_observers(tmp_path: Path) -> None:
    steps = episode(5)
    manager, buffer, _ = new_manager(
        tmp_path, [steps], sequence_length=LENGTH, sampler=reverie.samplers.Prioritized()
    )
    observer = reverb_utils.ReverbAddTrajectoryObserver(
        buffer.py_client, TABLE, sequence_length=LENGTH
    )
    more = episode(6, 1)
    for step in more:
        observer(step)
    rewards = {tuple(w.reward.tolist()) for w in windows(steps, LENGTH) + windows(more, LENGTH)}
    data, info = manager.sample(300)
    assert set(map(tuple, data.reward.tolist())) == rewards
    batch, told = next(iter(manager.get_dataset(300)))
    assert set(map(tuple, batch.reward.numpy().tolist())) == rewards
    assert set(info.key.tolist()) == set(told.key.numpy()[:, 0].tolist())
    assert manager.update_priorities(told.key, tf.ones_like(told.key, tf.float64) * 2) == 0


def test_their_observer_knows_the_tables_signature(tmp_path: Path) -> None:
    _, buffer, ours = new_manager(tmp_path, [episode(4)], sequence_length=LENGTH)
    observer = reverb_utils.ReverbAddTrajectoryObserver(
        buffer.py_client, TABLE, sequence_length=LENGTH
    )
    assert observer.py_client is buffer.py_client is ours.py_client
    found = tf.nest.map_structure(
        lambda spec: tuple(spec.shape), observer.get_table_signature()
    )
    assert found == tf.nest.map_structure(lambda spec: (None, *spec.shape), SPEC)


def test_reverbs_readers_find_the_buffer_under_its_address(tmp_path: Path) -> None:
    manager, buffer, _ = new_manager(tmp_path, [episode(4)], sequence_length=LENGTH)
    dataset = reverb.TrajectoryDataset.from_table_signature(
        buffer.py_client.server_address, TABLE, max_in_flight_samples_per_worker=1
    )
    sample = next(iter(dataset.take(1)))
    assert int(np.ravel(sample.info.key)[0]) in {key for key, _ in manager.iter_items()}
    client = reverb.TFClient(buffer.py_client.server_address)
    keys = np.array([manager.sample(1)[1].key[0]], np.uint64)
    client.update_priorities(TABLE, keys, np.array([3.0]))
    assert 3.0 in buffer.item_info()["priority"]
