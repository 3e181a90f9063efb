"""Loading the newest checkpoint of a folder, native or Reverb's, into a fresh table."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reverie.checkpoint.disk.crc_file import reading
from reverie.checkpoint.disk.files import FILE_SYSTEM
from reverie.checkpoint.folder import names
from reverie.checkpoint.format.snapshot import Progress
from reverie.errors import CheckpointCorruptError, CheckpointNotFoundError
from reverie.table import ReplayTable


def has_checkpoint(root: Path) -> bool:
    """Whether `root` holds a checkpoint, native or Reverb's, sound or not."""
    return bool(_candidates(root))


def load_newest(
    root: Path,
    new_table: Callable[[], ReplayTable],
    *,
    on_corrupt: str = "raise",
    progress: Progress | None = None,
) -> ReplayTable:
    """The newest complete checkpoint of `root`, in a table of its own.

    A native checkpoint comes before any of Reverb's, whose names are wall-clock
    text and cannot be compared with ours.

    Args:
        root: the folder of checkpoints.
        new_table: makes a fresh, empty table; called once per try.
        on_corrupt: "raise", or "fallback" to try older checkpoints, with a warning
            for each damaged one.
        progress: called with bytes read and in all; native checkpoints only.

    Raises:
        CheckpointNotFoundError: there is none; a damaged one is never "none".
        CheckpointCorruptError: it is damaged, or, with "fallback", all are.
        CheckpointMismatchError: it does not fit the spec, the name or the capacity.
        CheckpointVersionError, CheckpointLimitError, CheckpointReadError: as named.
    """
    candidates = _candidates(root)
    if not candidates:
        raise CheckpointNotFoundError(
            f"No complete checkpoint in {str(root)!r}: wanted a folder ckpt-<number> written "
            "by save(), or a Reverb checkpoint with its DONE file. To start with an empty "
            "buffer, call create_replay_buffer()."
        )
    for index, (path, load) in enumerate(candidates):
        table = new_table()
        try:
            load(path, table, progress)
        except CheckpointCorruptError as error:
            table.close()
            if on_corrupt != "fallback" or index + 1 == len(candidates):
                raise
            warnings.warn(
                f"Skipped a damaged checkpoint, trying an older one: {error}", stacklevel=4
            )
        except BaseException:
            table.close()
            raise
        else:
            table.restored()
            return table
    raise AssertionError("unreachable")


def _load_native(path: Path, table: ReplayTable, progress: Progress | None) -> None:
    from reverie.checkpoint.restore import read_manifest, restore

    manifest = read_manifest(path)
    restore(
        path,
        manifest,
        table.store,
        {table.name: table.core},
        layout=table.layout,
        record_dtype=table.nest.record_dtype,
        # What was saved must load, however large: memory stays within the files' own
        # size, which is compared with the manifest before anything is allocated.
        max_nbytes=sys.maxsize,
        progress=progress,
    )


def _load_reverb(path: Path, table: ReplayTable, progress: Progress | None) -> None:
    from reverie.checkpoint.from_reverb import fill_from_reverb

    fill_from_reverb(path, table)


def _candidates(root: Path) -> list[tuple[Path, Callable[..., Any]]]:
    """What could be loaded, newest first."""
    from reverie.checkpoint import reverb_files  # here, so that `import reverie` is quick

    found: list[tuple[Path, Callable[..., Any]]] = []
    with reading(FILE_SYSTEM, root):
        if not root.is_dir():
            return []
        found += [(path, _load_native) for path in reversed(names.list_checkpoints(root))]
        newest = reverb_files.find_newest(root)
    if newest is not None:
        found.append((newest, _load_reverb))
    return found
