"""One table of experience in this process: its store, its settings, its nest.

`ReplayTable` is the Python face of the native core for one table. Everything
above it (replay buffer, observer, manager, datasets) goes through it, so a
batch crosses into C++ once, and so does a step.
"""

from __future__ import annotations

import math
import os
import time
import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reverie import _core
from reverie.errors import (
    ClosedError,
    ForkedProcessError,
    InvalidArgumentError,
    StepMismatchError,
    UnstackableError,
)
from reverie.nests.nest import Nest
from reverie.runtime.checks import as_keys, as_updates, check_int, check_timeout, describe
from reverie.runtime.leaving import guard
from reverie.runtime.waiting import wait_until
from reverie.sample import SampleInfo

_GATHER_THREADS = min(4, os.cpu_count() or 1)
MAX_ITEMS = 2**32 - 2


class _WriterOwner(Protocol):
    def drop_episode(self) -> None: ...


@dataclass(frozen=True, slots=True)
class TableInfo:
    """Sizes, counters and settings of a table at one moment.

    Attributes:
        name: the table's name.
        items: items that can be sampled.
        capacity: the most items it holds; the oldest makes room.
        sequence_length: steps of the items that the observer makes.
        steps: stored steps, each counted once however many items share it.
        record_nbytes: bytes of one step.
        nbytes: bytes of all stored steps.
        allocated_nbytes: bytes set aside for steps, the open chunks' rest included.
        inserts: items ever added, since the table was created or cleared.
        samples: items ever sampled, likewise.
        deletes: items evicted or deleted, likewise.
        min_size_to_sample: items that must be there before sampling starts.
        inserts_per_second: mean since this process created or loaded the table.
        samples_per_second: likewise.
    """

    name: str
    items: int
    capacity: int
    sequence_length: int
    steps: int
    record_nbytes: int
    nbytes: int
    allocated_nbytes: int
    inserts: int
    samples: int
    deletes: int
    min_size_to_sample: int
    inserts_per_second: float
    samples_per_second: float


class Handle:
    """Base of what stands for memory of this process: cannot be copied or pickled.

    Raises:
        TypeError: on `copy.copy`, `copy.deepcopy` and `pickle.dumps`, which also
            passing it to another process would need.
    """

    _WAY_OUT = "To go on in another process, save() here and load_replay_buffer() there."

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(
            f"A {type(self).__name__} cannot be copied or pickled: it stands for memory of "
            f"this process, which its threads may share. {self._WAY_OUT}"
        )


