"""The native core: bytes, chunks, items, selection, limits, gather, randomness.

One `Store` holds the chunks and tables of one process. Its single mutex guards
tables, items and chunk counts; a `Writer` has a mutex of its own, taken first.
No call holds a core mutex while it wants the GIL, nor waits for one with the GIL in hand:
it is kept for short work alone. Methods may be called from
any thread. Errors: `ValueError` for arguments that Python should have refused.

What may take seconds answers signals: it ends early, and raises what a handler raised. Then
`sample` may have counted its items, `update_priorities` and `delete` have dealt with a part
of the keys, `clear` is done but for memory that is freed a little later, and `restore` has
left the table empty.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Kinds of selectors.
UNIFORM: int
FIFO: int
LIFO: int
PRIORITIZED: int
MIN_HEAP: int
MAX_HEAP: int
RESERVOIR: int

# Kinds of items that a Writer makes: windows within episodes, windows over the whole
# stream, whole episodes of at most `sequence_length` steps.
WINDOWS: int
STREAM: int
EPISODES: int
ANCHORS: int

# Which other record a row of a view has, and how a column asks for it.
OTHER_LATER: int
OTHER_OF_EPISODE: int
OTHER_OF_ANY: int
OTHER: int

# How an episode ended: what writers take as `last`, where 0 is a step after which it goes
# on, and what a snapshot's `ends` say.
ENDED: int  # the writer was not told how
TERMINATED: int
TRUNCATED: int
CUT: int  # it was reset, closed or dropped: the stream stopped there

# What Writer.append and append_batch return where no leaf is at fault.
STORED: int
STORED_BUT_BLOCKED: int  # an episode ended, and items of this writer wait for a limiter
TOO_LONG: int  # an episode has become too long and is dropped, the batch's others are stored
IGNORED: int  # the step belongs to an episode that has become too long

class RecordLayout:
    """Columns of one packed, fixed-width record, in flattened-nest order.

    Layouts of equal columns are one layout: they are equal, and one's records are the other's.
    """

    def __init__(self, columns: Sequence[tuple[np.dtype[Any], tuple[int, ...]]]) -> None: ...
    def __eq__(self, other: object) -> bool: ...
    def __hash__(self) -> int: ...
    @property
    def record_nbytes(self) -> int: ...
    @property
    def columns(self) -> list[tuple[np.dtype[Any], tuple[int, ...]]]: ...

class TooManyReferences(Exception):
    """See Table.restore."""

class LengthMismatch(Exception):
    """args: (key, column or -1, found steps, wanted steps); -1 steps: a squeezed column.
    The column is -1 where the item is a run, which has one length. Nothing was sampled."""

class LayoutMismatch(ValueError):
    """args: (key, column or -1). The item's column has another dtype or shape than asked
    for; -1: the item has another number of columns. Nothing was sampled."""

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
        sampler_exponent: float = 1.0,
        remover_exponent: float = 1.0,
        max_times_sampled: int = 0,
    ) -> Table:
        """A new, empty table. `max_times_sampled`: then the item is deleted; 0: never.

        Raises ValueError for an unknown kind, an exponent that is not
        finite, or a number out of range.
        """
    def create_writer(
        self,
        layout: RecordLayout,
        tables: Sequence[Table],
        *,
        sequence_length: int,
        stride_length: int,
        priority: float | None,
        pad_end: bool,
        tile_end: bool,
        pad_record: bytes,
        boundary_column: int,
        boundary_value: int,
        items: int = 0,
        num_streams: int = 1,
        discount_column: int = -1,
        lead: int = 0,
        lead_is_zero: bool = False,
        tells_ended: bool = False,
        return_column: int = -1,
    ) -> Writer:
        """A writer of `num_streams` independent streams; `items` is one of the kinds above.

        Where the boundary column says that an episode ended, the discount (a float32 scalar)
        of the record before tells how: TERMINATED where it is 0, else TRUNCATED. Without a
        discount column, or a record before in the episode, it is ENDED.
        Of arrivals, `lead` copies of each episode's first record come before it (of zeros
        with `lead_is_zero`), and each item begins so many before its step; `sequence_length`
        is the longer by them.
        `priority` None: an item has, from when a table takes it, the largest priority of that
        table's items now, 1.0 where there are none or no selector is PRIORITIZED. NaN is
        refused with ValueError, here and in all that takes a priority of new items.
        """
    def allow_updates(self, shared: bool) -> None:
        """Records may change from now on; before anybody else knows the store.

        `shared`: items have records in common, of which then no second copies are made.
        """
    def create_trajectory_writer(self) -> TrajectoryWriter: ...
    def snapshot(self) -> Snapshot:
        """A consistent point in time of all tables; a tenth of a millisecond a million items.

        What is in it becomes arrays when they are first asked for, without the GIL.
        """
    def tidy(self) -> None:
        """Looks after memory now, as the store's own thread does when there is need: pages
        that will soon be used are touched, what items hold of sparsely used chunks gets a
        new home, idle pages go back to the system. Nobody waits for it."""
    def restore_chunk(
        self, layout: RecordLayout | None, chunk_id: int, count: int, nbytes: int = 0
    ) -> NDArray[np.uint8]:
        """A new sealed chunk; returns its writable bytes, shape (count, record_nbytes).

        `layout` None: a chunk of one cell of any size, `nbytes`; `count` is 1.
        Fill it before any item refers to it. Raises ValueError for a chunk_id in use.
        """
    def link_chunks(self, ids: NDArray[np.uint64], next_ids: NDArray[np.uint64]) -> None:
        """Says that the streams go on from `ids[i]` in `next_ids[i]`, both restored.

        ValueError with the index of a link that names an unknown chunk, links one twice, or
        whose ids do not rise; those before it are made.
        """
    def restore_ends(
        self, chunk: NDArray[np.uint64], step: NDArray[np.uint32], how: NDArray[np.uint8]
    ) -> None:
        """Ends of episodes in restored chunks: `step` is the last record of one.

        Each chunk's ends ascend, and follow each other. ValueError with the index of an end
        that names no restored chunk, no record of it, no `how` (ENDED to CUT) or does not
        ascend; those before it are in.
        """
    def seal_restore(self) -> None:
        """Ends restoring: chunks that no item refers to are freed."""
    def close(self) -> None: ...
    def reopen(self) -> None:
        """Takes `close` back but for the writers made before it, which stay closed."""
    def info(self) -> dict[str, int]:
        """num_chunks, num_steps (in live chunks), record_nbytes_total, allocated_nbytes (of
        chunks), used_nbytes (of all memory for records and items), held_nbytes (the same,
        with what is free or touched ahead)."""

class OutputMemory:
    """Memory of the caller's that the arrays of batches are cut from, in this thread, while
    it is entered; what does not fit has its own. Entered anew it is written over."""

    def __init__(self, memory: NDArray[np.uint8]) -> None:
        """memory: a vector that begins at a multiple of 64 bytes."""
    @property
    def used(self) -> int:
        """Bytes cut since it was entered."""
    def enter(self) -> None:
        """ValueError: the thread has entered one."""
    def exit(self) -> None: ...

class Table:
    @property
    def size(self) -> int: ...
    @property
    def max_size(self) -> int: ...
    def info(self) -> dict[str, float | int]:
        """size, max_size; the limiter's settings; inserts, samples, deletes;
        num_unique_samples, num_episodes and num_deleted_episodes (of trajectories),
        pending (items that wait for the limiter)."""
    def min_probability(self) -> float:
        """The smallest positive probability with which any item would be sampled now; 0 without
        items. 1 of a sampler that leaves nothing to chance. O(1)."""
    def can_sample(self, n: int) -> bool:
        """The limiter's arithmetic alone, whatever the table holds."""
    def can_insert(self, n: int) -> bool: ...
    def sample_items(
        self, max_items: int
    ) -> list[tuple[int, float, int, float, int, list[Any]]] | None:
        """At most so many samples of any make (and 65536), as many as the limiter permits.

        Chosen one after the other, under one lock; None where not one is permitted.
        Each is (key, probability, table_size, priority, times_sampled, columns). A
        column is an array (T, *shape), or (*shape) if it is squeezed; one of cells of
        any size is a list of bytes, or bytes.
        """
    def sample_runs(
        self, max_items: int
    ) -> list[tuple[tuple[NDArray[Any], ...], list[Any]]] | None:
        """The same samples, in runs of n items whose columns are alike.

        Each run is ((key u64, probability f64, table_size i64, priority f64, times_sampled
        i32), columns), all with n as their first axis; a column of cells of any size is a
        list of n.
        """
    def sample(
        self,
        layout: RecordLayout,
        batch_size: int,
        steps: int,
        piece: int,
        repeat_info: bool,
        out: Sequence[NDArray[Any]] | None,
        lengths: Sequence[int] | None = None,
    ) -> tuple[list[NDArray[Any]], tuple[NDArray[Any], ...]] | None:
        """One batch, or None where the limiter or an empty table forbids it now.

        Every chosen item must be a run of `steps` records of `layout`, or a trajectory whose
        columns have, in order, the types of the layout's, each of `steps` cells and not
        squeezed: else LayoutMismatch or LengthMismatch. `piece` = steps returns whole items;
        a smaller divisor returns one of each item's steps // piece disjoint pieces at random.
        `lengths`, one per column, asks for other lengths than `steps`; -1: squeezed. Then
        piece == steps, which says only how often infos are repeated.
        Returns columns shaped (B, piece, *shape), with `lengths` (B, length, *shape) or
        (B, *shape), and (key u64, probability f64, table_size i64, priority f64,
        times_sampled i32) shaped (B,), or (B, piece) with repeat_info.
        A batch that fails counts nothing and uses no randomness, but
        with max_times_sampled, where the items chosen before the one at fault stay counted.
        """
    def sample_view(
        self, plan: ViewPlan, batch_size: int, newest: int = 0
    ) -> tuple[_Rows, tuple[NDArray[Any], ...], float] | None:
        """One batch of rows that begin at items' first records, whatever their lengths; None
        as from `sample`. Rows, infos as `sample`'s (B,), and what `min_probability` was.

        `newest`: uniformly among so many of the newest items, whatever the sampler; 0: by that.
        Rows are the plan's columns, how many steps each one has (B,), and whether its episode
        terminated, or was truncated, with the last of them (B,).
        """
    def gather_view(
        self, plan: ViewPlan, keys: NDArray[np.uint64] | None
    ) -> tuple[_Rows, NDArray[np.uint64], tuple[NDArray[np.uint64], NDArray[np.uint32]]]:
        """The same of items by key, or of all in insertion order.

        Rows, keys, and where each row's last record is: a chunk's number and the place in it.
        O(chunks that a row goes through).
        """
    def gather(
        self,
        layout: RecordLayout,
        keys: NDArray[np.uint64] | None,
        steps: int,
        lengths: Sequence[int] | None = None,
    ) -> tuple[list[NDArray[Any]], NDArray[np.uint64]]:
        """Items by key, or all in insertion order, as `sample` does; counts as no sample.

        `steps` = 0 takes the first item's length (a trajectory's first column's). With
        `lengths` it says nothing. Raises KeyError for a stale key.
        """
    def item(self, key: int) -> list[Any]:
        """One item of any make: its columns as in `sample_items`. KeyError if stale."""
    def describe(
        self, key: int | None = None
    ) -> list[tuple[np.dtype[Any] | None, tuple[int, ...], int]] | None:
        """(dtype, shape, length) of each column of an item, None: of the oldest.

        Length -1: squeezed. dtype None: cells of any size, bytes, whose shape is (). None if
        the table is empty; KeyError for a stale key.
        """
    def items(self) -> dict[str, NDArray[Any]]:
        """All items in insertion order, as `TableSnapshot.items`."""
    def update_priorities(
        self, keys: NDArray[np.uint64], priorities: NDArray[np.float64]
    ) -> int:
        """Returns how many keys were stale."""
    def update(
        self,
        layout: RecordLayout,
        keys: NDArray[np.uint64],
        first: int,
        steps: int,
        columns: Sequence[tuple[int, NDArray[np.uint8]]],
        mask: NDArray[np.uint8] | None,
        version: tuple[int, NDArray[np.uint8]] | None,
    ) -> tuple[int, int, int]:
        """Writes new cells into records of n items, runs of the layout's: those from each
        item's `first` on, `steps` of them or as many as its row in a view has.

        `columns` are (field, bytes of (n, steps) cells), or of (n) for the first step alone;
        `mask` (n * steps) says which steps; `version` is (field of integers, bytes of n
        cells): then a record whose own is not less keeps all its cells, else it gets that
        one. Returns how many records were written, keys were stale, records had no older
        version. LayoutMismatch: nothing was written. Interrupted, a part was. ValueError
        without `Store.allow_updates`.
        """
    def delete(self, keys: NDArray[np.uint64]) -> int:
        """Returns how many keys were stale."""
    def resize(self, max_size: int) -> None:
        """At most so many items from now on. Interrupted, or where memory is short, some of
        those that are too many have left, and the size stays."""
    def clear(self) -> None: ...
    def wait(self, batch_size: int, timeout_s: float) -> bool:
        """Waits, without the GIL, until so many samples are allowed; False at the timeout."""
    def restore(self, state: dict[str, Any], max_references: int = 2**64 - 1) -> int:
        """Fills an empty table from the arrays of `TableSnapshot`, same names.

        Takes at most `max_references` on chunks, and returns how many: one for each chunk
        that a window touches, and for every 4096 records of a window or a piece.
        TooManyReferences: they would be more, and the table is empty.

        Raises ValueError naming the item index for a chunk, offset, length, key or
        trajectory that does not fit; the table is empty then. `key` may be None: fresh keys
        are issued. Arrays of trajectories (all of them) and `touched` may be left out.
        """

