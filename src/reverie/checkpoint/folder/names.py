"""Names of checkpoint folders and of the files in them, and which folders a root holds."""

from __future__ import annotations

import errno
import re
from pathlib import Path

from reverie.checkpoint.disk.files import FILE_SYSTEM, FileSystem
from reverie.errors import CheckpointReadError

MANIFEST_NAME = "manifest.json"
MAX_SEQUENCE_NUMBER = 10**15 - 1  # below 2**53, and whole in decimal

CHUNKS_NAME = "chunks.npy"
ENDS_NAME = "ends.npy"
TABLE_FILES = ("items", "free", "touched", "holes", "trajectories", "columns", "pieces")
"""The files of a table; each but the first only where something is in it."""

SEGMENT_NAME = re.compile(r"segment-[0-9]{8,16}-[0-9]{5,9}\.npy")
PART_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
FILE_NAME = re.compile(
    rf"{SEGMENT_NAME.pattern}|chunks\.npy|ends\.npy"
    rf"|({'|'.join(TABLE_FILES)})-(0|[1-9][0-9]{{0,5}})\.npy"
    rf"|part-{PART_NAME.pattern}-[A-Za-z0-9_-]{{1,64}}\.npy"
)

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
