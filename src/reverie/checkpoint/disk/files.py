"""Every file-system call of a checkpoint, behind one class.

Nothing else in this package touches a file. A test passes its own `FileSystem`
to count the calls, to fail the k-th one, to write short, or to stop there.

Nothing here follows a symbolic link inside a checkpoint: folders are opened
once, and files are opened, looked at and removed relative to that handle where
the system allows it (POSIX), else by path after a check (Windows).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_WINDOWS = sys.platform == "win32"
_COMMON = (
    getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOINHERIT", 0)
)
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)  # opening a FIFO must not wait for its other end
_DIRECTORY = getattr(os, "O_DIRECTORY", 0)
_REPARSE_POINT = 0x400  # Windows: links, junctions, mount points


@dataclass(frozen=True, slots=True)
class OpenFolder:
    """A real folder held open: its path, and its descriptor (None on Windows)."""

    path: Path
    fd: int | None


class FileSystem:
    """The calls, one method each, with the semantics of their `os` namesakes.

    All raise `OSError`. Interrupted calls are repeated by Python itself. Stateless
    and safe from several threads.
    """

    def mkdir(self, path: Path, mode: int = 0o777) -> None:
        """Makes one new folder."""
        os.mkdir(path, mode)

    def open_new(self, path: Path) -> int:
        """Makes a file that did not exist, for writing; never through a link."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW | _COMMON
        return os.open(path, flags, 0o644)

    def open_lock(self, path: Path) -> int:
        """Opens, or makes, a lock file for reading and writing; never through a link."""
        flags = os.O_RDWR | os.O_CREAT | _NOFOLLOW | _NONBLOCK | _COMMON
        return os.open(path, flags, 0o644)

    def write(self, fd: int, data: memoryview) -> int:
        """Writes some of `data`; returns how many bytes."""
        return os.write(fd, data)

    def fsync(self, fd: int) -> None:
        """Returns when the file's bytes are on the medium, as far as the system can tell."""
        _flush(fd)

    def fsync_dir(self, path: Path) -> None:
        """Makes the names in a folder durable. Windows has no such call: nothing there."""
        if _WINDOWS:
            return
        with failing_path(path):
            fd = os.open(path, os.O_RDONLY | _DIRECTORY | _COMMON)
            try:
                _flush(fd)
            except OSError as error:
                # Some network file systems have no fsync for folders; they lose nothing by it.
                if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                    raise
            finally:
                os.close(fd)

    def close(self, fd: int) -> None:
        """Closes a descriptor; some systems report a lost write only here."""
        os.close(fd)

    def rename(self, source: Path, target: Path) -> None:
        """Renames a folder within one file system."""
        if not _WINDOWS:
            os.rename(source, target)
            return
        for attempt in range(6):  # a virus scanner may hold a fresh file for a moment
            try:
                os.rename(source, target)
                return
            except PermissionError:
                if attempt == 5:
                    raise
                time.sleep(0.02 * 2**attempt)

    def rmdir(self, path: Path) -> None:
        """Removes an empty folder."""
        os.rmdir(path)

    def lstat(self, path: Path) -> os.stat_result:
        """Looks at a path, at the link itself where it is one."""
        return os.lstat(path)

    def names(self, path: Path) -> list[str]:
        """The names in a folder, sorted."""
        return sorted(os.listdir(path))

    def open_folder(self, path: Path) -> OpenFolder:
        """Opens a real folder; NotADirectoryError for a link or anything else."""
        if _WINDOWS:
            if not is_real_folder(os.lstat(path)):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
            return OpenFolder(path, None)
        return OpenFolder(path, os.open(path, os.O_RDONLY | _DIRECTORY | _NOFOLLOW | _COMMON))

    def close_folder(self, folder: OpenFolder) -> None:
        """Lets go of an open folder."""
        if folder.fd is not None:
            os.close(folder.fd)

    def names_in(self, folder: OpenFolder) -> list[str]:
        """The names in an open folder, sorted."""
        return sorted(os.listdir(folder.path if folder.fd is None else folder.fd))

    def lstat_in(self, folder: OpenFolder, name: str) -> os.stat_result:
        """Looks at one entry of an open folder, not through a link."""
        path, at = _at(folder, name)
        return os.stat(path, follow_symlinks=False, **at)

    def remove_in(self, folder: OpenFolder, name: str) -> None:
        """Removes one file of an open folder."""
        path, at = _at(folder, name)
        os.unlink(path, **at)

    def open_in(self, folder: OpenFolder, name: str) -> int:
        """Opens one file of an open folder for reading; never through a link, never waiting."""
        path, at = _at(folder, name)
        if folder.fd is None and not stat.S_ISREG(os.lstat(path).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        return os.open(path, os.O_RDONLY | _NOFOLLOW | _NONBLOCK | _COMMON, **at)

    def fstat(self, fd: int) -> os.stat_result:
        """Looks at an open file."""
        return os.fstat(fd)

    def read_into(self, fd: int, buffer: memoryview) -> int:
        """Reads some bytes into `buffer`; returns how many, 0 at the end of the file."""
        if hasattr(os, "readv"):
            return os.readv(fd, [buffer])
        data = os.read(fd, min(len(buffer), 1 << 20))
        buffer[: len(data)] = data
        return len(data)

    def stored_nbytes_in(self, folder: OpenFolder, name: str) -> int:
        """Bytes of one regular file of an open folder that are on the medium, no holes.

        Its size where the system cannot tell.
        """
        status = self.lstat_in(folder, name)
        nbytes = status.st_size
        blocks = getattr(status, "st_blocks", None)  # Windows has none
        if blocks is None or blocks * 512 >= nbytes or not hasattr(os, "SEEK_HOLE"):
            return nbytes
        fd = self.open_in(folder, name)
        try:
            return _without_holes(fd, nbytes)
        finally:
            self.close(fd)

    def skip(self, fd: int, nbytes: int) -> None:
        """Goes on reading so many bytes further on."""
        os.lseek(fd, nbytes, os.SEEK_CUR)


FILE_SYSTEM = FileSystem()
"""The real one, the default everywhere."""


def _flush(fd: int) -> None:
    if sys.platform == "darwin":
        import fcntl

        # fsync() there leaves the bytes in the drive's cache. Only where a volume does not know
        # the better call may the lesser one follow: after a failed flush it could succeed.
        try:
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
                raise
    os.fsync(fd)


def _without_holes(fd: int, nbytes: int) -> int:
    """Fewer blocks than bytes are no proof: some file systems compress, or do not count."""
    stored = at = 0
    try:
        while at < nbytes:
            start = os.lseek(fd, at, os.SEEK_DATA)
            at = os.lseek(fd, start, os.SEEK_HOLE)
            stored += min(at, nbytes) - start
    except OSError as error:
        if error.errno == errno.ENXIO:  # a hole up to the end
            return stored
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
        return nbytes
    return stored


def _at(folder: OpenFolder, name: str) -> tuple[str, dict[str, Any]]:
    if folder.fd is None:
        return str(folder.path / name), {}
    return name, {"dir_fd": folder.fd}


def is_real_folder(status: os.stat_result) -> bool:
    """Whether an `lstat` result is a folder and no link of any kind."""
    attributes: int = getattr(status, "st_file_attributes", 0)
    return stat.S_ISDIR(status.st_mode) and not attributes & _REPARSE_POINT


@contextlib.contextmanager
def failing_path(path: Path | str) -> Iterator[None]:
    """Puts `path` into an OSError that does not name one (those of write, fsync, close)."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def opened_folder(fs: FileSystem, path: Path) -> Iterator[OpenFolder]:
    """Holds a real folder open. Raises OSError."""
    folder = fs.open_folder(path)
    try:
        yield folder
    finally:
        with contextlib.suppress(OSError):
            fs.close_folder(folder)


def exists(fs: FileSystem, path: Path) -> bool:
    """Whether there is anything of this name, a dangling link included. Raises OSError."""
    try:
        fs.lstat(path)
    except FileNotFoundError:
        return False
    return True
