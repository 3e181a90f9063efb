"""A checkpoint that dm-reverb wrote, as a source of tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie import _core
from reverie.checkpoint.disk.crc_file import reading
from reverie.checkpoint.disk.files import FILE_SYSTEM
from reverie.checkpoint.disk.limits import check_limit
from reverie.checkpoint.format.report import VerifyReport
from reverie.checkpoint.reverb_files.as_cells import fill_cells
from reverie.checkpoint.reverb_files.as_records import (
    Column,
    check_columns,
    columns_of,
    fill_records,
)
from reverie.checkpoint.reverb_files.finding import DATA_FILES, DONE
from reverie.checkpoint.reverb_files.runs import changes
from reverie.checkpoint.reverb_files.stored import Stored, read_stored
from reverie.checkpoint.reverb_files.tensors import Array
from reverie.errors import CheckpointMismatchError, SpecError
from reverie.nests import structure
from reverie.nests.nest import Nest
from reverie.nests.specs import ArraySpec
from reverie.tables.settings import TableSettings
from reverie.tables.signature import Wanted
from reverie.tables.signature import columns_of as wanted_columns


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class ReverbSource:
    """One checkpoint; its files have been read, its steps are still packed.

    Attributes:
        path: Its own folder.
        settings: By name, in the order of the file.
    """

    path: Path
    settings: Mapping[str, TableSettings]
    _stored: Stored
    foreign: bool = True

    @property
    def max_references(self) -> int:
        """How often its items may refer to chunks; see `checkpoint.source.Source`."""
        return self._stored.max_references

    def columns(self, table: str) -> tuple[()]:
        """None: its steps are stored column by column."""
        return ()

    def nest(self, table: str) -> Nest | None:
        """The structure of one step of a table, where its signature describes steps.

        None where there is no signature, or one that the items do not fit; where it has
        a leaf without a time axis or of texts; and, in a table without items, where it
        has a leaf of unknown extents.
        """
        signature = self.settings[table].signature
        if signature is None:
            return None
        leaves = wanted_columns(signature)
        try:
            found = columns_of(self._stored, table) or [_step_of(leaf) for leaf in leaves]
            if len(leaves) != len(found) or not all(
                leaf.takes_step(*step) for leaf, step in zip(leaves, found, strict=True)
            ):
                return None
            specs = [ArraySpec(shape, dtype) for dtype, shape in found]
            return Nest(structure.unflatten_as(signature, specs))
        except (CheckpointMismatchError, SpecError):
            return None

    def read(
        self, store: _core.Store, rows: Mapping[str, Nest] | None = None
    ) -> dict[str, dict[str, Any]]:
        """Fills a fresh store; nothing refers to its chunks yet.

        Args:
            store: The store.
            rows: Tables whose items are wanted as runs of such steps, each step stored
                once. An item whose columns cover unequal steps becomes a trajectory.
                The items of the other tables are trajectories over cells.

        Returns:
            By table, in the order of the file, what the core's `restore` takes. Items
            keep their order, priorities and sample counts; they get new keys.

        Raises:
            CheckpointMismatchError: Other columns than those of `rows`.
            CheckpointCorruptError: The packed steps are damaged; names the file.
            CheckpointLimitError: It needs more memory than the limit, or than there is.
        """
        stored, rows = self._fresh(), rows or {}
        with reading(FILE_SYSTEM, self.path):
            cells = [name for name in stored.tables if name not in rows]
            states, number = fill_cells(stored, cells, store)
            for name, nest in rows.items():
                states[name], number = fill_records(stored, name, nest, store, number)
        return {name: states[name] for name in stored.tables}

    def check_columns(self, table: str, nest: Nest) -> int:
        """Number of items of a table, all of which are steps of `nest`.

        Raises:
            CheckpointMismatchError: They are not; says how.
        """
        check_columns(self._stored, table, nest)
        return len(self._stored.tables[table])

    def steps(self, table: str) -> NDArray[np.int64]:
        """Of each item, whose columns were checked; -1: unequal, or without a time axis."""
        stored = self._stored.tables[table]
        if stored.slices is None:
            return np.zeros(0, np.int64)
        first = np.flatnonzero(changes(stored.slices.item, stored.slices.column))
        columns = np.add.reduceat(stored.slices.length, first).reshape(len(stored), -1)
        steps = np.where((columns == columns[:, :1]).all(axis=1), columns[:, 0], -1)
        steps[list(stored.items.squeezed)] = -1
        return steps

    def keys(self, table: str) -> NDArray[np.uint64]:
        """Reverb's keys of a table's items, in insertion order."""
        return np.array(self._stored.tables[table].items.keys, np.uint64)

    def items(self, table: str) -> Iterator[tuple[int, list[Array]]]:
        """Every item of a table in insertion order; see `Stored.items`."""
        return self._fresh().items(table)

    def verify(self) -> VerifyReport:
        """Unpacks every column of every chunk; holds one at a time.

        Raises:
            CheckpointError: As `read`.
        """
        stored, chunks = self._fresh(), self._stored.chunks
        used = set(stored.used(list(stored.tables)).tolist())
        with reading(FILE_SYSTEM, self.path):
            for tensor, packed in enumerate(chunks.tensors):
                if tensor in used or packed.nbytes is not None:
                    chunks.unpack(tensor)
        with reading(FILE_SYSTEM, self.path):
            present = {path.name: path for path in self.path.iterdir()}
            nbytes = sum(present[name].stat().st_size for name in DATA_FILES)
        return VerifyReport(
            sequence_number=0,
            library_version="dm-reverb",
            saved_at=self.path.name,
            nbytes=nbytes,
            num_files=len(DATA_FILES) + 1,
            num_chunks=len(chunks.keys),
            num_ends=0,
            num_items={name: len(table) for name, table in stored.tables.items()},
            num_records=sum(packed.rows for packed in chunks.tensors),
            extra_files=tuple(sorted(present.keys() - {*DATA_FILES, DONE})),
        )

    def _fresh(self) -> Stored:
        budget = dataclasses.replace(self._stored.budget)
        return dataclasses.replace(self._stored, budget=budget)


def reverb_source(path: Path, *, max_nbytes: int | None = None) -> ReverbSource:
    """Reads the files of a checkpoint that dm-reverb wrote; see `read_stored` for errors."""
    stored = read_stored(path, max_nbytes=check_limit(max_nbytes))
    settings = {name: table.settings for name, table in stored.tables.items()}
    return ReverbSource(path, MappingProxyType(settings), stored)


def _step_of(leaf: Wanted) -> Column:
    """What one step of a signature's column is; no `ArraySpec` where that is unknown."""
    unknown: Any = (None,)
    return leaf.dtype, unknown if leaf.shape is None else leaf.shape[1:]  # type: ignore[return-value]
