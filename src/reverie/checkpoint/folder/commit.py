"""Publishing a checkpoint so that it is wholly there or wholly absent.

The order is the law, and each step has a reason:

1. Build in `.tmp-<uuid>` in the same folder: rename cannot cross file systems.
2. fsync each file: a rename may reach the disk before the bytes that it names.
3. Manifest last: it holds the checksums of all the rest.
4. fsync the temporary folder: a file's fsync does not cover its name.
5. rename to `ckpt-<number>`, never onto an existing name: the publication.
6. fsync the root: without it a power cut may take the rename back.
7. Only then remove what is too old. So at no moment are there fewer durable
   checkpoints than before.

Order among checkpoints is by number only, never by a clock.
"""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from reverie.checkpoint.disk.crc_file import Part, Written, write_file
from reverie.checkpoint.disk.files import FileSystem, exists, failing_path
from reverie.checkpoint.folder.names import MAX_SEQUENCE_NUMBER, entries, sequence_number_of
from reverie.checkpoint.folder.retention import remove_folder
from reverie.errors import CheckpointError, CheckpointWriteError


def next_sequence_number(root: Path, fs: FileSystem) -> int:
    """One above every number in use, whatever the entry is. Raises OSError."""
    newest = entries(root, fs)[-1:]
    number = 1 + sum(sequence_number_of(path.name) or 0 for path in newest)
    if number > MAX_SEQUENCE_NUMBER:
        raise OSError(errno.EOVERFLOW, "no sequence number is left", str(root))
    return number


def ensure_root(root: Path, fs: FileSystem) -> None:
    """Makes `root` and its parents where they are missing, durably. Raises OSError."""
    missing: list[Path] = []
    at = root.absolute()
    while not exists(fs, at) and at != at.parent:
        missing.append(at)
        at = at.parent
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):  # another process was faster
            fs.mkdir(folder)
        fs.fsync_dir(folder.parent)


@contextlib.contextmanager
def write_errors(root: Path) -> Iterator[None]:
    """Turns an OSError into a CheckpointWriteError that says what still holds."""
    try:
        yield
    except CheckpointError:
        raise
    except OSError as error:
        number = error.errno or errno.EIO
        reason = f"{error.strerror or error} ({errno.errorcode.get(number, number)})"
        at = f" at {str(error.filename)[:300]!r}" if error.filename else ""
        raise CheckpointWriteError(
            number,
            f"saving into {str(root)[:200]!r} failed{at}: {reason}. Earlier checkpoints are "
            "intact. Once the cause is gone, save again, or save into another folder",
        ) from error


class Draft:
    """A checkpoint in the making, in a temporary folder of its own inside `root`.

    A context manager: what was not published when it ends is removed as far as
    possible; the next save sweeps the rest. All methods raise OSError.
    """

    def __init__(self, root: Path, fs: FileSystem) -> None:
        self.folder = root / f".tmp-{uuid.uuid4().hex}"
        self._root = root
        self._fs = fs
        self._published = False

    def __enter__(self) -> Draft:
        self._fs.mkdir(self.folder, 0o700)  # exclusive: fails where the name is taken
        return self

    def __exit__(self, *_: object) -> None:
        if not self._published:
            with contextlib.suppress(OSError):
                remove_folder(self.folder, self._fs)

    def add(
        self,
        name: str,
        parts: Iterable[Part],
        *,
        on_bytes: Callable[[int], None] | None = None,
        checksum: bool = True,
    ) -> Written:
        """Writes one file and makes it durable; see `write_file`."""
        path = self.folder / name
        return write_file(self._fs, path, parts, on_bytes=on_bytes, checksum=checksum)

    def publish(self, name: str) -> Path:
        """Makes the checkpoint visible under its final name, durably; returns its path.

        When only the last fsync fails the checkpoint is complete in its place,
        but may not survive a power cut; the error is raised all the same.
        """
        target = self._root / name
        self._fs.fsync_dir(self.folder)
        if exists(self._fs, target):  # rename would replace an empty folder
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        self._fs.rename(self.folder, target)
        self._published = True
        with failing_path(self._root):
            self._fs.fsync_dir(self._root)
        return target
