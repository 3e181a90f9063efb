"""Which cells a save will write where: segments of one layout each, and their chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.checkpoint.disk.crc_file import BLOCK_NBYTES, Part
from reverie.checkpoint.disk.npy import encode_header
from reverie.checkpoint.format.cells import CHUNK_DTYPE, CellLayout, layout_of
from reverie.checkpoint.format.columns import with_clean_bools
from reverie.checkpoint.format.manifest import CHUNKS_NAME, Cells, CellSegment
from reverie.checkpoint.format.snapshot import ChunkLike, TableSnapshotLike
from reverie.errors import InvalidArgumentError

_Key = tuple[int, bool]  # the number of a layout, whether sealed


@dataclass(frozen=True, slots=True, eq=False)
class CellGroup:
    """The chunks of one segment, and how many elements each of them has."""

    layout: CellLayout
    sealed: bool
    chunks: tuple[ChunkLike, ...]
    counts: NDArray[np.uint64]

    @property
    def count(self) -> int:
        """Elements of the segment: cells, or bytes of variable ones."""
        return int(self.counts.sum())

    @property
    def header(self) -> bytes:
        """The header of its file: (count, *shape of a cell)."""
        return encode_header(self.layout.descr, self.count, self.layout.shape)

    def parts(self) -> Iterator[Part]:
        """The bytes of its file; small chunks are joined, so that calls are few."""
        yield self.header
        width, small = self.layout.nbytes, BLOCK_NBYTES // 16
        joined = bytearray()
        for chunk, count in zip(self.chunks, self.counts.tolist(), strict=True):
            data = chunk.data()
            if data.dtype != np.uint8 or data.size != count * width:
                raise InvalidArgumentError(
                    f"Chunk {chunk.chunk_id} gave {data.size} elements of {data.dtype}, "
                    f"expected {count * width} bytes."
                )
            if data.size < small:
                joined += data.tobytes()
            if joined and (data.size >= small or len(joined) >= BLOCK_NBYTES):
                yield self._clean(np.frombuffer(joined, np.uint8))
                joined = bytearray()
            if data.size >= small:
                yield self._clean(np.ascontiguousarray(data))
        if joined:
            yield self._clean(np.frombuffer(joined, np.uint8))

    def _clean(self, data: NDArray[np.uint8]) -> Part:
        """The bytes of whole cells, in which every true bool is 1."""
        cells = data.reshape(-1, self.layout.nbytes)
        return with_clean_bools(cells, (self.layout.column,)).reshape(-1).data


@dataclass(frozen=True, slots=True)
class CellPlan:
    """All cells of a save."""

    layouts: tuple[CellLayout, ...]
    groups: tuple[CellGroup, ...]

    @staticmethod
    def of(chunks: Sequence[ChunkLike], segment_nbytes: int) -> CellPlan:
        """Plans chunks of cells, given in the order of their ids.

        Raises:
            InvalidArgumentError: one holds what no file of cells can.
        """
        layouts: dict[CellLayout, int] = {}
        known: dict[Any, tuple[int, CellLayout, int]] = {}  # by what the core says
        open_groups: dict[_Key, list[tuple[ChunkLike, int]]] = {}
        sizes: dict[_Key, int] = {}
        groups: list[CellGroup] = []
        by_number: list[CellLayout] = []

        def close(key: _Key) -> None:
            members = open_groups.pop(key)
            counts = np.array([count for _, count in members], np.uint64)
            own = tuple(chunk for chunk, _ in members)
            groups.append(CellGroup(by_number[key[0]], key[1], own, counts))

        for chunk in chunks:
            columns = chunk.columns
            described = None if columns is None else tuple(columns)
            if described not in known:
                layout = layout_of(columns)
                number = layouts.setdefault(layout, len(layouts))
                known[described] = number, layout, layout.nbytes
                by_number = list(layouts)
            number, layout, width = known[described]
            count = chunk.data().nbytes if columns is None else chunk.count
            key, nbytes = (number, chunk.sealed), count * width
            if key in open_groups and sizes[key] + nbytes > segment_nbytes:
                close(key)
            if key not in open_groups:
                open_groups[key], sizes[key] = [], 0
            open_groups[key].append((chunk, count))
            sizes[key] += nbytes
        for key in list(open_groups):
            close(key)
        return CellPlan(tuple(layouts), tuple(groups))

    def chunk_array(self) -> NDArray[np.void]:
        """Where each chunk stands: dtype CHUNK_DTYPE, in the order of the segments."""
        rows = np.zeros(sum(len(group.chunks) for group in self.groups), CHUNK_DTYPE)
        at = 0
        for number, group in enumerate(self.groups):
            part = rows[at : at + len(group.chunks)]
            part["id"] = [chunk.chunk_id for chunk in group.chunks]
            part["segment"] = number
            part["count"] = group.counts
            part["offset"] = np.cumsum(group.counts) - group.counts
            at += len(group.chunks)
        return rows

    def named(self, number: int) -> list[tuple[str, CellGroup]]:
        """The segments of the checkpoint of this number, with the names of their files."""
        return [
            (f"cells-{number:08d}-{index:05d}.npy", group)
            for index, group in enumerate(self.groups)
        ]

    def cells(self, number: int) -> Cells | None:
        """What the manifest says of them; None where there are none."""
        if not self.groups:
            return None
        segments = tuple(
            CellSegment(name, self.layouts.index(group.layout), group.sealed)
            for name, group in self.named(number)
        )
        return Cells(CHUNKS_NAME, self.layouts, segments)


def cell_chunk_ids(tables: Sequence[TableSnapshotLike]) -> set[int]:
    """The chunks that trajectories refer to; all others hold records."""
    pieces = [table.items.get("piece_chunk", np.empty(0, np.uint64)) for table in tables]
    return set(np.unique(np.concatenate(pieces)).tolist()) if pieces else set()
