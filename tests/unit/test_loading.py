"""Loading: which checkpoint is the newest, damage, and what fits."""

from __future__ import annotations

import collections
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import optree
import pytest
from tests.manager_support import SPEC, add, contents, make

from reverie import ArraySpec, ReplayBufferManager, reverb, samplers
from reverie.errors import (
    CheckpointCorruptError,
    CheckpointMismatchError,
    CheckpointNotFoundError,
    ClosedError,
    InvalidArgumentError,
)
from reverie.observers import TrajectoryObserver

COUNTER = {"n": ArraySpec((), np.int64)}
ODD: Any = collections.namedtuple("É", ["n"])


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


def test_a_folder_of_checkpoints_may_have_a_checkpoints_name(tmp_path: Path) -> None:
    folder = tmp_path / "ckpt-00000007"
    save_counts(folder, 1, 2)
    assert loaded(folder) == 2


def test_a_checkpoint_s_own_folder_is_refused_and_the_one_to_pass_named(tmp_path: Path) -> None:
    """A save would go inside it, where nobody looks."""
    save_counts(tmp_path, 2)
    own = tmp_path / "ckpt-00000001"
    before = sorted(own.iterdir())
    said = r"is a checkpoint itself.*pass the folder that holds it, "
    with pytest.raises(InvalidArgumentError, match=said + re.escape(repr(str(tmp_path)))):
        ReplayBufferManager(COUNTER, 100, own, 1)
    assert sorted(own.iterdir()) == before


def test_all_columns_that_differ_are_named(tmp_path: Path) -> None:
    names = [f"c{k}" for k in range(6)]
    wide = {name: ArraySpec((), np.float32) for name in ["n", *names]}
    with ReplayBufferManager(wide, 9, tmp_path, 1) as made:
        made.create_replay_buffer()[1](dict.fromkeys(wide, np.float32(0)))
        made.save()
    narrow = {"m": wide["n"], "n": wide["n"]}
    with (
        ReplayBufferManager(narrow, 9, tmp_path, 1) as made,
        pytest.raises(CheckpointMismatchError) as caught,
    ):
        made.load_replay_buffer()
    assert all(repr(name) in str(caught.value) for name in [*names, "m"])
    assert "'n'" not in str(caught.value)


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


def test_an_empty_checkpoint_does_not_fit_another_spec_either(tmp_path: Path) -> None:
    save_counts(tmp_path, 0)
    assert loaded(tmp_path) == 0
    other = {"n": ArraySpec((3,), np.int64)}
    with (
        ReplayBufferManager(other, 100, tmp_path, 1) as manager,
        pytest.raises(CheckpointMismatchError, match=r"'n' is int64 of shape \(\)"),
    ):
        manager.load_replay_buffer()


def test_priorities_that_are_no_weights_do_not_fit_a_prioritized_table(tmp_path: Path) -> None:
    table = reverb.Table(
        "t",
        reverb.selectors.MaxHeap(),
        reverb.selectors.Fifo(),
        9,
        reverb.rate_limiters.MinSize(1),
    )
    checkpointer = reverb.checkpointers.DefaultCheckpointer(str(tmp_path))
    server = reverb.Server([table], checkpointer=checkpointer)
    observer = TrajectoryObserver(server.localhost_client(), "t", 1)
    observer({"n": 1})
    client = server.localhost_client()
    key = next(client.sample("t", emit_timesteps=False)).info.key
    client.mutate_priorities("t", {key: -1.0})
    client.checkpoint()
    server.stop()
    assert loaded(tmp_path, table_name="t") == 1
    with pytest.raises(CheckpointMismatchError, match="negative"):
        loaded(
            tmp_path, table_name="t", sampler=samplers.Prioritized(1.0), on_corrupt="fallback"
        )


@pytest.mark.parametrize(
    ("spec", "step"),
    [
        ({(1, 2): COUNTER["n"]}, {(1, 2): 7}),
        ({True: COUNTER["n"], False: COUNTER["n"]}, {True: 7, False: 7}),
        ({2**70: COUNTER["n"]}, {2**70: 7}),
        (collections.deque([COUNTER["n"]]), collections.deque([7])),
        (ODD(COUNTER["n"]), ODD(7)),
    ],
    ids=["tuple", "bool", "huge", "deque", "namedtuple"],
)
def test_a_nest_that_no_manifest_can_hold_is_saved_and_loaded_all_the_same(
    spec: Any, step: Any, tmp_path: Path
) -> None:
    with ReplayBufferManager(spec, 9, tmp_path, 1) as manager:
        manager.create_replay_buffer()[1](step)
        manager.save()
        manager.load_replay_buffer()
        data = manager.gather_all()
        assert type(data) is type(spec)
        assert optree.tree_map(lambda leaf: leaf.item(), data) == step


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