_Rows = tuple[list[NDArray[Any]], NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]

class ViewPlan:
    """What is gathered for a view: a row goes on from its item's first record to the end of
    its episode, or to the newest record, but has at most `most`, of which the first `lead` are
    before its step.

    A column is (field, first, steps, spare, squeeze): cells of the row's records from `first`
    on (negative: from its end), `steps` of them (0: as many as the longest row has); zeros for
    those that the row has not, its last `spare` ones included. It comes as (B, steps, *shape),
    or (B, *shape) with squeeze. With `other` each sampled row has another record at random: one
    of those after its step (OTHER_LATER), of those of its episode that are still there but its
    first (OTHER_OF_EPISODE), or of those that follow any item's step (OTHER_OF_ANY). A column
    whose `first` is OTHER is a squeezed cell of that one.

    A shift is (column's number, draw, pad, planes, height, width): in samples, images of such
    planes are shifted at random, by up to `pad` pixels up or down and as many left or right,
    edge pixels repeated. The cells of a row are shifted alike, and so are columns of equal
    draws; of others, and of other rows, independently. Raises ValueError.
    """

    def __init__(
        self,
        layout: RecordLayout,
        columns: Sequence[tuple[int, int, int, int, bool]],
        most: int,
        lead: int = 0,
        other: int = 0,
        shifts: Sequence[tuple[int, int, int, int, int, int]] = (),
    ) -> None: ...

