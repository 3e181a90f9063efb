"""Publishing and removing Reverb's checkpoints: order, names, foreign entries, leftovers."""

from __future__ import annotations

import errno
import os
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reverie.backends.reverb import folder
from reverie.backends.reverb.saving import Saver
from reverie.checkpoint.disk.files import FileSystem
from reverie.errors import CheckpointWriteError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Reverb is for Linux")
pytest.importorskip("google_crc32c", reason="needs the reverb-files extra")

NAME = "2026-11-24T01:08:08.445036558+00:00"


class Recorder(FileSystem):
    """Notes what happens to which entry, and fails where it is told to."""

    def __init__(self, fail: Callable[[str], bool] = lambda line: False) -> None:
        self.lines: list[str] = []
        self._paths: dict[int, Path] = {}
        self._fail = fail

    def _note(self, act: str, path: Path) -> None:
        self.lines.append(f"{act} {path.name}")
        if self._fail(self.lines[-1]):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    def open_in(self, folder: Any, name: str) -> int:
        fd = super().open_in(folder, name)
        self._paths[fd] = folder.path / name
        return fd

    def fsync(self, fd: int) -> None:
        self._note("fsync", self._paths[fd])
        super().fsync(fd)

    def fsync_dir(self, path: Path) -> None:
        self._note("fsync_dir", path)
        super().fsync_dir(path)

    def rename(self, source: Path, target: Path) -> None:
        self._note("rename", target)
        super().rename(source, target)

    def remove_in(self, folder: Any, name: str) -> None:
        self._note("remove", folder.path / name)
        super().remove_in(folder, name)


def write(path: Path, data: bytes | None = None) -> Path:
    """A checkpoint that Reverb might have written, of files without a record."""
    path.mkdir(parents=True)
    for name in folder.DATA_FILES:
        (path / name).write_bytes(zlib.compress(b"") if data is None else data)
    (path / folder.DONE).touch()
    return path


def saver(root: Path, keep: int | None, fs: FileSystem, names: list[str]) -> Saver:
    made = Saver(root, keep, fs=fs)
    left = iter(names)
    made.checkpoint = lambda: lambda: str(write(made.live / next(left)))
    return made


def names_in(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.name != ".reverie.lock")


def order_of(lines: list[str]) -> list[str]:
    """The steps that the commit protocol puts in order, once each."""
    kinds = {"fsync ": "files", "rename 2026": "publish", "remove": "remove"}
    found = []
    for line in lines:
        found += [kind for start, kind in kinds.items() if line.startswith(start)]
        found += ["root"] if line == "fsync_dir root" else []
        found += ["draft"] if line.startswith("fsync_dir") and len(line) == 42 else []
    return [kind for kind, before in zip(found, ["", *found], strict=False) if kind != before]


def test_everything_is_durable_before_anything_is_removed(tmp_path: Path) -> None:
    fs = Recorder()
    saving = saver(tmp_path / "root", 1, fs, ["2026-01-01T00:00:00", "2026-01-02T00:00:00"])
    saving.save()
    fs.lines.clear()
    saving.save()
    assert order_of(fs.lines)[:4] == ["files", "draft", "publish", "root"]
    synced = {line.split()[1] for line in fs.lines if line.startswith("fsync ")}
    assert synced == {*folder.DATA_FILES, folder.DONE}
    first_removal = next(n for n, line in enumerate(fs.lines) if "trash" in line)
    assert fs.lines.index("fsync_dir root") < first_removal
    assert "remove" in order_of(fs.lines[first_removal:])
    assert names_in(tmp_path / "root")[-1] == "2026-01-02T00:00:00"
    saving.close()
    assert names_in(tmp_path / "root") == ["2026-01-02T00:00:00"]


@pytest.mark.parametrize(
    "act", ["fsync tables.tfrecord", "fsync DONE", "rename 2026", "fsync_dir "]
)
def test_a_failing_disk_leaves_the_checkpoint_before(act: str, tmp_path: Path) -> None:
    failing: list[str] = []
    fs = Recorder(lambda line: bool(failing) and line.startswith(act))
    names = ["2026-01-01T00:00:00", "2026-01-02T00:00:00", "2026-01-03T00:00:00"]
    saving = saver(tmp_path / "root", 1, fs, names)
    saving.save()
    failing.append(act)
    with pytest.raises(CheckpointWriteError, match="Earlier checkpoints are intact"):
        saving.save()
    assert (tmp_path / "root" / names[0] / folder.DONE).exists()
    failing.clear()
    saving.save()
    saving.close()
    assert names_in(tmp_path / "root") == [names[2]]


