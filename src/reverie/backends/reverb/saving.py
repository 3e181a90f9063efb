"""Saving a local server's tables, and private snapshots of them.

No framework is imported here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

from reverie.backends.reverb import folder
from reverie.checkpoint.background import BackgroundSaver
from reverie.checkpoint.disk.files import FILE_SYSTEM, FileSystem
from reverie.checkpoint.folder.commit import ensure_root, write_errors
from reverie.checkpoint.folder.place import is_file
from reverie.checkpoint.format.snapshot import Progress
from reverie.checkpoint.reverb_files.finding import DONE
from reverie.errors import CheckpointCorruptError, ClosedError, ReverieError


class Saver(BackgroundSaver):
    """Saves into one folder, one checkpoint at a time. Thread-safe.

    Args:
        root: the folder of checkpoints.
        max_to_keep: newest checkpoints to keep; None keeps all.
        fs: the file system.

    Attributes:
        live: the folder that Reverb's own checkpointer is to write into.
        checkpoint: gives a function that makes Reverb write a checkpoint there and
            returns its path, or None once the client is gone.
    """

    checkpoint: Callable[[], Callable[[], str] | None]

    def __init__(
        self, root: Path, max_to_keep: int | None, *, fs: FileSystem = FILE_SYSTEM
    ) -> None:
        super().__init__(root, fs=fs)
        self._max_to_keep = max_to_keep
        self._fs = fs
        self._stage = stage = folder.Stage(root)
        self._taking = threading.Lock()  # Reverb's next checkpoint removes the one before
        self.live = stage.live
        # For a manager that nobody closes.
        self._finalize = weakref.finalize(self, _remove_stage, stage, self._pid)

    def save(self, *, wait: bool = True, progress: Progress | None = None) -> Path | None:
        """Saves the server's tables as they are now.

        Reverb writes its files before this returns; with `wait=False` reading them
        back, making them durable and publishing them go on in the background.

        Args:
            wait: False returns None; the next call of `save`, `wait` or `close`
                raises what went wrong.
            progress: called with bytes read back and in all, from the writing thread.

        Returns:
            The checkpoint's folder, once it is durable.

        Raises:
            CheckpointLockedError: another process saves into the folder.
            CheckpointWriteError: the folder cannot be written, the disk is full, or
                what Reverb wrote is not whole. Earlier checkpoints are intact.
        """

        def begin() -> Callable[[], Path]:
            with write_errors(self._root):
                if is_file(self._root / DONE):
                    raise FileExistsError(
                        errno.EEXIST, "the folder is itself a checkpoint", str(self._root)
                    )
                draft, name = self._take()
            return lambda: self._publish(draft, name, progress)

        return self._save(begin, wait=wait)

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[Path]:
        """A checkpoint of this moment to read, gone afterwards.

        Raises:
            CheckpointWriteError: it could not be written.
        """
        with write_errors(self._root):
            draft, _ = self._take()
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def close(self) -> None:
        """Waits for a background save, gives the folder back; raises as `wait`. Idempotent."""
        try:
            super().close()
        finally:
            self._finalize()  # does nothing in a forked child

    def _take(self) -> tuple[Path, str]:
        with self._taking:
            ensure_root(self._root, self._fs)
            self._stage.prepare(self._fs)
            try:
                checkpoint = self.checkpoint()
                if checkpoint is None:
                    raise ClosedError("The buffer is closed. Create or load it anew.")
                written = Path(checkpoint())
            except ReverieError:
                raise
            except (RuntimeError, ValueError) as error:  # what Reverb's statuses become
                raise OSError(errno.EIO, f"Reverb: {error!s:.300}", str(self.live)) from error
            return self._stage.take(written, self._fs), written.name

    def _publish(self, draft: Path, name: str, progress: Progress | None) -> Path:
        try:
            with write_errors(self._root), self._lock.saving() as exclusive:
                if exclusive:
                    folder.sweep(self._root, self._stage.folder, self._fs)
                try:
                    path = folder.publish(draft, self._root, name, self._fs, progress)
                except CheckpointCorruptError as error:
                    raise OSError(
                        errno.EIO, f"what Reverb wrote is not whole: {error}", str(draft)
                    ) from error
                if self._max_to_keep is not None:
                    folder.prune(self._root, self._max_to_keep, self._fs)
                return path
        finally:
            shutil.rmtree(draft, ignore_errors=True)  # gone already where it was published


def _remove_stage(stage: folder.Stage, pid: int) -> None:
    if os.getpid() == pid:
        stage.remove()
