"""What a save will write: which chunk stands where, and the files in their order.

Nothing that the core gave is examined: that such a checkpoint can be loaded is shown by
the tests. What users named and described is, table by table and layout by layout.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from reverie._version import __version__
from reverie.checkpoint.disk.crc_file import BLOCK_NBYTES, Part, crc32_of
from reverie.checkpoint.disk.scratch import BLOCK, blocks, filled, scratch, totals
from reverie.checkpoint.disk.strict_json import MAX_NBYTES, MAX_VALUES, count_values
from reverie.checkpoint.folder.commit import Draft
from reverie.checkpoint.folder.names import CHUNKS_NAME, ENDS_NAME, MANIFEST_NAME
from reverie.checkpoint.format.chunks import together
from reverie.checkpoint.format.items import files_of
from reverie.checkpoint.format.layouts import Layout, layout_of
from reverie.checkpoint.format.manifest import (
    COUNTERS,
    FileEntry,
    Manifest,
    Segment,
    TableEntry,
    encode_manifest,
    parts_of,
)
from reverie.checkpoint.format.rows import ROWS, Columns, RowFile
from reverie.checkpoint.format.settings import check_settings, nest_json
from reverie.checkpoint.format.snapshot import SnapshotLike, TableSnapshotLike
from reverie.errors import InvalidArgumentError
from reverie.nests.codec import encode_nest
from reverie.nests.nest import Nest
from reverie.tables.settings import TableSettings

SEGMENT_NBYTES = 256 << 20


@dataclass(frozen=True, slots=True, eq=False)
class PlannedSegment:
    """One segment: its layout's number, whether no chunk grows, and its chunks.

    Attributes:
        chunks: their rows in the snapshot, in the order in which they will stand.
        counts: elements of each: records, or bytes of a variable cell.
    """

    layout: int
    sealed: bool
    chunks: NDArray[np.int64]
    counts: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """All that will be written."""

    manifest: Manifest  # its number and files are still to come
    snapshot: SnapshotLike
    segments: tuple[PlannedSegment, ...]
    rows: tuple[RowFile, ...]  # of tables

    @staticmethod
    def of(
        snapshot: SnapshotLike,
        settings: Sequence[TableSettings],
        nests: Sequence[Nest],
        saved_at: str,
    ) -> Plan:
        """Plans a save.

        Raises:
            InvalidArgumentError: the settings are not those of the snapshot's tables, two
                of them have one name, or `check_settings` refuses one; or a layout is one
                that no checkpoint can hold.
        """
        states = list(snapshot.tables)
        if len(states) != len(settings):
            raise InvalidArgumentError(
                f"The snapshot has {len(states)} tables, the settings are for {len(settings)}."
            )
        names = [one.name for one in settings]
        if len(set(names)) != len(names):
            raise InvalidArgumentError(f"Tables need distinct names, found {names!r:.200}.")
        for one in settings:
            check_settings(one)
        rows: list[RowFile] = []
        tables: list[TableEntry] = []
        for index, (state, wanted) in enumerate(zip(states, settings, strict=True)):
            own = list(files_of(state, index))
            rows += own
            tables.append(_entry(wanted, state, {file.role: file.name for file in own}))
        layouts, numbers = _layouts(snapshot.layouts, nests)
        manifest = Manifest(
            sequence_number=1,
            library_version=__version__,
            saved_at=saved_at,
            layouts=layouts,
            segments=(),
            tables=tuple(tables),
            parts=parts_of(settings),
            files={},
        )
        segments = _segments(snapshot, layouts, numbers)
        return Plan(manifest, snapshot, tuple(segments), tuple(rows))

    def write(
        self, draft: Draft, number: int, progress: Callable[[int, int], None] | None
    ) -> bytes:
        """Writes all files but the manifest, whose bytes it returns. Raises OSError."""
        # The number makes a segment's name unique in the folder for all time, so that a
        # later checkpoint may link to the file under its own name.
        names = [f"segment-{number:08d}-{index:05d}.npy" for index in range(len(self.segments))]
        chunks, ends = self._chunk_rows()
        fields = [chunks[name] for name in ROWS["chunks"].names]
        rows = [RowFile("chunks", CHUNKS_NAME, fields), RowFile("ends", ENDS_NAME, ends)]
        rows = [*(file for file in rows if len(file)), *self.rows]
        files = {entry.name: entry for entry in self._described(names, rows)}
        done, total = 0, sum(file.nbytes for file in files.values())

        def count(nbytes: int) -> None:
            nonlocal done
            done += nbytes
            if progress is not None:
                progress(done, total)

        at = 0
        for name, segment in zip(names, self.segments, strict=True):
            crcs = chunks["crc32"][at : at + len(segment.chunks)]
            draft.add(name, self._segment(segment, crcs), on_bytes=count, checksum=False)
            at += len(segment.chunks)
        for file in rows:
            crc32 = draft.add(file.name, file.parts(), on_bytes=count).crc32
            files[file.name] = replace(files[file.name], crc32=crc32)
        segments = tuple(
            Segment(name, segment.layout, segment.sealed)
            for name, segment in zip(names, self.segments, strict=True)
        )
        raw = encode_manifest(
            replace(self.manifest, sequence_number=number, segments=segments, files=files)
        )
        values = count_values(raw)
        if len(raw) > MAX_NBYTES or values > MAX_VALUES:
            problem = f"the manifest would have {len(raw)} bytes, {values} values"
            raise OSError(errno.EFBIG, problem, MANIFEST_NAME)
        return raw

    def _segment(self, segment: PlannedSegment, crcs: NDArray[np.uint32]) -> Iterator[Part]:
        """The bytes of a segment; small chunks are joined, so that calls are few.

        Fills `crcs` with the CRC-32 of each chunk on the way.
        """
        layout, data = self.manifest.layouts[segment.layout], self.snapshot.data
        yield layout.header(int(segment.counts.sum()))
        room = scratch(BLOCK_NBYTES, np.uint8)
        nbytes = _times(segment.counts, layout.nbytes)
        for low, high in together(nbytes, BLOCK_NBYTES, most=BLOCK):
            rows, counts = segment.chunks[low:high].tolist(), segment.counts[low:high]
            ends = np.cumsum(nbytes[low:high]).tolist()
            starts = [0, *ends[:-1]]
            if len(rows) == 1:
                raw = data(rows[0])
            else:
                raw = room[: ends[-1]]
                for row, a, b in zip(rows, starts, ends, strict=True):
                    raw[a:b] = data(row).reshape(-1)
            elements = raw.reshape(int(counts.sum()), layout.nbytes)
            view = np.ascontiguousarray(layout.with_clean_bools(elements)).reshape(-1).data
            crcs[low:high] = [crc32_of(view[a:b]) for a, b in zip(starts, ends, strict=True)]
            yield view

    def _chunk_rows(self) -> tuple[Columns, list[NDArray[Any]]]:
        """The rows of `chunks.npy`, their CRC-32 still to come, and the fields of `ends.npy`.

        The core tells ends by the ids of their chunks; here they stand as the chunks do.
        """
        chunks, ends = self.snapshot.chunks, self.snapshot.ends
        ids, of_end, num_ends = chunks["id"], ends["chunk"], len(ends["chunk"])
        # The chunk's row in the snapshot, and how many ends each one has.
        row = filled(num_ends, np.int64, lambda a, b: np.searchsorted(ids, of_end[a:b]))
        ends_of = filled(len(ids), np.uint32, lambda a, b: _number(of_end, ids[a:b]))
        rows = Columns.empty("chunks", sum(len(s.chunks) for s in self.segments))
        place = scratch(len(ids), np.int64)  # in `chunks.npy`, by the row in the snapshot
        at = 0
        for number, segment in enumerate(self.segments):
            offset = totals(segment.counts)
            for low, high in blocks(len(segment.chunks)):
                part, which = rows.part(at + low, at + high), segment.chunks[low:high]
                count = segment.counts[low:high]
                part["id"][:] = ids[which]
                part["next"][:] = chunks["next"][which]
                part["segment"][:] = number
                part["count"][:] = count
                part["offset"][:] = offset[low:high] - count
                part["ends"][:] = ends_of[which]
                place[which] = np.arange(at + low, at + high)
            at += len(segment.chunks)
        order = np.argsort(
            filled(num_ends, np.int64, lambda a, b: place[row[a:b]]), kind="stable"
        )
        fields = (ends[name] for name in ROWS["ends"].names)
        return rows, [_taken(field, order) for field in fields]

    def _described(self, names: Sequence[str], rows: Sequence[RowFile]) -> Iterator[FileEntry]:
        """All files; their sizes are known before they are written."""
        for name, segment in zip(names, self.segments, strict=True):
            layout, count = self.manifest.layouts[segment.layout], int(segment.counts.sum())
            nbytes = len(layout.header(count)) + count * layout.nbytes
            yield FileEntry(name, nbytes, count, None)
        for file in rows:
            yield FileEntry(file.name, file.nbytes, len(file), 0)


def _layouts(
    found: Sequence[Any], nests: Sequence[Nest]
) -> tuple[tuple[Layout, ...], list[int]]:
    """The layouts of the manifest, and the number of each of the snapshot's among them.

    Those of the nests stand there even where no chunk has them, so that an empty
    checkpoint says what it is for. Where two nests of other names have the same columns
    nobody can tell whose a chunk is: then it has no names.
    """
    named: dict[object, Layout | None] = {}
    for nest in nests:
        columns = tuple(nest.types)
        paths = [column.path for column in nest.columns]
        layout = layout_of(columns, paths, nest_json(nest))
        named[columns] = layout if named.get(columns, layout) == layout else None
    layouts = [layout for layout in named.values() if layout is not None]
    numbers = []
    for columns in found:
        key = (
            None
            if columns is None
            else tuple((dtype, tuple(shape)) for dtype, shape in columns)
        )
        layout = named.get(key) or layout_of(columns)
        if layout not in layouts:
            layouts.append(layout)
        numbers.append(layouts.index(layout))
    in_use = [i for i in range(len(layouts)) if i in numbers or layouts[i].nest is not None]
    return tuple(layouts[i] for i in in_use), [in_use.index(number) for number in numbers]


def _segments(
    snapshot: SnapshotLike, layouts: Sequence[Layout], numbers: Sequence[int]
) -> Iterator[PlannedSegment]:
    """Chunks per segment: one layout each; sealed ones and open ones never share a file."""
    chunks = snapshot.chunks
    layout = np.array(numbers, np.int64)
    for number, one in enumerate(layouts):
        for sealed in (True, False):
            is_here = partial(_is_in, chunks, layout == number, sealed)
            rows = _where(len(chunks["id"]), is_here)
            counts = _taken(chunks["nbytes" if one.variable else "count"], rows, np.int64)
            for low, high in together(_times(counts, one.nbytes), SEGMENT_NBYTES):
                yield PlannedSegment(number, sealed, rows[low:high], counts[low:high])


def _is_in(
    chunks: Mapping[str, NDArray[Any]],
    layouts: NDArray[np.bool_],
    sealed: bool,
    low: int,
    high: int,
) -> NDArray[np.bool_]:
    """Which of the chunks low..high-1 have one of these layouts and are sealed, or not."""
    is_sealed = chunks["sealed"][low:high] != 0
    return np.asarray(layouts[chunks["layout"][low:high]] & (is_sealed == sealed), np.bool_)


def _where(count: int, mask: Callable[[int, int], NDArray[np.bool_]]) -> NDArray[np.int64]:
    """The rows that `mask` says True of, asked block by block."""
    parts = [low + np.flatnonzero(mask(low, high)) for low, high in blocks(count)]
    found: NDArray[np.int64] = scratch(sum(map(len, parts)), np.int64)
    return np.concatenate(parts, out=found) if parts else found


def _taken(
    values: NDArray[Any], rows: NDArray[np.int64], dtype: DTypeLike | None = None
) -> NDArray[Any]:
    """The values in these rows."""
    return filled(len(rows), dtype or values.dtype, lambda a, b: values[rows[a:b]])


def _times(counts: NDArray[np.int64], nbytes: int) -> NDArray[np.int64]:
    """Bytes of so many elements."""
    return filled(len(counts), np.int64, lambda a, b: counts[a:b] * nbytes)


def _number(ordered: NDArray[Any], values: NDArray[Any]) -> NDArray[Any]:
    """How often each value stands in an ordered vector."""
    after, before = (np.searchsorted(ordered, values, side) for side in ("right", "left"))
    return np.asarray(after - before)


def _entry(
    settings: TableSettings, state: TableSnapshotLike, files: dict[str, str]
) -> TableEntry:
    return TableEntry(
        settings=settings,
        signature=encode_nest(settings.signature),
        files=files,
        counters={name: int(state.counters[name]) for name in COUNTERS},
        rng_state=tuple(int(word) for word in state.rng_state),
    )
