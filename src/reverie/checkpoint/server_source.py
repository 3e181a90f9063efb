"""A checkpoint that a server can start from: a native one, or Reverb's."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reverie import _core
from reverie.checkpoint.disk.crc_file import reading
from reverie.checkpoint.disk.files import FILE_SYSTEM, opened_folder
from reverie.checkpoint.format.cells import CellLayout
from reverie.checkpoint.format.manifest import Manifest
from reverie.checkpoint.format.reader import Reader
from reverie.checkpoint.format.snapshot import StoreLike
from reverie.checkpoint.restore import read_manifest
from reverie.checkpoint.server_settings import overrides
from reverie.errors import CheckpointCorruptError, CheckpointMismatchError
from reverie.nests.codec import decode_signature


class Source(Protocol):
    """One checkpoint. Reading it fills a store with cells; nothing refers to them yet."""

    @property
    def path(self) -> Path:
        """Its own folder."""

    @property
    def settings(self) -> Mapping[str, Mapping[str, Any]]:
        """By table, the keywords of its `override`."""

    def read(self, store: StoreLike) -> dict[str, dict[str, Any]]:
        """Reads all cells into the store; by table, what `restore` of its core takes."""


@dataclass(frozen=True, slots=True)
class _Native:
    path: Path
    settings: Mapping[str, Mapping[str, Any]]
    manifest: Manifest

    def read(self, store: StoreLike) -> dict[str, dict[str, Any]]:
        reader = Reader(self.path, self.manifest, FILE_SYSTEM, None)
        layouts = _Layouts(store, str(self.path))
        with reading(FILE_SYSTEM, self.path), opened_folder(FILE_SYSTEM, self.path) as opened:
            # What was saved must load, however large: memory stays within the files' own
            # size, which is compared with the manifest before anything is allocated.
            reader.check_sizes(opened, sys.maxsize)
            states = {
                table.settings.name: reader.table(opened, table)
                for table in self.manifest.tables
            }
            reader.cells(opened, layouts.chunk)
        return states


def native_source(path: Path) -> Source:
    """A native checkpoint's folder. Raises CheckpointError."""
    manifest = read_manifest(path)
    where = repr(str(path / "manifest.json"))
    if manifest.columns:
        raise CheckpointMismatchError(
            f"{where} holds the records of a replay buffer's data spec, not a server's tables. "
            "Load it with ReplayBufferManager, or let the server save into another folder."
        )
    spec = manifest.spec
    signatures = spec.get("signatures") if isinstance(spec, dict) else None
    names = {table.settings.name for table in manifest.tables}
    if not isinstance(signatures, dict) or signatures.keys() != names:
        raise CheckpointCorruptError(
            f"{where}: the signatures are not those of its tables, {sorted(names)!r:.200}."
        )
    settings = {
        table.settings.name: overrides(
            table.settings, decode_signature(signatures[table.settings.name], where), where
        )
        for table in manifest.tables
    }
    return _Native(path, settings, manifest)


@dataclass(frozen=True, slots=True)
class _Reverb:
    path: Path
    settings: Mapping[str, Mapping[str, Any]]
    stored: Any

    def read(self, store: StoreLike) -> dict[str, dict[str, Any]]:
        layouts = _Layouts(store, str(self.path))
        with reading(FILE_SYSTEM, self.path):
            for number, cells in self.stored.cells():
                layouts.add(number, cells)
        return {table.settings.name: _reverb_state(table) for table in self.stored.tables}


def reverb_source(path: Path) -> Source:
    """The folder of a checkpoint that dm-reverb wrote. Raises CheckpointError."""
    from reverie.checkpoint.reverb_files.stored import read_stored

    with reading(FILE_SYSTEM, path):
        stored = read_stored(path)
    settings = {}
    for table in stored.tables:
        found, limiter = table.settings, table.settings.rate_limiter
        settings[found.name] = {
            "sampler": (found.sampler.kind, found.sampler.exponent),
            "remover": (found.remover.kind, found.remover.exponent),
            "max_size": found.max_size,
            "max_times_sampled": found.max_times_sampled,
            "min_size_to_sample": limiter.min_size_to_sample,
            "samples_per_insert": limiter.samples_per_insert,
            "min_diff": limiter.min_diff,
            "max_diff": limiter.max_diff,
            "signature": found.signature,
        }
    return _Reverb(path, settings, stored)


def _reverb_state(table: Any) -> dict[str, Any]:
    found, count = table.settings, len(table)
    state: dict[str, Any] = {
        "key": None,  # fresh ones: Reverb's random keys cannot be looked up in O(1)
        "chunk": np.zeros(count, np.uint64),
        "offset": np.zeros(count, np.uint32),
        "length": np.zeros(count, np.uint32),
        "priority": table.priorities,
        "times_sampled": table.times_sampled,
        "free_keys": np.zeros(0, np.uint64),
        "span_item": np.zeros(0, np.uint64),
        "traj_item": np.arange(count, dtype=np.uint64),
        "traj_episode": table.episode,
        "counters": {
            "inserts": found.rate_limiter.insert_count,
            "samples": found.rate_limiter.sample_count,
            "deletes": found.rate_limiter.delete_count,
            "num_unique_samples": found.num_unique_samples,
            "num_deleted_episodes": found.num_deleted_episodes,
        },
        "rng_state": np.random.SeedSequence().generate_state(4, np.uint64),
    }
    for name in ("span_column", "span_start", "span_length"):
        state[name] = np.zeros(0, np.uint32)
    for part, columns in (
        ("column", ("item", "squeeze", "pieces")),
        ("piece", ("chunk", "offset", "length")),
    ):
        for name in columns:
            state[f"{part}_{name}"] = getattr(table, f"{part}_{name}")
    return state


class _Layouts:
    """Makes chunks of cells in a store; one core layout for each kind of cell."""

    def __init__(self, store: StoreLike, where: str) -> None:
        self._store = store
        self._where = where
        self._known: dict[CellLayout, Any] = {}

    def chunk(self, number: int, layout: CellLayout, count: int) -> NDArray[np.uint8]:
        """A new chunk's writable bytes."""
        if layout.variable:
            return self._store.restore_chunk(None, number, 1, count)
        if layout not in self._known:
            self._known[layout] = _core.RecordLayout([(self._dtype(layout), layout.shape)])
        return self._store.restore_chunk(self._known[layout], number, count)

    def add(self, number: int, cells: NDArray[Any] | bytes) -> None:
        """A new chunk with these cells: (count, *shape) or one of variable bytes."""
        if isinstance(cells, bytes):
            target = self._store.restore_chunk(None, number, 1, len(cells)).reshape(-1)
            target[:] = np.frombuffer(cells, np.uint8)
            return
        key = CellLayout(cells.dtype.name, cells.shape[1:])
        if key not in self._known:
            self._known[key] = _core.RecordLayout([(cells.dtype, key.shape)])
        target = self._store.restore_chunk(self._known[key], number, len(cells))
        raw = np.ascontiguousarray(cells).reshape(-1)
        target.reshape(-1)[:] = raw.view(np.uint8) if raw.size else raw.astype(np.uint8)

    def _dtype(self, layout: CellLayout) -> np.dtype[Any]:
        try:
            return np.dtype(layout.dtype)
        except TypeError as error:
            raise CheckpointMismatchError(
                f"{self._where!r}: cells of dtype {layout.dtype}, which needs the package "
                "ml_dtypes. Run: pip install ml_dtypes, and import it."
            ) from error
