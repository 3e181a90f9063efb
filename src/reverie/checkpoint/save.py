"""Saving a store: all its tables at one point in time, in the native format.

Everything is planned before the disk is touched; then the files are written into a
draft, the manifest last, and published by `commit`.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Sequence
from pathlib import Path

from reverie.checkpoint.background import BackgroundSaver
from reverie.checkpoint.disk.crc_file import reading
from reverie.checkpoint.disk.files import FILE_SYSTEM, FileSystem, OpenFolder
from reverie.checkpoint.folder import commit
from reverie.checkpoint.folder.lock import FolderLock
from reverie.checkpoint.folder.names import MANIFEST_NAME, checkpoint_name
from reverie.checkpoint.folder.place import check_is_no_checkpoint
from reverie.checkpoint.folder.retention import prune, sweep
from reverie.checkpoint.format.layouts import layout_of
from reverie.checkpoint.format.plan import Plan
from reverie.checkpoint.format.reader import manifest_in
from reverie.checkpoint.format.settings import check_settings
from reverie.checkpoint.format.snapshot import Progress, SnapshotLike, StoreLike
from reverie.errors import CheckpointError
from reverie.nests.nest import Nest
from reverie.runtime.checks import check_int
from reverie.tables.settings import TableSettings


def check_savable(settings: TableSettings, nest: Nest | None = None) -> None:
    """Refuses a table that could be filled but never saved.

    Called when a table is made, so that it is not filled in vain. A nest that the format
    cannot express is not refused; its columns are saved all the same.

    Args:
        settings: of the table.
        nest: of the steps that will be written into it, where they are known.

    Raises:
        InvalidArgumentError: its name, a number or its signature, or the columns of the
            nest are none that the format can hold.
    """
    check_settings(settings)
    if nest is not None:
        layout_of(nest.types, [column.path for column in nest.columns])


def check_keep(max_to_keep: int | None) -> None:
    """Raises InvalidArgumentError for a number of checkpoints below 1; None keeps all."""
    if max_to_keep is not None:
        check_int("max_to_keep", max_to_keep, 1, 2**31)


def write_checkpoint(
    root: Path,
    snapshot: SnapshotLike,
    *,
    settings: Sequence[TableSettings],
    nests: Sequence[Nest] = (),
    saved_at: str,
    max_to_keep: int | None,
    lock: FolderLock | None = None,
    fs: FileSystem = FILE_SYSTEM,
    progress: Progress | None = None,
) -> Path:
    """Saves a snapshot as the next checkpoint in `root` and returns its path, durable.

    Older checkpoints beyond `max_to_keep` are then removed. Copies no records but
    small chunks, and those with bytes in a bool column that are neither 0 nor 1.
    Thread-safe: saves into one folder take turns. The GIL is free while bytes are
    written.

    Args:
        root: the folder of checkpoints; made where it is missing.
        snapshot: what to save; keeps its chunks alive.
        settings: of the snapshot's tables, in their order.
        nests: of the steps in it, for the names of columns.
        saved_at: when, for people; nothing is ever decided by it.
        max_to_keep: sound checkpoints to keep, this one included; None: all.
        lock: a share in the folder's lock, to hold on to it between saves; without
            one the lock is held for this save.
        fs: the file system.
        progress: called with bytes written so far and in all, from this thread.

    Raises:
        InvalidArgumentError: an argument does not describe the snapshot, or a name, a
            signature or a column is none that can be saved; nothing was written.
        CheckpointLockedError: another process saves into `root`.
        CheckpointWriteError: the system refused something. Nothing was published,
            except where only the last fsync failed; earlier checkpoints are intact.
    """
    root = Path(root)
    check_keep(max_to_keep)
    plan = Plan.of(snapshot, settings, nests, saved_at)
    with contextlib.ExitStack() as stack:
        stack.enter_context(commit.write_errors(root))
        commit.ensure_root(root, fs)
        if lock is None:
            lock = FolderLock(root, fs=fs)
            stack.callback(lock.close)
        exclusive = stack.enter_context(lock.saving())
        if exclusive:
            sweep(root, fs)
        number = commit.next_sequence_number(root, fs)
        with commit.Draft(root, fs) as draft:
            raw = plan.write(draft, number, progress)
            draft.add(MANIFEST_NAME, [raw])
            path = draft.publish(checkpoint_name(number))
        if max_to_keep is not None:
            prune(path, max_to_keep, files_of=_files_of, fs=fs)
    return path


class Saver(BackgroundSaver):
    """Saves a store into one folder, one checkpoint at a time. Thread-safe.

    Owns a share in the folder's lock from the first save until `close()`.

    Args:
        root: the folder of checkpoints.
        max_to_keep: newest checkpoints to keep; None keeps all.
        fs: the file system.

    Raises:
        InvalidArgumentError: `max_to_keep` is below 1, or `root` is itself a checkpoint.
        CheckpointReadError: `root` cannot be looked at.
    """

    def __init__(
        self, root: Path, max_to_keep: int | None, *, fs: FileSystem = FILE_SYSTEM
    ) -> None:
        check_keep(max_to_keep)
        with reading(fs, root):
            check_is_no_checkpoint(root, fs)
        super().__init__(root, fs=fs)
        self._max_to_keep = max_to_keep
        self._fs = fs

    def save(
        self, store: StoreLike, *, wait: bool = True, progress: Progress | None = None
    ) -> Path | None:
        """Saves all tables of a store as they are now.

        The snapshot is taken at once, under the store's lock; adding and sampling
        go on while it is written. Items that still wait for a limiter are not in it.

        Args:
            store: what to save.
            wait: False writes in the background and returns None; the next call of
                `save`, `wait` or `close` raises what went wrong.
            progress: called with bytes written and in all, from the writing thread.

        Returns:
            The checkpoint's folder, once it is durable.

        Raises:
            CheckpointError: see `write_checkpoint`; also of an earlier background
                save, and then nothing new was begun.
        """
        store.check_open()

        def begin() -> Callable[[], Path]:
            snapshot, settings, nests = store.snapshot()
            # What is in the snapshot is laid out where it is written, not here.
            return lambda: write_checkpoint(
                self._root,
                snapshot,
                settings=settings,
                nests=nests,
                saved_at=_now(),
                max_to_keep=self._max_to_keep,
                lock=self._lock,
                fs=self._fs,
                progress=progress,
            )

        return self._save(begin, wait=wait)


def _files_of(folder: OpenFolder, fs: FileSystem) -> dict[str, int] | None:
    try:
        with reading(fs, folder.path):
            files = manifest_in(folder, fs).files
        return {name: file.nbytes for name, file in files.items()}
    except CheckpointError:
        return None


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