class Writer:
    """Streams of steps and the items over them; see cpp/writers/writer.h."""

    @property
    def num_cached(self) -> int:
        """Steps of the open episode of stream 0 so far."""
    def num_cached_of(self, stream: int) -> int: ...
    def set_priority(self, priority: float | None) -> None:
        """Of items to come; None: see `Store.create_writer`."""
    @property
    def pending(self) -> int:
        """Items that wait for their table's limiter."""
    def wait_pending(self, at_most: int, timeout_s: float) -> bool:
        """Waits, without the GIL, until at most so many wait; False at the timeout."""
    def take_ended(self) -> list[tuple[float, NDArray[np.uint64]]]:
        """Of each episode that ended since the last call: the sum of `return_column`, a scalar
        of float32 or float64, and the keys of its items. With `tells_ended`."""
    def append(self, leaves: Sequence[Any], last: int) -> int:
        """Stores one step of stream 0. Returns one of the negative values above, or the
        index of the first leaf that the core does not cast to the column's dtype and shape:
        `nests.casts.convert` does, or says why not (then nothing is stored).

        `last`: 0 goes on; ENDED, TERMINATED, TRUNCATED or CUT ends the episode; -1 asks the
        boundary column. ValueError for other numbers.
        """
    def append_batch(
        self,
        leaves: Sequence[Any],
        n: int,
        streams: NDArray[np.int64] | None,
        lasts: NDArray[np.uint8] | None,
        fates: NDArray[np.uint8] | None,
    ) -> int:
        """Stores one step for each of n streams (None: 0 to n - 1); leaves are (n, *shape).

        Returns as `append` does, never IGNORED, and TOO_LONG only if there are `fates`:
        those tell of each step whether it was stored (0), made its episode too long (1)
        or was ignored (2). `lasts` as `last` of `append`; None asks the boundary column.
        Raises ValueError, with nothing stored, for a stream that is unknown or occurs twice,
        or an unknown `last`.
        """
    def append_arrivals(
        self,
        before: Sequence[Any],
        leaves: Sequence[Any],
        n: int,
        streams: NDArray[np.int64] | None,
        lasts: NDArray[np.uint8],
        begun: NDArray[np.uint8],
        alone: bool = False,
    ) -> int:
        """Stores what came of a step of each of n streams; arrays as `append_batch`'s.

        `before` has None for columns that are no states. Where its values are not those of
        the stream's last record, a record of them begins an episode, and `begun` is 1, or 2
        where one was open, which then ended as TRUNCATED. Returns as `append_batch`; a misfit
        of `before` is counted behind those of `leaves`. `alone`: n is 1, and the leaves have
        no first axis.
        """
    def append_runs(
        self,
        leaves: Sequence[Any],
        stream: int,
        lengths: NDArray[np.uint64],
        lasts: NDArray[np.uint8],
    ) -> int:
        """Stores whole episodes of so many records, one after the other in the arrays."""
    def reset(self, write_cached_steps: bool, stream: int = 0) -> int:
        """Ends the episode (CUT), with an item of the rest where items are of any length.
        Returns how many of its last steps are in no item."""
    def close(self) -> None:
        """Ends all episodes (CUT). Idempotent."""

