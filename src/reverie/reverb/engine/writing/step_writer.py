"""The writer under Reverb's legacy Writer: whole steps, items over the latest of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from reverie.errors import InvalidArgumentError, StepMismatchError
from reverie.reverb.engine.serving import Serving
from reverie.reverb.engine.writing.chunker_options import AutoTunedChunkerOptions
from reverie.reverb.engine.writing.column_errors import column_error, leaf_error
from reverie.reverb.engine.writing.item_writer import TrajectoryWriter
from reverie.reverb.errors import ClosedWriterError
from reverie.runtime.checks import as_int
from reverie.tables import cells, signature
from reverie.tables.cells import CellSpec


class Writer:
    """A stream of steps of one layout. For one thread at a time.

    As in Reverb, the layout may change where a chunk of `chunk_length` steps is
    complete; an item cannot span the change.

    Args:
        server: where the tables are.
        chunk_length: steps of a chunk. It decides nothing else here.
        max_timesteps: latest steps that new items may refer to.
        delta_encoded: without effect here.
        max_in_flight_items: items that may wait for their table; one more, and
            CreateItem waits.

    Raises:
        UnreachableServerError, ForkedProcessError: the server does not serve.
    """

    def __init__(
        self,
        server: Serving,
        chunk_length: int,
        max_timesteps: int,
        delta_encoded: bool,
        max_in_flight_items: int,
    ) -> None:
        server.check_open()
        self._server = server
        self._chunk_length = as_int("chunk_length", chunk_length)
        self._max_timesteps = as_int("max_timesteps", max_timesteps)
        self._delta_encoded = bool(delta_encoded)
        self._max_in_flight = as_int("max_in_flight_items", max_in_flight_items)
        self._specs: list[CellSpec] | None = None
        self._stream = self._new_stream()
        self._buffered = 0  # steps of this layout that items may refer to
        self._in_chunk = 0  # steps of the chunk that is not complete
        self._unflushed = False  # an item refers to that chunk
        self._appended = 0
        self._closed = False

    def Append(self, data: Sequence[Any]) -> None:
        """Stores a step.

        Raises:
            StepMismatchError: another number of leaves, dtype or shape than the step
                before, within a chunk; nothing is stored.
            TypeError: a leaf cannot be stored, None among them.
            RuntimeError: closed, or the server was stopped.
        """
        self._check_open("Append")
        if self._stream.append_whole(list(data)):
            self._count()
            return
        specs = [self._spec_of(i, leaf) for i, leaf in enumerate(data)]
        if self._specs is not None and specs != self._specs:
            if self._in_chunk:
                raise _mismatch(self._specs, specs)
            self._stream.wait_pending(0, None)
            self._stream = self._new_stream()
            self._buffered = 0
        self._stream.append(data, partial=False)
        self._specs = specs
        self._count()

    def AppendSequence(self, sequence: Sequence[Any]) -> None:
        """Stores the steps of columns with a leading time axis; errors as Append's.

        Raises:
            InvalidArgumentError: no columns, one without axes, or unequal lengths;
                nothing is stored.
        """
        columns = [np.asarray(column) for column in sequence]
        if not columns:
            raise InvalidArgumentError("AppendSequence called with empty data.")
        for i, column in enumerate(columns):
            if not column.ndim:
                raise InvalidArgumentError(
                    f"AppendSequence called with scalar tensor at index {i}."
                )
        if len({len(column) for column in columns}) > 1:
            shapes = ", ".join(cells.shape_name(column.shape) for column in columns)
            raise InvalidArgumentError(
                "AppendSequence called with tensors of non equal batch dimension: "
                f"{shapes:.500}."
            )
        for step in zip(*columns, strict=True):
            self.Append([np.asarray(leaf) for leaf in step])

    def CreateItem(self, table: str, num_timesteps: int, priority: float) -> None:
        """Makes an item of the latest steps.

        Waits while more than `max_in_flight_items` of this writer wait for their table.

        Raises:
            InvalidArgumentError: more steps than there are; an unknown table; a step
                that its signature does not describe; a bad priority.
            EndlessWaitError: the wait would have no end; the item is in the queue.
            RuntimeError: closed, or the server was stopped.
        """
        self._check_open("CreateItem")
        count = as_int("num_timesteps", num_timesteps)
        if not 1 <= count <= self._buffered:
            raise InvalidArgumentError(
                "Argument `num_timesteps` is larger than number of buffered timesteps. Found "
                f"{count}, but only the latest {self._buffered} can be referred to "
                f"(max_sequence_length={self._max_timesteps})."
            )
        if table not in self._server.tables:
            raise InvalidArgumentError(
                f"Unable to find signatures for table '{table}' in signature cache.  Available "
                f"tables: [{', '.join(map(repr, self._server.tables)):.500}]."
            )
        specs = self._specs or []
        first = self._stream.next_number(0) - count
        self._stream.create_runs(
            table,
            priority,
            range(len(specs)),
            [first] * len(specs),
            [count] * len(specs),
            [1] * len(specs),
            [False] * len(specs),
            lambda name, wanted, _: signature.check_steps(name, wanted, specs, count),
        )
        self._unflushed = True
        self._stream.wait_pending(self._max_in_flight, None)

    def Flush(self) -> None:
        """Waits until no item of this writer waits for its table.

        Raises:
            EndlessWaitError: that would have no end.
            RuntimeError: closed, or the server was stopped.
        """
        self._check_open("Flush")
        if self._unflushed:
            self._in_chunk = 0
            self._unflushed = False
        self._stream.wait_pending(0, None)

    def Close(self, retry_on_unavailable: bool = True) -> None:
        """Flushes, then refuses later use.

        Args:
            retry_on_unavailable: False: a stopped server is no error.

        Raises:
            RuntimeError: closed before, or the server was stopped.
            EndlessWaitError: as Flush; the writer is closed all the same.
        """
        self._check_open("Close")
        self._closed = True
        try:
            if self._unflushed and (self._server.is_open or retry_on_unavailable):
                self._server.check_open()
                self._stream.wait_pending(0, None)
        finally:
            self._stream.Close()

    def __repr__(self) -> str:
        """As Reverb shows it, without the episode's random number."""
        return (
            f"Writer(chunk_length={self._chunk_length}, max_timesteps={self._max_timesteps}, "
            f"delta_encoded={self._delta_encoded:d}, "
            f"max_in_flight_items={self._max_in_flight}, "
            f"index_within_episode={self._appended}, closed={self._closed:d})"
        )

    def _new_stream(self) -> TrajectoryWriter:
        options = AutoTunedChunkerOptions(self._max_timesteps)
        return TrajectoryWriter(self._server, options, validate_items=False, checks="steps")

    def _count(self) -> None:
        self._appended += 1
        self._buffered = min(self._buffered + 1, self._max_timesteps)
        self._in_chunk = (self._in_chunk + 1) % self._chunk_length
        if not self._in_chunk:
            self._unflushed = self._unflushed and self._stream.pending > 0

    def _check_open(self, method: str) -> None:
        if self._closed:
            raise ClosedWriterError(
                f"Calling method {method} after Close has been called. Make a new one with "
                "client.writer()."
            )

    @staticmethod
    def _spec_of(index: int, leaf: Any) -> CellSpec:
        if leaf is None:
            raise column_error(
                TypeError,
                "Append(): no leaf",
                index,
                ": it is None. Every step of this writer needs all leaves; a "
                "trajectory_writer() takes partial ones.",
                "Nothing was stored.",
            )
        try:
            return cells.cell_of(leaf)[1]
        except TypeError as error:
            raise leaf_error(index, error) from None


def _mismatch(before: list[CellSpec], now: list[CellSpec]) -> StepMismatchError:
    if len(before) != len(now):
        return StepMismatchError(
            "Number of tensors per timestep was inconsistent. Previously it was "
            f"{len(before)}, but is now {len(now)}. Nothing was stored."
        )
    for i, (old, new) in enumerate(itertools.zip_longest(before, now)):
        if old.dtype != new.dtype:
            return StepMismatchError(
                "Cannot concatenate tensors that have different data types. Got "
                f"{cells.dtype_name(old.dtype)} and {cells.dtype_name(new.dtype)} in leaf {i}. "
                "Nothing was stored."
            )
        if old.shape != new.shape:
            return StepMismatchError(
                f"Unable to concatenate tensors at index {i} due to mismatched shapes. Steps "
                f"before have shape {cells.shape_name(old.shape)}, this one "
                f"{cells.shape_name(new.shape)}. Nothing was stored."
            )
    raise AssertionError("the layouts are equal")
