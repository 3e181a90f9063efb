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
    source: Any

    def read(self, store: StoreLike) -> dict[str, dict[str, Any]]:
        from reverie.checkpoint._old_core import OldStore, old_state

        states = self.source.read(OldStore(store))
        return {name: old_state(state) for name, state in states.items()}


def reverb_source(path: Path) -> Source:
    """The folder of a checkpoint that dm-reverb wrote. Raises CheckpointError."""
    from reverie.checkpoint.reverb_files.source import reverb_source

    source = reverb_source(path)
    settings = {
        name: {
            "sampler": (one.sampler.kind, one.sampler.exponent),
            "remover": (one.remover.kind, one.remover.exponent),
            "max_size": one.max_size,
            "max_times_sampled": one.max_times_sampled,
            "min_size_to_sample": one.limiter.min_size_to_sample,
            "samples_per_insert": one.limiter.samples_per_insert,
            "min_diff": one.limiter.min_diff,
            "max_diff": one.limiter.max_diff,
            "signature": one.signature,
        }
        for name, one in source.settings.items()
    }
    return _Reverb(path, settings, source)


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

    def _dtype(self, layout: CellLayout) -> np.dtype[Any]:
        try:
            return np.dtype(layout.dtype)
        except TypeError as error:
            raise CheckpointMismatchError(
                f"{self._where!r}: cells of dtype {layout.dtype}, which needs the package "
                "ml_dtypes. Run: pip install ml_dtypes, and import it."
            ) from error
