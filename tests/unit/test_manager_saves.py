"""The manager's saves: at once, in the background, by several, and what a failure leaves."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.manager_support import add, checkpoints, contents, joins, make

from reverie import ReplayBufferManager
from reverie.errors import (
    CheckpointError,
    CheckpointLockedError,
    CheckpointWriteError,
    ClosedError,
)
from reverie.observers import TrajectoryObserver
from reverie.testing.manager_checks.life import ANY_TIME, NEED_A_BUFFER


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


@pytest.mark.parametrize(
    "call", [*sorted({*NEED_A_BUFFER} - {"get_dataset"}), *ANY_TIME, "checkpoint"]
)
def test_a_failed_background_save_reaches_the_caller_on_the_next_call_once(
    call: str, blocked: ReplayBufferManager
) -> None:
    buffer, _ = blocked.get_replay_buffer_and_observer()
    blocked.save(wait=False)
    while not blocked._backend._saver._pending.done():  # type: ignore[union-attr]
        time.sleep(0.001)
    calls = {**NEED_A_BUFFER, **ANY_TIME, "checkpoint": lambda m: buffer.py_client.checkpoint()}
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
