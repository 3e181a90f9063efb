"""Readers beside a saver that removes what they have listed: they look again."""

from __future__ import annotations

import shutil
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

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


def test_what_a_save_removes_is_no_reason_to_fall_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest one vanishes file by file, an older one is whole, and so is a newer one."""
    root = tmp_path / "root"
    count(root, 2)
    shutil.copytree(root / "ckpt-00000001", tmp_path / "older")
    count(root, 3)
    shutil.copytree(tmp_path / "older", root / "ckpt-00000001")

    def act() -> None:
        count(root, 5)
        (root / "ckpt-00000002").mkdir(exist_ok=True)
        for path in (root / "ckpt-00000002").glob("segment-*"):
            path.unlink()
        shutil.copytree(tmp_path / "older", root / "ckpt-00000001", dirs_exist_ok=True)

    after_the_look(monkeypatch, act, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with manager(root, on_corrupt="fallback") as made:
            assert made.load_replay_buffer()[0].num_frames() == 5


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
