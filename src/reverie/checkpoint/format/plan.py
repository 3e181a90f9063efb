"""What a save will write: planned and checked before the disk is touched."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from reverie._version import __version__
from reverie.checkpoint.disk.crc_file import Part
from reverie.checkpoint.disk.npy import MAX_HEADER_NBYTES, Descr, encode_header
from reverie.checkpoint.folder.commit import Draft
from reverie.checkpoint.format.cells import CHUNK_FIELDS, CellMap
from reverie.checkpoint.format.columns import (
    Column,
    columns_of,
    record_nbytes,
    with_clean_bools,
)
from reverie.checkpoint.format.decode import MAX_NBYTES, decode_manifest
from reverie.checkpoint.format.manifest import (
    CHUNKS_NAME,
    COUNTERS,
    MANIFEST_NAME,
    MORE_COUNTERS,
    ChunkEntry,
    FileEntry,
    FileKind,
    Manifest,
    TableEntry,
    TableSettings,
    encode_manifest,
)
from reverie.checkpoint.format.plan_cells import CellPlan, cell_chunk_ids
from reverie.checkpoint.format.references import ChunkMap
from reverie.checkpoint.format.snapshot import ChunkLike, SnapshotLike, TableSnapshotLike
from reverie.checkpoint.format.table_arrays import SmallFile, TableArrays
from reverie.errors import CheckpointError, InvalidArgumentError

SEGMENT_NBYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class _Segment:
    name: str
    chunks: tuple[ChunkLike, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """All that will be written, checked with the checks of a load."""

    manifest: Manifest  # its sequence number, file sizes and CRCs are still to come
    chunk_groups: tuple[tuple[ChunkLike, ...], ...]
    cells: CellPlan
    tables: tuple[TableArrays, ...]
    arrays: tuple[SmallFile, ...]

    @staticmethod
    def of(
        snapshot: SnapshotLike,
        record_dtype: np.dtype[Any] | None,
        spec: object,
        tables: Sequence[TableSettings],
        saved_at: str,
    ) -> Plan:
        """Plans a save. Raises InvalidArgumentError where a load would refuse the result."""
        columns = () if record_dtype is None else columns_of(record_dtype)
        states = list(snapshot.tables)
        if len(states) != len(tables):
            raise InvalidArgumentError(
                f"The snapshot has {len(states)} tables, the settings are for {len(tables)}."
            )
        of_cells = cell_chunk_ids(states)
        chunks = sorted(snapshot.chunks, key=lambda chunk: chunk.chunk_id)
        records = [chunk for chunk in chunks if chunk.chunk_id not in of_cells]
        if records and not columns:
            raise InvalidArgumentError(
                "A table holds items of whole records, and no record_dtype says of what."
            )
        cells = CellPlan.of([c for c in chunks if c.chunk_id in of_cells], SEGMENT_NBYTES)
        contents = tuple(TableArrays.of(state) for state in states)
        arrays: list[SmallFile] = []
        entries: list[TableEntry] = []
        for index, (state, settings) in enumerate(zip(states, tables, strict=True)):
            own = list(contents[index].files(index))
            arrays += own
            entries.append(_entry(settings, state, {file.dtype: file.name for file in own}))
        if cells.groups:
            arrays.append(SmallFile(CHUNKS_NAME, "chunk", CHUNK_FIELDS, cells.chunk_array()))
        manifest = Manifest(
            sequence_number=1,
            library_version=__version__,
            saved_at=saved_at,
            spec=spec,
            columns=columns,
            tables=tuple(entries),
            chunks=(),
            files={},
        )
        groups = tuple(_groups(records, columns))
        plan = Plan(manifest, groups, cells, contents, tuple(arrays))
        plan._check()
        return plan

    def _check(self) -> None:
        """Refuses now what a load would refuse later."""
        columns = self.manifest.columns
        try:
            blank = self._complete(1, {})
            raw = encode_manifest(blank)
            if len(raw) > MAX_NBYTES:
                raise ValueError(f"the manifest would have {len(raw)} bytes")
            decode_manifest(raw, MANIFEST_NAME)
            if len(encode_header(self._descr(), 1 << 53)) > MAX_HEADER_NBYTES:
                raise ValueError(f"{len(columns)} columns do not fit a .npy header")
            rows = {f.name: f.count for f in blank.files.values() if f.dtype == "record"}
            chunks = ChunkMap(blank.chunks, rows, "the snapshot")
            cells = CellMap(
                self.cells.chunk_array(),
                [group.layout for group in self.cells.groups],
                [group.count for group in self.cells.groups],
                "the snapshot",
            )
            for entry, table in zip(self.manifest.tables, self.tables, strict=True):
                table.check(entry, chunks, cells, len(columns), "the snapshot's {}".format)
        except (ValueError, TypeError, RecursionError, CheckpointError) as error:
            raise InvalidArgumentError(
                f"This cannot be saved, because it could not be loaded: {str(error)[:500]}"
            ) from error

    def write(
        self,
        draft: Draft,
        number: int,
        progress: Callable[[int, int], None] | None,
    ) -> bytes:
        """Writes all files but the manifest, whose bytes it returns. Raises OSError."""
        total = self._complete(number, {}).nbytes
        done = 0

        def count(nbytes: int) -> None:
            nonlocal done
            done += nbytes
            if progress is not None:
                progress(done, total)

        written: dict[str, tuple[int, int]] = {}
        for segment in self._segments(number):
            result = draft.add(segment.name, self._records(segment.chunks), on_bytes=count)
            written[segment.name] = result.nbytes, result.crc32
        for name, group in self.cells.named(number):
            result = draft.add(name, group.parts(), on_bytes=count)
            written[name] = result.nbytes, result.crc32
        for array in self.arrays:
            header = encode_header(array.descr, len(array.values))
            parts: list[Part] = [header, array.values.view(np.uint8).data]
            result = draft.add(array.name, parts, on_bytes=count)
            written[array.name] = result.nbytes, result.crc32
        raw = encode_manifest(self._complete(number, written))
        if len(raw) > MAX_NBYTES:
            raise OSError(
                errno.EFBIG, f"the manifest would have {len(raw)} bytes", MANIFEST_NAME
            )
        return raw

    def _records(self, chunks: Sequence[ChunkLike]) -> Iterator[Part]:
        columns = self.manifest.columns
        shape = (0, self.manifest.record_nbytes)
        yield encode_header(self._descr(), sum(chunk.count for chunk in chunks))
        for chunk in chunks:
            records = chunk.data()
            if records.shape != (chunk.count, shape[1]) or records.dtype != np.uint8:
                raise InvalidArgumentError(
                    f"Chunk {chunk.chunk_id} gave {records.dtype} of shape {records.shape}, "
                    f"expected bytes of shape {(chunk.count, shape[1])}."
                )
            yield np.ascontiguousarray(with_clean_bools(records, columns)).data

    def _descr(self) -> Descr:
        return tuple(column.field for column in self.manifest.columns)

    def _segments(self, number: int) -> Iterator[_Segment]:
        # The number makes the name unique in the folder for all time, so that a later
        # checkpoint may link to the file under its own name.
        for index, chunks in enumerate(self.chunk_groups):
            yield _Segment(f"segment-{number:08d}-{index:05d}.npy", chunks)

    def _complete(self, number: int, written: dict[str, tuple[int, int]]) -> Manifest:
        """The whole manifest; file sizes are known even before writing."""
        chunks: list[ChunkEntry] = []
        files: dict[str, FileEntry] = {}

        def describe(
            name: str, dtype: FileKind, header: bytes, count: int, itemsize: int
        ) -> None:
            size = len(header) + count * itemsize
            nbytes, crc32 = written.get(name, (size, 0))
            files[name] = FileEntry(name, nbytes, crc32, dtype, count)

        for segment in self._segments(number):
            rows = 0
            for chunk in segment.chunks:
                place = (segment.name, rows, chunk.count, chunk.next_id, chunk.sealed)
                chunks.append(ChunkEntry(chunk.chunk_id, *place))
                rows += chunk.count
            header = encode_header(self._descr(), rows)
            describe(segment.name, "record", header, rows, self.manifest.record_nbytes)
        for name, group in self.cells.named(number):
            describe(name, "cell", group.header, group.count, group.layout.nbytes)
        for array in self.arrays:
            count, itemsize = len(array.values), array.values.dtype.itemsize
            header = encode_header(array.descr, count)
            describe(array.name, array.dtype, header, count, itemsize)
        return replace(
            self.manifest,
            sequence_number=number,
            chunks=tuple(chunks),
            files=files,
            cells=self.cells.cells(number),
        )


def _groups(
    chunks: Sequence[ChunkLike], columns: tuple[Column, ...]
) -> Iterator[tuple[ChunkLike, ...]]:
    """Chunks per segment: sealed ones and still open ones never share a file."""
    width = record_nbytes(columns)
    for sealed in (True, False):
        group: list[ChunkLike] = []
        nbytes = 0
        for chunk in chunks:
            if chunk.sealed != sealed:
                continue
            if group and nbytes + chunk.count * width > SEGMENT_NBYTES:
                yield tuple(group)
                group, nbytes = [], 0
            group.append(chunk)
            nbytes += chunk.count * width
        if group:
            yield tuple(group)


def _entry(
    settings: TableSettings, state: TableSnapshotLike, names: Mapping[FileKind, str]
) -> TableEntry:
    more = [name for name in MORE_COUNTERS if name in state.counters]
    return TableEntry(
        settings=settings,
        items=names["item"],
        spans=names.get("span"),
        free=names.get("key"),
        counters={name: int(state.counters[name]) for name in (*COUNTERS, *more)},
        rng_state=tuple(int(word) for word in state.rng_state),
        trajectories=(names["trajectory"], names["column"], names["piece"])
        if "trajectory" in names
        else None,
        touched=names.get("touched"),
    )
