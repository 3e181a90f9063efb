"""Readers beside a saver that removes what they have listed: they look again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.faults.test_looking import REVERBS, make_and_load, manager, open_it, start

import reverie
from reverie.checkpoint import load as loading
from reverie.checkpoint.reverb_files import finding
from reverie.errors import CheckpointCorruptError, CheckpointReadError

DOORS = pytest.mark.parametrize(
    "door", [start, make_and_load, open_it], ids=lambda door: door.__name__
)


def count(root: Path, items: int) -> None:
    """Saves so many items as the newest and only checkpoint."""
    with manager(root) as made:
        if root.exists():
            with pytest.warns(UserWarning, match="holds checkpoints"):
                _, observer = made.create_replay_buffer()
        else:
            _, observer = made.create_replay_buffer()
        for n in range(items):
            observer({"n": n})
        made.save()


def after_the_look(
    monkeypatch: pytest.MonkeyPatch, act: Callable[[], None], times: int
) -> None:
    """Acts between listing and reading, so many times."""
    from reverie.reverb.engine import checkpoints

    real, left = loading.open_source, [times]

    def open_source(path: Path, **more: object) -> object:
        if left[0]:
            left[0] -= 1
            act()
        return real(path, **more)

    monkeypatch.setattr(loading, "open_source", open_source)
    monkeypatch.setattr(checkpoints, "open_source", open_source)


@DOORS
@pytest.mark.parametrize("times", [1, 3])
def test_what_was_removed_after_it_was_listed_is_looked_for_again(
    door: Callable[[Path], int], times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, saved = tmp_path / "root", [2]
    count(root, 2)

    def act() -> None:
        saved.append(saved[-1] + 1)
        count(root, saved[-1])

    after_the_look(monkeypatch, act, times)
    assert door(root) == 2 + times


@DOORS
def test_a_saver_that_is_always_faster_is_an_error_that_says_so(
    door: Callable[[Path], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    count(root, 2)
    after_the_look(monkeypatch, lambda: count(root, 2), 10**6)
    monkeypatch.setattr(loading, "_LOOKS", 3)
    with pytest.raises(CheckpointReadError, match="each of 3 checkpoints was removed"):
        door(root)


@DOORS
def test_files_that_vanish_while_they_are_read_are_no_damage(
    door: Callable[[Path], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a folder is emptied file by file, its own name the last thing to go."""
    root = tmp_path / "root"
    count(root, 2)

    def act() -> None:
        shutil.copytree(root / "ckpt-00000001", tmp_path / "kept")
        count(root, 5)
        shutil.copytree(tmp_path / "kept", root / "ckpt-00000001")
        for path in (root / "ckpt-00000001").glob("segment-*"):
            path.unlink()

    after_the_look(monkeypatch, act, 1)
    assert door(root) == 5


@DOORS
def test_damage_stays_damage(door: Callable[[Path], int], tmp_path: Path) -> None:
    root = tmp_path / "root"
    count(root, 2)
    for path in (root / "ckpt-00000001").glob("segment-*"):
        path.unlink()
    with pytest.raises(CheckpointCorruptError, match="segment"):
        door(root)


def test_reverbs_files_are_looked_for_again_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cramjam")
    old, new = tmp_path / "2026-01-01T00:00:00", tmp_path / "2026-01-02T00:00:00"
    shutil.copytree(REVERBS, old)
    found = open_it(tmp_path)

    def act() -> None:  # as dm-reverb does: the new one first, then the old one, bit by bit
        shutil.copytree(REVERBS, new)
        (old / finding.CHUNKS).unlink()

    after_the_look(monkeypatch, act, 1)
    assert open_it(tmp_path) == found
    assert (old / finding.DONE).exists()


@DOORS
def test_a_reader_beside_a_busy_saver_finds_what_is_always_there(
    door: Callable[[Path], int], tmp_path: Path
) -> None:
    stop = threading.Event()
    with manager(tmp_path) as made:
        _, observer = made.create_replay_buffer()
        observer({"n": 1})
        made.save()

        def go_on() -> None:
            while not stop.is_set():
                made.save()

        thread = threading.Thread(target=go_on)
        thread.start()
        try:
            assert {door(tmp_path) for _ in range(25)} == {1}
        finally:
            stop.set()
            thread.join()


