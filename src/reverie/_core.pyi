"""The native core: bytes, chunks, items, selection, limits, gather, randomness.

One `Store` holds the chunks and tables of one process. Its single mutex guards
tables, items and chunk counts; a `Writer` has a mutex of its own, taken first.
No call holds a core mutex while it wants the GIL. Methods may be called from
any thread. Errors: `ValueError` for arguments that Python should have refused.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNIFORM: int
FIFO: int
LIFO: int

class RecordLayout:
    """Columns of one packed, fixed-width record, in flattened-nest order."""

    def __init__(self, columns: Sequence[tuple[np.dtype[Any], tuple[int, ...]]]) -> None: ...
    @property
    def record_nbytes(self) -> int: ...

class LengthMismatch(Exception):
    """args: (key, column or -1, found steps, wanted steps). Nothing was sampled."""

class Closed(Exception):
    """The store was closed."""

class Store:
    def __init__(self, *, chunk_nbytes: int = 1048576, gather_threads: int = 1) -> None: ...
    def create_table(
        self,
        *,
        max_size: int,
        sampler: int,
        remover: int,
        min_size_to_sample: int,
        samples_per_insert: float,
        min_diff: float,
        max_diff: float,
        seed: int,
    ) -> Table: ...
    def create_writer(
        self,
        layout: RecordLayout,
        tables: Sequence[Table],
        *,
        sequence_length: int,
        stride_length: int,
        priority: float,
        pad_end: bool,
        tile_end: bool,
        pad_record: bytes,
        boundary_column: int,
        boundary_value: int,
    ) -> Writer: ...
    def snapshot(self) -> Snapshot:
        """A consistent point in time of all tables; O(items), milliseconds a million."""
    def restore_chunk(
        self, layout: RecordLayout, chunk_id: int, count: int
    ) -> NDArray[np.uint8]:
        """A new sealed chunk; returns its writable bytes, shape (count, record_nbytes).

        Fill it before any item refers to it. Raises ValueError for a chunk_id in use.
        """
    def link_chunk(self, chunk_id: int, next_id: int) -> None:
        """Says that the stream goes on from `chunk_id` in `next_id`."""
    def seal_restore(self) -> None:
        """Ends restoring: chunks that no item refers to are freed."""
    def close(self) -> None: ...
    def info(self) -> dict[str, int]:
        """num_chunks, num_steps (in live chunks), record_nbytes_total, allocated_nbytes."""

class Table:
    @property
    def size(self) -> int: ...
    @property
    def max_size(self) -> int: ...
    def info(self) -> dict[str, float | int]: ...
    def sample(
        self,
        layout: RecordLayout,
        batch_size: int,
        steps: int,
        piece: int,
        repeat_info: bool,
        out: Sequence[NDArray[Any]] | None,
    ) -> tuple[list[NDArray[Any]], tuple[NDArray[Any], ...]] | None:
        """One batch, or None where the limiter or an empty table forbids it now.

        `steps` is the length that every chosen item must have (else
        LengthMismatch). `piece` = steps returns whole items; a smaller divisor
        returns one of each item's steps // piece disjoint pieces at random.
        Returns columns shaped (B, piece, *shape) and
        (key u64, probability f64, table_size i64, priority f64, times_sampled i32)
        shaped (B,), or (B, piece) with repeat_info.
        """
    def gather(
        self, layout: RecordLayout, keys: NDArray[np.uint64] | None, steps: int
    ) -> tuple[list[NDArray[Any]], NDArray[np.uint64]]:
        """Items by key, or all in insertion order; counts as no sample.

        `steps` = 0 takes the first item's length. Raises KeyError for a stale key.
        """
    def gather_item(self, layout: RecordLayout, key: int) -> list[NDArray[Any]]:
        """One item whole: each column (T, *shape) with its own T. KeyError if stale."""
    def items(self) -> dict[str, NDArray[Any]]:
        """All items in insertion order: key, chunk, offset, length, priority,
        times_sampled (see TableSnapshot.items), and span arrays."""
    def update_priorities(
        self, keys: NDArray[np.uint64], priorities: NDArray[np.float64]
    ) -> int:
        """Returns how many keys were stale."""
    def delete(self, keys: NDArray[np.uint64]) -> int:
        """Returns how many keys were stale."""
    def clear(self) -> None: ...
    def wait(self, batch_size: int, timeout_s: float) -> bool:
        """Waits, without the GIL, until so many samples are allowed; False at the timeout."""
    def restore(self, state: dict[str, Any]) -> None:
        """Fills an empty table from the arrays of `TableSnapshot`, same names.

        Raises ValueError naming the item index for a chunk, offset, length, key
        or span that does not fit. `keys` may be None: fresh keys are issued.
        """

class Writer:
    @property
    def num_cached(self) -> int:
        """Steps of the open episode so far."""
    def append(self, leaves: Sequence[Any], last: int) -> int:
        """Stores one step. Returns -1, or the index of the first leaf that is not a
        NumPy value of exactly the column's dtype and shape (then nothing is stored).

        `last`: 1 ends the episode, 0 does not, -1 asks the boundary column.
        """
    def reset(self, write_cached_steps: bool) -> int:
        """Ends the episode. Returns how many of its last steps are in no item."""
    def close(self) -> None: ...

class Snapshot:
    """Pins every chunk that an item refers to, until it is dropped."""

    @property
    def chunks(self) -> list[ChunkView]: ...
    @property
    def tables(self) -> list[TableSnapshot]: ...

class ChunkView:
    @property
    def chunk_id(self) -> int: ...
    @property
    def next_id(self) -> int:
        """0 where the stream ends here, or its next chunk holds no item's step."""
    @property
    def sealed(self) -> bool: ...
    @property
    def count(self) -> int: ...
    def data(self) -> NDArray[np.uint8]:
        """Read-only bytes of the filled records, (count, record_nbytes); pins the chunk."""

class TableSnapshot:
    @property
    def items(self) -> dict[str, NDArray[Any]]:
        """Insertion order. key u64, chunk u64 (chunk id), offset u32, length u32,
        priority f64, times_sampled i32, all (N,). Items with unequal steps per
        column also stand in span_item u64 (S,) (row), span_column u32,
        span_start u32, span_length u32, relative to the item's first step."""
    @property
    def free_keys(self) -> NDArray[np.uint64]:
        """Last key used in each free slot, next slot to be used last."""
    @property
    def counters(self) -> dict[str, int]:
        """inserts, samples, deletes: the limiter's arithmetic and the totals."""
    @property
    def rng_state(self) -> NDArray[np.uint64]:
        """(4,)"""
