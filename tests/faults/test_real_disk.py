"""The real file system's own calls: what is made durable, in which order, onto which names.

Elsewhere tests put a file system of their own in the place of the real one, and would not
see that this does nothing. Here the calls of `os` themselves are watched, and every rule
comes with a real file system that breaks it and must be caught.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.checkpoint_support import contents, load, save, snapshot

from reverie.backends.reverb import folder as reverb_folder
from reverie.checkpoint import list_checkpoints
from reverie.checkpoint.disk import files
from reverie.checkpoint.disk.files import FileSystem
from reverie.checkpoint.folder import commit
from reverie.checkpoint.reverb_files.finding import DATA_FILES, DONE
from reverie.errors import CheckpointWriteError

pytestmark = pytest.mark.skipif(
    os.name != "posix" or sys.platform == "darwin", reason="Windows and macOS call no fsync"
)

REVERBS = Path(__file__).resolve().parents[1] / "golden" / "reverb" / "trajectory_windows"
Save = Callable[[Path], Path]
Inode = tuple[int, int]


def save_ours(root: Path) -> Path:
    return save(root, snapshot(2), max_to_keep=1, fs=FileSystem())


def save_reverbs(root: Path) -> Path:
    """Publishes what Reverb has written, as the manager on Reverb does."""
    root.mkdir(exist_ok=True)
    draft = root / ".draft"
    draft.mkdir()
    for name in (*DATA_FILES, DONE):
        (draft / name).write_bytes((REVERBS / name).read_bytes())
    return reverb_folder.publish(draft, root, "2026-01-01T00:00:00", FileSystem(), None)


class Watch:
    """The module `os`, with its changes of names and its fsyncs noted, or failing."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Inode]] = []
        self.fails: Callable[[os.stat_result, int], int | None] = lambda status, count: None

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def fsync(self, fd: int) -> None:
        status = os.fstat(fd)
        number = self.fails(status, len(self.calls))
        self.calls.append(("fsync", _inode(status)))
        if number is not None:
            raise OSError(number, os.strerror(number))

    def write(self, fd: int, data: Any) -> int:
        self.calls.append(("write", _inode(os.fstat(fd))))
        return os.write(fd, data)

    def rename(self, source: Path, target: Path) -> None:
        self.calls.append(("rename", _inode(os.lstat(source))))
        os.rename(source, target)

    def mkdir(self, path: Path, *args: Any) -> None:
        os.mkdir(path, *args)
        self.calls.append(("mkdir", _inode(os.lstat(path))))


def _inode(status: os.stat_result) -> Inode:
    return status.st_dev, status.st_ino


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    watch = Watch()
    monkeypatch.setattr(files, "os", watch)
    return watch


def _error(save_it: Callable[[], Any]) -> int | None:
    """The number of what goes wrong; None: nothing did."""
    try:
        save_it()
    except OSError as error:
        return error.errno
    return None


def check_durable(root: Path, save_into: Save, watch: Watch) -> None:
    """Every file, then its folder, then the published name, and the root's own name."""
    path = save_into(root)
    where = {_inode(one.stat()): one for one in (path, *path.iterdir(), root, root.parent)}
    calls = [(name, where.get(inode)) for name, inode in watch.calls]
    published = calls.index(("rename", path))
    before, after = calls[:published], calls[published + 1 :]
    for file in path.iterdir():
        own = [(at, name) for at, (name, of) in enumerate(before) if of == file]
        assert own, f"{file.name} was not made durable before it was published"
        assert own[-1][1] == "fsync", f"{file.name}: the last of it is not durable"
    last_file = max(at for at, (_, of) in enumerate(before) if of in set(path.iterdir()))
    assert ("fsync", path) in before[last_file:], "its names are not durable"
    assert ("fsync", root) in after, "its publication is not durable"
    if ("mkdir", root) in before:
        made = before.index(("mkdir", root))
        assert ("fsync", root.parent) in before[made:], "the root's name is not durable"


def check_errors(root: Path, save_into: Save, watch: Watch) -> None:
    """An fsync that fails fails the save; what was there before stays."""
    base = len(watch.calls)
    save_into(root / "count")
    total = sum(name == "fsync" for name, _ in watch.calls[base:])
    assert total >= 5, "too few fsyncs"
    for k in range(total):
        seen = 0

        def fails(status: os.stat_result, count: int, wanted: int = k) -> int | None:
            nonlocal seen
            seen += 1
            return errno.EIO if seen == wanted + 1 else None

        watch.fails = fails
        found = _error(lambda k=k: save_into(root / str(k)))
        assert found == errno.EIO, f"the error of fsync {k} of {total} went by in silence"


