"""A checkpoint in our own format, as a source of tables."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie import _core
from reverie.checkpoint.disk.crc_file import reading
from reverie.checkpoint.disk.files import FileSystem, opened_folder
from reverie.checkpoint.disk.limits import max_references
from reverie.checkpoint.disk.scratch import scratch
from reverie.checkpoint.folder.names import MANIFEST_NAME
from reverie.checkpoint.format.chunks import ChunkIndex
from reverie.checkpoint.format.decode import num_items
from reverie.checkpoint.format.items import TableArrays
from reverie.checkpoint.format.layouts import Layout
from reverie.checkpoint.format.manifest import Manifest
from reverie.checkpoint.format.reader import Reader
from reverie.checkpoint.format.report import VerifyReport
from reverie.checkpoint.format.settings import ROLES, decode_roles, decode_step
from reverie.checkpoint.format.snapshot import FreshCoreLike, Progress
from reverie.errors import CheckpointCorruptError, CheckpointMismatchError, SpecError
from reverie.nests.codec import decode_signature
from reverie.nests.nest import Nest
from reverie.nests.specs import ArraySpec, Column
from reverie.tables.settings import TableSettings
from reverie.tables.signature import columns_of


@dataclass(slots=True, eq=False)
class NativeSource:
    """A checkpoint in our own format; a `Source`."""

    path: Path
    manifest: Manifest
    progress: Progress | None
    max_nbytes: int | None
    fs: FileSystem
    foreign: bool = False
    _known: tuple[Reader, ChunkIndex, dict[str, TableArrays]] | None = field(
        default=None, init=False
    )

    @property
    def settings(self) -> Mapping[str, TableSettings]:
        """Of its tables, by name; see `Source.settings`."""
        where, found = repr(str(self.path / MANIFEST_NAME)), {}
        part = self.manifest.parts.get(ROLES)
        roles = {} if part is None else decode_roles(part.data, where)
        for table in self.manifest.tables:
            signature = decode_signature(table.signature, where)
            try:
                settings = replace(
                    table.settings,
                    signature=signature,
                    roles=roles.get(table.settings.name),
                )
            except (TypeError, SpecError) as error:
                raise CheckpointCorruptError(f"{where}: no signature: {error}") from error
            found[settings.name] = settings
        return found

    @property
    def max_references(self) -> int:
        """How often its items may refer to chunks; see `Source.max_references`."""
        return max_references(self.max_nbytes, self.manifest.nbytes)

    def columns(self, table: str) -> Sequence[Sequence[Column]]:
        """The columns of a table's records, of each kind; see `Source.columns`."""
        where, found = repr(str(self.path)), []
        numbers = self._layouts(table)
        if self.settings[table].signature is not None:
            numbers = numbers or self._promised(table)
        for layout in (self.manifest.layouts[number] for number in numbers):
            known = layout.core_columns(where)
            named = layout.paths != [str(number) for number in range(len(known))]
            found.append(
                [
                    Column(path if named else "", ArraySpec(shape, dtype))
                    for path, (dtype, shape) in zip(layout.paths, known, strict=True)
                ]
            )
        return found

    def nest(self, table: str) -> Nest | None:
        """The structure of a table's steps; see `Source.nest`."""
        numbers = self._layouts(table) or self._promised(table)
        if len(numbers) != 1:
            return None
        return self._step(self.manifest.layouts[numbers[0]])

    def _promised(self, table: str) -> list[int]:
        """The layouts with a nest that a table without items may be meant for."""
        if len(self._index()[2][table].items):
            return []
        layouts = self.manifest.layouts
        numbers = [number for number, layout in enumerate(layouts) if layout.nest is not None]
        signature = self.settings[table].signature
        if signature is None:
            return numbers
        leaves = columns_of(signature)

        def fits(number: int) -> bool:
            columns = layouts[number].core_columns(repr(str(self.path)))
            return len(columns) == len(leaves) and all(
                leaf.takes_step(*column) for leaf, column in zip(leaves, columns, strict=True)
            )

        return [number for number in numbers if fits(number)]

    def _layouts(self, table: str) -> list[int]:
        """The numbers of the layouts whose records a table's items are runs of."""
        _, chunks, tables = self._index()
        found: set[int] = set()
        for _, items in tables[table].runs():
            ids = items["chunk"]
            # Neighbours share their chunk, so few are left to look up.
            first = np.append(np.ones(min(1, len(ids)), np.bool_), ids[1:] != ids[:-1])
            found.update(chunks.layout_of(ids[first]).tolist())
        return sorted(found)

    def _index(self) -> tuple[Reader, ChunkIndex, dict[str, TableArrays]]:
        """All but the records, read and checked once."""
        if self._known is None:
            reader = Reader(self.path, self.manifest, self.fs, self.progress)
            with reading(self.fs, self.path), opened_folder(self.fs, self.path) as opened:
                reader.check_sizes(opened, self.max_nbytes)
                chunks = reader.chunks(opened)
                tables = {
                    table.settings.name: reader.table(opened, table, chunks)
                    for table in self.manifest.tables
                }
            self._known = reader, chunks, tables
        return self._known

    def read(
        self, store: FreshCoreLike, rows: Mapping[str, Nest] | None = None
    ) -> dict[str, dict[str, Any]]:
        """Fills a fresh store with all chunks; see `Source.read`."""
        reader, chunks, tables = self._index()
        self._known = None  # it may be large, and is wanted once
        where = repr(str(self.path))
        layouts = [
            None if layout.variable else _core.RecordLayout(layout.core_columns(where))
            for layout in self.manifest.layouts
        ]

        def target(number: int, chunk_id: int, count: int) -> NDArray[np.uint8]:
            layout = layouts[number]
            if layout is None:
                return store.restore_chunk(None, chunk_id, 1, count)
            return store.restore_chunk(layout, chunk_id, count)

        with reading(self.fs, self.path), opened_folder(self.fs, self.path) as opened:
            ends = reader.ends(opened, chunks)
            reader.segments(opened, chunks, target)
            reader.leave_parts()
        states = {
            table.settings.name: tables[table.settings.name].state(table)
            for table in self.manifest.tables
        }
        try:
            store.link_chunks(*chunks.links())
            if len(ends):
                store.restore_ends(chunks.chunks_of_ends(), ends["step"], ends["how"])
        except ValueError as error:
            raise CheckpointCorruptError(
                f"{where}: the core refused what the files hold: {str(error)[:200]}"
            ) from error
        return states

    def verify(self) -> VerifyReport:
        """Reads every byte and checks it; see `Source.verify`."""
        manifest, layouts = self.manifest, self.manifest.layouts
        reader, chunks, _ = self._index()
        with contextlib.suppress(CheckpointMismatchError):  # a dtype that is not known here
            _ = self.settings
            for layout in layouts:
                self._step(layout)
        with reading(self.fs, self.path), opened_folder(self.fs, self.path) as opened:
            ends = reader.ends(opened, chunks)
            reader.segments(
                opened,
                chunks,
                lambda number, _, count: scratch((count, layouts[number].nbytes), np.uint8),
            )
            reader.parts(opened)
            extra = set(self.fs.names_in(opened)) - manifest.files.keys() - {MANIFEST_NAME}
        return VerifyReport(
            sequence_number=manifest.sequence_number,
            library_version=manifest.library_version,
            saved_at=manifest.saved_at,
            nbytes=manifest.nbytes,
            num_files=len(manifest.files) + 1,
            num_chunks=len(chunks),
            num_records=chunks.num_records,
            num_ends=len(ends),
            num_items=num_items(manifest),
            extra_files=tuple(sorted(extra)),
        )

    def _step(self, layout: Layout) -> Nest | None:
        """The nest of a layout, held against its columns; None where it has none."""
        if layout.nest is None:
            return None
        where = repr(str(self.path / MANIFEST_NAME))
        try:
            nest = decode_step(layout.nest, where)
        except SpecError as error:
            raise CheckpointCorruptError(f"{where}: no spec of a step: {error}") from error
        found = [(c.path, c.spec.dtype, c.spec.shape) for c in nest.columns]
        wanted = [
            (p, *c) for p, c in zip(layout.paths, layout.core_columns(where), strict=True)
        ]
        if found != wanted:
            raise CheckpointCorruptError(
                f"{where}: the nest of a layout has the leaves {found!r:.200}, expected its "
                f"columns, {wanted!r:.200}."
            )
        return nest
