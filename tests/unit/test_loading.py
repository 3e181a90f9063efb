"""Loading: which checkpoint is the newest, damage, and Reverb's files through the manager."""

from __future__ import annotations

import collections
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import optree
import pytest
from tests.manager_support import SPEC, add, contents, make

from reverie import ArraySpec, ReplayBufferManager, Trajectory
from reverie.errors import (
    CheckpointCorruptError,
    CheckpointMismatchError,
    CheckpointNotFoundError,
    ClosedError,
    UnstackableError,
)

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
SMART_BUILDINGS = GOLDEN / "smart_buildings" / "initial_exploration_buffer"
COUNTER = {"n": ArraySpec((), np.int64)}


@pytest.fixture
def needs_reverb_files() -> None:
    for name in ("cramjam", "google_crc32c", "google.protobuf"):
        pytest.importorskip(name, reason="needs the reverb-files extra")


def save_counts(folder: Path, *counts: int) -> None:
    """One checkpoint per number, each with that many items."""
    with ReplayBufferManager(COUNTER, 100, folder, 1, max_to_keep=None) as manager:
        _, observer = manager.create_replay_buffer()
        for count in counts:
            while manager.num_frames() < count:
                observer({"n": count})
            manager.save()


def loaded(folder: Path, **changes: Any) -> int:
    """Items of what loads."""
    with ReplayBufferManager(COUNTER, 100, folder, 1, **changes) as manager:
        manager.load_replay_buffer()
        return manager.num_frames()


def damage(folder: Path) -> None:
    """Flips one bit of the records."""
    (segment,) = folder.glob("segment-*.npy")
    raw = bytearray(segment.read_bytes())
    raw[-1] ^= 1
    segment.unlink()  # older checkpoints may share the file
    segment.write_bytes(raw)


# Which one ------------------------------------------------------------------------------


def test_the_newest_is_the_one_of_the_highest_number(tmp_path: Path) -> None:
    save_counts(tmp_path, 1, 2, 3)
    assert loaded(tmp_path) == 3
    shutil.rmtree(tmp_path / "ckpt-00000003")
    assert loaded(tmp_path) == 2


def test_foreign_entries_are_neither_read_nor_touched(tmp_path: Path) -> None:
    save_counts(tmp_path, 1)
    names = ["zzz", "ckpt-1", "ckpt-99999999.bak", "2030-01-01T00-00-00.000000000+00-00"]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("mine")
    assert loaded(tmp_path) == 1
    with ReplayBufferManager(COUNTER, 100, tmp_path, 1, max_to_keep=1) as manager:
        manager.load_replay_buffer()
        manager.save()
    assert all((tmp_path / name / "notes.txt").read_text() == "mine" for name in names)


