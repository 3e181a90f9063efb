"""Checkpoints to load: which ones a folder holds, and one of them opened.

A source says what is in a checkpoint and fills a fresh store with it, whoever wrote
it: this library, or dm-reverb. It is checked as if an enemy had written it. Nothing is
executed, nothing outside the folder is opened, nothing is allocated before sizes were
compared with the files. What is filled must be fresh and private: on any error the
caller drops it and keeps what it had.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reverie import _core
from reverie.checkpoint.disk.crc_file import reading
from reverie.checkpoint.disk.files import FILE_SYSTEM, FileSystem, exists, opened_folder
from reverie.checkpoint.folder.names import MANIFEST_NAME, list_checkpoints, sequence_number_of
from reverie.checkpoint.format.chunks import ChunkIndex
from reverie.checkpoint.format.decode import num_items
from reverie.checkpoint.format.items import TableArrays
from reverie.checkpoint.format.layouts import Layout
from reverie.checkpoint.format.manifest import Manifest
from reverie.checkpoint.format.reader import Reader, read_manifest
from reverie.checkpoint.format.settings import decode_step
from reverie.checkpoint.format.snapshot import FreshCoreLike, Progress
from reverie.errors import CheckpointCorruptError, CheckpointMismatchError, SpecError
from reverie.nests.codec import decode_signature
from reverie.nests.nest import Nest
from reverie.nests.specs import ArraySpec, Column
from reverie.tables.settings import TableSettings

DEFAULT_MAX_NBYTES = 64 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What a sound checkpoint holds.

    Attributes:
        sequence_number: its place among ours; 0 for one of Reverb's.
        library_version: what wrote it; "" where it does not say.
        saved_at: when, for people; "" where it does not say.
        nbytes: bytes of its files, the manifest left out.
        num_files: its files, the manifest among them.
        num_chunks: chunks.
        num_records: their records; a cell of a trajectory's column is one, too.
        num_ends: ends of episodes that are known.
        num_items: items of each table, by name.
        extra_files: names that are not its own.
    """

    sequence_number: int
    library_version: str
    saved_at: str
    nbytes: int
    num_files: int
    num_chunks: int
    num_records: int
    num_ends: int
    num_items: Mapping[str, int]
    extra_files: tuple[str, ...]


class Source(Protocol):
    """One checkpoint, opened. Methods raise `CheckpointError`, as `open_source`."""

    @property
    def path(self) -> Path:
        """Its own folder."""

    @property
    def settings(self) -> Mapping[str, TableSettings]:
        """Of its tables, by name, in their order."""

    @property
    def foreign(self) -> bool:
        """Whether another system wrote it, with names of its own."""

    def columns(self, table: str) -> Sequence[Column] | None:
        """The columns of the records that a table's items are runs of.

        None where there are none, and where they are to be had column by column. The
        path of a column is "" where nobody wrote it down.
        """

    def nest(self, table: str) -> Any | None:
        """The spec of a step, a nest of `ArraySpec`, of a table whose items are runs.

        None where nobody wrote it down: a table of trajectories, of runs of several
        kinds, or of steps whose nest JSON cannot express.
        """

    def read(
        self, store: _core.Store, rows: Mapping[str, Nest] | None = None
    ) -> dict[str, dict[str, Any]]:
        """Fills a fresh store with all chunks; nothing refers to them yet.

        The caller makes the tables, gives each core table its state, and seals the
        store. On any error the store is half filled: drop it.

        Args:
            store: takes the chunks; nobody else may use it meanwhile.
            rows: tables whose items are wanted as runs of these steps, where the
                checkpoint (one of Reverb's) holds them column by column.

        Returns:
            By table, what the `restore` of its core takes.
        """

    def verify(self) -> VerifyReport:
        """Reads every byte and checks it as `read` does, without a store.

        What only the core and the caller know is left out: whether columns are the
        wanted ones, and whether the items fit a table. Memory: the items of one table,
        and one chunk at a time.
        """


def candidates(root: Path) -> list[Path]:
    """The checkpoints that could be loaded from a folder, newest first, sound or not.

    Of a checkpoint's own folder it is that one. Native ones come before Reverb's newest,
    whose names are wall-clock text and cannot be compared with ours. [] where there is
    no such folder.

    Raises:
        CheckpointReadError: the folder cannot be listed.
    """
    # Here, so that `import reverie` is quick.
    from reverie.checkpoint.reverb_files import finding

    with reading(FILE_SYSTEM, root):
        if not root.is_dir():
            return []
        if _is_native(root, FILE_SYSTEM):
            return [root]
        found = list_checkpoints(root)[::-1]
        newest = finding.find_newest(root)
    return found if newest is None else [*found, newest]


