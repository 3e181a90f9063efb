"""Saving one table's store: in the foreground or behind the caller's back."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable
from pathlib import Path

from reverie import _core
from reverie.checkpoint.background import BackgroundSaver
from reverie.checkpoint.format.manifest import TableSettings
from reverie.checkpoint.format.plan import Plan
from reverie.checkpoint.format.snapshot import Progress
from reverie.checkpoint.native import write_checkpoint
from reverie.table import ReplayTable


class Saver(BackgroundSaver):
    """Saves into one folder, one checkpoint at a time.

    Owns a share in the folder's lock from the first save until `close()`.
    Thread-safe.

    Args:
        root: the folder of checkpoints.
        max_to_keep: newest checkpoints to keep; None keeps all.
    """

    def __init__(self, root: Path, max_to_keep: int | None) -> None:
        super().__init__(root)
        self._max_to_keep = max_to_keep

    def check(self, table: ReplayTable) -> None:
        """Refuses a table that could be filled but never saved.

        Raises:
            InvalidArgumentError: its name or a column's path is none that the format
                can hold.
        """
        snapshot = table.store.snapshot()
        settings = [_settings(table)]
        Plan.of(snapshot, table.nest.record_dtype, _spec_json(table), settings, _now())

    def save(
        self, table: ReplayTable, *, wait: bool = True, progress: Progress | None = None
    ) -> Path | None:
        """Saves the table as it is now.

        The snapshot is taken at once, under the store's lock; adding and sampling
        go on while it is written.

        Args:
            table: what to save.
            wait: False writes in the background and returns None; the next call of
                `save`, `wait` or `close` raises what went wrong.
            progress: called with bytes written and in all, from the writing thread.

        Returns:
            The checkpoint's folder, once it is durable.

        Raises:
            CheckpointError: see `write_checkpoint`; also of an earlier background
                save, and then nothing new was begun.
        """
        table.check_open()

        def begin() -> Callable[[], Path]:
            snapshot = table.store.snapshot()
            return lambda: self._write(table, snapshot, progress)

        return self._save(begin, wait=wait)

    def _write(
        self, table: ReplayTable, snapshot: _core.Snapshot, progress: Progress | None
    ) -> Path:
        return write_checkpoint(
            self._root,
            snapshot,
            record_dtype=table.nest.record_dtype,
            spec_json=_spec_json(table),
            tables=[_settings(table)],
            saved_at=_now(),
            max_to_keep=self._max_to_keep,
            lock=self._lock,
            progress=progress,
        )


def _settings(table: ReplayTable) -> TableSettings:
    return TableSettings(
        name=table.name,
        max_size=table.capacity,
        sampler="uniform",
        remover="fifo",
        min_size_to_sample=table.min_size_to_sample,
        samples_per_insert=1.0,
        min_diff=-math.inf,
        max_diff=math.inf,
        max_times_sampled=0,
    )


def _spec_json(table: ReplayTable) -> object:
    return {"sequence_length": table.sequence_length}


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
