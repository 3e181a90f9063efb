"""Reverb's checkpoints, loaded through the manager."""

from __future__ import annotations

import collections
import contextlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optree
import pytest

import reverie
from reverie import ArraySpec, ReplayBufferManager, Trajectory
from reverie.checkpoint.format.reader import read_manifest
from reverie.errors import CheckpointMismatchError, UnstackableError
from reverie.nests.nest import Nest

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
SMART_BUILDINGS = GOLDEN / "smart_buildings" / "initial_exploration_buffer"


@pytest.fixture
def needs_reverb_files() -> None:
    for name in ("cramjam", "google_crc32c", "google.protobuf"):
        pytest.importorskip(name, reason="needs the reverb-files extra")


def f4(*shape: int) -> ArraySpec:
    return ArraySpec(shape, np.float32)


def i4(*shape: int) -> ArraySpec:
    return ArraySpec(shape, np.int32)


STEP = Trajectory(i4(), f4(53), f4(2), (), i4(), f4(), f4())
WIDE = {f"c{k}": i4() for k in range(6)}
LENGTHS = [ArraySpec((), np.float64)]
WINDOWS = {
    "observation": {"image": ArraySpec((2, 2, 3), np.uint8), "speed": f4(2)},
    "action": i4(),
    "reward": ArraySpec((), np.float64),
    "done": ArraySpec((), np.bool_),
}
pytestmark_reverb = pytest.mark.usefixtures("needs_reverb_files")


def fixture_manager(case: str, spec: Any, **settings: Any) -> ReplayBufferManager:
    return ReplayBufferManager(
        spec, settings.pop("capacity", 100), GOLDEN / "reverb" / case, **settings
    )


@pytestmark_reverb
def test_the_smart_buildings_buffer_loads_with_numpy_specs_alone() -> None:
    with ReplayBufferManager(STEP, 50_000, SMART_BUILDINGS) as manager:
        buffer, observer = manager.load_replay_buffer()
        assert buffer.num_frames() == 49
        data = manager.gather_all()
        assert isinstance(data, Trajectory)
        assert data.observation.shape == (49, 2, 53)
        assert manager.info().steps == 50  # shared by the windows, stored once
        assert np.array_equal(data.observation[1:, 0], data.observation[:-1, 1])
        batch, info = manager.sample(256)
        assert batch.action.shape == (256, 2, 2)
        assert set(info.table_size.tolist()) == {49}
        for n in (0, 1):
            observer(optree.tree_map(lambda leaf, n=n: leaf[n, 0], data))
        assert manager.num_frames() == 50
        assert np.array_equal(manager.gather_all().observation[-1], data.observation[0])


@pytestmark_reverb
def test_what_was_loaded_from_reverb_is_saved_natively_and_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "buffer"
    shutil.copytree(SMART_BUILDINGS, folder)
    with ReplayBufferManager(STEP, 50_000, folder) as manager:
        manager.load_replay_buffer()
        before = manager.gather_all()
        assert manager.save() == folder / "ckpt-00000001"
    with ReplayBufferManager(STEP, 50_000, folder) as manager:
        manager.load_replay_buffer()  # the native one now comes first
        after = manager.gather_all()
        assert manager.info().inserts == 49
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert len(list(folder.glob("20*"))) == 1


@pytestmark_reverb
def test_the_names_of_the_managers_own_spec_are_saved(tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "reverb" / "tf_agents", tmp_path / "saved")
    columns = Nest(reverie.open(tmp_path).data_spec).columns
    spec = {f"column {i}": column.spec for i, column in enumerate(columns)}
    with ReplayBufferManager(spec, 100, tmp_path) as manager:
        manager.load_replay_buffer()
        (layout,) = read_manifest(manager.save()).layouts
    assert layout.paths == list(spec)
    assert reverie.open(tmp_path).data_spec == spec


@pytestmark_reverb
def test_creating_over_a_reverb_checkpoint_warns_too() -> None:
    with ReplayBufferManager(STEP, 50_000, SMART_BUILDINGS) as manager:
        with pytest.warns(UserWarning, match="holds checkpoints"):
            manager.create_replay_buffer()


