"""A store of real core tables, saved and loaded with nothing but the format between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tests.checkpoint_support import QuickFileSystem
from tests.server_support import Feeder, fill_tables

from reverie import ArraySpec, _core
from reverie.checkpoint import Saver, open_source
from reverie.checkpoint.disk.files import FileSystem
from reverie.nests.nest import Nest
from reverie.tables.selectors import selector_of
from reverie.tables.settings import TableSettings
from reverie.tables.store import core_table

SPEC = {"position": ArraySpec((2,), np.float32), "flag": ArraySpec((), np.bool_)}
NEST = Nest(SPEC)
LAYOUT = _core.RecordLayout([(c.spec.dtype, c.spec.shape) for c in NEST.columns])


@dataclass(frozen=True, slots=True, eq=False)
class CoreTable:
    """A table of the core with its settings."""

    settings: TableSettings
    core: _core.Table

    @property
    def name(self) -> str:
        return self.settings.name


class CoreStore:
    """A store with its tables, as `Saver` takes it."""

    def __init__(
        self,
        settings: Sequence[TableSettings],
        *,
        chunk_nbytes: int = 1 << 20,
        seed: int = 7,
        nests: Sequence[Nest] = (NEST,),
    ) -> None:
        self.core = _core.Store(chunk_nbytes=chunk_nbytes)
        self.nests = list(nests)
        self.tables = [
            CoreTable(one, core_table(self.core, one, seed + i))
            for i, one in enumerate(settings)
        ]

    @property
    def store(self) -> CoreStore:
        return self

    @property
    def settings(self) -> list[TableSettings]:
        return [one.settings for one in self.tables]

    def snapshot(self) -> tuple[_core.Snapshot, list[TableSettings], list[Nest]]:
        return self.core.snapshot(), self.settings, self.nests

    def check_open(self) -> None:
        pass

    def table(self, name: str) -> Any:
        return next(one for one in self.tables if one.name == name)

    def fill(self, items: int = 40) -> Feeder:
        """Trajectories of positions, texts and flags, the same for all tables."""
        return fill_tables(Feeder(self), self.tables, items)

    def writer(self, **changes: Any) -> _core.Writer:
        """A writer of windows of two steps of SPEC into all tables."""
        arguments = {
            "sequence_length": 2,
            "stride_length": 1,
            "priority": 1.0,
            "pad_end": False,
            "tile_end": False,
            "pad_record": bytes(LAYOUT.record_nbytes),
            "boundary_column": -1,
            "boundary_value": 0,
        }
        cores = [one.core for one in self.tables]
        return self.core.create_writer(LAYOUT, cores, **{**arguments, **changes})

    def save(self, root: Path, **changes: Any) -> Path:
        arguments = {"max_to_keep": None, "fs": QuickFileSystem()} | changes
        path = Saver(root, **arguments).save(self)
        assert path is not None
        return path


def loaded(folder: Path, *, fs: FileSystem | None = None, seed: int = 99) -> CoreStore:
    """A new store with what a checkpoint holds."""
    source = open_source(folder) if fs is None else open_source(folder, fs=fs)
    made = CoreStore(list(source.settings.values()), seed=seed)
    states = source.read(made.core)
    for one in made.tables:
        one.core.restore(states[one.name])
    made.core.seal_restore()
    return made


def settings(
    name: str, sampler: str = "uniform", remover: str = "fifo", **changes: Any
) -> TableSettings:
    """Settings of a table of at most 100 items."""
    chosen = {
        role: selector_of(kind, 0.7 if kind == "prioritized" else None)  # type: ignore[arg-type]
        for role, kind in (("sampler", sampler), ("remover", remover))
    }
    return TableSettings(**{"name": name, "max_size": 100, **chosen, **changes})


def steps(writer: _core.Writer, first: int, count: int, length: int = 10) -> None:
    """Appends steps in episodes of `length`, the k-th one ended in the way 1 + k % 3."""
    for n in range(first, first + count):
        last = 1 + n // length % 3 if n % length == length - 1 else 0
        # Columns stand in the order of their names: flag, position.
        assert writer.append([np.bool_(n % 3 == 0), np.array([n, -n], "f4")], last) == -1
