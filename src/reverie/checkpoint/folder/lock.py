"""One process at a time saves into a folder; its threads take turns.

The lock is an exclusive, non-blocking `flock` (a locked byte on Windows) on
`.reverie.lock` in the folder, held from a process's first save there until the
last `FolderLock` that used it is closed, or the process dies. Loading takes no
lock. The lock file stays: removing it would race with the next holder.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from reverie.checkpoint.disk.crc_file import write_all
from reverie.checkpoint.disk.files import FILE_SYSTEM, FileSystem, failing_path
from reverie.errors import CheckpointLockedError

LOCK_NAME = ".reverie.lock"

_log = logging.getLogger("reverie.checkpoint")
_UNSUPPORTED = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}
_LOCKED_BYTE = 1 << 20  # Windows: away from the pid, which others must be able to read
_TEXT_NBYTES = 32  # fixed, so that a shorter pid overwrites a longer one


@dataclass(slots=True, eq=False)
class _Held:
    """The lock of this process on one folder."""

    key: str
    fd: int
    pid: int
    exclusive: bool
    users: int = 0
    mutex: threading.Lock = field(default_factory=threading.Lock)


_held: dict[str, _Held] = {}
_guard = threading.Lock()
_forgotten: list[tuple[_Held, FileSystem]] = []


class FolderLock:
    """A share in this process's lock on a folder. Nothing happens before `saving()`.

    Any number of these on one folder work in one process. Thread-safe. In a
    forked child it starts anew, and finds the folder locked by the parent.
    """

    def __init__(self, root: Path, *, fs: FileSystem = FILE_SYSTEM) -> None:
        self._root = Path(root)
        self._fs = fs
        self._mine: _Held | None = None

    def __del__(self) -> None:
        """Gives back the share of a lock that nobody closed.

        The garbage collector may run this within any of the functions below, and
        in their thread: so it never waits, and leaves the work to the next of
        them where it cannot be done now.
        """
        if self._mine is not None:
            _forgotten.append((self._mine, self._fs))
            if _guard.acquire(blocking=False):
                try:
                    _leave_forgotten()
                finally:
                    _guard.release()

    @contextlib.contextmanager
    def saving(self) -> Iterator[bool]:
        """Holds the folder for one save; waits for other saves of this process.

        Yields:
            Whether other processes are really kept out: False where the file system
            knows no locks (logged), and then nobody's leftovers may be swept.

        Raises:
            CheckpointLockedError: another process holds the folder.
            OSError: the lock file cannot be made or opened.
        """
        with _guard:
            _leave_forgotten()
            held = _share(self._root, self._fs, self._mine)
            if self._mine is not held:
                _leave(self._mine, self._fs)
                self._mine = held
                held.users += 1
            held.users += 1  # for the length of this save, should close() come meanwhile
        try:
            with held.mutex:
                yield held.exclusive
        finally:
            with _guard:
                _leave(held, self._fs)

    def close(self) -> None:
        """Gives the share back; the last one lets the folder go. Idempotent."""
        with _guard:
            _leave_forgotten()
            _leave(self._mine, self._fs)
            self._mine = None


def _share(root: Path, fs: FileSystem, mine: _Held | None) -> _Held:
    if mine is not None and _serves(mine, root, fs):
        return mine  # without asking the system about each folder above it
    key = os.path.normcase(os.path.realpath(root))
    held = _held.get(key)
    if held is not None and _serves(held, root, fs):
        return held
    # None yet; or it is the parent's; or the folder was removed and made again meanwhile.
    _held[key] = held = _take(root, key, fs)
    return held


def _serves(held: _Held, root: Path, fs: FileSystem) -> bool:
    return held.pid == os.getpid() and _is_the_file(held.fd, root, fs)


def _leave_forgotten() -> None:
    while _forgotten:
        _leave(*_forgotten.pop())


def _leave(held: _Held | None, fs: FileSystem) -> None:
    if held is None or held.pid != os.getpid():
        return
    held.users -= 1
    if held.users:
        return
    if _held.get(held.key) is held:
        del _held[held.key]
    with contextlib.suppress(OSError):
        _unlock(held.fd)
    with contextlib.suppress(OSError):
        fs.close(held.fd)


def _take(root: Path, key: str, fs: FileSystem) -> _Held:
    path = root / LOCK_NAME
    for _ in range(10):
        with failing_path(path):
            fd = fs.open_lock(path)
        try:
            with failing_path(path):
                exclusive = _lock(fd, root)
                current = _is_the_file(fd, root, fs)
                text = f"pid {os.getpid()}".ljust(_TEXT_NBYTES - 1) + "\n"
                os.lseek(fd, 0, os.SEEK_SET)
                write_all(fs, fd, memoryview(text.encode("ascii")))
        except BaseException:
            with contextlib.suppress(OSError):
                fs.close(fd)
            raise
        if current:
            return _Held(key, fd, os.getpid(), exclusive)
        with contextlib.suppress(OSError):  # replaced between opening and locking: once more
            fs.close(fd)
    raise OSError(errno.EAGAIN, "the lock file was replaced again and again", str(path))


def _is_the_file(fd: int, root: Path, fs: FileSystem) -> bool:
    """Whether the locked file is still the one of that name."""
    try:
        there, ours = fs.lstat(root / LOCK_NAME), fs.fstat(fd)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _lock(fd: int, root: Path) -> bool:
    try:
        _lock_file(fd)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK):
            raise CheckpointLockedError(
                f"Another process (pid {_holder(fd)}) is saving into {str(root)!r}. Only one "
                "process at a time may: close its manager, or save into another folder."
            ) from None
        if error.errno not in _UNSUPPORTED:
            raise
        _log.warning(
            "The file system of %r has no locks (%s): let only one process save there.",
            str(root),
            error.strerror,
        )
        return False
    return True


def _holder(fd: int) -> str:
    try:
        os.lseek(fd, 0, os.SEEK_SET)
        found = re.match(rb"pid ([0-9]{1,10})\b", os.read(fd, _TEXT_NBYTES))
    except OSError:
        return "unknown"
    return found[1].decode("ascii") if found else "unknown"


if sys.platform == "win32":
    import msvcrt

    def _lock_file(fd: int) -> None:
        os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)

    def _unlock(fd: int) -> None:
        os.lseek(fd, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _lock_file(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)

    def _before_fork() -> None:
        _guard.acquire()

    def _after_fork() -> None:
        _guard.release()

    def _forget_after_fork() -> None:
        """Closes the parent's descriptors, or a child that outlives it would keep its locks."""
        global _guard
        _guard = threading.Lock()
        for held in _held.values():
            with contextlib.suppress(OSError):
                os.close(held.fd)
        _held.clear()

    os.register_at_fork(
        before=_before_fork,  # so that no lock is half taken at that moment
        after_in_parent=_after_fork,
        after_in_child=_forget_after_fork,
    )