@pytestmark_reverb
@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (STEP._replace(observation=f4(52)), "'observation': found float32 of shape (53,)"),
        (STEP._replace(reward=ArraySpec((), np.float64)), "'reward': found float32"),
        (STEP._replace(policy_info=f4()), "found 6 columns, the data spec has 7"),
    ],
)
def test_another_spec_than_reverbs_names_the_column(spec: Any, words: str) -> None:
    with ReplayBufferManager(spec, 50_000, SMART_BUILDINGS) as manager:
        with pytest.raises(CheckpointMismatchError) as caught:
            manager.load_replay_buffer()
        assert words in str(caught.value)


@pytestmark_reverb
def test_too_small_a_capacity_for_reverbs_items_is_a_mismatch() -> None:
    with ReplayBufferManager(STEP, 48, SMART_BUILDINGS) as manager:
        with pytest.raises(CheckpointMismatchError, match="49 items, but the capacity is 48"):
            manager.load_replay_buffer()


WITHOUT_THE_EXTRA = """
import sys
sys.modules["cramjam"] = sys.modules["google_crc32c"] = None  # as if not installed
import numpy as np, reverie
manager = reverie.ReplayBufferManager({"n": np.zeros(2)}, 10, sys.argv[1])
try:
    manager.load_replay_buffer()
except reverie.errors.MissingDependencyError as error:
    print(error)
"""


def test_without_the_extra_the_error_names_the_install_command() -> None:
    command = [sys.executable, "-c", WITHOUT_THE_EXTRA, str(SMART_BUILDINGS)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "pip install 'reverie-replay[reverb-files]'" in said


@pytestmark_reverb
def test_nested_steps_and_their_priorities_load() -> None:
    with fixture_manager("trajectory_windows", WINDOWS, sequence_length=3) as manager:
        buffer, _ = manager.load_replay_buffer()
        data = manager.gather_all()
        starts = [10 * episode + n for episode in range(3) for n in range(5)]
        assert data["action"].tolist() == [[n, n + 1, n + 2] for n in starts]
        assert np.array_equal(data["observation"]["speed"][..., 0], data["action"])
        assert np.array_equal(data["done"], data["action"] % 5 == 4) or data["done"].any()
        priorities = buffer.item_info()["priority"].tolist()
        assert priorities == [1.0 + n for _ in range(3) for n in range(2, 7)]


@pytestmark_reverb
def test_all_columns_that_differ_are_named() -> None:
    action = {"action": WINDOWS["action"]}
    theirs = r"'done', 'observation/image', 'observation/speed', 'reward'"
    for spec, ours in ((action, "none"), (action | WIDE, ", ".join(map(repr, WIDE)))):
        said = rf"Only the checkpoint has: {theirs}\. Only the spec has: {ours}\."
        with (
            fixture_manager("trajectory_windows", spec, sequence_length=3) as manager,
            pytest.raises(CheckpointMismatchError, match=said),
        ):
            manager.load_replay_buffer()


@pytestmark_reverb
def test_all_columns_without_names_are_listed_by_their_kinds() -> None:
    spec = {"r": ArraySpec((), np.float16), **WIDE}
    with (
        fixture_manager("column_chunks", spec, table_name="tail") as manager,
        pytest.raises(CheckpointMismatchError) as caught,
    ):
        manager.load_replay_buffer()
    said = str(caught.value)
    assert "has: 'int16 of shape (2,)', 'float32 of shape (3,)'. Only" in said
    assert all(repr(name) in said for name in WIDE)


@pytestmark_reverb
def test_items_of_unequal_length_are_read_one_by_one() -> None:
    with contextlib.closing(reverie.open(GOLDEN / "reverb" / "lengths")) as buffer:
        items = [item[0].tolist() for _, item in buffer.iter_items()]
        assert [len(item) for item in items] == [1, 5, 3, 12, 7]
        assert items[4] == items[3][2:9]
        with pytest.raises(UnstackableError, match=r"iter_items\(\)"):
            buffer.gather_all()
        with pytest.raises(UnstackableError, match="wanted 1"):
            buffer.sample(100)


@pytestmark_reverb
def test_items_of_unequal_length_are_refused_naming_all_lengths() -> None:
    """A batch that drew one would fail, whenever that was."""
    said = r"4 of the 5 items of table 'episodes' have 1, 3, 7, 12 steps.*=5.*'leave_out'"
    with (
        fixture_manager("lengths", LENGTHS, sequence_length=5) as manager,
        pytest.raises(CheckpointMismatchError, match=said),
    ):
        manager.load_replay_buffer()


@pytestmark_reverb
def test_the_items_that_fit_may_be_asked_for() -> None:
    with fixture_manager(
        "lengths", LENGTHS, sequence_length=5, on_misfit="leave_out"
    ) as manager:
        with pytest.warns(UserWarning, match="4 of the 5 items.*were left out") as caught:
            manager.load_replay_buffer()
        assert caught[0].filename == __file__
        assert manager.num_frames() == 1
        assert manager.sample(9)[0][0].shape == (9, 5)


@pytestmark_reverb
@pytest.mark.parametrize("on_misfit", ["raise", "leave_out"])
@pytest.mark.parametrize("name", ["lengths", "trajectory_windows"])
def test_where_none_fits_there_is_nothing_to_leave(name: str, on_misfit: str) -> None:
    spec = LENGTHS if name == "lengths" else WINDOWS
    with (
        fixture_manager(name, spec, sequence_length=4, on_misfit=on_misfit) as manager,
        pytest.raises(CheckpointMismatchError, match=r"no batch.*reverie\.open\(\)"),
    ):
        manager.load_replay_buffer()


@pytestmark_reverb
def test_items_with_unequal_columns_keep_each_columns_steps() -> None:
    spec = {"s": f4(3), "a": ArraySpec((2,), np.int16), "r": ArraySpec((), np.float16)}
    with fixture_manager("column_chunks", spec, table_name="tail") as manager:
        manager.load_replay_buffer()
        for _, item in manager.iter_items():
            assert [len(item[name]) for name in "sar"] == [5, 4, 2]
            last = item["s"][-1, 0]
            assert (item["a"][-1, 0], item["r"][-1]) == (last, last)
        with pytest.raises(UnstackableError):
            manager.sample(1)


@pytestmark_reverb
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("last_five", [[n, n + 1] for n in range(14, 19)]),
        ("last_three", [[n, n + 1] for n in range(16, 19)]),
    ],
)
def test_of_several_tables_the_one_of_the_name_is_loaded(name: str, values: Any) -> None:
    with fixture_manager("evicted", [f4(3), i4()], table_name=name) as manager:
        manager.load_replay_buffer()
        assert manager.gather_all()[1].tolist() == values
        assert manager.gather_all()[0][..., 2].tolist() == values


