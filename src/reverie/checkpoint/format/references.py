"""Whether the parts of a checkpoint fit together: chunks, chains, items, spans, keys.

The same checks run before a save is published and after its files were read,
so nothing is ever written that a load would refuse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.checkpoint.format.manifest import ChunkEntry
from reverie.errors import CheckpointCorruptError

ITEM_FIELDS = (
    ("key", "<u8", ()),
    ("chunk", "<u8", ()),
    ("offset", "<u4", ()),
    ("length", "<u4", ()),
    ("priority", "<f8", ()),
    ("times_sampled", "<i4", ()),
)
SPAN_FIELDS = (
    ("item", "<u8", ()),
    ("column", "<u4", ()),
    ("start", "<u4", ()),
    ("length", "<u4", ()),
)
ITEM_DTYPE = np.dtype([(name, dtype) for name, dtype, _ in ITEM_FIELDS])
SPAN_DTYPE = np.dtype([(name, dtype) for name, dtype, _ in SPAN_FIELDS])
KEY_DTYPE = np.dtype("<u8")

SPARE_SLOTS = 1024  # a slot whose generations are used up is named by no key


class ChunkMap:
    """All chunks of a checkpoint, with how far a window may reach from each.

    Args:
        chunks: the entries, in any order.
        rows: records per segment file, by name.
        where: the file that says so, for messages.

    Raises:
        CheckpointCorruptError: an id is 0 or repeated; a next chunk does not
            exist, is older or has two predecessors; or the chunks do not cover
            each segment exactly, without gap or overlap.
    """

    def __init__(
        self, chunks: Sequence[ChunkEntry], rows: Mapping[str, int], where: str
    ) -> None:
        by_id = {chunk.chunk_id: chunk for chunk in chunks}
        if len(by_id) != len(chunks) or 0 in by_id:
            raise CheckpointCorruptError(f"{where!r}: a chunk id is 0 or stands there twice.")
        self.by_segment = _by_segment(chunks, rows, where)
        reach = _reach(by_id, where)
        ids = sorted(by_id)
        self._ids = np.array(ids, np.uint64)
        self._counts = np.array([by_id[i].count for i in ids], np.uint64)
        self._reach = np.array([reach[i] for i in ids], np.uint64)

    @property
    def ids(self) -> NDArray[np.uint64]:
        """All chunk ids, ascending."""
        return self._ids

    def check_items(
        self,
        items: NDArray[Any],
        where: str,
        *,
        trajectories: NDArray[np.int64] | None = None,
        prioritized: bool = True,
    ) -> None:
        """Checks the items of one table.

        Args:
            items: dtype ITEM_DTYPE, shape (N,), in insertion order.
            where: their file, for messages.
            trajectories: rows of the items that are trajectories, which name no chunk
                here.
            prioritized: whether a selector draws in proportion to priorities.

        Raises:
            CheckpointCorruptError: naming the row: a chunk that does not exist, an
                offset outside it, no steps, steps beyond the end of its chain, a
                priority that is NaN, or of a prioritized table negative or infinite,
                or a negative times_sampled. O(N log C) for C chunks.
        """
        priority = items["priority"]
        odd = ~np.isfinite(priority) | (priority < 0) if prioritized else np.isnan(priority)
        rows = np.arange(len(items))
        if trajectories is not None and len(trajectories):
            inside = (items["chunk"] != 0) | (items["offset"] != 0) | (items["length"] != 0)
            wrong = np.zeros(len(items), np.bool_)
            wrong[trajectories] = inside[trajectories]
            if wrong.any():
                row = int(np.argmax(wrong))
                wanted = "no chunk, offset or length, because the item is a trajectory"
                raise _bad(where, row, f"chunk {items['chunk'][row]}", wanted)
            rows = np.delete(rows, trajectories)
        self._check_windows(items[rows], rows, where)
        for wrong, name, wanted in (
            (odd, "priority", "finite and at least 0" if prioritized else "a number"),
            (items["times_sampled"] < 0, "times_sampled", "at least 0"),
        ):
            if wrong.any():
                row = int(np.argmax(wrong))
                raise _bad(where, row, f"{name} {items[name][row]}", wanted)

    def _check_windows(self, items: NDArray[Any], rows: NDArray[np.int64], where: str) -> None:
        if not len(items):
            return
        place = np.searchsorted(self._ids, items["chunk"])
        place[place == len(self._ids)] = 0
        if not len(self._ids):
            raise _bad(where, int(rows[0]), "there are no chunks", "the chunk of this item")
        offset = items["offset"].astype(np.uint64)
        end = offset + items["length"]
        for wrong, name, wanted in (
            (self._ids[place] != items["chunk"], "chunk", "a chunk of the manifest"),
            (offset >= self._counts[place], "offset", "one inside its chunk"),
            (items["length"] == 0, "length", "at least 1"),
            (end > self._reach[place], "length", "steps that its chunk and the next ones hold"),
        ):
            if wrong.any():
                at = int(np.argmax(wrong))
                raise _bad(where, int(rows[at]), f"{name} {items[name][at]}", wanted)


def check_spans(spans: NDArray[Any], items: NDArray[Any], num_columns: int, where: str) -> None:
    """Checks the per-column spans of one table's items.

    Args:
        spans: dtype SPAN_DTYPE, shape (S,).
        items: dtype ITEM_DTYPE, shape (N,), checked before.
        num_columns: columns of a record.
        where: the spans' file, for messages.

    Raises:
        CheckpointCorruptError: naming the row: no such item or column, no steps,
            steps outside the item, or two spans for one column of an item.
    """
    if not len(spans):
        return
    for wrong, name, wanted in (
        (spans["item"] >= len(items), "item", f"a row below {len(items)}"),
        (spans["column"] >= num_columns, "column", f"one below {num_columns}"),
        (spans["length"] == 0, "length", "at least 1"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise _bad(where, row, f"{name} {spans[name][row]}", wanted)
    end = spans["start"].astype(np.uint64) + spans["length"]
    wrong = end > items["length"][spans["item"].astype(np.int64)]
    if wrong.any():
        row = int(np.argmax(wrong))
        raise _bad(where, row, f"an end at step {end[row]}", "one inside its item")
    _check_unique(spans["item"] * np.uint64(num_columns) + spans["column"], where)


def check_keys(items: NDArray[Any], free: NDArray[Any], where: str) -> None:
    """Checks the keys of one table's items, and those last used in its free slots.

    A key is `generation << 32 | slot`. Generations of keys are odd, and no slot
    occurs twice. Slots count from 0 and nearly all are named, so the table that
    they ask for is no larger than the files.

    Raises:
        CheckpointCorruptError: naming the row, counted through the items and then
            the free keys. O(N log N).
    """
    keys = np.concatenate((items["key"], free))
    slots = keys & np.uint64(0xFFFFFFFF)
    for wrong, wanted in (
        ((keys >> np.uint64(32)) % 2 == 0, "an odd generation"),
        (slots >= len(keys) + SPARE_SLOTS, f"a slot below {len(keys) + SPARE_SLOTS}"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise _bad(where, row, f"key {keys[row]}", wanted)
    _check_unique(slots, where)


def _check_unique(keys: NDArray[Any], where: str) -> None:
    ordered = np.sort(keys)
    twice = ordered[1:] == ordered[:-1]
    if twice.any():
        key = ordered[int(np.argmax(twice))]
        row = int(np.argmax(keys == key))
        raise _bad(where, row, f"{key} occurs twice", "distinct ones")


def _by_segment(
    chunks: Sequence[ChunkEntry], rows: Mapping[str, int], where: str
) -> dict[str, list[ChunkEntry]]:
    """The chunks of each segment in the order in which they stand there."""
    by_segment: dict[str, list[ChunkEntry]] = {name: [] for name in rows}
    for chunk in chunks:
        by_segment[chunk.segment].append(chunk)
    for name, inside in by_segment.items():
        inside.sort(key=lambda chunk: chunk.offset)
        end = 0
        for chunk in inside:
            if chunk.offset != end:
                raise CheckpointCorruptError(
                    f"{where!r}: chunk {chunk.chunk_id} stands at record {chunk.offset} of "
                    f"{name}, expected {end}: chunks cover a segment without gap or overlap."
                )
            end += chunk.count
        if end != rows[name]:
            raise CheckpointCorruptError(
                f"{where!r}: the chunks of {name} end at record {end}, expected {rows[name]}."
            )
    return by_segment


def _reach(by_id: Mapping[int, ChunkEntry], where: str) -> dict[int, int]:
    """Per chunk, the steps from its first record to the end of its stream."""
    reach: dict[int, int] = {}
    followed: set[int] = set()
    for number in sorted(by_id, reverse=True):
        chunk = by_id[number]
        after = chunk.next_id
        # A stream is written front to back, so ids rise along it: there are no circles.
        if after and (after not in reach or after in followed):
            problem = (
                "has two predecessors"
                if after in followed
                else "is older"
                if after in by_id
                else "does not exist"
            )
            raise CheckpointCorruptError(
                f"{where!r}: chunk {after}, next of chunk {number}, {problem}."
            )
        followed.add(after)
        reach[number] = chunk.count + reach.get(after, 0)
    return reach


def _bad(where: str, row: int, found: str, wanted: str) -> CheckpointCorruptError:
    return CheckpointCorruptError(f"{where!r}, row {row}: {found}, expected {wanted}.")
