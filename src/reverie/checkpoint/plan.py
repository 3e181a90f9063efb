"""What a save will write: planned and checked before the disk is touched."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie._version import __version__
from reverie.checkpoint.columns import Column, columns_of, record_nbytes, with_clean_bools
from reverie.checkpoint.commit import Draft
from reverie.checkpoint.contracts import ChunkLike, SnapshotLike, TableSnapshotLike
from reverie.checkpoint.decode import MAX_NBYTES, decode_manifest
from reverie.checkpoint.manifest import (
    COUNTERS,
    MANIFEST_NAME,
    ChunkEntry,
    FileEntry,
    FileKind,
    Manifest,
    TableEntry,
    TableSettings,
    encode_manifest,
)
from reverie.checkpoint.npy import MAX_HEADER_NBYTES, Descr, encode_header
from reverie.checkpoint.references import (
    ITEM_DTYPE,
    ITEM_FIELDS,
    KEY_DTYPE,
    SPAN_DTYPE,
    SPAN_FIELDS,
    ChunkMap,
    check_keys,
    check_spans,
)
from reverie.checkpoint.streams import Part
from reverie.errors import CheckpointError, InvalidArgumentError

SEGMENT_NBYTES = 256 << 20

_NO_SPANS = np.empty(0, SPAN_DTYPE)
_NO_KEYS = np.empty(0, KEY_DTYPE)


@dataclass(frozen=True, slots=True)
class _Segment:
    name: str
    chunks: tuple[ChunkLike, ...]


@dataclass(frozen=True, slots=True)
class _Array:
    """A small file: its name, what its elements are, its header's dtype, its values."""

    name: str
    dtype: FileKind
    descr: Descr
    values: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """All that will be written, checked with the checks of a load."""

    manifest: Manifest  # its sequence number, file sizes and CRCs are still to come
    chunk_groups: tuple[tuple[ChunkLike, ...], ...]
    arrays: tuple[_Array, ...]

    @staticmethod
    def of(
        snapshot: SnapshotLike,
        record_dtype: np.dtype[Any],
        spec: object,
        tables: Sequence[TableSettings],
        saved_at: str,
    ) -> Plan:
        """Plans a save. Raises InvalidArgumentError where a load would refuse the result."""
        columns = columns_of(record_dtype)
        states = list(snapshot.tables)
        if len(states) != len(tables):
            raise InvalidArgumentError(
                f"The snapshot has {len(states)} tables, the settings are for {len(tables)}."
            )
        arrays: list[_Array] = []
        entries: list[TableEntry] = []
        for index, (state, settings) in enumerate(zip(states, tables, strict=True)):
            own = _table_arrays(index, state)
            arrays += own
            names = {array.dtype: array.name for array in own}
            entries.append(
                TableEntry(
                    settings=settings,
                    items=names["item"],
                    spans=names.get("span"),
                    free=names.get("key"),
                    counters={name: int(state.counters[name]) for name in COUNTERS},
                    rng_state=tuple(int(word) for word in state.rng_state),
                )
            )
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
        plan = Plan(manifest, tuple(_groups(snapshot.chunks, columns)), tuple(arrays))
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
            values = {array.name: array.values for array in self.arrays}
            for entry in self.manifest.tables:
                items, where = values[entry.items], f"the snapshot's {entry.items}"
                chunks.check_items(items, where)
                check_spans(values.get(str(entry.spans), _NO_SPANS), items, len(columns), where)
                check_keys(items, values.get(str(entry.free), _NO_KEYS), where)
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
            name: str, dtype: FileKind, descr: Descr, count: int, itemsize: int
        ) -> None:
            size = len(encode_header(descr, count)) + count * itemsize
            nbytes, crc32 = written.get(name, (size, 0))
            files[name] = FileEntry(name, nbytes, crc32, dtype, count)

        for segment in self._segments(number):
            rows = 0
            for chunk in segment.chunks:
                place = (segment.name, rows, chunk.count, chunk.next_id, chunk.sealed)
                chunks.append(ChunkEntry(chunk.chunk_id, *place))
                rows += chunk.count
            describe(segment.name, "record", self._descr(), rows, self.manifest.record_nbytes)
        for array in self.arrays:
            count, itemsize = len(array.values), array.values.dtype.itemsize
            describe(array.name, array.dtype, array.descr, count, itemsize)
        return replace(self.manifest, sequence_number=number, chunks=tuple(chunks), files=files)


def _groups(
    chunks: Sequence[ChunkLike], columns: tuple[Column, ...]
) -> Iterator[tuple[ChunkLike, ...]]:
    """Chunks per segment: sealed ones and still open ones never share a file."""
    width = record_nbytes(columns)
    for sealed in (True, False):
        group: list[ChunkLike] = []
        nbytes = 0
        for chunk in sorted(chunks, key=lambda chunk: chunk.chunk_id):
            if chunk.sealed != sealed:
                continue
            if group and nbytes + chunk.count * width > SEGMENT_NBYTES:
                yield tuple(group)
                group, nbytes = [], 0
            group.append(chunk)
            nbytes += chunk.count * width
        if group:
            yield tuple(group)


def _table_arrays(index: int, state: TableSnapshotLike) -> list[_Array]:
    columns = state.items
    items = np.empty(len(columns["key"]), ITEM_DTYPE)
    for name, _, _ in ITEM_FIELDS:
        items[name] = columns[name]
    arrays = [_Array(f"items-{index}.npy", "item", ITEM_FIELDS, items)]
    if len(columns.get("span_item", ())):
        spans = np.empty(len(columns["span_item"]), SPAN_DTYPE)
        for name, _, _ in SPAN_FIELDS:
            spans[name] = columns[f"span_{name}"]
        arrays.append(_Array(f"spans-{index}.npy", "span", SPAN_FIELDS, spans))
    if len(state.free_keys):
        free = np.ascontiguousarray(state.free_keys, KEY_DTYPE)
        arrays.append(_Array(f"free-{index}.npy", "key", KEY_DTYPE.str, free))
    return arrays