class TrajectoryWriter:
    """A stream of steps whose columns are stored apart; see cpp/writers/trajectory_writer.h.

    The n-th cell ever appended to a column has number n.
    """

    def add_column(self, layout: RecordLayout | None, keep: int) -> int:
        """The next column's index. `layout`: of one cell, that is, with one column;
        None: cells are bytes of any length. `keep`: how many of the latest cells stay."""
    def set_keep(self, column: int, keep: int) -> None: ...
    def append(self, cells: Sequence[Any]) -> int:
        """Stores a cell, or none (None), for each column. Returns -1, or the index of the
        first that is not exactly of its column's dtype and shape (then nothing is stored).
        """
    def append_cells(self, column: int, cells: NDArray[Any] | list[bytes]) -> int:
        """Stores many cells of one column: an array (n, *shape) of exactly its dtype, or, of
        cells of any size, a list. Returns the number of the first. ValueError: they are none of
        its, and nothing is stored. After Closed or MemoryError some of them may be."""
    def drop_before(self, column: int, number: int) -> None:
        """Cells of the column below this number expire, whatever it keeps."""
    def first_kept(self, column: int) -> int:
        """Cells of lower numbers have expired."""
    def next_number(self, column: int) -> int: ...
    def read(self, column: int, number: int) -> Any:
        """A copy of one cell: an array, or bytes. KeyError if it has expired."""
    def create_item(
        self,
        table: Table,
        priority: float | None,
        run_column: NDArray[np.uint32],
        run_start: NDArray[np.uint64],
        run_length: NDArray[np.uint32],
        runs_per_column: NDArray[np.uint32],
        squeeze: NDArray[np.uint8],
    ) -> bool:
        """An item whose column j has the next `runs_per_column[j]` runs, each of
        `run_length` cells of `run_column` from number `run_start` on. `priority` None: see
        `Store.create_writer`.

        True: it is in. False: the table's limiter forbids that now; it goes in by itself
        as soon as samples or deletions permit it. Raises ValueError with the index of a
        run that names expired or unknown cells.
        """
    @property
    def pending(self) -> int:
        """Its items that wait for their table's limiter."""
    def wait_pending(self, at_most: int, timeout_s: float) -> bool:
        """Waits, without the GIL, until at most so many wait; False at the timeout.
        Raises Closed where any was dropped because the store was closed."""
    def end_episode(self, clear: bool) -> None:
        """Later items belong to another episode. `clear`: all cells expire."""
    def close(self) -> None:
        """Cells expire; items that wait go on waiting. Idempotent."""

