"""`reverie.open`: a saved buffer without its spec and without the code that wrote it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.manager_support import add, contents, make
from tests.observer_support import trajectory

import reverie
from reverie import ReplayBufferManager, Trajectory, removers, reverb, samplers
from reverie.errors import (
    CheckpointCorruptError,
    CheckpointMismatchError,
    CheckpointNotFoundError,
    ClosedError,
    InvalidArgumentError,
    UnstackableError,
)
from reverie.observers import EpisodeObserver, TrajectoryObserver

INT8 = reverie.ArraySpec((), np.int8)
TEXT = reverb.reverb_types.TensorSpec((None,), np.dtype(object))
SERIES = reverb.reverb_types.TensorSpec((2,), np.dtype(np.float32))


def saved(folder: Path, **settings: Any) -> tuple[Any, list[list[int]]]:
    """A checkpoint of ten items; what was in it, and the keys that it would draw next."""
    with make(folder, **settings) as manager:
        add(manager, *range(11))
        manager.save()
        everything = manager.gather_all()
        return everything, [manager.sample(6)[1].key.tolist() for _ in range(3)]


def test_what_was_saved_is_there_and_the_next_batches_are_the_same(tmp_path: Path) -> None:
    everything, draws = saved(tmp_path)
    buffer = reverie.open(tmp_path)
    assert isinstance(buffer, reverie.ReplayBuffer)
    found = buffer.gather_all()
    assert {name: a.tolist() for name, a in found.items()} == {
        name: a.tolist() for name, a in everything.items()
    }
    assert [buffer.sample(6)[1].key.tolist() for _ in range(3)] == draws
    info = buffer.info()
    assert (info.name, info.items, info.capacity, info.sequence_length, info.steps) == (
        "uniform_table",
        10,
        20,
        2,
        11,
    )
    assert [item["n"].tolist() for _, item in buffer.iter_items()] == found["n"].tolist()
    buffer.close()
    with pytest.raises(ClosedError, match="Open it anew"):
        buffer.sample(1)


def test_one_checkpoints_own_folder_is_opened_too(tmp_path: Path) -> None:
    with make(tmp_path, max_to_keep=None) as manager:
        for n in (3, 6, 9):
            add(manager, *range(n - 3, n))
            manager.save()
    assert reverie.open(tmp_path / "ckpt-00000002").num_frames() == 5
    assert reverie.open(str(tmp_path)).num_frames() == 8


def test_in_another_process_without_the_namedtuple_it_is_the_same_nest(tmp_path: Path) -> None:
    spec = Trajectory(
        step_type=reverie.ArraySpec((), np.int32),
        observation={
            "b": reverie.ArraySpec((2,), np.float32),
            "a": [reverie.ArraySpec((), "u1")],
        },
        action=reverie.ArraySpec((), np.int64),
        policy_info=(),
        next_step_type=reverie.ArraySpec((), np.int32),
        reward=reverie.ArraySpec((), np.float32),
        discount=reverie.ArraySpec((), np.float32),
    )
    with ReplayBufferManager(spec, 10, tmp_path, 3) as manager:
        _, observer = manager.create_replay_buffer()
        for n in range(5):
            observer(Trajectory(0, {"b": np.full(2, n), "a": [n]}, n, (), 1, n / 2, 1.0))
        manager.save()
    program = (
        "import reverie, sys; b = reverie.open(sys.argv[1]); d, _ = b.sample(4); "
        "assert type(d) is reverie.Trajectory, type(d); a = b.gather_all(); "
        "print(a.observation['a'][0].tolist(), a.observation['b'].shape, a.reward.dtype)"
    )
    run = [sys.executable, "-c", program, str(tmp_path)]
    found = subprocess.run(run, capture_output=True, text=True, check=True)
    assert found.stdout == "[[0, 1, 2], [1, 2, 3], [2, 3, 4]] (3, 3, 2) float32\n"


def test_no_lock_is_taken_before_the_first_save(tmp_path: Path) -> None:
    with make(tmp_path) as manager:
        add(manager, *range(5))
        manager.save()
        program = (
            "import reverie, sys; b = reverie.open(sys.argv[1]); b.sample(1)\n"
            "try: b.save()\n"
            "except reverie.errors.CheckpointLockedError: print('locked')"
        )
        run = [sys.executable, "-c", program, str(tmp_path)]
        other = subprocess.run(run, capture_output=True, text=True, check=True)
        assert other.stdout == "locked\n"


def test_what_is_opened_is_saved_beside_what_it_came_from(tmp_path: Path) -> None:
    saved(tmp_path)
    buffer = reverie.open(tmp_path / "ckpt-00000001")
    observer = TrajectoryObserver(buffer.py_client, buffer.table_name, buffer.sequence_length)
    for n in (20, 21):
        observer({"n": n, "x": np.full(2, n)})
    assert buffer.save() == tmp_path / "ckpt-00000002"
    buffer.close()
    with make(tmp_path) as manager:  # and a manager goes on with it
        manager.load_replay_buffer()
        assert [steps for _, steps in contents(manager)][-2:] == [[9, 10], [20, 21]]


def test_a_prioritized_table_stays_one(tmp_path: Path) -> None:
    saved(tmp_path, sampler=samplers.Prioritized(0.5), remover=removers.Lifo())
    settings = reverie.open(tmp_path).table.settings
    assert (settings.sampler, settings.remover) == (samplers.Prioritized(0.5), removers.Lifo())


def served(folder: Path, signature: Any = None, names: tuple[str, ...] = ("queue",)) -> Any:
    tables = [
        reverb.Table(
            name,
            reverb.selectors.Prioritized(1.0),
            reverb.selectors.Fifo(),
            100,
            reverb.rate_limiters.MinSize(1),
            signature=signature,
        )
        for name in names
    ]
    checkpointer = reverb.checkpointers.DefaultCheckpointer(str(folder))
    server = reverb.Server(tables, checkpointer=checkpointer)
    return server, server.localhost_client()


def test_a_servers_table_of_windows_opens(tmp_path: Path) -> None:
    server, client = served(tmp_path)
    observer = TrajectoryObserver(client, "queue", 3)
    for n in range(6):
        observer(trajectory(n))
    client.checkpoint()
    server.stop()
    buffer = reverie.open(tmp_path)
    assert buffer.sequence_length == 3
    data, info = buffer.sample(50)
    assert type(data) is Trajectory
    assert (data.action[:, 2] - data.action[:, 0] == 2).all()
    assert data.observation["x"].shape == (50, 3, 2)
    assert np.allclose(info.probability, 0.25)


def test_the_steps_of_two_observers_share_a_batch(tmp_path: Path) -> None:
    server, client = served(tmp_path)
    first, second = (TrajectoryObserver(client, "queue", 2) for _ in range(2))
    for n in range(4):
        first(trajectory(n))
        second(trajectory(100 + n))
    client.checkpoint()
    server.stop()
    data, _ = reverie.open(tmp_path).sample(200)
    assert set(data.action[:, 0].tolist()) == {0, 1, 2, 100, 101, 102}
    assert (data.action[:, 1] - data.action[:, 0] == 1).all()


def test_trajectories_of_unequal_columns_come_in_batches(tmp_path: Path) -> None:
    signature = {
        "action": reverb.reverb_types.TensorSpec((), np.dtype(np.int64)),
        "states": reverb.reverb_types.TensorSpec((3, 2), np.dtype(np.float32)),
    }
    server, client = served(tmp_path, signature)
    with client.trajectory_writer(3) as writer:
        for n in range(7):
            writer.append({"s": np.full(2, n, np.float32), "a": n})
            if n > 1:
                item = {"states": writer.history["s"][-3:], "action": writer.history["a"][-1]}
                writer.create_item("queue", 1.0, item)
    client.checkpoint()
    server.stop()
    buffer = reverie.open(tmp_path)
    data, _ = buffer.sample(40)
    assert (data["states"].shape, data["action"].shape) == ((40, 3, 2), (40,))
    assert (data["states"][:, 2, 0] == data["action"]).all()
    assert buffer.gather_all()["action"].tolist() == [2, 3, 4, 5, 6]
    assert [item["action"].tolist() for _, item in buffer.iter_items()] == [2, 3, 4, 5, 6]
    out = {"states": np.empty((9, 3, 2), np.float32), "action": np.empty(9, np.int64)}
    assert buffer.sample(9, out=out)[0]["states"] is out["states"]


def test_episodes_of_unequal_length_are_read_one_by_one(tmp_path: Path) -> None:
    server, client = served(tmp_path)
    observer = EpisodeObserver(client, "queue", 9)
    for n, last in enumerate((False, True, False, False, True)):
        observer(trajectory(n, last))
    client.checkpoint()
    server.stop()
    buffer = reverie.open(tmp_path)
    found = [item.action.tolist() for _, item in buffer.iter_items()]
    assert found == [[0, 1], [2, 3, 4]]
    with pytest.raises(reverie.errors.UnstackableError):
        buffer.gather_all()


def test_of_several_tables_one_is_chosen_and_the_others_come_along(tmp_path: Path) -> None:
    server, client = served(tmp_path, names=("one", "two"))
    TrajectoryObserver(client, ["one", "two"], 1)(trajectory(7))
    client.checkpoint()
    server.stop()
    with pytest.raises(CheckpointMismatchError, match=r"'one', 'two'.*table="):
        reverie.open(tmp_path)
    with pytest.raises(CheckpointMismatchError, match="wanted 'three'"):
        reverie.open(tmp_path, "three")
    buffer = reverie.open(tmp_path, "two")
    buffer.save()
    buffer.close()
    assert reverie.open(tmp_path, "one").gather_all().action.tolist() == [[7]]


def test_an_empty_table_is_what_its_own_signature_says(tmp_path: Path) -> None:
    spec = reverb.reverb_types.TensorSpec((None, 5), np.dtype(np.int8))
    tables = [
        reverb.Table(
            name,
            reverb.selectors.Uniform(),
            reverb.selectors.Fifo(),
            9,
            reverb.rate_limiters.MinSize(1),
            signature=signature,
        )
        for name, signature in (("full", None), ("empty", {"q": spec}), ("texts", {"t": TEXT}))
    ]
    checkpointer = reverb.checkpointers.DefaultCheckpointer(str(tmp_path))
    server = reverb.Server(tables, checkpointer=checkpointer)
    TrajectoryObserver(server.localhost_client(), "full", 1)(trajectory(7))
    server.localhost_client().checkpoint()
    server.stop()
    assert reverie.open(tmp_path, "empty").data_spec == {"q": reverie.ArraySpec((5,), np.int8)}
    with pytest.raises(CheckpointMismatchError, match="nothing says what its items look like"):
        reverie.open(tmp_path, "texts")


def test_items_of_other_columns_are_no_item_of_the_buffers_nest(tmp_path: Path) -> None:
    server, client = served(tmp_path)
    one, other = (TrajectoryObserver(client, "queue", 1) for _ in range(2))
    one({"a": np.int8(1), "b": np.int8(2)})
    other({"z": np.float32(3)})
    client.checkpoint()
    server.stop()
    items = reverie.open(tmp_path).iter_items()
    assert [column.tolist() for column in next(items)[1]] == [[1], [2]]
    with pytest.raises(UnstackableError, match="has other columns"):
        next(items)
    spec = {"a": reverie.ArraySpec((), np.int8), "b": reverie.ArraySpec((), np.int8)}
    manager = ReplayBufferManager(spec, 9, tmp_path, 1, table_name="queue")
    with pytest.raises(
        CheckpointMismatchError, match=r"checkpoint has: 'z'\. Only the spec has: 'a', 'b'"
    ):
        manager.load_replay_buffer()


def test_columns_of_unequal_steps_cannot_be_cut(tmp_path: Path) -> None:
    signature = {"a": reverb.reverb_types.TensorSpec((), np.dtype(np.int64)), "s": SERIES}
    server, client = served(tmp_path, signature)
    with client.trajectory_writer(2) as writer:
        for n in range(2):
            writer.append({"s": np.float32(n), "a": n})
        item = {"s": writer.history["s"][-2:], "a": writer.history["a"][-1]}
        writer.create_item("queue", 1.0, item)
    client.checkpoint()
    server.stop()
    buffer = reverie.open(tmp_path)
    for call in (lambda: buffer.sample(1, 1), lambda: buffer.as_dataset(2)):
        with pytest.raises(InvalidArgumentError, match=r"columns of \[-1, 2\] steps"):
            call()


@pytest.mark.parametrize(
    ("spec", "step"),
    [
        ({"a": None, "b": INT8}, {"a": None, "b": 1}),
        ({2: INT8, "x": INT8}, {2: 1, "x": 2}),
    ],
)
def test_steps_go_on_into_a_table_without_a_signature(
    spec: Any, step: Any, tmp_path: Path
) -> None:
    with ReplayBufferManager(spec, 10, tmp_path, 1) as manager:
        manager.create_replay_buffer()[1](step)
        manager.save()
    buffer = reverie.open(tmp_path)
    TrajectoryObserver(buffer.py_client, buffer.table_name, 1)(step)
    assert buffer.gather_all()[list(spec)[1]].tolist() == [[step[list(spec)[1]]]] * 2


def test_the_length_of_windows_is_the_tables(tmp_path: Path) -> None:
    with make(tmp_path) as manager:
        buffer = manager.create_replay_buffer()[0]
        episode = EpisodeObserver(buffer.py_client, buffer.table_name, 9)
        for n in range(5):
            episode({"n": n, "x": np.zeros(2)}, last=n == 4)
        manager.save()
        assert reverie.open(tmp_path).sequence_length == buffer.sequence_length == 2


def test_bfloat16_needs_no_import_by_the_reader(tmp_path: Path) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    with ReplayBufferManager(
        reverie.ArraySpec((), ml_dtypes.bfloat16), 9, tmp_path, 1
    ) as manager:
        manager.create_replay_buffer()[1](ml_dtypes.bfloat16(1.5))
        manager.save()
    program = "import reverie, sys; print(reverie.open(sys.argv[1]).gather_all().dtype)"
    run = [sys.executable, "-c", program, str(tmp_path)]
    found = subprocess.run(run, capture_output=True, text=True, check=True)
    assert found.stdout == "bfloat16\n"


def test_how_many_to_keep_is_checked_before_anything_is_read(tmp_path: Path) -> None:
    for wrong in (0, 1.5, "3"):
        with pytest.raises(InvalidArgumentError, match="max_to_keep"):
            reverie.open(tmp_path, max_to_keep=wrong)  # type: ignore[arg-type]


def test_texts_are_refused_by_name(tmp_path: Path) -> None:
    server, client = served(tmp_path)
    client.insert({"a": "text"}, {"queue": 1.0})
    client.checkpoint()
    server.stop()
    with pytest.raises(CheckpointMismatchError, match=r"holds texts.*Server"):
        reverie.open(tmp_path)


def test_nothing_and_damage_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFoundError):
        reverie.open(tmp_path)
    with pytest.raises(CheckpointNotFoundError):
        reverie.open(tmp_path / "nowhere")
    saved(tmp_path)
    manifest = tmp_path / "ckpt-00000001" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"uniform", b"unifarm"))
    with pytest.raises(CheckpointCorruptError, match=r"manifest\.json"):
        reverie.open(tmp_path)


def test_an_empty_buffer_opens_as_well(tmp_path: Path) -> None:
    with make(tmp_path) as manager:
        manager.create_replay_buffer()
        manager.save()
    buffer = reverie.open(tmp_path)
    assert buffer.gather_all()["x"].shape == (0, 2, 2)


def test_progress_is_told(tmp_path: Path) -> None:
    saved(tmp_path)
    seen: list[tuple[int, int]] = []
    reverie.open(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] > 0
