"""How much a checkpoint may take, where the caller does not say: in proportion to its files.

What counts is what stands on the medium: a file may be mostly holes, or compressed, so that
a few bytes claim to be terabytes.
"""

from __future__ import annotations

from collections.abc import Iterable

from reverie.checkpoint.disk.files import FileSystem, OpenFolder, failing_path
from reverie.runtime.checks import check_int

ROOM_NBYTES = 64 << 20  # that any checkpoint may take
# What compressed files may take for each byte on the medium, beyond their room.
GROWTH = 1024  # all that is unpacked: zlib's and Snappy's best
INFLATION = 32  # once inflated, as steps are packed by Snappy before
RECORD_ROOM_NBYTES = 16 << 20
RECORD_GROWTH = 4  # one record, which is held several times while it is read

REFERENCES = 1 << 24  # of items on chunks, and one more for each byte of the files


def check_limit(max_nbytes: int | None) -> int | None:
    """What a caller says. Raises InvalidArgumentError: it is no number of bytes."""
    return None if max_nbytes is None else check_int("max_nbytes", max_nbytes, 1, 2**63 - 1)


def stored_nbytes(fs: FileSystem, folder: OpenFolder, names: Iterable[str]) -> int:
    """Bytes of these files that stand on the medium. Raises OSError."""
    total = 0
    for name in names:
        with failing_path(folder.path / name):
            total += fs.stored_nbytes_in(folder, name)
    return total


def holes_limit(stored: int) -> int:
    """How large files may be of which so many bytes stand on the medium."""
    return 2 * (ROOM_NBYTES + stored)


def max_references(max_nbytes: int | None, nbytes: int) -> int:
    """How often items may refer to chunks: what that costs is in proportion to the files.

    Args:
        max_nbytes: what the caller says, None for nothing.
        nbytes: of the files.
    """
    return REFERENCES + (nbytes if max_nbytes is None else max_nbytes)
