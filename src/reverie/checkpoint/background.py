"""One save at a time into one folder, in the foreground or behind the caller's back."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from reverie.checkpoint.disk.files import FILE_SYSTEM, FileSystem
from reverie.checkpoint.folder.lock import FolderLock
from reverie.errors import InvalidArgumentError
from reverie.runtime.turns import short_turns


class BackgroundSaver:
    """The part of a saver that knows nothing of what is saved. Thread-safe.

    Owns a share in the folder's lock from the first save until `close()`.

    Args:
        root: the folder of checkpoints.
        fs: the file system.
    """

    def __init__(self, root: Path, *, fs: FileSystem = FILE_SYSTEM) -> None:
        self._root = root
        self._lock = FolderLock(root, fs=fs)
        self._turn = threading.Lock()  # from snapshot to publication: saves stay in order
        self._mutex = threading.Lock()  # guards the two below; taken after _turn
        self._pool: ThreadPoolExecutor | None = None
        self._pending: Future[Path] | None = None
        self._writing: int | None = None  # the thread that writes
        self._pid = os.getpid()

    def failed(self) -> bool:
        """Whether a background save has ended in an error that nobody has seen."""
        pending = self._pending
        if os.getpid() != self._pid:
            return False  # a forked child's copy; its locks may never open
        return pending is not None and pending.done() and pending.exception() is not None

    def wait(self) -> None:
        """Waits for a background save; raises what went wrong in it, once."""
        if os.getpid() != self._pid:
            return  # the thread that saves is the parent's
        with self._mutex:
            pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Waits for a background save, gives the folder back; raises as `wait`. Idempotent."""
        if os.getpid() != self._pid:
            return  # the thread that saves is the parent's
        try:
            self.wait()
        finally:
            with self._mutex:
                pool, self._pool = self._pool, None
            if pool is not None:
                pool.shutdown()
            self._lock.close()

    def _save(self, begin: Callable[[], Callable[[], Path]], *, wait: bool) -> Path | None:
        """Begins a save now, and ends it here or in the background.

        Args:
            begin: takes the snapshot; returns what writes and publishes it.
            wait: False writes in the background and returns None.

        Raises:
            InvalidArgumentError: called from the progress of another save.
            Exception: of `begin`, of the writing, or of an earlier background save;
                then nothing new was begun.
        """
        if self._writing == threading.get_ident():
            raise InvalidArgumentError(
                "save() was called from the progress of another save, which it would wait "
                "for. Call it after that save has returned."
            )
        with self._turn:
            self.wait()
            write = begin()
            if wait:
                return self._run(write)
            with self._mutex:
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(1, "reverie-save")
                self._pending = self._pool.submit(self._run, write)
            return None

    def _run(self, write: Callable[[], Path]) -> Path:
        self._writing = threading.get_ident()
        try:
            with short_turns.wanted():
                return write()
        finally:
            self._writing = None
