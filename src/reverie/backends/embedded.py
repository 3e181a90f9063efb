"""The default backend: a table in the user's own process, over the native core."""

from __future__ import annotations

import secrets

from reverie.backends.settings import BufferSettings
from reverie.checkpoint.format.snapshot import Progress
from reverie.checkpoint.load import load_newest, load_table
from reverie.checkpoint.save import Saver, check_savable
from reverie.checkpoint.source import Source
from reverie.errors import InvalidArgumentError
from reverie.observers import TrajectoryObserver
from reverie.replay_buffer import ReplayBuffer
from reverie.runtime.checks import check_int
from reverie.tables.settings import MAX_ITEMS
from reverie.tables.store import Store
from reverie.tables.table import Table


def validate(settings: BufferSettings) -> None:
    """Raises InvalidArgumentError or SpecError for settings that could not work."""
    if settings.server_address is not None:
        raise InvalidArgumentError(
            f"server_address: found {settings.server_address!r:.200}, wanted None: "
            'backend="embedded" keeps everything in this process. Servers are for '
            'backend="reverb".'
        )
    check_int("capacity", settings.table.max_size, 1, MAX_ITEMS)
    check_int("stride_length", settings.stride_length, 1, 2**32 - 1)
    if settings.seed is not None:
        check_int("seed", settings.seed, 0, 2**64 - 1)
    check_savable(settings.table, settings.nest)


def create(settings: BufferSettings) -> EmbeddedBackend:
    """A fresh, empty buffer."""
    table = Table(settings.table, nest=settings.nest, seed=_seed(settings))
    table.attach(_store(settings))
    return EmbeddedBackend(settings, table)


def load(
    settings: BufferSettings,
    progress: Progress | None = None,
    max_nbytes: int | None = None,
) -> EmbeddedBackend:
    """The newest checkpoint of `settings.checkpoint_dir`; see `load_newest` for errors."""

    def table_of(source: Source) -> Table:
        return load_table(
            source,
            _store(settings),
            settings.table,
            settings.nest,
            seed=_seed(settings),
            on_misfit=settings.on_misfit,
        )

    table = load_newest(
        settings.checkpoint_dir,
        table_of,
        on_corrupt=settings.on_corrupt,
        progress=progress,
        max_nbytes=max_nbytes,
    )
    return EmbeddedBackend(settings, table)


class EmbeddedBackend:
    """A replay buffer, its observer and its saver. Thread-safe."""

    def __init__(self, settings: BufferSettings, table: Table) -> None:
        self._settings = settings
        self._store = table.store
        self._saver = Saver(settings.checkpoint_dir, settings.max_to_keep)
        self.replay_buffer = self.buffer = ReplayBuffer.over(
            table,
            settings.nest,
            self._saver,
            data_spec=settings.data_spec,
            sequence_length=settings.sequence_length,
        )
        self.server = self.buffer.server
        self.observer = self.new_observer()

    def new_observer(self) -> TrajectoryObserver:
        """Another stream of steps into the same table."""
        return TrajectoryObserver(
            self.buffer.py_client,
            self.buffer.table_name,
            self.buffer.sequence_length,
            stride_length=self._settings.stride_length,
            pad_end_of_episodes=self._settings.pad_end_of_episodes,
            tile_end_of_episodes=self._settings.tile_end_of_episodes,
        )

    def check(self) -> None:
        """Raises what a background save has left behind, and in a forked child."""
        if self._store.is_forked:
            raise self._store.closed_error()
        if self._saver.failed():
            self._saver.wait()

    def finish_saving(self) -> None:
        """Waits for a background save; raises what went wrong in it."""
        self._saver.wait()

    def close(self) -> None:
        """Ends a background save, then releases everything. Idempotent."""
        try:
            self._saver.close()
        finally:
            self.observer.close()
            self.buffer.close()


def _store(settings: BufferSettings) -> Store:
    return Store(f"Table {settings.table.name!r}")


def _seed(settings: BufferSettings) -> int:
    return secrets.randbits(64) if settings.seed is None else settings.seed
