"""The public attributes of a manager, by the names that Smart Control's has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reverie.backends import Backend
from reverie.backends.settings import BufferSettings


class ManagerAttributes:
    """Base of the manager: what it was asked for, and what it has made. Not to be set."""

    _settings: BufferSettings
    _backend: Backend | None

    @property
    def data_spec(self) -> Any:
        """What one step looks like, as it was given."""
        return self._settings.data_spec

    @property
    def capacity(self) -> int:
        """The most items it holds."""
        return self._settings.table.max_size

    @property
    def checkpoint_dir(self) -> str | Path:
        """The folder of checkpoints, absolute: a Path where one was given, else a str."""
        folder = self._settings.checkpoint_dir
        return folder if self._settings.given_as_path else str(folder)

    @property
    def sequence_length(self) -> int:
        """Steps of each item."""
        return self._settings.sequence_length

    @property
    def table_name(self) -> str:
        """The table's name."""
        return self._settings.table.name

    @property
    def replay_buffer(self) -> Any:
        """The present replay buffer; None before there is one, and after `close()`."""
        backend = self._backend
        return None if backend is None else backend.replay_buffer

    @property
    def observer(self) -> Any:
        """Its first observer; None as `replay_buffer`."""
        backend = self._backend
        return None if backend is None else backend.observer

    @property
    def server(self) -> Any:
        """What the buffer's table is served by; None as `replay_buffer`.

        It has `port`, `localhost_client()`, `wait()` and `stop()`, which closes the
        buffer. With `backend="reverb"` it is Reverb's server; None where that is elsewhere.
        """
        backend = self._backend
        return None if backend is None else backend.server
