"""Checkpointers: where a server's checkpoints go, and where it starts from."""

from __future__ import annotations

import abc
import os
import tempfile

from reverie.reverb import pybind


class CheckpointerBase(abc.ABC):
    """What a `Server` takes as its checkpointer."""

    @abc.abstractmethod
    def internal_checkpointer(self) -> pybind.Checkpointer:
        """The engine's own form of it."""


class DefaultCheckpointer(CheckpointerBase):
    """Checkpoints in a folder; a server starts from the newest of them.

    Args:
        path: the folder; made when the first checkpoint is written.
        group: kept and otherwise ignored, as in Reverb's public releases.
        fallback_checkpoint_path: the folder of one checkpoint, from which a server
            starts where `path` holds none.
        max_nbytes: most bytes that a checkpoint from which a server starts may take;
            Reverie's own. None: in proportion to what its files take on the disk.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        group: str = "",
        fallback_checkpoint_path: str | os.PathLike[str] | None = None,
        *,
        max_nbytes: int | None = None,
    ) -> None:
        self.path = os.fspath(path)
        self.group = group
        self.fallback_checkpoint_path = fallback_checkpoint_path
        self.max_nbytes = max_nbytes

    def internal_checkpointer(self) -> pybind.Checkpointer:
        """The engine's own form of it.

        Raises:
            InvalidArgumentError: a path is a URL, or of an unknown user's home, or
                `max_nbytes` is no number of bytes.
        """
        return pybind.Checkpointer(
            self.path, self.group, self.fallback_checkpoint_path, max_nbytes=self.max_nbytes
        )


class TempDirCheckpointer(DefaultCheckpointer):
    """Checkpoints in a folder of their own, made when it is first asked for.

    What a `Server` takes by default, so that `Client.checkpoint()` works. The folder
    stays when the process ends.
    """

    def __init__(self) -> None:
        self._path = ""
        self.group = ""
        self.fallback_checkpoint_path = None
        self.max_nbytes = None

    @property
    def path(self) -> str:  # type: ignore[override]
        """The folder."""
        self._path = self._path or tempfile.mkdtemp(prefix="reverie-checkpoints-")
        return self._path

    def internal_checkpointer(self) -> pybind.Checkpointer:
        """The engine's own form of it."""
        return pybind.Checkpointer(lambda: self.path, self.group)
