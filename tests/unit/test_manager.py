"""The manager: its arguments, its life, its checkpoints, and every call at every time."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.manager_support import add, checkpoints, contents, make

from reverie import ReplayBuffer, ReplayBufferManager, TrajectoryObserver
from reverie.errors import (
    CheckpointError,
    CheckpointLockedError,
    CheckpointWriteError,
    ClosedError,
    InvalidArgumentError,
    NotInitializedError,
)

# Arguments ----------------------------------------------------------------------------

NOT_INTEGERS: list[Any] = [1.5, 2.0, True, "3", [1], np.float32(2)]
BAD_ARGUMENTS: dict[str, list[Any]] = {
    "capacity": [0, -1, 2**32, None, *NOT_INTEGERS],
    "sequence_length": [0, -1, 2**32, None, *NOT_INTEGERS],
    "stride_length": [0, -1, 2**32, None, *NOT_INTEGERS],
    "seed": [-1, 2**64, *NOT_INTEGERS],
    "max_to_keep": [0, -1, 2**40, *NOT_INTEGERS],
    "backend": ["x", "", None, 3, ["embedded"]],
    "table_name": ["", None, 3, b"t"],
    "on_corrupt": ["skip", "", None],
    "checkpoint_dir": ["", None, 3, b"bytes", "nul\0byte", __file__],
    "tile_end_of_episodes": [True],
}


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name, values in BAD_ARGUMENTS.items() for value in values],
)
def test_a_bad_argument_is_refused_at_once_by_name(
    name: str, value: Any, tmp_path: Path
) -> None:
    with pytest.raises(InvalidArgumentError, match=name) as caught:
        make(tmp_path, **{name: value})
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "good",
    [
        {"capacity": np.int64(5), "sequence_length": np.uint8(3)},
        {"capacity": 2**32 - 2, "sequence_length": 2**32 - 1},
        {"seed": 2**64 - 1, "max_to_keep": None, "stride_length": np.int8(2)},
        {"checkpoint_dir": "not/there/yet", "table_name": "a/b \0é"},
    ],
)
def test_unusual_but_good_arguments_are_taken(good: dict[str, Any], tmp_path: Path) -> None:
    with make(tmp_path, **good) as manager:
        add(manager, 1)


def test_a_huge_capacity_costs_nothing(tmp_path: Path) -> None:
    with make(tmp_path, capacity=2**32 - 2) as manager:
        add(manager, *range(10))
        assert manager.info().allocated_nbytes < 2**20


# Before there is a buffer ------------------------------------------------------------

CALLS: dict[str, Callable[[ReplayBufferManager], Any]] = {
    "get_dataset": lambda m: m.get_dataset(),
    "new_observer": lambda m: m.new_observer(),
    "sample": lambda m: m.sample(1),
    "gather_all": lambda m: m.gather_all(),
    "iter_items": lambda m: m.iter_items(),
    "update_priorities": lambda m: m.update_priorities([1], [1.0]),
    "info": lambda m: m.info(),
    "save": lambda m: m.save(),
}
ANY_TIME: dict[str, Callable[[ReplayBufferManager], Any]] = {
    "num_frames": lambda m: m.num_frames(),
    "clear": lambda m: m.clear(),
    "create_replay_buffer": lambda m: m.create_replay_buffer(),
    "load_replay_buffer": lambda m: m.load_replay_buffer(),
    "get_replay_buffer_and_observer": lambda m: m.get_replay_buffer_and_observer(),
}


def test_the_lists_of_calls_are_complete() -> None:
    public = {name for name in dir(ReplayBufferManager) if not name.startswith("_")}
    assert public == {*CALLS, *ANY_TIME, "close"}


@pytest.mark.parametrize("call", CALLS)
def test_before_there_is_a_buffer_calls_name_what_to_call_first(
    call: str, tmp_path: Path
) -> None:
    with make(tmp_path) as manager:
        with pytest.raises(NotInitializedError, match=rf"{call}\(\) before .*create_replay"):
            CALLS[call](manager)
    assert issubclass(NotInitializedError, RuntimeError)


def test_before_there_is_a_buffer_it_holds_nothing_and_clear_does_nothing(
    tmp_path: Path,
) -> None:
    with make(tmp_path) as manager:
        manager.clear()
        assert manager.num_frames() == 0
        assert "not created or loaded yet" in repr(manager)


def test_the_pair_is_made_when_first_asked_for_and_then_stays(tmp_path: Path) -> None:
    with make(tmp_path) as manager:
        buffer, observer = manager.get_replay_buffer_and_observer()
        assert isinstance(buffer, ReplayBuffer)
        assert isinstance(observer, TrajectoryObserver)
        again = manager.get_replay_buffer_and_observer()
        assert again[0] is buffer
        assert again[1] is observer


# The end -------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [*CALLS, *ANY_TIME])
@pytest.mark.parametrize("created", [True, False])
def test_after_close_every_call_says_so(call: str, created: bool, tmp_path: Path) -> None:
    manager = make(tmp_path)
    if created:
        add(manager, 1, 2)
    manager.close()
    manager.close()
    with pytest.raises(ClosedError, match="ReplayBufferManager is closed"):
        {**CALLS, **ANY_TIME}[call](manager)
    assert repr(manager).startswith("ReplayBufferManager('uniform_table', closed, ")


def test_a_with_block_closes_and_a_closed_manager_enters_none(tmp_path: Path) -> None:
    with make(tmp_path) as manager:
        add(manager, 1)
    with pytest.raises(ClosedError), manager:
        pass


def test_an_error_in_a_with_block_comes_through(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), make(tmp_path) as manager:
        1 / manager.num_frames()


def test_closing_frees_the_table_for_threads_that_wait(tmp_path: Path) -> None:
    manager = make(tmp_path)
    manager.create_replay_buffer()
    threading.Timer(0.05, manager.close).start()
    with pytest.raises(ClosedError):
        manager.sample(1, timeout=10)


# create and clear ---------------------------------------------------------------------


def test_creating_again_gives_an_empty_buffer_and_ends_the_old_one(tmp_path: Path) -> None:
    with make(tmp_path) as manager:
        old_buffer, old_observer = manager.create_replay_buffer()
        add(manager, 1, 2, 3)
        buffer, _ = manager.create_replay_buffer()
        assert (buffer.num_frames(), manager.num_frames()) == (0, 0)
        with pytest.raises(ClosedError):
            old_buffer.num_frames()
        with pytest.raises(ClosedError):
            old_observer({"n": 1, "x": [1, 1]})
        add(manager, 4, 5)
        assert [steps for _, steps in contents(manager)] == [[4, 5]]


@pytest.mark.parametrize("call", ["create_replay_buffer", "get_replay_buffer_and_observer"])
def test_creating_over_checkpoints_warns_here_and_leaves_them(
    call: str, tmp_path: Path
) -> None:
    with make(tmp_path) as manager:
        add(manager, 1, 2)
        manager.save()
    with make(tmp_path) as manager:
        with pytest.warns(
            UserWarning, match=r"holds checkpoints.*load_replay_buffer"
        ) as caught:
            getattr(manager, call)()
        assert [Path(warning.filename) for warning in caught] == [Path(__file__)]
        assert manager.num_frames() == 0
        assert checkpoints(tmp_path) == ["ckpt-00000001"]
        manager.load_replay_buffer()
        assert manager.num_frames() == 1


def test_creating_in_an_empty_or_missing_folder_does_not_warn_and_makes_none(
    tmp_path: Path,
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with make(tmp_path / "missing") as manager:
            manager.create_replay_buffer()
    assert not (tmp_path / "missing").exists()


def test_clear_keeps_handles_and_checkpoints_and_nothing_comes_back(tmp_path: Path) -> None:
    with make(tmp_path) as manager:
        buffer, observer = manager.create_replay_buffer()
        add(manager, 1, 2, 3)
        manager.save()
        manager.clear()
        assert (buffer.num_frames(), observer._cached_steps) == (0, 0)
        assert checkpoints(tmp_path) == ["ckpt-00000001"]
        observer({"n": 4, "x": [4, 4]})
        assert manager.num_frames() == 0
        observer({"n": 5, "x": [5, 5]})
        assert [steps for _, steps in contents(manager)] == [[4, 5]]


def joins(windows: list[list[int]]) -> list[list[int]]:
    """Windows whose steps are not consecutive, or that join negative with positive ones."""
    return [w for w in windows if w != list(range(w[0], w[0] + len(w))) or w[0] < 0 <= w[-1]]


@pytest.mark.parametrize("length", [2, 3, 5])
def test_no_window_joins_steps_from_before_and_after_clear(length: int, tmp_path: Path) -> None:
    with make(tmp_path, sequence_length=length, capacity=100) as manager:
        buffer, observer = manager.create_replay_buffer()
        second = TrajectoryObserver(buffer.py_client, buffer.table_name, buffer.sequence_length)
        for n in range(-length + 1, 0):
            observer({"n": n, "x": [n, n]})
            second({"n": n, "x": [n, n]})
        manager.clear()
        for n in range(length + 2):
            observer({"n": n, "x": [n, n]})
            second({"n": n, "x": [n, n]})
        windows = [steps for _, steps in contents(manager)]
        assert len(windows) == 6
        assert joins(windows) == []


def test_the_check_of_windows_sees_a_join() -> None:
    assert joins([[1, 2], [-1, 0], [3, 5]]) == [[-1, 0], [3, 5]]


# save ------------------------------------------------------------------------------------


def test_a_save_returns_its_folder_and_loads_as_it_was(tmp_path: Path) -> None:
    with make(tmp_path / "new" / "folder") as manager:
        add(manager, *range(30))
        path = manager.save()
        assert path == tmp_path / "new" / "folder" / "ckpt-00000001"
        before = contents(manager)
        manager.load_replay_buffer()
        assert contents(manager) == before
        assert len(before) == 20


def test_a_relative_folder_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with make(Path("here")) as manager:
        add(manager, 1, 2)
        assert manager.save() == tmp_path / "here" / "ckpt-00000001"
        monkeypatch.chdir("/")  # what was "here" stays where it was
        manager.load_replay_buffer()


def test_a_background_save_is_there_after_the_next_wait(tmp_path: Path) -> None:
    with make(tmp_path) as manager:
        add(manager, 1, 2)
        assert manager.save(wait=False) is None
        add(manager, 3)
        assert manager.save() == tmp_path / "ckpt-00000002"
        assert checkpoints(tmp_path) == ["ckpt-00000001", "ckpt-00000002"]


def test_loading_waits_for_a_background_save_and_takes_it(tmp_path: Path) -> None:
    gate = threading.Event()
    with make(tmp_path) as manager:
        add(manager, 1, 2)
        manager.save()
        add(manager, 3)
        manager.save(wait=False, progress=lambda done, total: gate.wait(10) and None)
        threading.Timer(0.05, gate.set).start()
        manager.load_replay_buffer()
        assert [steps for _, steps in contents(manager)] == [[1, 2], [2, 3]]


def test_closing_waits_for_a_background_save(tmp_path: Path) -> None:
    with make(tmp_path) as manager:
        add(manager, 1, 2)
        manager.save(wait=False, progress=lambda done, total: time.sleep(0.02))
    assert checkpoints(tmp_path) == ["ckpt-00000001"]


@pytest.fixture
def blocked(tmp_path: Path) -> ReplayBufferManager:
    """A manager whose folder became impossible after it was made: its parent is a file."""
    manager = make(tmp_path / "file" / "folder")
    add(manager, 1, 2)
    (tmp_path / "file").write_text("in the way")
    return manager


def test_a_failed_save_says_why_and_harms_nothing(blocked: ReplayBufferManager) -> None:
    with pytest.raises(CheckpointWriteError, match=r"folder.*ENOTDIR") as caught:
        blocked.save()
    assert isinstance(caught.value, OSError)
    assert blocked.num_frames() == 1


@pytest.mark.parametrize("call", [*(set(CALLS) - {"get_dataset"}), *ANY_TIME, "checkpoint"])
def test_a_failed_background_save_reaches_the_caller_on_the_next_call_once(
    call: str, blocked: ReplayBufferManager
) -> None:
    buffer, _ = blocked.get_replay_buffer_and_observer()
    blocked.save(wait=False)
    while not blocked._backend._saver._pending.done():  # type: ignore[union-attr]
        time.sleep(0.001)
    calls = {**CALLS, **ANY_TIME, "checkpoint": lambda m: buffer.py_client.checkpoint()}
    with pytest.raises(CheckpointWriteError, match="ENOTDIR"):
        calls[call](blocked)
    assert blocked.num_frames() == 1  # and what the call would have done was not done
    blocked.close()


def test_a_failed_background_save_reaches_close_which_closes_all_the_same(
    blocked: ReplayBufferManager,
) -> None:
    blocked.save(wait=False)
    with pytest.raises(CheckpointWriteError):
        blocked.close()
    blocked.close()
    with pytest.raises(ClosedError):
        blocked.num_frames()


def test_what_is_added_while_a_save_writes_is_not_in_it(tmp_path: Path) -> None:
    with make(tmp_path) as manager:
        add(manager, 1, 2, 3)

        def progress(done: int, total: int) -> None:
            add(manager, 100)
            manager.sample(5)

        manager.save(progress=progress)
        assert manager.num_frames() > 2
        manager.load_replay_buffer()
        assert [steps for _, steps in contents(manager)] == [[1, 2], [2, 3]]


def test_saves_while_two_threads_add_are_consistent(tmp_path: Path) -> None:
    with make(tmp_path, capacity=50, sequence_length=3) as manager:
        buffer, _ = manager.create_replay_buffer()
        stop = threading.Event()

        def collect(start: int) -> None:
            observer = TrajectoryObserver(
                buffer.py_client, buffer.table_name, buffer.sequence_length
            )
            n = start
            while not stop.is_set():
                observer({"n": n, "x": [n, n]})
                n += 1
                time.sleep(0.0001)  # a busy thread would keep the GIL from the saver

        threads = [threading.Thread(target=collect, args=(k,)) for k in (0, 10**6)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(5):
                manager.save()
                with make(tmp_path, capacity=50, sequence_length=3) as other:
                    other.load_replay_buffer()
                    assert joins([steps for _, steps in contents(other)]) == []
                    assert other.num_frames() <= 50
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def test_progress_rises_to_the_total(tmp_path: Path) -> None:
    with make(tmp_path) as manager:
        add(manager, *range(20))
        for call in (manager.save, manager.load_replay_buffer):
            seen: list[tuple[int, int]] = []
            call(progress=lambda done, total, seen=seen: seen.append((done, total)))
            assert [done for done, _ in seen] == sorted({done for done, _ in seen})
            assert seen[-1][0] == seen[-1][1] == seen[0][1]


def test_an_error_in_progress_stops_the_save_and_leaves_nothing(tmp_path: Path) -> None:
    with make(tmp_path) as manager:
        add(manager, 1, 2)
        with pytest.raises(ZeroDivisionError):
            manager.save(progress=lambda done, total: 1 // 0)
        assert checkpoints(tmp_path) == []
        assert manager.save() is not None


@pytest.mark.parametrize(("keep", "left"), [(1, [4]), (3, [2, 3, 4]), (None, [1, 2, 3, 4])])
def test_the_newest_checkpoints_are_kept(
    keep: int | None, left: list[int], tmp_path: Path
) -> None:
    with make(tmp_path, max_to_keep=keep) as manager:
        for n in range(4):
            add(manager, n, n + 1)
            manager.save()
    assert checkpoints(tmp_path) == [f"ckpt-{n:08d}" for n in left]


# Two managers, two processes ------------------------------------------------------------


def test_two_managers_of_one_process_may_save_into_one_folder(tmp_path: Path) -> None:
    with make(tmp_path) as one, make(tmp_path) as two:
        add(one, 1, 2)
        add(two, 3, 4)
        paths = [one.save(), two.save(), one.save()]
        assert [path.name[-1] for path in paths if path] == ["1", "2", "3"]
        one.load_replay_buffer()
        assert [steps for _, steps in contents(one)] == [[1, 2]]


OTHER_PROCESS = """
import sys, numpy as np, reverie
spec = {"n": reverie.ArraySpec((), np.int64), "x": reverie.ArraySpec((2,), np.float32)}
with reverie.ReplayBufferManager(spec, 20, sys.argv[1]) as manager:
    manager.load_replay_buffer()
    try:
        print("saved", manager.save().name, manager.num_frames())
    except reverie.errors.CheckpointLockedError as error:
        print("locked", error)
"""


def other_process(folder: Path) -> str:
    """Loads from the folder in another process and tries to save there; what it says."""
    command = [sys.executable, "-c", OTHER_PROCESS, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_another_process_may_load_at_any_time_but_save_only_after_the_close(
    tmp_path: Path,
) -> None:
    with make(tmp_path) as manager:
        add(manager, 1, 2, 3)
        manager.save()
        said = other_process(tmp_path)
        assert said.startswith("locked Another process (pid ")
        assert repr(str(tmp_path)) in said
        assert checkpoints(tmp_path) == ["ckpt-00000001"]
    assert other_process(tmp_path) == "saved ckpt-00000002 2\n"
    assert issubclass(CheckpointLockedError, CheckpointError)


# The path that Smart Control's users import ------------------------------------------------


def test_the_import_path_of_smart_control_gives_the_same_class() -> None:
    from smart_control.reinforcement_learning.replay_buffer import replay_buffer

    assert replay_buffer.ReplayBufferManager is ReplayBufferManager