def test_a_folder_of_foreign_entries_alone_holds_no_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "2030-01-01T00-00-00.000000000+00-00").mkdir()
    (tmp_path / "DONE").touch()
    with pytest.raises(CheckpointNotFoundError):
        loaded(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ReplayBufferManager(COUNTER, 100, tmp_path, 1).create_replay_buffer()


# Damage ---------------------------------------------------------------------------------


def test_a_damaged_newest_checkpoint_is_an_error_not_an_older_or_empty_buffer(
    tmp_path: Path,
) -> None:
    save_counts(tmp_path, 1, 2)
    damage(tmp_path / "ckpt-00000002")
    with ReplayBufferManager(COUNTER, 100, tmp_path, 1) as manager:
        with pytest.raises(CheckpointCorruptError, match=r"ckpt-00000002.*segment"):
            manager.load_replay_buffer()
        assert manager.num_frames() == 0
        assert "not created" in repr(manager)


def test_fallback_takes_the_one_before_and_warns_of_each_it_skipped(tmp_path: Path) -> None:
    save_counts(tmp_path, 1, 2, 3)
    damage(tmp_path / "ckpt-00000003")
    (tmp_path / "ckpt-00000002" / "manifest.json").unlink()
    with ReplayBufferManager(COUNTER, 100, tmp_path, 1, on_corrupt="fallback") as manager:
        with pytest.warns(UserWarning, match="Skipped a damaged checkpoint") as caught:
            manager.load_replay_buffer()
        assert manager.num_frames() == 1
    texts = [str(warning.message) for warning in caught]
    assert ["ckpt-00000003" in texts[0], "ckpt-00000002" in texts[1]] == [True, True]
    assert {Path(warning.filename) for warning in caught} == {Path(__file__)}


def test_fallback_with_nothing_sound_left_is_an_error(tmp_path: Path) -> None:
    save_counts(tmp_path, 1, 2)
    for name in ("ckpt-00000001", "ckpt-00000002"):
        damage(tmp_path / name)
    with pytest.warns(UserWarning, match="ckpt-00000002"):
        with pytest.raises(CheckpointCorruptError, match="ckpt-00000001"):
            loaded(tmp_path, on_corrupt="fallback")


def test_a_mismatch_is_no_damage_and_is_never_fallen_back_from(tmp_path: Path) -> None:
    save_counts(tmp_path, 1, 2)
    with ReplayBufferManager(COUNTER, 1, tmp_path, 1, on_corrupt="fallback") as manager:
        with pytest.raises(CheckpointMismatchError, match="holds 2 items"):
            manager.load_replay_buffer()


def test_damage_while_a_buffer_lives_leaves_it_alone(tmp_path: Path) -> None:
    with ReplayBufferManager(COUNTER, 100, tmp_path, 1) as manager:
        buffer, observer = manager.create_replay_buffer()
        observer({"n": 5})
        manager.save()
        damage(tmp_path / "ckpt-00000001")
        with pytest.raises(CheckpointCorruptError):
            manager.load_replay_buffer()
        observer({"n": 6})
        assert buffer.gather_all()["n"].tolist() == [[5], [6]]


# What fits, and what becomes of the live buffer ------------------------------------------


def test_loading_nothing_is_an_error_that_names_the_folder_and_the_way_out(
    tmp_path: Path,
) -> None:
    with make(tmp_path / "missing") as manager:
        with pytest.raises(CheckpointNotFoundError, match=r"missing.*create_replay_buffer"):
            manager.load_replay_buffer()
        assert manager.num_frames() == 0
        assert "not created" in repr(manager)
    assert issubclass(CheckpointNotFoundError, FileNotFoundError)


@pytest.mark.parametrize(
    "changes",
    [
        {"data_spec": {"n": SPEC["n"]}},
        {"data_spec": {**SPEC, "x": ArraySpec((3,), np.float32)}},
        {"data_spec": {**SPEC, "x": ArraySpec((2,), np.float64)}},
        {"data_spec": {**SPEC, "y": SPEC["x"]}},
        {"data_spec": {"n": SPEC["n"], "y": SPEC["x"]}},
        {"table_name": "other"},
        {"capacity": 2},
    ],
)
def test_a_checkpoint_that_does_not_fit_leaves_the_live_buffer_as_it_is(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    with make(tmp_path) as manager:
        add(manager, 1, 2, 3, 4)
        manager.save()
    with make(tmp_path, **changes) as manager:
        with pytest.warns(UserWarning, match="holds checkpoints"):
            buffer, observer = manager.create_replay_buffer()
        values = {"n": 9, "x": np.zeros(manager._settings.data_spec.get("x", SPEC["n"]).shape)}
        step = {name: values.get(name, [0, 0]) for name in manager._settings.data_spec}
        observer(step)
        with pytest.raises(CheckpointMismatchError, match=r".{20}"):
            manager.load_replay_buffer()
        observer(step)
        assert (buffer.num_frames(), manager.num_frames()) == (1, 1)
        assert manager.gather_all()["n"].tolist() == [[9, 9]]


@pytest.mark.parametrize("capacity", [3, 1000])
def test_another_capacity_that_is_large_enough_loads(capacity: int, tmp_path: Path) -> None:
    with make(tmp_path) as manager:
        add(manager, 1, 2, 3, 4)
        manager.save()
    with make(tmp_path, capacity=capacity) as manager:
        manager.load_replay_buffer()
        assert manager.num_frames() == 3
        add(manager, 5, 6, 7)
        assert manager.num_frames() == min(capacity, 5)


def test_the_spec_may_keep_its_columns_under_another_structure(tmp_path: Path) -> None:
    with make(tmp_path) as manager:
        add(manager, 1, 2)
        manager.save()
    names = collections.namedtuple("names", "n x")
    with make(tmp_path, data_spec=names(SPEC["n"], SPEC["x"])) as manager:
        manager.load_replay_buffer()
        assert isinstance(manager.gather_all(), names)


def test_handles_of_the_replaced_buffer_are_closed_by_a_load(tmp_path: Path) -> None:
    with make(tmp_path) as manager:
        buffer, observer = manager.create_replay_buffer()
        add(manager, 1, 2)
        manager.save()
        again, _ = manager.load_replay_buffer()
        assert again.num_frames() == 1
        for call in (buffer.num_frames, observer.flush):
            with pytest.raises(ClosedError):
                call()


def draws(manager: ReplayBufferManager, count: int) -> list[tuple[Any, ...]]:
    """What `count` batches of 3 hold, infos included."""
    found = []
    for _ in range(count):
        data, info = manager.sample(3)
        found.append((data["n"].tolist(), *(field.tolist() for field in info)))
    return found


@pytest.mark.parametrize("cleared", [False, True])
def test_the_next_thousand_samples_are_those_of_the_uninterrupted_run(
    cleared: bool, tmp_path: Path
) -> None:
    def go_on(manager: ReplayBufferManager) -> list[Any]:
        found = draws(manager, 500)
        manager.get_replay_buffer_and_observer()[1].reset(False)
        add(manager, *range(100, 115))
        return found + draws(manager, 500) + contents(manager)

    with make(tmp_path, seed=7) as manager:
        add(manager, *range(50))
        draws(manager, 10)
        if cleared:
            manager.clear()
            add(manager, *range(60, 66))
        manager.save()
        uninterrupted = go_on(manager)
    with make(tmp_path, seed=99) as manager:
        manager.load_replay_buffer()
        resumed = go_on(manager)
    assert resumed == uninterrupted


def test_the_comparison_of_samples_sees_one_lost_draw(tmp_path: Path) -> None:
    with make(tmp_path, seed=7) as manager:
        add(manager, *range(50))
        manager.save()
        uninterrupted = draws(manager, 20)
        manager.load_replay_buffer()
        manager.sample(1)
        assert draws(manager, 20) != uninterrupted


def test_an_episode_that_was_open_at_the_save_is_not_joined_after_the_load(
    tmp_path: Path,
) -> None:
    with make(tmp_path) as manager:
        add(manager, 1, 2)
        manager.save()
        manager.load_replay_buffer()
        add(manager, 3, 4)
        assert [steps for _, steps in contents(manager)] == [[1, 2], [3, 4]]


# Reverb's checkpoints -------------------------------------------------------------------


def f4(*shape: int) -> ArraySpec:
    return ArraySpec(shape, np.float32)


def i4(*shape: int) -> ArraySpec:
    return ArraySpec(shape, np.int32)


STEP = Trajectory(i4(), f4(53), f4(2), (), i4(), f4(), f4())
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
    spec = {
        "observation": {"image": ArraySpec((2, 2, 3), np.uint8), "speed": f4(2)},
        "action": i4(),
        "reward": ArraySpec((), np.float64),
        "done": ArraySpec((), np.bool_),
    }
    with fixture_manager("trajectory_windows", spec, sequence_length=3) as manager:
        buffer, _ = manager.load_replay_buffer()
        data = manager.gather_all()
        starts = [10 * episode + n for episode in range(3) for n in range(5)]
        assert data["action"].tolist() == [[n, n + 1, n + 2] for n in starts]
        assert np.array_equal(data["observation"]["speed"][..., 0], data["action"])
        assert np.array_equal(data["done"], data["action"] % 5 == 4) or data["done"].any()
        priorities = buffer.item_info()["priority"].tolist()
        assert priorities == [1.0 + n for _ in range(3) for n in range(2, 7)]


@pytestmark_reverb
def test_items_of_unequal_length_are_read_one_by_one() -> None:
    with fixture_manager("lengths", [ArraySpec((), np.float64)], sequence_length=5) as manager:
        manager.load_replay_buffer()
        items = [item[0].tolist() for _, item in manager.iter_items()]
        assert [len(item) for item in items] == [1, 5, 3, 12, 7]
        assert items[4] == items[3][2:9]
        with pytest.raises(UnstackableError, match=r"iter_items\(\)"):
            manager.gather_all()
        with pytest.raises(UnstackableError, match="wanted 5"):
            manager.sample(100)


@pytestmark_reverb
def test_items_with_unequal_columns_keep_each_columns_steps() -> None:
    spec = {"s": f4(3), "a": ArraySpec((2,), np.int16), "r": ArraySpec((), np.float16)}
    with fixture_manager("column_chunks", spec, table_name="tail") as manager:
        manager.load_replay_buffer()
        for _, item in manager.iter_items():
            assert [len(item[name]) for name in "sar"] == [5, 4, 2]
            last = item["s"][-1, 0]
            assert (item["a"][-1, 0], item["r"][-1]) == (last, last)


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
    with fixture_manager("lengths", [ArraySpec((), np.float64)], table_name="mine") as manager:
        buffer, _ = manager.load_replay_buffer()
        assert (buffer.table_name, buffer.num_frames()) == ("mine", 5)


@pytestmark_reverb
def test_an_empty_table_loads_empty() -> None:
    with fixture_manager("empty", COUNTER, table_name="nothing") as manager:
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