class ReplayTable(Handle):
    """A table with a uniform sampler and a FIFO remover, over a store of its own.

    Thread-safe: any number of threads may add, sample, save and look.

    Args:
        nest: structure of a step.
        name: the table's name, for messages and checkpoints.
        capacity: the most items it holds.
        sequence_length: steps of each item that a writer makes.
        seed: of the sampler, 0 to 2**64 - 1. Two tables with the same seed and the
            same calls give the same batches.
        min_size_to_sample: sampling waits until this many items are there.

    Raises:
        InvalidArgumentError: a number is out of range.
    """

    def __init__(
        self,
        nest: Nest,
        name: str,
        *,
        capacity: int,
        sequence_length: int,
        seed: int,
        min_size_to_sample: int = 1,
    ) -> None:
        self.nest = nest
        self.name = name
        self.capacity = check_int("capacity", capacity, 1, MAX_ITEMS)
        self.sequence_length = check_int("sequence_length", sequence_length, 1, 2**32 - 1)
        self.seed = check_int("seed", seed, 0, 2**64 - 1)
        self.min_size_to_sample = min_size_to_sample
        self.layout = _core.RecordLayout([(c.spec.dtype, c.spec.shape) for c in nest.columns])
        self.store = _core.Store(gather_threads=_GATHER_THREADS)
        self.core = self.store.create_table(
            max_size=self.capacity,
            sampler=_core.UNIFORM,
            remover=_core.FIFO,
            min_size_to_sample=min_size_to_sample,
            samples_per_insert=1.0,
            min_diff=-math.inf,
            max_diff=math.inf,
            seed=self.seed,
        )
        self._created = time.monotonic()
        self._loaded = {"inserts": 0, "samples": 0}
        self._closed = ""
        self._error: type[ClosedError] | type[ForkedProcessError] = ClosedError
        self._writers: weakref.WeakSet[_WriterOwner] = weakref.WeakSet()
        guard(self)

    def __repr__(self) -> str:
        """`ReplayTable('uniform_table', 49 of 50000 items)`."""
        if self._closed:
            state = "of the parent process" if self.is_forked else "closed"
        else:
            state = f"{self.core.size} of {self.capacity} items"
        return f"ReplayTable({self.name!r}, {state})"

    @property
    def is_forked(self) -> bool:
        """Whether this is a child process's copy, which must not be touched."""
        return self._error is ForkedProcessError

    def check_open(self) -> None:
        """Raises ClosedError or ForkedProcessError where the table cannot be used."""
        if self._closed:
            raise self._error(f"Table {self.name!r} {self._closed}")

    def close(self, why: str = "is closed. Create or load the buffer anew.") -> None:
        """Refuses later use, wakes who waits, frees the items' memory. Idempotent.

        What runs meanwhile ends well: its chunks live until it is done.
        """
        if not self._closed:
            self._closed = why
            self.store.close()
            self.core.clear()

    def abandon(self) -> object:
        """In a forked child: refuses all use; see `process`."""
        self._error = ForkedProcessError
        self._closed = (
            "was made before os.fork() and cannot be used in the child process. Create or "
            "load a buffer there, or start the process with the 'spawn' method."
        )
        return self, list(self._writers)

    def writer(self, owner: _WriterOwner, **settings: Any) -> _core.Writer:
        """A new stream of steps into this table; see `_core.Store.create_writer`.

        Args:
            owner: told by `drop_episode()` when the table is cleared.
            settings: the writer's.
        """
        self.check_open()
        self._writers.add(owner)
        return self.store.create_writer(
            self.layout, [self.core], pad_record=self.nest.pad_record(), **settings
        )

    def sample(
        self,
        batch_size: int,
        steps: int | None = None,
        *,
        repeat_info: bool = False,
        out: Any = None,
        timeout: float | None = None,
    ) -> tuple[list[NDArray[Any]], SampleInfo]:
        """A batch as columns: `[B, steps, *shape]` each, and its SampleInfo.

        Args:
            batch_size: B, items, chosen uniformly with replacement.
            steps: None or `sequence_length` for whole items; a divisor of it for
                one of each item's disjoint pieces, at random.
            repeat_info: info fields of shape `[B, steps]` instead of `[B]`.
            out: a nest of arrays to fill instead of fresh ones.
            timeout: seconds to wait for data, at least 0; None waits, 0 does not.

        Raises:
            InvalidArgumentError: a number is out of range, or `out` does not fit.
            UnstackableError: a chosen item has another number of steps.
            WaitTimeoutError, EndlessWaitError: see `wait_until`.
            ClosedError: the table is closed.
        """
        self.check_open()
        piece = self.check_steps(steps)
        if type(batch_size) is not int or not 0 < batch_size < 2**31:
            batch_size = check_int("batch_size", batch_size, 1, 2**31 - 1)
        if timeout is not None:
            timeout = check_timeout(timeout)
        arrays = None if out is None else self._out_leaves(out, (batch_size, piece))
        args = (self.layout, batch_size, self.sequence_length, piece, repeat_info, arrays)
        try:
            batch = self.core.sample(*args)
            while batch is None:
                wait_until(
                    lambda slice_s: self.core.wait(batch_size, slice_s),
                    timeout=timeout,
                    what=lambda: self.describe_wait(batch_size),
                )
                batch = self.core.sample(*args)
        except (_core.LengthMismatch, _core.Closed) as error:
            raise self.translate(error) from None
        return batch[0], SampleInfo._make(batch[1])

    def gather(
        self, keys: ArrayLike | None = None
    ) -> tuple[list[NDArray[Any]], NDArray[np.uint64]]:
        """Items by key, or all in insertion order: columns `[N, T, *shape]`, and keys `[N]`.

        One point in time; counts as no sample. Costs memory for all N items.

        Raises:
            UnstackableError: they have unequal numbers of steps.
            KeyError: a key is stale.
            ClosedError: the table is closed.
        """
        self.check_open()
        wanted = None if keys is None else as_keys(keys)
        empty = self.core.size == 0 if wanted is None else wanted.size == 0
        try:
            return self.core.gather(self.layout, wanted, self.sequence_length if empty else 0)
        except (_core.LengthMismatch, _core.Closed) as error:
            raise self.translate(error) from None

    def items(self) -> Iterator[tuple[int, list[NDArray[Any]]]]:
        """Each item's key and its columns `[T, *shape]`, T as each column has it.

        In insertion order, one item copied at a time; items evicted meanwhile are
        left out.
        """
        self.check_open()
        for key in self.core.items()["key"]:
            self.check_open()
            try:
                yield int(key), self.core.gather_item(self.layout, int(key))
            except KeyError:
                continue

    def update_priorities(self, keys: ArrayLike, priorities: ArrayLike) -> int:
        """Sets the priorities of items; returns how many keys were stale.

        Args:
            keys: `[B]`, or `[B, T]` as a dataset yields them (then column 0 counts).
            priorities: `[B]`, `[B, T]` (column 0) or one number; finite, not negative.

        Raises:
            InvalidArgumentError: the shapes differ, or a priority is out of range.
        """
        self.check_open()
        chosen, values = as_updates(keys, priorities)
        return self.core.update_priorities(chosen, values)

    def clear(self) -> None:
        """Deletes all items, drops the open episodes' steps, resets the limiter."""
        self.check_open()
        for owner in list(self._writers):
            owner.drop_episode()
        self.core.clear()
        self._loaded = {"inserts": 0, "samples": 0}
        self._created = time.monotonic()

    def info(self) -> TableInfo:
        """Sizes and counters now. O(1)."""
        table, store = self.core.info(), self.store.info()
        seconds = max(time.monotonic() - self._created, 1e-9)
        inserts, samples = int(table["inserts"]), int(table["samples"])
        return TableInfo(
            name=self.name,
            items=int(table["size"]),
            capacity=self.capacity,
            sequence_length=self.sequence_length,
            steps=store["num_steps"],
            record_nbytes=self.layout.record_nbytes,
            nbytes=store["record_nbytes_total"],
            allocated_nbytes=store["allocated_nbytes"],
            inserts=inserts,
            samples=samples,
            deletes=int(table["deletes"]),
            min_size_to_sample=self.min_size_to_sample,
            inserts_per_second=(inserts - self._loaded["inserts"]) / seconds,
            samples_per_second=(samples - self._loaded["samples"]) / seconds,
        )

    def restored(self) -> None:
        """Called once after a checkpoint was read into this table: rates start now."""
        table = self.core.info()
        self._loaded = {name: int(table[name]) for name in ("inserts", "samples")}
        self._created = time.monotonic()

    def check_steps(self, steps: int | None) -> int:
        """`steps`, or `sequence_length` for None; it must divide the latter.

        Raises:
            InvalidArgumentError: in the words of TF-Agents' replay buffer.
        """
        length = self.sequence_length
        if steps is None or steps == length:
            return length
        steps = check_int("num_steps", steps, 1, 2**32 - 1)
        if steps > length:
            raise InvalidArgumentError(
                f"num_steps > sequence_length: found num_steps={steps}, wanted a divisor of "
                f"sequence_length={length}."
            )
        if length % steps:
            raise InvalidArgumentError(
                f"sequence_length={length} is not a multiple of num_steps={steps}."
            )
        return steps

    def describe_wait(self, batch_size: int) -> str:
        """What a sampler waits for, with the numbers."""
        table = self.core.info()
        wanted = max(1, self.min_size_to_sample)
        return (
            f"to sample {batch_size} from table {self.name!r}: it holds {table['size']} items "
            f"and wants at least {wanted} (each needs {self.sequence_length} consecutive steps "
            "of one episode)"
        )

    def translate(self, error: Exception) -> Exception:
        """The public error for one of the core's."""
        if isinstance(error, _core.Closed):
            why = self._closed or "is closed. Create or load the buffer anew."
            return self._error(f"Table {self.name!r} {why}")
        key, column, found, wanted = error.args
        what = "" if column < 0 else f" in column {self.nest.columns[column].path!r}"
        return UnstackableError(
            f"Item {key} of table {self.name!r} has {found} steps{what}, wanted {wanted}: "
            "items of unequal length cannot be stacked into [N, T, ...]. Read them one by one "
            "with iter_items(), or use the sequence_length they were written with."
        )

    def _out_leaves(self, out: Any, leading: tuple[int, int]) -> list[Any]:
        try:
            leaves = self.nest.leaves(out)
        except StepMismatchError:
            raise InvalidArgumentError(
                f"out does not match the data spec {self.nest.difference(out)}."
            ) from None
        for leaf, column in zip(leaves, self.nest.columns, strict=True):
            wanted = (*leading, *column.spec.shape)
            if (
                not isinstance(leaf, np.ndarray)
                or (leaf.shape, leaf.dtype) != (wanted, column.spec.dtype)
                or not (leaf.flags.c_contiguous and leaf.flags.writeable and leaf.flags.aligned)
            ):
                raise InvalidArgumentError(
                    f"out leaf {column.path!r}: found {describe(leaf)}; wanted a writeable, "
                    f"C-contiguous {column.spec.dtype} array of shape {wanted}."
                )
        return leaves
