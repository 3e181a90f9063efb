"""Reverb's checkpoints in a folder: publishing one, removing old ones.

Left to itself, Reverb syncs nothing to the disk, and after each checkpoint removes
whatever else it finds in its folder. So it is given a folder of its own,
`.reverb-<pid>-<hex>/live` inside `checkpoint_dir`, and what it writes there is
published in the order of the native format's commit protocol: every file read back
and made durable, then the folder, then the rename into `checkpoint_dir`, then
`checkpoint_dir` itself, and only then are older ones removed. The result has the
layout that Reverb itself and the embedded backend load.

No framework is imported here.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
import sys
import uuid
from collections.abc import Iterable
from pathlib import Path

from reverie.checkpoint.disk.files import (
    FileSystem,
    exists,
    failing_path,
    is_real_folder,
    opened_folder,
)
from reverie.checkpoint.folder.retention import logged
from reverie.checkpoint.format.snapshot import Progress
from reverie.checkpoint.reverb_files.budget import Budget
from reverie.checkpoint.reverb_files.finding import DATA_FILES, DONE, STAGE, TRASH, checkpoints
from reverie.checkpoint.reverb_files.tfrecord import read_records

_ALL_FILES = {*DATA_FILES, DONE}
# Reverb names a checkpoint by the time of day; ours may add a number, see `next_name`.
_NAME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[.0-9]*([-+]\d\d:\d\d)?(~\d{8})*")


class Stage:
    """The folder that Reverb writes into; made by `prepare`, one for each server."""

    def __init__(self, root: Path) -> None:
        self.folder = root / f".reverb-{os.getpid()}-{uuid.uuid4().hex}"
        self.live = self.folder / "live"

    def prepare(self, fs: FileSystem) -> None:
        """Makes it where it is missing; its parent is there. Raises OSError."""
        for folder in (self.folder, self.live):
            with contextlib.suppress(FileExistsError):
                fs.mkdir(folder, 0o700)

    def take(self, written: Path, fs: FileSystem) -> Path:
        """Moves what Reverb has just written out of its reach. Raises OSError.

        Its next checkpoint would remove it.
        """
        draft = self.folder / uuid.uuid4().hex
        fs.rename(self.live / written.name, draft)
        return draft

    def remove(self) -> None:
        """Removes it with all that is in it; errors are ignored."""
        shutil.rmtree(self.folder, ignore_errors=True)


def publish(
    draft: Path, root: Path, reverb_name: str, fs: FileSystem, progress: Progress | None
) -> Path:
    """Makes a checkpoint durable and visible in `root`; returns its path.

    Raises:
        OSError: a file could not be read or synced, or is not whole; nothing was
            published, unless only the last call failed.
    """
    _verify(draft, progress)
    with opened_folder(fs, draft) as folder:
        for name in sorted(_ALL_FILES):
            with failing_path(draft / name):
                fd = fs.open_in(folder, name)
                try:
                    fs.fsync(fd)
                finally:
                    fs.close(fd)
    fs.fsync_dir(draft)
    target = root / next_name(reverb_name, [path.name for path in checkpoints(root)])
    if exists(fs, target):
        raise FileExistsError(f"{str(target)!r} is in the way")
    fs.rename(draft, target)
    fs.fsync_dir(root)
    return target


def _verify(draft: Path, progress: Progress | None) -> None:
    """Reads every record: on a full disk Reverb reports success for a file cut short.

    Raises:
        CheckpointCorruptError: a file is missing, cut short or fails a checksum.
    """
    sizes = {name: (draft / name).stat().st_size for name in DATA_FILES}
    total, before = sum(sizes.values()), 0
    for name, size in sizes.items():

        def report(done: int, _: int, start: int = before) -> None:
            if progress is not None:
                progress(start + done, total)

        for _ in read_records(draft / name, Budget(sys.maxsize), progress=report):
            pass
        before += size
    if progress is not None:
        progress(total, total)


def next_name(wanted: str, taken: list[str]) -> str:
    """`wanted`, or where that would not be the last by name, one that is.

    The clock may have been set back, or the time zone may have changed, and the last
    by name is what everybody loads.
    """
    newest = max(taken, default="")
    if wanted > newest:
        return wanted
    base, tilde, number = newest.rpartition("~")
    if tilde and number.isdecimal() and len(number) == 8 and int(number) < 10**8 - 1:
        return f"{base}~{int(number) + 1:08d}"
    return f"{newest}~00000001"


def prune(root: Path, keep: int, fs: FileSystem) -> None:
    """Removes Reverb's checkpoints that are older than the newest `keep` whole ones.

    Only a real folder with a name of Reverb's and nothing but Reverb's four files is
    ever removed. Whole means that all four are there and have a content. Errors are
    logged: the save itself has succeeded by then.
    """
    with logged(root, "removing old checkpoints"):
        whole = 0
        for path in checkpoints(root):
            if not _NAME.fullmatch(path.name) or not is_real_folder(fs.lstat(path)):
                continue
            with opened_folder(fs, path) as folder:
                found = {name: fs.lstat_in(folder, name) for name in fs.names_in(folder)}
            if whole < keep:
                whole += found.keys() >= _ALL_FILES and all(
                    found[name].st_size for name in DATA_FILES
                )
            elif found.keys() <= _ALL_FILES and _regular(found.values()):
                trash = root / f".reverb-trash-{uuid.uuid4().hex}"
                fs.rename(path, trash)
                fs.fsync_dir(root)  # or a power cut might bring back half of it
                _remove(trash, fs)


def sweep(root: Path, own: Path, fs: FileSystem) -> None:
    """Removes what dead processes left in `root`. Under the exclusive lock only."""
    with logged(root, "sweeping leftovers"):
        for name in fs.names(root):
            path, staged = root / name, STAGE.fullmatch(name)
            if path == own or not is_real_folder(fs.lstat(path)):
                continue
            if staged and not _is_alive(int(staged[1])):
                shutil.rmtree(path, ignore_errors=True)
            elif TRASH.fullmatch(name):
                _remove(path, fs)


def _remove(path: Path, fs: FileSystem) -> None:
    with opened_folder(fs, path) as folder:
        # DONE first: from then on nothing can take the rest for a checkpoint.
        for name in sorted(fs.names_in(folder), key=lambda name: name != DONE):
            if name in _ALL_FILES:
                fs.remove_in(folder, name)
    fs.rmdir(path)


def _regular(found: Iterable[os.stat_result]) -> bool:
    return all(stat.S_ISREG(status.st_mode) for status in found)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