def test_a_file_cut_short_is_no_success(tmp_path: Path) -> None:
    saving = Saver(tmp_path, 1)
    saving.checkpoint = lambda: (
        lambda: str(write(saving.live / NAME, zlib.compress(b"x" * 99)[:-3]))
    )
    with pytest.raises(CheckpointWriteError, match="not whole"):
        saving.save()
    saving.close()
    assert names_in(tmp_path) == []


def test_an_error_of_reverbs_is_a_write_error(tmp_path: Path) -> None:
    def refuse() -> str:
        raise RuntimeError("disk is full")

    saving = Saver(tmp_path, 1)
    saving.checkpoint = lambda: refuse
    with pytest.raises(CheckpointWriteError, match="disk is full"):
        saving.save()
    saving.close()


@pytest.mark.parametrize(
    ("wanted", "taken", "name"),
    [
        ("2026-02", [], "2026-02"),
        ("2026-02", ["2026-01"], "2026-02"),
        ("2026-01", ["2026-02"], "2026-02~00000001"),
        ("2026-01", ["2026-02", "2026-02~00000009"], "2026-02~00000010"),
        ("2026-01", ["zzz"], "zzz~00000001"),
        ("2026-01", ["2026-01"], "2026-01~00000001"),
        ("2026-01", ["a~99999999"], "a~99999999~00000001"),
    ],
)
def test_the_new_name_is_the_last_one_whatever_the_clock_says(
    wanted: str, taken: list[str], name: str
) -> None:
    assert folder.next_name(wanted, taken) == name
    assert name > max(taken, default="")


def test_a_clock_set_back_loses_nothing(tmp_path: Path) -> None:
    names = ["2026-01-03T00:00:00", "2026-01-02T00:00:00", "2026-01-01T00:00:00"]
    saving = saver(tmp_path, 2, FileSystem(), names)
    paths = [saving.save() for _ in names]
    saving.close()
    assert folder.checkpoints(tmp_path) == [paths[2], paths[1]]


def test_only_reverbs_own_old_checkpoints_are_removed(tmp_path: Path) -> None:
    for name in ("2026-01-01T00:00:00", "2026-01-02T00:00:00.5+09:00", "2026-01-03T00:00:00"):
        write(tmp_path / name)
    foreign = write(tmp_path / "2026-01-01T11:11:11")
    (foreign / "notes.txt").write_text("mine")
    write(tmp_path / "a backup")
    target = write(tmp_path / "elsewhere" / "x")
    (tmp_path / "2026-01-01T22:22:22").symlink_to(target)
    folder.prune(tmp_path, 1, FileSystem())
    assert names_in(tmp_path) == [
        "2026-01-01T11:11:11",
        "2026-01-01T22:22:22",
        "2026-01-03T00:00:00",
        "a backup",
        "elsewhere",
    ]
    assert len(list(target.iterdir())) == 4


def test_a_damaged_checkpoint_is_not_counted_as_one_that_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "2026-01-01T00:00:00")
    write(tmp_path / "2026-01-02T00:00:00", b"")
    folder.prune(tmp_path, 1, FileSystem())
    assert names_in(tmp_path) == ["2026-01-01T00:00:00", "2026-01-02T00:00:00"]


def test_leftovers_of_dead_processes_are_swept_and_no_others(tmp_path: Path) -> None:
    dead, alive = ".reverb-{}-" + "a" * 32, ".reverb-{}-" + "b" * 32
    write(tmp_path / dead.format(2**22 + 1) / "live" / NAME)  # above Linux's largest pid
    write(tmp_path / alive.format(os.getppid()) / "live" / NAME)
    write(tmp_path / f".reverb-trash-{'c' * 32}")
    (tmp_path / ".reverb-notes").mkdir()
    saver(tmp_path, 3, FileSystem(), [NAME]).save()
    kept = names_in(tmp_path)
    assert alive.format(os.getppid()) in kept
    assert ".reverb-notes" in kept
    assert dead.format(2**22 + 1) not in kept
    assert not any("trash" in name for name in kept)


def test_a_folder_that_is_itself_a_checkpoint_takes_none(tmp_path: Path) -> None:
    write(tmp_path / "x")
    saving = saver(tmp_path / "x", 1, FileSystem(), [NAME])
    with pytest.raises(CheckpointWriteError, match="itself a checkpoint"):
        saving.save()
    saving.close()
    assert folder.checkpoints(tmp_path / "x") == [tmp_path / "x"]
