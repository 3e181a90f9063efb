"""How much memory, and how large a checkpoint, what can be reached may take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.memory.reachable import Reach

KIB, MIB = 1 << 10, 1 << 20

OPEN_STREAM = 4 * KIB
CLOSED_STREAM = 400
ROW = 24
INDEXED_ROW = 24  # besides
TRAJECTORY = 200
MEMORY_CONSTANT = 4 * MIB

ROW_ON_DISK = 40
TRAJECTORY_ON_DISK = 200
CHECKPOINT_CONSTANT = 64 * KIB

# What the constant is there for, one by one, where a checkpoint is small: a row for each
# column of a stream and each segment, a mark where an episode ends or steps are left out,
# and a number for each free key.
COLUMN_ON_DISK = 64
SEGMENT_ON_DISK = 64
MARK_ON_DISK = 16
FREE_KEY_ON_DISK = 8
SEGMENT_HEADER = 128


def memory_bound(reach: Reach) -> int:
    """Bytes by which the resident memory of a process may have grown."""
    return (
        reach.nbytes * 5 // 4
        + OPEN_STREAM * reach.open_streams
        + CLOSED_STREAM * reach.closed_streams
        + ROW * reach.rows
        + INDEXED_ROW * reach.indexed_rows
        + TRAJECTORY * reach.trajectories
        + MEMORY_CONSTANT
    )


def checkpoint_bound(reach: Reach) -> int:
    """Bytes that all files of a checkpoint may have."""
    items = ROW_ON_DISK * reach.rows + TRAJECTORY_ON_DISK * reach.trajectories
    return (reach.nbytes + items) * 11 // 10 + CHECKPOINT_CONSTANT


def check_small_checkpoint(folder: Path, reach: Reach, most_items: int) -> None:
    """The bounds of a checkpoint that is too small for the constant to mean anything.

    Headers, and the manifest, are what they are. Segments are held to the bytes that can
    be reached, all other files to the items and to what the constant is there for.

    Args:
        folder: the checkpoint's own.
        reach: what could be reached when it was saved.
        most_items: that each of its tables ever held, added up: so many keys may be free.

    Raises:
        AssertionError: a bound is exceeded.
    """
    sizes = data_nbytes(folder)
    segments = [size for name, size in sizes.items() if name.startswith("segment-")]
    fixed = SEGMENT_HEADER * len(segments)
    _check(sum(segments), reach.nbytes * 11 // 10 + fixed, "segments' data", reach)
    bound = (ROW_ON_DISK * reach.rows + TRAJECTORY_ON_DISK * reach.trajectories) * 11 // 10
    bound += COLUMN_ON_DISK * reach.columns + SEGMENT_ON_DISK * len(segments)
    bound += MARK_ON_DISK * (reach.ends + reach.spans)
    bound += FREE_KEY_ON_DISK * most_items
    # Rows of chunks may take what the records leave of their tenth.
    bound += max(0, reach.nbytes * 11 // 10 + fixed - sum(segments))
    _check(sum(sizes.values()) - sum(segments), bound, "data beside segments'", reach)


def data_nbytes(folder: Path) -> Mapping[str, int]:
    """Bytes of data of each .npy file of a checkpoint, its header left out, by name."""
    found = {}
    for path in folder.glob("*.npy"):
        with path.open("rb") as file:
            start = file.read(12)
        wide = start[6] > 1  # NumPy's format 2.0 has four bytes for the header's length
        header = int.from_bytes(start[8 : 12 if wide else 10], "little")
        found[path.name] = path.stat().st_size - (12 if wide else 10) - header
    return found


def checkpoint_nbytes(folder: Path) -> int:
    """Bytes of all files of a checkpoint."""
    return sum(path.stat().st_size for path in folder.iterdir())


def _check(found: int, bound: int, what: str, reach: Reach) -> None:
    if found > bound:
        raise AssertionError(f"{what}: {found:,} bytes, at most {bound:,} wanted; {reach}")
