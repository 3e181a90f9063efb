"""The index of all chunks: where each stands, what follows it, where episodes end.

`chunks.npy` names the chunks in the order in which they stand in their segments,
`ends.npy` the last records of episodes, those of the first chunk, then those of the
second, and so on. What a load needs to believe them is checked here, over whole
arrays: no chunk costs a Python object.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from reverie.checkpoint.disk.scratch import blocks, filled, repeated, scratch, totals
from reverie.checkpoint.format.layouts import Layout
from reverie.checkpoint.format.rows import (
    Columns,
    Wrong,
    bad_file,
    bad_row,
    refuse,
    refuse_in,
)

MAX_HOW = 4  # 1: ended, 2: terminated, 3: truncated, 4: cut; see `_core.pyi`


class ChunkIndex:
    """All chunks of a checkpoint, with how far a run may reach from each.

    Args:
        chunks: rows of `chunks.npy`.
        layouts: the layouts of the manifest.
        of_segment: for each segment the number of its layout.
        counts: for each segment its elements: records, or bytes of variable cells.
        where: the chunks' file, for messages.

    Raises:
        CheckpointCorruptError: an id is 0, too large or repeated; a chunk has no
            records, stands outside its segment, overlaps another or stands before the
            one that is named before it; a segment has none; or what follows a chunk does
            not exist, is older, is of another layout or follows another chunk, too.
            O(C log C).

    Attributes:
        rows: the chunks, as given.
    """

    def __init__(
        self,
        chunks: Columns,
        layouts: Sequence[Layout],
        of_segment: Sequence[int],
        counts: Sequence[int],
        where: str,
    ) -> None:
        self.rows = chunks
        self._segment = segment = chunks["segment"]
        wanted = f"one below {len(counts)}"
        refuse(
            len(chunks),
            where,
            lambda a, b: [(segment[a:b] >= len(counts), segment[a:b], "segment {}", wanted)],
        )
        layout = np.array(of_segment, np.int64)
        variable = np.array([layouts[number].variable for number in of_segment], np.bool_)
        self._check_places(variable, np.array(counts, np.int64), where)
        order = scratch(len(chunks), np.int64)
        order[:] = np.argsort(chunks["id"], kind="stable")
        # By id; place 0 stands for no chunk, so that every place can be looked at.
        self._ids = _by_id(order, 0, np.uint64, lambda rows: chunks["id"][rows])
        self._check_distinct(order, where)
        self._layout = _by_id(order, -1, np.int64, lambda rows: layout[segment[rows]])
        self._variable = _by_id(order, 0, np.bool_, lambda rows: variable[segment[rows]])
        self._count = _by_id(
            order,
            0,
            np.int64,
            # A variable cell is one cell, whatever its bytes.
            lambda rows: np.where(variable[segment[rows]], 1, chunks["count"][rows]),
        )
        self._reach = self._checked_reach(order, where)
        self._num_fields = np.array([len(layout.columns) for layout in layouts], np.int64)

    def __len__(self) -> int:
        """Number of chunks."""
        return len(self.rows)

    @property
    def num_records(self) -> int:
        """Records of all chunks; a variable cell is one."""
        return int(self._count.sum())

    def segment(self, number: int) -> Columns:
        """The rows of the chunks in a segment, in the order in which they stand."""
        ends = np.array([number, number + 1], self._segment.dtype)
        low, high = np.searchsorted(self._segment, ends)
        return self.rows.part(low, high)

    def links(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """The ids of the chunks that are followed, and of those that follow them."""
        ids, following = self.rows["id"], self.rows["next"]
        found = [scratch(int(np.count_nonzero(following)), np.uint64) for _ in range(2)]
        at = 0
        for low, high in blocks(len(ids)):
            linked = low + np.flatnonzero(following[low:high])
            found[0][at : at + len(linked)] = ids[linked]
            found[1][at : at + len(linked)] = following[linked]
            at += len(linked)
        return found[0], found[1]

    def layout_of(self, ids: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The number of the layout of each of these chunks, all of which exist."""
        return self._layout[np.searchsorted(self._ids, ids)]

    def check_runs(self, runs: Iterable[tuple[NDArray[np.int64], Columns]], where: str) -> None:
        """Checks items that are runs of records.

        Args:
            runs: blocks of a table's items: which rows of the file they are, and they.
            where: the file, for messages.

        Raises:
            CheckpointCorruptError: naming the row: no such chunk, or one of variable
                cells, an offset outside it, no steps, or steps beyond the end of its
                stream. O(N log C).
        """

        def checks(items: Columns) -> Iterator[Wrong]:
            chunk, start, length = (items[name] for name in ("chunk", "offset", "length"))
            place, known = self._find(chunk)
            offset = start.astype(np.int64)
            yield ~known, chunk, "chunk {}", "a chunk of the checkpoint"
            yield self._variable[place], chunk, "chunk {}", "one of records"
            yield offset >= self._count[place], start, "offset {}", "one inside its chunk"
            yield length == 0, length, "length {}", "at least 1"
            wanted = "steps that its chunk and the next ones hold"
            yield offset + length > self._reach[place], length, "length {}", wanted

        refuse_in(where, ((rows, checks(items)) for rows, items in runs))

    def check_pieces(
        self,
        pieces: Columns,
        ends: NDArray[np.int64],
        fields: NDArray[np.uint32],
        where: str,
        where_columns: str,
    ) -> None:
        """Checks the pieces of one table's trajectories.

        Args:
            pieces: rows of `pieces`.
            ends: for each column, the row behind its last piece; each has at least one.
            fields: for each column, which column of its chunks' layout its cells are.
            where: the pieces' file, for messages.
            where_columns: that of the columns.

        Raises:
            CheckpointCorruptError: naming the row: no such chunk, no cells, cells
                outside the chunk, or of another layout than those of the column's first
                piece; or a field that the layout does not have.
        """

        def checks(low: int, high: int) -> Iterator[Wrong]:
            items = pieces.part(low, high)
            chunk, length, rows = items["chunk"], items["length"], np.arange(low, high)
            place, known = self._find(chunk)
            yield ~known, chunk, "chunk {}", "a chunk of the checkpoint"
            yield length == 0, length, "length {}", "at least 1"
            end = items["offset"].astype(np.int64) + length
            yield end > self._count[place], length, "length {}", "cells inside its chunk"
            column = np.searchsorted(ends, rows, side="right")
            first = np.where(column == 0, 0, ends[column - 1])  # the column's first piece
            later = np.flatnonzero(first != rows)
            layout = self._layout[place]
            odd = np.zeros(len(rows), np.bool_)
            before, _ = self._find(pieces["chunk"][first[later]])
            odd[later] = layout[later] != self._layout[before]
            yield odd, chunk, "chunk {}", "cells like those of its column's first piece"

        def of_columns(low: int, high: int) -> Iterator[Wrong]:
            last, _ = self._find(pieces["chunk"][ends[low:high] - 1])
            field = fields[low:high]
            wrong = field >= self._num_fields[self._layout[last]]
            yield wrong, field, "field {}", "a column of its chunks"

        refuse(len(pieces), where, checks)
        refuse(len(fields), where_columns, of_columns)

    def check_ends(self, ends: Columns, where: str, where_chunks: str) -> None:
        """Checks where episodes end.

        Args:
            ends: rows of `ends.npy`.
            where: their file, for messages.
            where_chunks: that of the chunks.

        Raises:
            CheckpointCorruptError: the chunks have more or fewer ends than there are; or,
                naming the row, a chunk of variable cells has some, a step is outside its
                chunk or not behind the one before it, or a way to end is unknown.
                O((C + E) log C).
        """
        ids, number = self.rows["id"], self.rows["ends"]
        total = int(number.sum(dtype=np.uint64))
        if total != len(ends):
            wanted = f"{len(ends)}, one for each row of ends.npy"
            raise bad_file(where_chunks, f"{total} ends in all", wanted)

        def of_chunks(low: int, high: int) -> Iterator[Wrong]:
            place, _ = self._find(ids[low:high])
            some = number[low:high]
            wanted = "0, because cells of any size are no steps"
            yield self._variable[place] & (some != 0), some, "ends {}", wanted

        behind = totals(number)

        def checks(low: int, high: int) -> Iterator[Wrong]:
            start = max(low - 1, 0)  # with the one before
            row = np.searchsorted(behind, np.arange(start, high), side="right")
            step, how = ends["step"][start:high], ends["how"][low:high]
            falling = np.zeros(high - start, np.bool_)
            falling[1:] = (row[1:] == row[:-1]) & (step[1:] <= step[:-1])
            falling, step = falling[low - start :], step[low - start :]
            place, _ = self._find(ids[row[low - start :]])
            yield step >= self._count[place], step, "step {}", "one inside its chunk"
            yield (how == 0) | (how > MAX_HOW), how, "how {}", f"1 to {MAX_HOW}"
            yield falling, step, "step {}", "rows in ascending order of a chunk's steps"

        refuse(len(ids), where_chunks, of_chunks)
        refuse(len(ends), where, checks)

    def chunks_of_ends(self) -> NDArray[np.uint64]:
        """For each row of `ends.npy`, checked before, the id of the chunk that it is in."""
        return repeated(self.rows["id"], self.rows["ends"])

    def _check_places(
        self, variable: NDArray[np.bool_], counts: NDArray[np.int64], where: str
    ) -> None:
        """Checks ids, and places in segments: of each whether cells vary, and elements."""
        chunks = self.rows

        def numbers(low: int, high: int) -> Iterator[Wrong]:
            part = chunks.part(low, high)
            ids, count, offset, after = (
                part[name] for name in ("id", "count", "offset", "next")
            )
            of_records = ~variable[part["segment"]]
            wrong = (ids == 0) | (ids >> np.uint64(63) != 0)
            yield wrong, ids, "id {}", "1 to 2**63 - 1"
            yield of_records & (count == 0), count, "count {}", "at least 1"
            yield of_records & (count >= 1 << 32), count, "count {}", "below 2**32"
            yield count >= 1 << 53, count, "count {}", "below 2**53"
            yield offset >= 1 << 53, offset, "offset {}", "below 2**53"
            yield after >> np.uint64(63) != 0, after, "next {}", "below 2**63"

        def places(low: int, high: int) -> Iterator[Wrong]:
            start = max(low - 1, 0)  # with the one before
            part = chunks.part(start, high)
            segment, count, offset = (part[name] for name in ("segment", "count", "offset"))
            end = offset.astype(np.int64) + count.astype(np.int64)
            before = np.zeros(len(end), np.int64)  # the end of the one before, in its segment
            before[1:] = np.where(segment[1:] == segment[:-1], end[:-1], 0)
            falling = np.zeros(len(end), np.bool_)
            falling[1:] = segment[1:] < segment[:-1]
            for wrong, values, told, wanted in (
                (falling, segment, "segment {}", "chunks in the order of the segments"),
                (
                    offset.astype(np.int64) < before,
                    offset,
                    "offset {}",
                    "one behind the chunk before it: no overlap",
                ),
                (end > counts[segment], count, "count {}", "a chunk inside its segment"),
            ):
                yield wrong[low - start :], values[low - start :], told, wanted

        refuse(len(chunks), where, numbers)
        refuse(len(chunks), where, places)
        in_use = np.zeros(len(counts), np.bool_)
        for low, high in blocks(len(chunks)):
            in_use[chunks["segment"][low:high]] = True
        if not in_use.all():
            found = f"no chunk of segment {int(np.argmin(in_use))}"
            raise bad_row(where, len(chunks), found, "at least one")

    def _check_distinct(self, order: NDArray[np.int64], where: str) -> None:
        ids = self._ids
        for low, high in blocks(len(order)):
            twice = ids[low + 1 : high + 1] == ids[low:high]
            if twice.any():
                row = int(order[low + int(np.argmax(twice))])
                found = f"id {self.rows['id'][row]} a second time"
                raise bad_row(where, row, found, "distinct ones")

    def _checked_reach(self, order: NDArray[np.int64], where: str) -> NDArray[np.int64]:
        """Per chunk by id, the records from its first to the end of its stream."""
        following = self.rows["next"]
        place = _by_id(order, 0, np.int64, lambda rows: self._find(following[rows])[0])
        before = scratch(len(place), np.uint32)  # chunks that each one follows
        before[:] = 0
        for low, high in blocks(len(place)):
            np.add.at(before, place[low:high], 1)

        def checks(low: int, high: int) -> Iterator[Wrong]:
            after = following[order[low:high]]
            here, there = slice(low + 1, high + 1), place[low + 1 : high + 1]
            linked = after != 0
            for wrong, problem in (
                (there == 0, "an id that does not exist"),
                # A stream is written front to back, so ids rise along it: no circles.
                (after <= self._ids[here], "an older chunk"),
                (self._layout[there] != self._layout[here], "a chunk of another layout"),
                (self._variable[here], "a chunk after a variable cell"),
                (before[there] > 1, "a chunk that follows two"),
            ):
                wanted = "0 or a newer chunk of the same stream"
                yield linked & wrong, after, f"next {{}}, {problem}", wanted

        refuse_in(where, ((order[a:b], checks(a, b)) for a, b in blocks(len(order))))
        reach = self._count
        while place.any():  # each round looks twice as far ahead
            reach, place = _added(reach, place), _followed(place)
        return reach

    def _find(self, ids: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The places of chunks by id, and whether there are such chunks."""
        place = np.searchsorted(self._ids, ids)
        place[place == len(self._ids)] = 0
        place[self._ids[place] != ids] = 0
        return place, place != 0


def _by_id(
    order: NDArray[np.int64],
    first: int,
    dtype: DTypeLike,
    make: Callable[[NDArray[np.int64]], NDArray[Any]],
) -> NDArray[Any]:
    """Values by place: `first`, then what `make` gives for rows, block by block."""
    found = scratch(len(order) + 1, dtype)
    found[0] = first
    for low, high in blocks(len(order)):
        found[low + 1 : high + 1] = make(order[low:high])
    return found


def _added(reach: NDArray[np.int64], place: NDArray[np.int64]) -> NDArray[np.int64]:
    return filled(len(place), np.int64, lambda a, b: reach[a:b] + reach[place[a:b]])


def _followed(place: NDArray[np.int64]) -> NDArray[np.int64]:
    return filled(len(place), np.int64, lambda a, b: place[place[a:b]])


def together(
    nbytes: NDArray[np.int64], limit: int, *, most: int = sys.maxsize
) -> Iterator[tuple[int, int]]:
    """Neighbours of at most `limit` bytes in all, and `most` of them; a larger one alone."""
    ends = totals(nbytes)
    low = 0
    while low < len(ends):
        before = ends[low - 1] if low else 0
        high = max(low + 1, int(np.searchsorted(ends, before + limit, side="right")))
        high = min(high, low + most)
        yield low, high
        low = high
