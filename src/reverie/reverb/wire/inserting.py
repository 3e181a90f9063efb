"""One client's insert stream: its chunks become cells, its items items over them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from reverie import _core
from reverie.errors import InvalidArgumentError
from reverie.reverb.engine.serving import Serving
from reverie.reverb.engine.writing.item_plans import (
    ItemPlan,
    joined,
    priority_error,
    priority_limits,
)
from reverie.reverb.wire.chunks import column_of, no_column
from reverie.reverb.wire.messages import parsed
from reverie.reverb.wire.statuses import CallError, Code, unknown_table
from reverie.tables.cells import CellSpec
from reverie.tables.table import Table

_KEEP = 2**63  # cells go when their chunk goes, not by their number
_MAX_LANES = 4096
_MAX_ITEM_NBYTES = (1 << 31) - 1
_MAX_PLANS = 1024
_MAX_HELD_NBYTES = 1 << 30  # of chunks as they came, not yet in an item


class _Placed(NamedTuple):
    """Where a column of a chunk is.

    Attributes:
        lane: the core's column.
        first: number of its first cell there.
        rows: cells.
        spec: of each.
    """

    lane: int
    first: int
    rows: int
    spec: CellSpec


class _Chunk:
    """A chunk that items may refer to.

    Attributes:
        message: as it came; None once all its columns are cells.
        nbytes: of the message.
        number: how many the client sent before.
        episode: of its steps.
        placed: its columns that are cells, by their index.
    """

    __slots__ = ("episode", "message", "nbytes", "number", "placed")

    def __init__(self, message: Any, number: int) -> None:
        self.message = message
        self.number = number
        self.episode = message.sequence_range.episode_id
        self.nbytes = message.ByteSize()
        self.placed: dict[int, _Placed] = {}


class InsertStream:
    """The items that one stream of requests makes. For one thread at a time.

    A chunk's column is unpacked when an item refers to it first, into the column of the
    core (its lane) that the cells before it went to: an item that spans chunks is then
    one run of cells. It stays for as long as the client keeps the chunk. Signatures are
    the clients' to check, as with Reverb's server: one may have been told not to.

    Args:
        server: where the tables are.

    Raises:
        UnreachableServerError, ForkedProcessError: it does not serve.
    """

    def __init__(self, server: Serving) -> None:
        server.check_open()
        self._tables = server.tables  # not the server, which this does not keep alive
        self._store = server.store
        self._core = self._store.core.create_trajectory_writer()
        self._store.watch(self)
        self._chunks: dict[int, _Chunk] = {}
        self._num_chunks = 0
        self._episode: int | None = None  # of the latest item
        self._held_nbytes = 0
        self._lanes: dict[tuple[np.dtype[Any], tuple[int, ...], int], int] = {}
        self._placed: list[deque[tuple[int, int]]] = []  # by lane: first cells and chunks
        self._plans: dict[Any, ItemPlan] = {}

    def abandon(self) -> _core.TrajectoryWriter:
        """In a forked child: the core's writer, which must not be touched there."""
        return self._core

    def take(self, payload: bytes) -> tuple[list[int], list[int]]:
        """Does what a request asks for; never waits.

        Args:
            payload: an `InsertStreamRequest`.

        Returns:
            The client's own keys of its items that are in their tables, and of those
            that wait for the rate limiter of theirs; see `wait`.

        Raises:
            CallError, InvalidArgumentError: the request is wrong; items before the one
                that is stay.
            UnreachableServerError, ForkedProcessError: the server was stopped.
        """
        request = parsed("InsertStreamRequest", payload)
        if not request.chunks and not request.items:
            raise CallError(
                Code.INVALID_ARGUMENT,
                "ProcessIncomingRequest: Request lacks both chunks and item.  Request: ",
            )
        inserted: list[int] = []
        waiting: list[int] = []
        try:
            self._save(request.chunks)
            for item in request.items:
                (inserted if self._insert(item) else waiting).append(item.key)
            if request.items:
                self._release(request.keep_chunk_keys)
        except _core.Closed:
            self._store.check_open()
            raise
        return inserted, waiting

    def wait(self, slice_s: float) -> bool:
        """Waits at most so long for the items that wait; whether none is left.

        For any thread.

        Raises:
            UnreachableServerError, ForkedProcessError: the server was stopped.
        """
        try:
            return self._core.wait_pending(0, slice_s)
        except _core.Closed:
            self._store.check_open()
            raise

    def close(self) -> None:
        """Lets go what no item refers to; items that wait go on waiting."""
        self._chunks.clear()
        if self._store.is_open:
            self._core.close()

    # Inside.

    def _save(self, messages: Iterable[Any]) -> None:
        for message in messages:
            if message.chunk_key in self._chunks:
                continue  # a client sends it again where it is not sure
            chunk = self._chunks[message.chunk_key] = _Chunk(message, self._num_chunks)
            self._num_chunks += 1
            self._held_nbytes += chunk.nbytes
        if self._held_nbytes > _MAX_HELD_NBYTES:
            raise CallError(
                Code.RESOURCE_EXHAUSTED,
                f"{self._held_nbytes} bytes of chunks were sent that no item refers to; at "
                f"most {_MAX_HELD_NBYTES} are held for a stream.",
            )

    def _release(self, keep: Iterable[int]) -> None:
        kept = set(keep)
        for key in self._chunks.keys() - kept:
            self._forget_message(self._chunks.pop(key))
        if len(self._chunks) != len(kept):
            raise CallError(
                Code.FAILED_PRECONDITION,
                "ReleaseOutOfRangeChunks: Kept less chunks than expected.  chunks_.size() == "
                f"{len(self._chunks)} != keep_keys.size() == {len(kept)}",
            )
        for lane, placed in enumerate(self._placed):
            before = len(placed)
            while placed and placed[0][1] not in self._chunks:
                placed.popleft()
            if len(placed) < before:
                first = placed[0][0] if placed else self._core.next_number(lane)
                self._core.drop_before(lane, first)

    def _forget_message(self, chunk: _Chunk) -> None:
        if chunk.message is not None:
            self._held_nbytes -= chunk.nbytes
            chunk.message = None

    def _place(self, key: int, chunk: _Chunk, index: int, position: int) -> _Placed:
        if chunk.message is None:
            raise no_column(key, index, len(chunk.placed))
        column = column_of(chunk.message, index)
        spec = column.spec
        which = (spec.dtype, spec.shape, position)
        lane = self._lanes.get(which)
        if lane is None:
            if len(self._lanes) >= _MAX_LANES:
                raise CallError(
                    Code.RESOURCE_EXHAUSTED,
                    f"The items of this stream have had more than {_MAX_LANES} columns of "
                    "different dtypes and shapes. Use another writer.",
                )
            lane = self._lanes[which] = self._core.add_column(spec.layout, _KEEP)
            self._placed.append(deque())
        first = self._core.append_cells(lane, column.cells)
        placed = chunk.placed[index] = _Placed(lane, first, len(column.cells), spec)
        self._placed[lane].append((first, key))
        if len(chunk.placed) == len(chunk.message.data.tensors):
            self._forget_message(chunk)
        return placed

    def _insert(self, item: Any) -> bool:
        trajectory = item.flat_trajectory.columns
        latest = None
        for column in trajectory:
            for piece in column.chunk_slices:
                chunk = self._chunks.get(piece.chunk_key)
                if chunk is None:
                    raise CallError(
                        Code.INTERNAL, f"Could not find sequence chunk {piece.chunk_key}."
                    )
                if latest is None or chunk.number > latest.number:
                    latest = chunk
        table = self._tables.get(item.table)
        if table is None:
            raise unknown_table(item.table)
        if latest is None or not trajectory[0].chunk_slices:
            raise InvalidArgumentError("Item trajectory must not be empty.")
        if latest.episode != self._episode:
            if self._episode is not None:
                self._core.end_episode(False)
            self._episode = latest.episode
        lanes: list[int] = []
        starts: list[int] = []
        lengths: list[int] = []
        runs: list[int] = []
        specs: list[CellSpec] = []
        for position, column in enumerate(trajectory):
            before = len(lanes)
            for piece in column.chunk_slices:
                placed = self._piece(piece, position)
                start = placed.first + piece.offset
                if (
                    len(lanes) > before
                    and lanes[-1] == placed.lane
                    and starts[-1] + lengths[-1] == start
                ):
                    lengths[-1] += piece.length
                    continue
                lanes.append(placed.lane)
                starts.append(start)
                lengths.append(piece.length)
                specs.append(placed.spec)
            runs.append(len(lanes) - before)
        squeezed = [column.squeeze for column in trajectory]
        key = (table.name, tuple(lanes), tuple(lengths), tuple(runs), tuple(squeezed))
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plan(table, key, specs)
        lowest, highest = plan.limits
        if not lowest <= item.priority <= highest:
            raise priority_error(item.priority, table.name)
        return self._core.create_item(
            plan.table,
            item.priority,
            plan.columns,
            np.array(starts, np.uint64),
            plan.lengths,
            plan.runs,
            plan.squeezed,
        )

    def _piece(self, piece: Any, position: int) -> _Placed:
        chunk = self._chunks[piece.chunk_key]
        placed = chunk.placed.get(piece.index)
        if placed is None:
            placed = self._place(piece.chunk_key, chunk, piece.index, position)
        end = piece.offset + piece.length
        if piece.offset < 0 or piece.length < 1 or end > placed.rows:
            raise CallError(
                Code.INVALID_ARGUMENT,
                f"Cannot slice ({piece.offset}, {end}) out of the {placed.rows} rows of "
                f"column {piece.index} of chunk {piece.chunk_key}.",
            )
        return placed

    def _plan(self, table: Table, key: Any, specs: list[CellSpec]) -> ItemPlan:
        _, lanes, lengths, runs, squeezed = key
        nbytes = sum(
            length * math.prod(spec.shape) * spec.dtype.itemsize
            for length, spec in zip(lengths, specs, strict=True)
        )
        if nbytes > _MAX_ITEM_NBYTES:  # however small the chunks that it repeats
            raise CallError(
                Code.RESOURCE_EXHAUSTED,
                f"An item of {nbytes} bytes; at most {_MAX_ITEM_NBYTES} can be sampled.",
            )
        at = 0
        for i, count in enumerate(runs):
            part = slice(at, at + count)
            joined(i, specs[part], sum(lengths[part]), squeezed[i])  # or raises
            at += count
        if len(self._plans) >= _MAX_PLANS:
            self._plans.clear()
        plan = self._plans[key] = ItemPlan(
            table.core,
            priority_limits(table),
            columns=np.array(lanes, np.uint32),
            lengths=np.array(lengths, np.uint32),
            runs=np.array(runs, np.uint32),
            squeezed=np.array(squeezed, np.uint8),
        )
        return plan
