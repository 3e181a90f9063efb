"""Files written and read from front to end, with a CRC-32 over every byte."""

from __future__ import annotations

import contextlib
import errno
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from reverie.checkpoint.disk.files import FileSystem, OpenFolder, exists, failing_path
from reverie.errors import (
    CheckpointCorruptError,
    CheckpointError,
    CheckpointLimitError,
    CheckpointNotFoundError,
    CheckpointReadError,
)

# Pieces of a file to be written. A NumPy array of bytes gives its `.data`.
Part = bytes | bytearray | memoryview

# Written and read in pieces that stay in the processor's cache while the CRC runs over them.
BLOCK_NBYTES = 1 << 20


# zlib lets the interpreter go for more than 5 KiB. Beside a busy thread getting it back takes
# longer than the work on some pieces that are no larger.
_HELD_NBYTES, _FEW_NBYTES = 5 << 10, 64 << 10


def crc32_of(data: memoryview, crc: int = 0) -> int:
    """The CRC-32 of bytes, continued from that of those before; `zlib.crc32`'s."""
    if len(data) > _FEW_NBYTES:
        return zlib.crc32(data, crc)
    for start in range(0, len(data), _HELD_NBYTES):
        crc = zlib.crc32(data[start : start + _HELD_NBYTES], crc)
    return crc


def write_all(fs: FileSystem, fd: int, data: memoryview) -> None:
    """Writes every byte of `data`, however little a single call takes. Raises OSError."""
    while len(data):
        written = fs.write(fd, data)
        if (
            written <= 0
        ):  # never seen in practice; without this line it would be an endless loop
            raise OSError(errno.EIO, "the system wrote nothing and gave no reason")
        data = data[written:]


@dataclass(frozen=True, slots=True)
class Written:
    """What a file holds: its size in bytes and the CRC-32 over all of them."""

    nbytes: int
    crc32: int


def write_file(
    fs: FileSystem,
    path: Path,
    parts: Iterable[Part],
    *,
    on_bytes: Callable[[int], None] | None = None,
    checksum: bool = True,
) -> Written:
    """Writes `parts`, one after the other, to a new file, and makes them durable.

    The CRC runs over the bytes as they are handed to the system; without `checksum`
    it is left 0, where the parts have their own. `on_bytes` is told the size of each
    piece written. After an error the descriptor is closed and never used again: a
    second fsync could succeed with the data lost.

    Raises:
        OSError: any call failed, close included; its `filename` is `path`.
    """
    nbytes, crc = 0, 0
    with failing_path(path):
        fd = fs.open_new(path)
        try:
            for part in parts:
                view = memoryview(part)
                if view.nbytes == 0:
                    continue
                data = view.cast("B")
                for start in range(0, len(data), BLOCK_NBYTES):
                    block = data[start : start + BLOCK_NBYTES]
                    crc = crc32_of(block, crc) if checksum else 0
                    write_all(fs, fd, block)
                    nbytes += len(block)
                    if on_bytes is not None:
                        on_bytes(len(block))
            fs.fsync(fd)
        except BaseException:
            with contextlib.suppress(OSError):
                fs.close(fd)
            raise
        fs.close(fd)
    return Written(nbytes, crc)


@contextlib.contextmanager
def reading(fs: FileSystem, path: Path) -> Iterator[None]:
    """Turns what is met while reading the checkpoint at `path` into a CheckpointError.

    Raises:
        CheckpointNotFoundError: the folder is not there (any more).
        CheckpointCorruptError: a file of it is missing, or no regular file.
        CheckpointReadError: any other OSError, such as permissions or a failing disk.
        CheckpointLimitError: it needs more memory than this process can have.
    """
    try:
        yield
    except CheckpointError:
        raise
    except MemoryError as error:
        raise CheckpointLimitError(
            f"The checkpoint {str(path)!r} needs more memory than this process can have. Load "
            "it where there is more."
        ) from error
    except OSError as error:
        where = f"{str(error.filename)[:200]!r} of the checkpoint {str(path)!r}"
        if isinstance(error, FileNotFoundError) and _is_gone(fs, path):
            raise CheckpointNotFoundError(
                f"There is no checkpoint folder {str(path)!r}. If it was there a moment ago, a "
                "save of another process has removed it as too old: look for the newest again."
            ) from error
        if isinstance(error, FileNotFoundError):
            raise CheckpointCorruptError(
                f"{where} is missing; a complete checkpoint has this file."
            ) from error
        if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO):
            raise CheckpointCorruptError(
                f"{where} is a link or no file of the right kind ({error.strerror}); a "
                "checkpoint is a real folder of regular files, and links are never followed."
            ) from error
        raise CheckpointReadError(
            error.errno or errno.EIO, f"reading {where} failed: {error.strerror or error}"
        ) from error


