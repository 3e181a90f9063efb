"""Names of checkpoint folders, and which of them a root holds."""

from __future__ import annotations

import errno
import re
from pathlib import Path

from reverie.checkpoint.disk.files import FILE_SYSTEM, FileSystem
from reverie.errors import CheckpointReadError

_CHECKPOINT = re.compile("ckpt-([0-9]{8}|[1-9][0-9]{8,14})")


def checkpoint_name(sequence_number: int) -> str:
    """The folder's name, such as `ckpt-00000012`."""
    return f"ckpt-{sequence_number:08d}"


def sequence_number_of(name: str) -> int | None:
    """The number in a checkpoint folder's name, or None for any other name."""
    match = _CHECKPOINT.fullmatch(name)
    return int(match[1]) if match and int(match[1]) else None


def entries(root: Path, fs: FileSystem) -> list[Path]:
    """Everything in `root` with a checkpoint's name, oldest first. Raises OSError."""
    try:
        names = fs.names(root)
    except FileNotFoundError:
        return []
    found = [(number, name) for name in names if (number := sequence_number_of(name))]
    return [root / name for _, name in sorted(found)]


def list_checkpoints(root: Path, *, fs: FileSystem = FILE_SYSTEM) -> list[Path]:
    """Everything in `root` with the name of a native checkpoint, oldest first.

    A name is a claim. Whether it holds, only reading shows: what has the name
    but no sound manifest is damage (CheckpointCorruptError there), never
    "nothing found". A root that does not exist holds nothing.

    Raises:
        CheckpointReadError: the root cannot be listed.
    """
    root = Path(root)
    try:
        return entries(root, fs)
    except OSError as error:
        raise CheckpointReadError(
            error.errno or errno.EIO, f"listing {str(root)[:200]!r} failed: {error.strerror}"
        ) from error


def find_newest(root: Path, *, fs: FileSystem = FILE_SYSTEM) -> Path | None:
    """The checkpoint of the highest number in `root`, damaged or not; None: there is none.

    Raises:
        CheckpointReadError: the root cannot be listed.
    """
    found = list_checkpoints(root, fs=fs)
    return found[-1] if found else None