def check_taken_name(root: Path, watch: Watch) -> None:
    """What takes the name while the files are written stays as it is."""

    def take(done: int, total: int) -> None:
        (root / "ckpt-00000001").mkdir(exist_ok=True)

    found = _error(lambda: save(root, snapshot(1), fs=FileSystem(), progress=take))
    assert found == errno.EEXIST, "a checkpoint was published onto an existing name"
    assert list((root / "ckpt-00000001").iterdir()) == []


SAVES = pytest.mark.parametrize("save_into", [save_ours, save_reverbs])


@SAVES
def test_everything_is_really_made_durable_in_its_order(
    save_into: Save, tmp_path: Path, watch: Watch
) -> None:
    check_durable(tmp_path / "root", save_into, watch)


@SAVES
def test_no_error_of_an_fsync_is_swallowed(
    save_into: Save, tmp_path: Path, watch: Watch
) -> None:
    (tmp_path / "root").mkdir()
    check_errors(tmp_path / "root", save_into, watch)


def test_nothing_is_published_onto_an_existing_name(tmp_path: Path, watch: Watch) -> None:
    check_taken_name(tmp_path, watch)
    assert load(save_ours(tmp_path)) == contents(snapshot(2))
    assert [path.name for path in list_checkpoints(tmp_path)][-1] == "ckpt-00000002"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_folder_that_knows_no_fsync_loses_nothing_but_a_file_must(
    number: int, tmp_path: Path, watch: Watch
) -> None:
    watch.fails = lambda status, _: number if stat.S_ISDIR(status.st_mode) else None
    assert load(save_ours(tmp_path)) == contents(snapshot(2))
    watch.fails = lambda status, _: None if stat.S_ISDIR(status.st_mode) else number
    with pytest.raises(CheckpointWriteError):
        save_ours(tmp_path)


def _nothing(self: FileSystem, what: Any) -> None:
    """Sabotage: the call does nothing."""


def _swallow(name: str) -> Callable[[FileSystem, Any], None]:
    """Sabotage: the call's error is swallowed."""
    real = getattr(FileSystem, name)

    def call(self: FileSystem, what: Any) -> None:
        with contextlib.suppress(OSError):
            real(self, what)

    return call


def _replace(self: FileSystem, source: Path, target: Path) -> None:
    """Sabotage: whatever has the name makes room."""
    if target.exists():
        target.rmdir()
    files.os.rename(source, target)


@SAVES
@pytest.mark.parametrize("name", ["fsync", "fsync_dir"])
def test_the_check_sees_an_fsync_that_does_nothing(
    name: str, save_into: Save, tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FileSystem, name, _nothing)
    with pytest.raises(AssertionError, match="durable"):
        check_durable(tmp_path / "root", save_into, watch)


@SAVES
def test_the_check_sees_a_flush_that_does_nothing(
    save_into: Save, tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_flush", lambda fd: None)
    with pytest.raises(AssertionError, match="durable"):
        check_durable(tmp_path / "root", save_into, watch)


@SAVES
@pytest.mark.parametrize("name", ["fsync", "fsync_dir"])
def test_the_check_sees_a_swallowed_error(
    name: str, save_into: Save, tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FileSystem, name, _swallow(name))
    (tmp_path / "root").mkdir()
    with pytest.raises(AssertionError, match="went by in silence"):
        check_errors(tmp_path / "root", save_into, watch)


def test_the_check_sees_a_save_onto_an_existing_name(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "exists", lambda fs, path: False)
    with pytest.raises(AssertionError, match="existing name"):
        check_taken_name(tmp_path / "over", watch)


def test_the_check_sees_a_rename_that_makes_room(
    tmp_path: Path, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commit, "exists", lambda fs, path: path.name.startswith("none"))
    monkeypatch.setattr(FileSystem, "rename", _replace)
    monkeypatch.setattr(commit, "ensure_root", lambda root, fs: None)
    with pytest.raises(AssertionError, match="existing name"):
        check_taken_name(tmp_path, watch)


def test_what_reverb_wrote_is_not_published_onto_an_existing_name(tmp_path: Path) -> None:
    taken = tmp_path / "2026-01-01T00:00:00"
    taken.mkdir()
    with pytest.raises(FileExistsError):
        save_reverbs(tmp_path)
    assert list(taken.iterdir()) == []
    assert not (taken / DONE).exists()
