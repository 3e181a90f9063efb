"""The index of all chunks: where each stands, what follows it, where episodes end.

`chunks.npy` names the chunks in the order in which they stand in their segments,
`ends.npy` the last records of episodes, those of the first chunk, then those of the
second, and so on. What a load needs to believe them is checked here, over whole
arrays: no chunk costs a Python object.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.checkpoint.format.layouts import Layout
from reverie.checkpoint.format.rows import bad_file, bad_row, refuse

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
        chunks: NDArray[Any],
        layouts: Sequence[Layout],
        of_segment: Sequence[int],
        counts: Sequence[int],
        where: str,
    ) -> None:
        self.rows = chunks
        self._segment = chunks["segment"].astype(np.int64)
        refuse(
            chunks,
            where,
            [(self._segment >= len(counts), "segment", f"one below {len(counts)}")],
        )
        layout = np.array(of_segment, np.int64)[self._segment]
        variable = np.array([layout.variable for layout in layouts], np.bool_)[layout]
        self._check_places(variable, np.array(counts, np.int64), where)
        order = np.argsort(chunks["id"], kind="stable")
        # By id; place 0 stands for no chunk, so that every place can be looked at.
        self._ids = _behind(0, chunks["id"][order])
        twice = self._ids[1:] == self._ids[:-1]
        if twice.any():
            row = int(order[int(np.argmax(twice))])
            raise bad_row(where, row, f"id {chunks['id'][row]} a second time", "distinct ones")
        self._layout = _behind(-1, layout[order])
        self._variable = _behind(False, variable[order])
        # A variable cell is one cell, whatever its bytes.
        count = np.where(variable, 1, chunks["count"].astype(np.int64))
        self._count = _behind(0, count[order])
        self._reach = self._checked_reach(order, where)
        self._num_fields = np.array([len(layout.columns) for layout in layouts], np.int64)

    def __len__(self) -> int:
        """Number of chunks."""
        return len(self.rows)

    @property
    def num_records(self) -> int:
        """Records of all chunks; a variable cell is one."""
        return int(self._count.sum())

    def segment(self, number: int) -> NDArray[Any]:
        """The rows of the chunks in a segment, in the order in which they stand."""
        low, high = np.searchsorted(self._segment, [number, number + 1])
        return self.rows[low:high]

    def links(self) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
        """The ids of the chunks that are followed, and of those that follow them."""
        linked = self.rows[self.rows["next"] != 0]
        return np.ascontiguousarray(linked["id"]), np.ascontiguousarray(linked["next"])

    def layout_of(self, ids: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The number of the layout of each of these chunks, all of which exist."""
        return self._layout[np.searchsorted(self._ids, ids)]

    def check_runs(self, runs: NDArray[Any], rows: NDArray[np.int64], where: str) -> None:
        """Checks items that are runs of records.

        Args:
            runs: rows of a table's items.
            rows: which rows of the file they are.
            where: the file, for messages.

        Raises:
            CheckpointCorruptError: naming the row: no such chunk, or one of variable
                cells, an offset outside it, no steps, or steps beyond the end of its
                stream. O(N log C).
        """
        place, known = self._find(runs["chunk"])
        offset = runs["offset"].astype(np.int64)
        end = offset + runs["length"]
        for wrong, name, wanted in (
            (~known, "chunk", "a chunk of the checkpoint"),
            (self._variable[place], "chunk", "one of records"),
            (offset >= self._count[place], "offset", "one inside its chunk"),
            (runs["length"] == 0, "length", "at least 1"),
            (end > self._reach[place], "length", "steps that its chunk and the next ones hold"),
        ):
            if wrong.any():
                at = int(np.argmax(wrong))
                raise bad_row(where, int(rows[at]), f"{name} {runs[name][at]}", wanted)

    def check_pieces(
        self,
        pieces: NDArray[Any],
        of_column: NDArray[np.int64],
        fields: NDArray[np.uint32],
        where: str,
        where_columns: str,
    ) -> None:
        """Checks the pieces of one table's trajectories.

        Args:
            pieces: rows of `pieces`.
            of_column: the row of the column that each piece belongs to, ascending.
            fields: for each column, which column of its chunks' layout its cells are.
            where: the pieces' file, for messages.
            where_columns: that of the columns.

        Raises:
            CheckpointCorruptError: naming the row: no such chunk, no cells, cells
                outside the chunk, or of another layout than those of the column's first
                piece; or a field that the layout does not have.
        """
        place, known = self._find(pieces["chunk"])
        end = pieces["offset"].astype(np.int64) + pieces["length"]
        layout = self._layout[place]
        first = np.searchsorted(of_column, of_column)  # the column's first piece
        refuse(
            pieces,
            where,
            (
                (~known, "chunk", "a chunk of the checkpoint"),
                (pieces["length"] == 0, "length", "at least 1"),
                (end > self._count[place], "length", "cells inside its chunk"),
                (
                    layout != layout[first],
                    "chunk",
                    "cells like those of its column's first piece",
                ),
            ),
        )
        wrong = fields[of_column] >= self._num_fields[layout]
        if wrong.any():
            row = int(of_column[int(np.argmax(wrong))])
            raise bad_row(where_columns, row, f"field {fields[row]}", "a column of its chunks")

    def check_ends(self, ends: NDArray[Any], where: str, where_chunks: str) -> None:
        """Checks where episodes end.

        Args:
            ends: rows of `ends.npy`.
            where: their file, for messages.
            where_chunks: that of the chunks.

        Raises:
            CheckpointCorruptError: the chunks have more or fewer ends than there are; or,
                naming the row, a chunk of variable cells has some, a step is outside its
                chunk or not behind the one before it, or a way to end is unknown.
                O(C log C + E).
        """
        number = self.rows["ends"]
        total = int(number.sum(dtype=np.uint64))
        if total != len(ends):
            wanted = f"{len(ends)}, one for each row of ends.npy"
            raise bad_file(where_chunks, f"{total} ends in all", wanted)
        place, _ = self._find(self.rows["id"])
        wanted = "0, because cells of any size are no steps"
        refuse(
            self.rows, where_chunks, [(self._variable[place] & (number != 0), "ends", wanted)]
        )
        row = np.repeat(np.arange(len(self.rows)), number)
        step = ends["step"].astype(np.int64)
        falling = np.zeros(len(ends), np.bool_)
        falling[1:] = (row[1:] == row[:-1]) & (step[1:] <= step[:-1])
        refuse(
            ends,
            where,
            (
                (step >= self._count[place[row]], "step", "one inside its chunk"),
                ((ends["how"] == 0) | (ends["how"] > MAX_HOW), "how", f"1 to {MAX_HOW}"),
                (falling, "step", "rows in ascending order of a chunk's steps"),
            ),
        )

    def chunks_of_ends(self) -> NDArray[np.uint64]:
        """For each row of `ends.npy`, checked before, the id of the chunk that it is in."""
        return np.repeat(self.rows["id"], self.rows["ends"])

    def _check_places(
        self, variable: NDArray[np.bool_], counts: NDArray[np.int64], where: str
    ) -> None:
        chunks, segment = self.rows, self._segment
        ids, count = chunks["id"], chunks["count"]
        refuse(
            chunks,
            where,
            (
                ((ids == 0) | (ids >> np.uint64(63) != 0), "id", "1 to 2**63 - 1"),
                (~variable & (count == 0), "count", "at least 1"),
                (~variable & (count >= 1 << 32), "count", "below 2**32"),
                (count >= 1 << 53, "count", "below 2**53"),
                (chunks["offset"] >= 1 << 53, "offset", "below 2**53"),
                (chunks["next"] >> np.uint64(63) != 0, "next", "below 2**63"),
            ),
        )
        offset = chunks["offset"].astype(np.int64)
        end = offset + count.astype(np.int64)
        before = np.zeros(len(chunks), np.int64)  # the end of the chunk before, in its segment
        before[1:] = np.where(segment[1:] == segment[:-1], end[:-1], 0)
        falling = np.zeros(len(chunks), np.bool_)
        falling[1:] = segment[1:] < segment[:-1]
        refuse(
            chunks,
            where,
            (
                (falling, "segment", "chunks in the order of the segments"),
                (
                    offset < before,
                    "offset",
                    "one behind the chunk before it: no overlap",
                ),
                (end > counts[segment], "count", "a chunk inside its segment"),
            ),
        )
        empty = np.bincount(segment, minlength=len(counts)) == 0
        if empty.any():
            found = f"no chunk of segment {int(np.argmax(empty))}"
            raise bad_row(where, len(chunks), found, "at least one")

    def _checked_reach(self, order: NDArray[np.int64], where: str) -> NDArray[np.int64]:
        """Per chunk by id, the records from its first to the end of its stream."""
        after = _behind(0, self.rows["next"][order])
        place, known = self._find(after)
        linked = after != 0
        twice = np.bincount(place[linked], minlength=len(after)) > 1
        for wrong, problem in (
            (linked & ~known, "an id that does not exist"),
            # A stream is written front to back, so ids rise along it: there are no circles.
            (linked & (after <= self._ids), "an older chunk"),
            (linked & (self._layout[place] != self._layout), "a chunk of another layout"),
            (linked & self._variable, "a chunk after a variable cell"),
            (linked & twice[place], "a chunk that follows two"),
        ):
            if wrong.any():
                at = int(np.argmax(wrong))
                wanted = "0 or a newer chunk of the same stream"
                raise bad_row(where, int(order[at - 1]), f"next {after[at]}, {problem}", wanted)
        reach = self._count
        while place.any():  # each round looks twice as far ahead
            reach = reach + reach[place]
            place = place[place]
        return reach

    def _find(self, ids: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The places of chunks by id, and whether there are such chunks."""
        place = np.searchsorted(self._ids, ids)
        place[place == len(self._ids)] = 0
        place[self._ids[place] != ids] = 0
        return place, place != 0


def _behind(first: int, rest: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate((np.array([first], rest.dtype), rest))


def together(nbytes: NDArray[np.int64], limit: int) -> Iterator[tuple[int, int]]:
    """Neighbours of at most `limit` bytes in all; a larger one alone."""
    ends = np.cumsum(nbytes)
    low = 0
    while low < len(ends):
        before = ends[low - 1] if low else 0
        high = max(low + 1, int(np.searchsorted(ends, before + limit, side="right")))
        yield low, high
        low = high