def open_source(
    path: Path,
    *,
    progress: Progress | None = None,
    max_nbytes: int = sys.maxsize,
    fs: FileSystem = FILE_SYSTEM,
) -> Source:
    """Opens a checkpoint's own folder, native or Reverb's.

    Args:
        path: the folder.
        progress: called with bytes read so far and in all; native ones only.
        max_nbytes: refuse one with more bytes than this in its files. What was saved
            must load, so there is no limit by itself: memory stays within the files'
            own size, which is compared with the manifest before anything is allocated.
        fs: the file system; native ones only.

    Raises:
        CheckpointNotFoundError: there is no such folder.
        CheckpointCorruptError: there is no manifest in it, or no sound one; or
            anything else is not as it must be.
        CheckpointVersionError: it was written in a later format.
        CheckpointReadError: the system refused to read it.
        CheckpointLimitError: it is larger than `max_nbytes`.
        CheckpointMismatchError, MissingDependencyError: what it holds needs a package
            that is not there.
    """
    path = Path(path)
    with reading(fs, path):
        if not _is_native(path, fs) and exists(fs, path):
            from reverie.checkpoint.reverb_files.source import reverb_source

            # Their files are compressed: a few bytes may claim to be terabytes.
            limit = min(max_nbytes, DEFAULT_MAX_NBYTES)
            source: Source = reverb_source(path, max_nbytes=limit)
            return source
    return NativeSource(path, read_manifest(path, fs=fs), progress, max_nbytes, fs)


def _is_native(path: Path, fs: FileSystem) -> bool:
    """Whether a folder is, or claims to be, a native checkpoint itself."""
    return bool(sequence_number_of(path.name)) or exists(fs, path / MANIFEST_NAME)


def verify(
    path: Path, *, max_nbytes: int = DEFAULT_MAX_NBYTES, fs: FileSystem = FILE_SYSTEM
) -> VerifyReport:
    """Reads every byte of a checkpoint's folder and checks it; see `Source.verify`.

    Raises:
        CheckpointError: as `open_source`, and as reading it would.
    """
    return open_source(path, max_nbytes=max_nbytes, fs=fs).verify()


@dataclass(slots=True, eq=False)
class NativeSource:
    """A checkpoint in our own format; a `Source`."""

    path: Path
    manifest: Manifest
    progress: Progress | None
    max_nbytes: int
    fs: FileSystem
    foreign: bool = False
    _known: tuple[Reader, ChunkIndex, dict[str, TableArrays]] | None = field(
        default=None, init=False
    )

    @property
    def settings(self) -> Mapping[str, TableSettings]:
        """Of its tables, by name; see `Source.settings`."""
        where = repr(str(self.path / MANIFEST_NAME))
        return {
            table.settings.name: replace(
                table.settings, signature=decode_signature(table.signature, where)
            )
            for table in self.manifest.tables
        }

    def columns(self, table: str) -> Sequence[Column] | None:
        """The columns of a table's records; see `Source.columns`."""
        numbers = self._layouts(table)
        if not numbers:
            return None
        layout = self.manifest.layouts[numbers[0]]
        known = layout.core_columns(repr(str(self.path)))
        named = layout.paths != [str(number) for number in range(len(known))]
        return [
            Column(path if named else "", ArraySpec(shape, dtype))
            for path, (dtype, shape) in zip(layout.paths, known, strict=True)
        ]

    def nest(self, table: str) -> Any | None:
        """The spec of a table's steps; see `Source.nest`."""
        numbers = self._layouts(table)
        if not len(self._index()[2][table].items):
            layouts = enumerate(self.manifest.layouts)
            numbers = [number for number, layout in layouts if layout.nest is not None]
        if len(numbers) != 1:
            return None
        step = self._step(self.manifest.layouts[numbers[0]])
        return None if step is None else step.spec

    def _layouts(self, table: str) -> list[int]:
        """The numbers of the layouts whose records a table's items are runs of."""
        _, chunks, tables = self._index()
        items = tables[table]
        found = chunks.layout_of(items.items["chunk"][items.runs()])
        return [int(number) for number in np.unique(found)]

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
                names = ("chunk", "step", "how")
                store.restore_ends(*(np.ascontiguousarray(ends[name]) for name in names))
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
                lambda number, _, count: np.empty((count, layouts[number].nbytes), np.uint8),
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
