"""The default backend: tables in the user's own process, over the native core."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike

from reverie.backends import BufferSettings
from reverie.checkpoint.format.snapshot import Progress
from reverie.checkpoint.loading import load_newest
from reverie.checkpoint.saving import Saver
from reverie.errors import InvalidArgumentError
from reverie.nests.nest import Nest
from reverie.observers import TrajectoryObserver
from reverie.replay_buffer import LocalClient, ReplayBuffer
from reverie.sample import SampleInfo
from reverie.table import ReplayTable, TableInfo


def create(settings: BufferSettings) -> EmbeddedBackend:
    """A fresh, empty buffer."""
    return EmbeddedBackend(settings, _new_table(settings))


def load(settings: BufferSettings, progress: Progress | None = None) -> EmbeddedBackend:
    """The newest checkpoint of `settings.checkpoint_dir`; see `load_newest` for errors."""
    table = load_newest(
        settings.checkpoint_dir,
        lambda: _new_table(settings),
        on_corrupt=settings.on_corrupt,
        progress=progress,
    )
    return EmbeddedBackend(settings, table)


def validate(settings: BufferSettings) -> None:
    """Raises InvalidArgumentError or SpecError for settings that could not work."""
    if settings.server_address is not None:
        raise InvalidArgumentError(
            f"server_address: found {settings.server_address!r:.200}, wanted None: "
            'backend="embedded" keeps everything in this process. Servers are for '
            'backend="reverb".'
        )
    backend = create(settings)
    try:
        backend.check_savable()
    finally:
        backend.close()


class EmbeddedBackend:
    """A table, its replay buffer, its observer and its saver. Thread-safe."""

    def __init__(self, settings: BufferSettings, table: ReplayTable) -> None:
        self._table = table
        self._saver = saver = Saver(settings.checkpoint_dir, settings.max_to_keep)
        # Without self: a cycle would keep gigabytes until the garbage collector comes by.
        client = LocalClient(lambda: str(saver.save(table)), table)
        self._replay_buffer = ReplayBuffer(table, settings.data_spec, client)
        self._settings = settings
        self._observer = self.new_observer()

    @property
    def replay_buffer(self) -> ReplayBuffer:
        """The replay buffer handed to users."""
        return self._replay_buffer

    @property
    def observer(self) -> TrajectoryObserver:
        """The observer handed to users."""
        return self._observer

    def new_observer(self) -> TrajectoryObserver:
        """Another stream of steps into the same table."""
        return TrajectoryObserver(
            self._replay_buffer.py_client,
            self._table.name,
            self._table.sequence_length,
            stride_length=self._settings.stride_length,
            pad_end_of_episodes=self._settings.pad_end_of_episodes,
            tile_end_of_episodes=self._settings.tile_end_of_episodes,
        )

    def check(self) -> None:
        """Raises what a background save has left behind."""
        if self._saver.failed():
            self._saver.wait()

    def check_savable(self) -> None:
        """Raises InvalidArgumentError for a table that no checkpoint could hold."""
        self._saver.check(self._table)

    def finish_saving(self) -> None:
        """Waits for a background save; raises what went wrong in it."""
        self._saver.wait()

    def num_frames(self) -> int:
        """Items in the table."""
        return self._replay_buffer.num_frames()

    def dataset(self, batch_size: int, num_steps: int | None) -> Any:
        """A `tf.data.Dataset` of batches."""
        return self._replay_buffer.as_dataset(batch_size, num_steps)

    def sample(
        self, batch_size: int, num_steps: int | None, out: Any, timeout: float | None
    ) -> tuple[Any, SampleInfo]:
        """One batch in NumPy."""
        return self._replay_buffer.sample(batch_size, num_steps, out=out, timeout=timeout)

    def gather_all(self) -> Any:
        """Every item, stacked."""
        return self._replay_buffer.gather_all()

    def iter_items(self) -> Iterator[tuple[int, Any]]:
        """Every item, one by one."""
        return self._replay_buffer.iter_items()

    def update_priorities(self, keys: ArrayLike, priorities: ArrayLike) -> int:
        """Number of stale keys."""
        return self._replay_buffer.update_priorities(keys, priorities)

    def clear(self) -> None:
        """Empties the buffer; its handles stay valid."""
        self._table.clear()

    def info(self) -> TableInfo:
        """Sizes, counters, settings."""
        return self._replay_buffer.get_table_info()

    def save(self, wait: bool, progress: Progress | None) -> Path | None:
        """A checkpoint."""
        return self._saver.save(self._table, wait=wait, progress=progress)

    def close(self) -> None:
        """Ends a background save, then releases everything. Idempotent."""
        try:
            self._saver.close()
        finally:
            self._observer.close()
            self._table.close()


def _new_table(settings: BufferSettings) -> ReplayTable:
    return ReplayTable(
        Nest(settings.data_spec),
        settings.table_name,
        capacity=settings.capacity,
        sequence_length=settings.sequence_length,
        seed=secrets.randbits(64) if settings.seed is None else settings.seed,
    )