class Snapshot:
    """Keeps all that items referred to, until it and all its `data` are dropped.

    Its arrays are made by whoever asks for one first: O(items), without the GIL and without
    the store's lock. Of chunks that items hold little of, it has just that, laid out anew;
    items name the chunks as they are here.
    """

    @property
    def chunks(self) -> dict[str, NDArray[Any]]:
        """The chunks, (C,), ascending by id: id u64, next u64 (the stream goes on there; 0
        where it ends, or its next chunk holds no item's step), count u32 (records; 1 of a
        cell of any size), nbytes u64 (of those), sealed u8 (no records will follow),
        layout u32 (row of `layouts`)."""
    @property
    def layouts(self) -> list[list[tuple[np.dtype[Any], tuple[int, ...]]] | None]:
        """Those in use; None: one cell of any size."""
    @property
    def ends(self) -> dict[str, NDArray[Any]]:
        """Ends of episodes, (E,), by chunk, then step: chunk u64 (id), step u32 (the record in
        the chunk that is an episode's last), how u8 (ENDED to CUT). Padding after an episode
        is set apart from what follows by an end of its own, CUT."""
    def data(self, row: int) -> NDArray[np.uint8]:
        """Read-only bytes of the records of chunk `row`, (count, record_nbytes); a copy where
        the chunk was laid out anew, else it pins the chunk."""
    @property
    def tables(self) -> list[TableSnapshot]: ...