@DOORS
def test_the_folder_that_was_meant_is_named(
    door: Callable[[Path], int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "runs" / "first"
    count(root, 2)
    for wrong in (tmp_path / "runs", root / "ckpt-00000009"):
        if door is start and not wrong.exists():
            continue  # a server makes it
        caplog.clear()
        try:
            assert door(wrong) == 0
            said = caplog.text
        except reverie.errors.CheckpointNotFoundError as error:
            said = str(error)
        assert f"{str(root)!r} holds some: pass that" in said


FORKED = """
import os, signal, sys, tempfile, threading, time, warnings
import numpy as np
from reverie import ArraySpec, ReplayBufferManager
from reverie.errors import ForkedProcessError

warnings.simplefilter("ignore")
how = sys.argv[1]
m = ReplayBufferManager(ArraySpec((), np.int64), 100, tempfile.mkdtemp(), 1)
_, observer = m.create_replay_buffer()
observer(np.int64(1)); m.save()
inside, go_on = threading.Event(), threading.Event()
def progress(done, total): inside.set(); go_on.wait()
def work():
    if how == "load": m.load_replay_buffer(progress=progress)
    elif how == "save": m.save(progress=progress)
    else: m.save(wait=False, progress=progress); m.load_replay_buffer()
thread = threading.Thread(target=work); thread.start(); inside.wait(); time.sleep(0.1)
calls = {
    "close": m.close, "get": m.get_replay_buffer_and_observer, "load": m.load_replay_buffer,
    "create": m.create_replay_buffer, "save": m.save, "behind": lambda: m.save(wait=False),
    "sample": lambda: m.sample(1), "num_frames": m.num_frames,
}
said = []
for name, call in calls.items():
    pid = os.fork()
    if pid == 0:
        try:
            call()
            os._exit(0)
        except ForkedProcessError:
            os._exit(7)
        except BaseException as error:
            print(name, repr(error), flush=True)
            os._exit(1)
    end = time.monotonic() + 20
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            said.append(f"{name} {os.waitstatus_to_exitcode(status)}")
            break
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)
            said.append(f"{name} hangs")
            break
        time.sleep(0.005)
go_on.set(); thread.join(); m.close()
print(*said, sep=", ")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("how", ["load", "save", "behind"])
def test_a_child_forked_during_a_load_or_a_save_never_hangs(how: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKED, how], capture_output=True, text=True, timeout=240
    )
    wanted = "get 7, load 7, create 7, save 7, behind 7, sample 7, num_frames 7"
    assert done.stdout == f"close 0, {wanted}\n", done.stderr


def test_all_columns_that_differ_are_named(tmp_path: Path) -> None:
    names = [f"c{k}" for k in range(6)]
    wide = {name: reverie.ArraySpec((), np.float32) for name in ["n", *names]}
    with reverie.ReplayBufferManager(wide, 9, tmp_path, 1) as made:
        made.create_replay_buffer()[1](dict.fromkeys(wide, np.float32(0)))
        made.save()
    narrow = {"m": wide["n"], "n": wide["n"]}
    with (
        reverie.ReplayBufferManager(narrow, 9, tmp_path, 1) as made,
        pytest.raises(reverie.errors.CheckpointMismatchError) as caught,
    ):
        made.load_replay_buffer()
    assert all(repr(name) in str(caught.value) for name in [*names, "m"])
    assert "'n'" not in str(caught.value)


def test_windows_of_a_servers_table_are_held_to_their_length(tmp_path: Path) -> None:
    root = tmp_path / "root"
    count_of = reverie.ReplayBufferManager
    from tests.faults.test_looking import serve

    server = serve(root)
    observer = reverie.observers.TrajectoryObserver(server.localhost_client(), "t", 2)
    for n in range(4):
        observer({"n": np.int64(n)})
    server.localhost_client().checkpoint()
    server.stop()
    spec = {"n": reverie.ArraySpec((), np.int64)}
    with (
        count_of(spec, 9, root, 3, table_name="t") as made,
        pytest.raises(reverie.errors.CheckpointMismatchError, match=r"\[2\] steps.*=3"),
    ):
        made.load_replay_buffer()
    with count_of(spec, 9, root, 2, table_name="t") as made:
        assert made.load_replay_buffer()[0].num_frames() == 3