def _is_gone(fs: FileSystem, path: Path) -> bool:
    try:
        return not exists(fs, path)
    except OSError:  # nobody knows
        return False


class CheckedFile:
    """One regular file of a checkpoint, read once from front to end, with its CRC.

    A context manager. The size is compared on the open descriptor, so the file
    that is checked is the file that is read.
    """

    def __init__(self, fs: FileSystem, folder: OpenFolder, name: str) -> None:
        self.where = str(folder.path / name)
        self.crc32 = 0
        self._fs = fs
        self._fd = fs.open_in(folder, name)
        try:
            with failing_path(self.where):
                status = fs.fstat(self._fd)
        except BaseException:
            self.close()
            raise
        self.nbytes = status.st_size
        self._regular = stat.S_ISREG(status.st_mode)

    def __enter__(self) -> CheckedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the file; a reader has nothing to lose by an error here."""
        with contextlib.suppress(OSError):
            self._fs.close(self._fd)

    def check_size(self, low: int, high: int) -> None:
        """Raises CheckpointCorruptError unless it is a regular file of low..high bytes."""
        if not self._regular:
            raise CheckpointCorruptError(f"{self.where!r} is not a regular file.")
        if not low <= self.nbytes <= high:
            wanted = str(low) if low == high else f"at most {high}"
            raise CheckpointCorruptError(
                f"{self.where!r} has {self.nbytes} bytes, expected {wanted}."
            )

    def expect(self, wanted: bytes) -> None:
        """Reads a header. Raises CheckpointCorruptError unless it is exactly this one."""
        found = bytes(self.read(len(wanted)))
        if found != wanted:
            raise CheckpointCorruptError(
                f"{self.where!r} has another header: found {_shown(found, wanted)}, expected "
                f"{_shown(wanted, found)}."
            )

    def skip(self, nbytes: int) -> None:
        """Leaves bytes out that are nobody's."""
        if nbytes:
            with failing_path(self.where):
                self._fs.skip(self._fd, nbytes)

    def read_into(self, data: memoryview, *, checksum: bool = True) -> None:
        """Fills `data` (bytes), of which `crc32` knows unless told otherwise.

        Raises:
            CheckpointCorruptError: the file ends before.
        """
        with failing_path(self.where):
            for start in range(0, len(data), BLOCK_NBYTES):
                block = data[start : start + BLOCK_NBYTES]
                done = 0
                while done < len(block):
                    got = self._fs.read_into(self._fd, block[done:])
                    if got <= 0:
                        raise CheckpointCorruptError(
                            f"{self.where!r} ended {len(data) - start - done} bytes early: it "
                            "was cut while it was read."
                        )
                    done += got
                if checksum:
                    self.crc32 = crc32_of(block, self.crc32)

    def read(self, nbytes: int) -> bytearray:
        """The next `nbytes` bytes. Check the size first: this allocates them."""
        data = bytearray(nbytes)
        if nbytes:
            self.read_into(memoryview(data))
        return data

    def check_crc(self, wanted: int) -> None:
        """Raises CheckpointCorruptError unless all bytes read so far have this CRC-32."""
        if self.crc32 != wanted:
            raise CheckpointCorruptError(
                f"{self.where!r} is damaged: its CRC-32 is {self.crc32:08x}, expected "
                f"{wanted:08x}."
            )


def _shown(header: bytes, other: bytes) -> str:
    """A header from a little before where it differs from the other on."""
    pairs = enumerate(zip(header, other, strict=False))
    start = next((i for i, (one, two) in pairs if one != two), 0)
    return repr(header[max(0, start - 20) :].rstrip())[:100]