@pytestmark_reverb
def test_of_several_tables_none_of_the_name_lists_them() -> None:
    with fixture_manager("evicted", [f4(3), i4()]) as manager:
        with pytest.raises(
            CheckpointMismatchError, match=r"'last_five', 'last_three'.*table_name="
        ):
            manager.load_replay_buffer()


@pytestmark_reverb
def test_an_only_table_is_loaded_whatever_its_name() -> None:
    with fixture_manager(
        "trajectory_windows", WINDOWS, sequence_length=3, table_name="mine"
    ) as manager:
        buffer, _ = manager.load_replay_buffer()
        assert (buffer.table_name, buffer.num_frames()) == ("mine", 15)


@pytestmark_reverb
def test_an_empty_table_loads_empty() -> None:
    with fixture_manager(
        "empty", {"n": ArraySpec((), np.int64)}, table_name="nothing"
    ) as manager:
        manager.load_replay_buffer()
        assert manager.num_frames() == 0


@pytestmark_reverb
def test_what_tf_agents_observer_wrote_loads_as_trajectories() -> None:
    spec = STEP._replace(observation=f4(5))
    with fixture_manager("tf_agents", spec) as manager:
        manager.load_replay_buffer()
        data = manager.gather_all()
        starts = [10 * episode + n for episode in range(2) for n in range(5)]
        assert data.observation[..., 0].tolist() == [[n, n + 1] for n in starts]
        assert data.is_boundary()[:, 1].tolist() == [False, False, False, False, True] * 2


@pytest.mark.parametrize(
    ("spec", "paths"),
    [
        ({"b": i4(), "a": i4()}, ["a", "b"]),
        (collections.OrderedDict([("b", i4()), ("a", i4())]), ["a", "b"]),
        ((i4(), None, {"y": i4(), "x": i4()}), ["0", "2/x", "2/y"]),
        (collections.OrderedDict([("b", i4()), (1, i4())]), ["1", "b"]),
    ],
)
def test_columns_are_reverbs_sorted_by_key(spec: Any, paths: list[str]) -> None:
    nest = Nest(spec)
    assert [column.path for column in nest.columns] == paths
    assert nest.leaves(nest.unflatten([0, 1, 2][: len(paths)])) == [0, 1, 2][: len(paths)]
