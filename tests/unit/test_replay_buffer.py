"""The replay buffer that the manager hands out, with the names that TF-Agents' users know."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reverie
from reverie import ArraySpec, BufferInfo, ReplayBufferManager
from reverie.errors import ClosedError, InvalidArgumentError, MissingDependencyError
from reverie.samplers import Prioritized

SPEC = {"n": np.zeros((), np.int64)}


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ReplayBufferManager]:
    with ReplayBufferManager(SPEC, 10, tmp_path, sampler=Prioritized()) as manager:
        _, observer = manager.create_replay_buffer()
        for n in range(5):
            observer({"n": n})
        yield manager


@pytest.fixture
def buffer(manager: ReplayBufferManager) -> reverie.ReplayBuffer:
    return manager.get_replay_buffer_and_observer()[0]


def test_it_says_what_it_was_made_with(buffer: reverie.ReplayBuffer) -> None:
    assert buffer.data_spec is SPEC
    found = (buffer.capacity, buffer.sequence_length, buffer.table_name)
    assert found == (10, 2, "uniform_table")
    assert buffer.stateful_dataset is True


def test_num_frames_is_a_python_int_and_counts_every_finished_call(
    manager: ReplayBufferManager, buffer: reverie.ReplayBuffer
) -> None:
    _, observer = manager.get_replay_buffer_and_observer()
    for n in range(4):
        observer({"n": n})
        assert buffer.num_frames() == manager.num_frames() == 5 + n
    assert type(buffer.num_frames()) is int


def test_it_answers_as_the_manager_does(
    manager: ReplayBufferManager, buffer: reverie.ReplayBuffer
) -> None:
    assert np.array_equal(buffer.gather_all()["n"], manager.gather_all()["n"])
    assert [key for key, _ in buffer.iter_items()] == [key for key, _ in manager.iter_items()]
    assert isinstance(buffer.get_table_info(), BufferInfo)
    data, info = buffer.sample(3)
    assert (data["n"].shape, info.key.shape) == ((3, 2), (3,))
    assert buffer.update_priorities(info.key, np.ones(3)) == 0


def test_item_info_lists_every_item(buffer: reverie.ReplayBuffer) -> None:
    info = buffer.item_info()
    assert info["key"].tolist() == [key for key, _ in buffer.iter_items()]
    assert info["length"].tolist() == [2] * 4
    assert info["priority"].tolist() == [1.0] * 4
    assert info["times_sampled"].tolist() == [0] * 4


def test_clear_empties_it_and_its_observer(
    manager: ReplayBufferManager, buffer: reverie.ReplayBuffer
) -> None:
    buffer.clear()
    assert (buffer.num_frames(), manager.num_frames()) == (0, 0)
    assert manager.get_replay_buffer_and_observer()[1]._cached_steps == 0


def test_py_client_checkpoints_and_returns_the_path_as_text(
    manager: ReplayBufferManager, buffer: reverie.ReplayBuffer, tmp_path: Path
) -> None:
    _, observer = manager.get_replay_buffer_and_observer()
    assert buffer.py_client is observer.py_client
    path = buffer.py_client.checkpoint()
    assert path == str(tmp_path / "ckpt-00000001")
    assert manager.load_replay_buffer()[0].num_frames() == 4


def test_what_tf_agents_refuses_is_refused_with_the_way_out(
    buffer: reverie.ReplayBuffer,
) -> None:
    with pytest.raises(NotImplementedError, match="observer"):
        buffer.add_batch({})
    with pytest.raises(NotImplementedError, match="sample"):
        buffer.get_next(sample_batch_size=2)


def test_a_dataset_without_tensorflow_names_the_install_command(
    buffer: reverie.ReplayBuffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorflow", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'reverie-replay\[tf\]'"):
        buffer.as_dataset(2)


CALLS: dict[str, Callable[[Any], Any]] = {
    "num_frames": lambda b: b.num_frames(),
    "get_table_info": lambda b: b.get_table_info(),
    "sample": lambda b: b.sample(1),
    "gather_all": lambda b: b.gather_all(),
    "iter_items": lambda b: list(b.iter_items()),
    "item_info": lambda b: b.item_info(),
    "as_dataset": lambda b: b.as_dataset(2),
    "update_priorities": lambda b: b.update_priorities([1], [1]),
    "info": lambda b: b.info(),
    "sample_columns": lambda b: b.sample_columns(1),
    "gather_columns": lambda b: b.gather_columns(),
    "save": lambda b: b.save(),
    "clear": lambda b: b.clear(),
    "checkpoint": lambda b: b.py_client.checkpoint(),
}
# What can be asked of a closed buffer all the same.
HARMLESS = {
    "data_spec", "capacity", "sequence_length", "table_name", "py_client", "server",
    "stateful_dataset",
    "over", "for_env", "view", "check_windows",
    "add_batch", "get_next", "close", "nest", "table", "describe_wait", "check_even",
}  # fmt: skip


@pytest.mark.parametrize("end", ["close", "create_replay_buffer"])
@pytest.mark.parametrize("call", CALLS)
def test_after_its_end_every_call_says_so(
    call: str, end: str, manager: ReplayBufferManager, buffer: reverie.ReplayBuffer
) -> None:
    getattr(manager, end)()
    with pytest.raises(ClosedError, match=r"Table 'uniform_table' is closed\. Create or load"):
        CALLS[call](buffer)


def test_the_list_of_calls_is_complete() -> None:
    public = {name for name in dir(reverie.ReplayBuffer) if not name.startswith("_")}
    assert public == (set(CALLS) - {"checkpoint"}) | HARMLESS | FILLING


FILLING = {
    "add", "add_step", "add_episode", "add_episodes", "end_episodes", "episodes", "gather",
    "item_spec", "steps", "epoch", "resize", "rate_episodes", "admit", "withdraw", "drop_group",
    "policy_version", "set_policy_version", "update",
}  # fmt: skip


@pytest.mark.parametrize("call", sorted(FILLING))
def test_what_fills_a_buffer_of_steps_is_not_for_windows(
    call: str, buffer: reverie.ReplayBuffer
) -> None:
    arguments = {
        "add": [0] * 6,
        "add_step": [{}, {}],
        "add_episode": [{}],
        "add_episodes": [[]],
        "gather": [[1]],
        "epoch": [2],
        "resize": [5],
        "rate_episodes": [None],
        "withdraw": [0],
        "drop_group": [0],
        "set_policy_version": [1],
        "update": [[1], {"value": [1.0]}],
    }
    with pytest.raises(InvalidArgumentError, match=r"a manager's buffer.*ReplayBuffer\(spec"):
        getattr(buffer, call)(*arguments.get(call, []))


def test_an_iterator_that_was_begun_ends_in_an_error_when_the_buffer_goes(
    manager: ReplayBufferManager, buffer: reverie.ReplayBuffer
) -> None:
    items = buffer.iter_items()
    assert next(items)[1]["n"].tolist() == [0, 1]
    manager.close()
    with pytest.raises(ClosedError):
        list(items)


def test_reprs_are_short_and_say_the_state(
    manager: ReplayBufferManager, buffer: reverie.ReplayBuffer
) -> None:
    _, observer = manager.get_replay_buffer_and_observer()
    assert repr(buffer) == "ReplayBuffer('uniform_table', 4 of 10 items)"
    assert repr(buffer._table) == "Table('uniform_table', 4 of 10 items)"
    assert repr(observer) == "TrajectoryObserver('uniform_table', 5 steps into its episode)"
    server = "BufferServer('uniform_table', 4 of 10 items)"
    assert (repr(buffer.server), repr(buffer.py_client)) == (server, f"BufferClient({server})")
    manager.close()
    assert repr(buffer) == "ReplayBuffer('uniform_table', closed)"
    assert repr(observer) == "TrajectoryObserver('uniform_table', closed)"


HANDLES: dict[str, Callable[[ReplayBufferManager], Any]] = {
    "manager": lambda manager: manager,
    "buffer": lambda manager: manager.get_replay_buffer_and_observer()[0],
    "observer": lambda manager: manager.get_replay_buffer_and_observer()[1],
    "client": lambda manager: manager.get_replay_buffer_and_observer()[0].py_client,
    "server": lambda manager: manager.server,
    "table": lambda manager: manager.get_replay_buffer_and_observer()[0]._table,
}


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, pickle.dumps])
@pytest.mark.parametrize("handle", HANDLES)
def test_handles_of_live_memory_cannot_be_copied_and_say_what_to_do(
    handle: str, copier: Callable[[Any], Any], manager: ReplayBufferManager
) -> None:
    with pytest.raises(TypeError, match=r"cannot be copied or pickled.*load_replay_buffer\(\)"):
        copier(HANDLES[handle](manager))


@pytest.mark.parametrize("value", [ArraySpec((2,), np.float32), reverie.Trajectory(*range(7))])
def test_values_can_be_copied(value: Any) -> None:
    assert copy.deepcopy(value) == pickle.loads(pickle.dumps(value)) == value


def test_infos_and_samples_can_be_copied(manager: ReplayBufferManager) -> None:
    info = manager.info()
    assert pickle.loads(pickle.dumps(info)) == info
    _, sampled = manager.sample(3)
    assert np.array_equal(pickle.loads(pickle.dumps(sampled)).key, sampled.key)
