"""Saving a snapshot in the native format.

Everything is planned and checked before the disk is touched; then the files
are written into a draft, the manifest last, and published by `commit`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reverie.checkpoint.disk.files import FILE_SYSTEM, FileSystem
from reverie.checkpoint.folder import commit
from reverie.checkpoint.folder.lock import FolderLock
from reverie.checkpoint.folder.names import checkpoint_name
from reverie.checkpoint.folder.retention import prune, sweep
from reverie.checkpoint.format.manifest import MANIFEST_NAME, TableSettings
from reverie.checkpoint.format.plan import Plan
from reverie.checkpoint.format.snapshot import SnapshotLike
from reverie.checkpoint.restore import read_manifest
from reverie.errors import CheckpointError, InvalidArgumentError


def write_checkpoint(
    root: Path,
    snapshot: SnapshotLike,
    *,
    record_dtype: np.dtype[Any] | None,
    spec_json: object,
    tables: Sequence[TableSettings],
    saved_at: str,
    max_to_keep: int | None,
    lock: FolderLock | None = None,
    fs: FileSystem = FILE_SYSTEM,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Saves a snapshot as the next checkpoint in `root` and returns its path, durable.

    Older checkpoints beyond `max_to_keep` are then removed. Copies no records but
    those with bytes in a bool column that are neither 0 nor 1. Thread-safe: saves
    into one folder take turns. The GIL is free while bytes are written.

    Args:
        root: the folder of checkpoints; made where it is missing.
        snapshot: what to save; keeps its chunks alive.
        record_dtype: the packed structured dtype of a record, field names = paths; None
            where all items are trajectories.
        spec_json: anything that is JSON, given back by `read_manifest().spec`.
        tables: the settings of the snapshot's tables, in their order.
        saved_at: when, for people; nothing is ever decided by it.
        max_to_keep: sound checkpoints to keep, this one included; None: all.
        lock: a share in the folder's lock, to hold on to it between saves; without
            one the lock is held for this save.
        fs: the file system.
        progress: called with bytes written so far and in all, from this thread.

    Raises:
        InvalidArgumentError: an argument does not describe the snapshot; nothing
            was written.
        CheckpointLockedError: another process saves into `root`.
        CheckpointWriteError: the system refused something. Nothing was published,
            except where only the last fsync failed; earlier checkpoints are intact.
    """
    root = Path(root)
    if max_to_keep is not None and max_to_keep < 1:
        raise InvalidArgumentError(
            f"max_to_keep is {max_to_keep}, expected at least 1 or None."
        )
    plan = Plan.of(snapshot, record_dtype, spec_json, tables, saved_at)
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
            prune(root, max_to_keep, files_of=lambda p: _files_of(p, fs), fs=fs)
    return path


def _files_of(path: Path, fs: FileSystem) -> dict[str, int] | None:
    try:
        files = read_manifest(path, fs=fs).files
        return {name: file.nbytes for name, file in files.items()}
    except CheckpointError:
        return None