class TableSnapshot:
    @property
    def items(self) -> dict[str, NDArray[Any]]:
        """Insertion order. key u64, chunk u64 (chunk id), offset u32, length u32,
        priority f64, times_sampled i32, all (N,). Where a heap needs it, touched u64 (N,)
        tells the order in which the items were last inserted or updated; else it is empty.
        Trajectories have chunk, offset and length 0, and stand in traj_item u64 (row),
        traj_episode u64, (J,); their columns in column_item u64 (row), column_field u32
        (which column of its chunks' layout), column_squeeze u8, column_pieces u32 (how
        many), (C,); those in piece_chunk u64, piece_offset u32, piece_length u32, (P,).
        In a snapshot also holes u8: a bit for each place of the order, from the lowest on,
        set where nobody stands; empty where somebody stands everywhere."""
    @property
    def free_keys(self) -> NDArray[np.uint64]:
        """Last key used in the free slots that have a name, next slot to be used last."""
    @property
    def counters(self) -> dict[str, int]:
        """inserts, samples, deletes: the limiter's arithmetic and the totals;
        num_unique_samples, num_deleted_episodes; first_generation and next_slot: slots from
        next_slot up that no key names are free, and begin with that generation."""
    @property
    def rng_state(self) -> NDArray[np.uint64]:
        """(4,)"""
