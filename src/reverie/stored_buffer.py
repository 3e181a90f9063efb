"""What a replay buffer is, whoever fills it: one table of steps, in windows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reverie import _core
from reverie.checkpoint.format.snapshot import Progress
from reverie.checkpoint.save import Saver
from reverie.errors import InvalidArgumentError
from reverie.nests.nest import Nest
from reverie.runtime.checks import (
    as_keys,
    as_updates,
    check_int,
    check_num_steps,
    check_timeout,
)
from reverie.runtime.handle import Handle
from reverie.runtime.waiting import wait_until
from reverie.tables.info import BufferInfo
from reverie.tables.table import Table, unstackable

if TYPE_CHECKING:
    import tensorflow as tf

    from reverie.reverb.client import Client
    from reverie.reverb.engine.buffer_server import BufferServer

Columns = tuple[list[NDArray[Any]], tuple[NDArray[Any], ...]]
MISFITS = (_core.LengthMismatch, _core.LayoutMismatch, _core.Closed)


class StoredBuffer(Handle):
    """One table of steps, whose items are windows: sample, look, update, save.

    What every `ReplayBuffer` is, whoever fills it. Thread-safe. It has the methods of
    TF-Agents' buffer: what that refuses (`gather_all`) works, `add_batch` and `get_next`
    raise NotImplementedError.

    Args:
        table: in a store of its own.
        nest: structure of a step.
        saver: of its checkpoints.
        data_spec: as the user gave it; None: the nest's.
        sequence_length: steps of each item.
        lengths: steps of each column of an item, -1 where it has no time axis, of items
            whose columns differ in that; None: all have `sequence_length`.
    """

    stateful_dataset = True

    def __init__(
        self,
        table: Table,
        nest: Nest,
        saver: Saver,
        *,
        data_spec: Any = None,
        sequence_length: int,
        lengths: Sequence[int] | None = None,
    ) -> None:
        self._table = table
        self._nest = nest
        self._saver = saver
        self._data_spec = nest.spec if data_spec is None else data_spec
        self._sequence_length = sequence_length
        self._lengths = None if lengths is None else list(lengths)
        self._store, self._core = table.store, table.core
        self._layout = _core.RecordLayout(nest.types)
        if lengths is None:
            table.know(nest)
        info = self._core.info()
        self._loaded = int(info["inserts"]), int(info["samples"])
        self._created = time.monotonic()
        # Not at the top: `import reverie` is quicker without all that writers need.
        from reverie.reverb.buffer_client import BufferClient
        from reverie.reverb.engine.buffer_server import BufferServer

        self._server = BufferServer(table, saver)
        self._client = BufferClient(self._server)

    def __repr__(self) -> str:
        """`ReplayBuffer('uniform_table', 49 of 50000 items)`."""
        return f"ReplayBuffer({self._table.name!r}, {self._table.describe()})"

    @property
    def data_spec(self) -> Any:
        """The data spec as it was given."""
        return self._data_spec

    @property
    def nest(self) -> Nest:
        """Structure of a step."""
        return self._nest

    @property
    def capacity(self) -> int:
        """The most items it holds."""
        return self._table.settings.max_size

    @property
    def sequence_length(self) -> int:
        """Steps of each item."""
        return self._sequence_length

    @property
    def table_name(self) -> str:
        """The table's name."""
        return self._table.name

    @property
    def table(self) -> Table:
        """The table: its settings, its seed, its core."""
        return self._table

    @property
    def py_client(self) -> Client:
        """Reverb's client of the table: what observers take; the same one each time."""
        return self._client

    @property
    def server(self) -> BufferServer:
        """The server of `py_client`: `port`, `localhost_client()`, `wait()`, `stop()`."""
        return self._server

    def num_frames(self) -> int:
        """Items in the table, every finished observer call included."""
        self._store.check_open()
        return self._core.size

    def sample_columns(
        self,
        batch_size: int,
        num_steps: int | None = None,
        *,
        timeout: float | None = None,
    ) -> Columns:
        """A batch for datasets: the columns `[B, T, *shape]`, and info fields `[B, T]`.

        Arguments and errors as `ReplayBuffer.sample`'s.
        """
        self.check_windows("sample_columns()")
        call = self._call(batch_size, num_steps, True, None, timeout)
        try:
            batch = self._core.sample(*call)
            return self._wait_and_sample(call, timeout) if batch is None else batch
        except MISFITS as error:
            raise self._translated(error) from None

    def gather_all(self) -> Any:
        """Every item in insertion order, leaves `[N, T, *shape]`. Counts as no sample.

        For looking inside and for tests: it costs memory for all items at once.

        Raises:
            UnstackableError: items differ in length; `iter_items()` reads them.
            ClosedError: the buffer is closed.
        """
        return self._nest.unflatten(self.gather_columns()[0])

    def gather_columns(
        self, keys: ArrayLike | None = None
    ) -> tuple[list[NDArray[Any]], NDArray[np.uint64]]:
        """Items by key, or all in order, as columns `[N, T, *shape]`; and the keys `[N]`.

        One point in time; counts as no sample.

        Raises:
            UnstackableError: they have unequal numbers of steps.
            KeyError: a key is stale.
            ClosedError: the buffer is closed.
        """
        self._store.check_open()
        self.check_windows("gather_all()")
        wanted = None if keys is None else as_keys(keys)
        some = self._core.size if wanted is None else wanted.size
        steps = 0 if some else self._sequence_length
        try:
            return self._core.gather(self._layout, wanted, steps, self._lengths)
        except MISFITS as error:
            raise self._translated(error) from None

    def iter_items(self) -> Iterator[tuple[int, Any]]:
        """Key and data of every item, in insertion order, whatever its length.

        Leaves are `[T, *shape]`; columns that cover unequal steps keep their own T. One
        item is copied at a time; those evicted meanwhile are left out.

        Raises:
            UnstackableError: an item has other columns, as a server's table may have had.
            ClosedError: the buffer is closed.
        """
        self._store.check_open()
        self.check_windows("iter_items()")
        for key in self._core.items()["key"].tolist():
            self._store.check_open()
            try:
                found = [(dtype, shape) for dtype, shape, _ in self._core.describe(key) or ()]
                columns = self._core.item(key)
            except KeyError:
                continue
            if found != self._nest.types:
                raise unstackable(self._table.name, key, None)
            yield key, self._nest.unflatten(columns)

    def item_info(self) -> dict[str, NDArray[Any]]:
        """key, length, priority and times_sampled of every item, in insertion order."""
        self._store.check_open()
        items = self._core.items()
        return {name: items[name] for name in ("key", "length", "priority", "times_sampled")}

    def update_priorities(self, keys: ArrayLike, priorities: ArrayLike) -> int:
        """Sets the priorities of items.

        Args:
            keys: `SampleInfo.key`, `[B]`, or `[B, T]` as a dataset yields them (then
                column 0 counts).
            priorities: finite and not negative, one for each key, `[B]` or `[B, T]`, or
                one number for all.

        Returns:
            How many keys were stale: their items have left the buffer.

        Raises:
            InvalidArgumentError: a shape or a value, or no selector reads priorities.
            ClosedError: the buffer is closed.
        """
        self._store.check_open()
        self._table.settings.check_updates()
        return self._core.update_priorities(*as_updates(keys, priorities))

    def as_dataset(
        self,
        sample_batch_size: int | None = None,
        num_steps: int | None = None,
        num_parallel_calls: int | None = None,
        sequence_preprocess_fn: Callable[[Any], Any] | None = None,
        single_deterministic_pass: bool = False,
        *,
        flat: bool = False,
        timeout_s: float | None = None,
    ) -> tf.data.Dataset:
        """A `tf.data.Dataset` of windows; the rest as in `reverie.tf.windows.as_dataset`."""
        self._table.check_open()  # before TensorFlow is missed
        self.check_windows("as_dataset()", "reverie.tf.dataset()")
        self.check_even("as_dataset()")
        from reverie.tf import windows

        return windows.as_dataset(
            self,
            sample_batch_size=sample_batch_size,
            num_steps=num_steps,
            num_parallel_calls=num_parallel_calls,
            sequence_preprocess_fn=sequence_preprocess_fn,
            single_deterministic_pass=single_deterministic_pass,
            flat=flat,
            timeout_s=timeout_s,
        )

    def info(self) -> BufferInfo:
        """Sizes in items, steps and bytes, counters, rates and settings now. O(1)."""
        self._store.check_open()
        table, store = self._core.info(), self._store.core.info()
        cleared = self._table.cleared_at  # since then the core counts anew
        before = self._loaded if cleared is None else (0, 0)
        seconds = max(time.monotonic() - (cleared or self._created), 1e-9)
        inserts, samples = int(table["inserts"]), int(table["samples"])
        return BufferInfo(
            name=self._table.name,
            items=int(table["size"]),
            capacity=self.capacity,
            sequence_length=self._sequence_length,
            steps=store["num_steps"],
            record_nbytes=self._layout.record_nbytes,
            nbytes=store["record_nbytes_total"],
            allocated_nbytes=store["held_nbytes"],
            inserts=inserts,
            samples=samples,
            deletes=int(table["deletes"]),
            min_size_to_sample=self._table.settings.limiter.min_size_to_sample,
            inserts_per_second=(inserts - before[0]) / seconds,
            samples_per_second=(samples - before[1]) / seconds,
        )

    get_table_info = info

    def save(self, wait: bool = True, *, progress: Progress | None = None) -> Path | None:
        """Saves a checkpoint, durable and complete or not at all.

        Adding and sampling go on meanwhile; what they do after the call began is not in
        it. The folder's writer lock is taken at the first save and kept until `close`.

        Args:
            wait: False returns at once and writes in the background; a failure reaches
                the caller on the next save, or on closing.
            progress: called with bytes written so far and in all, by who writes.

        Returns:
            The checkpoint's folder, or None with `wait=False`.

        Raises:
            CheckpointLockedError: another process saves into the folder.
            CheckpointWriteError: the folder cannot be written, or the disk is full.
                Earlier checkpoints are intact.
            ClosedError: the buffer is closed.
        """
        self._store.check_open()
        return self._saver.save(self._store, wait=wait, progress=progress)

    def clear(self) -> None:
        """Empties the table; its handles stay valid. Checkpoints on disk stay."""
        self._table.clear()

    def close(self) -> None:
        """Ends a background save, then refuses later use and frees memory. Idempotent.

        What runs meanwhile in other threads ends well.

        Raises:
            CheckpointError: the background save failed; the buffer is closed all the same.
        """
        self._server.stop()

    def add_batch(self, items: Any) -> None:
        """Not supported, as in TF-Agents: steps come through the observer."""
        raise NotImplementedError(
            "add_batch is not supported: call the observer with each step instead."
        )

    def get_next(self, *args: Any, **kwargs: Any) -> Any:
        """Not supported, as in TF-Agents: use `sample` or `as_dataset`."""
        raise NotImplementedError("get_next is not supported: use sample() or as_dataset().")

    def check_even(self, what: str) -> None:
        """Raises InvalidArgumentError, `what` being wanted, where items are no such windows."""
        self.check_windows(what)
        if self._lengths is not None:
            steps = f"columns of {self._lengths!r:.200} steps (-1: no time axis)"
            raise InvalidArgumentError(f"{what}: found {steps}; sample() takes them.")

    def check_windows(self, what: str, instead: str = "sample() or steps()") -> None:
        """Raises InvalidArgumentError, `what` being wanted, where items are steps of views."""
        if self._table.settings.roles is not None:
            raise InvalidArgumentError(
                f"{what} is for a manager's buffer, whose items are windows. This one's are "
                f"steps, seen through a view: use {instead}."
            )

    def describe_wait(self, batch_size: int) -> str:
        """What a sampler waits for, with the numbers."""
        if self._table.settings.roles is not None:
            return self._table.describe_sample_wait(f"{batch_size} ")
        needs = f"(each needs {self._sequence_length} consecutive steps of one episode)"
        return self._table.describe_sample_wait(f"{batch_size} ", needs)

    def _call(
        self,
        batch_size: int,
        num_steps: int | None,
        repeat_info: bool,
        out: Any,
        timeout: float | None,
    ) -> tuple[Any, ...]:
        """What the core's `sample` takes, checked."""
        self._store.check_open()
        length = self._sequence_length
        piece = length if num_steps is None else check_num_steps(num_steps, length)
        if piece != length:
            self.check_even(f"num_steps={piece}")
        if type(batch_size) is not int or not 0 < batch_size < 2**31:
            batch_size = check_int("batch_size", batch_size, 1, 2**31 - 1)
        if timeout is not None:
            check_timeout(timeout)
        arrays = None
        if out is not None:
            lengths = self._lengths or [piece] * len(self._nest.columns)
            leading = [(batch_size,) if n < 0 else (batch_size, n) for n in lengths]
            arrays = self._nest.out_leaves(out, leading)
        return self._layout, batch_size, length, piece, repeat_info, arrays, self._lengths

    def _wait_and_sample(self, call: tuple[Any, ...], timeout: float | None) -> Columns:
        batch = None
        while batch is None:
            self._wait(call[1], timeout)
            batch = self._core.sample(*call)
        return batch

    def _wait(self, batch_size: int, timeout: float | None) -> None:
        """Until so many may be sampled; errors as `sample`'s."""
        wait_until(
            lambda slice_s: self._core.wait(batch_size, slice_s),
            timeout=check_timeout(timeout),
            what=lambda: self.describe_wait(batch_size),
            progress=self._store.progress,
        )

    def _translated(self, error: Exception) -> Exception:
        """The public error for one of the core's."""
        if isinstance(error, _core.Closed):
            return self._store.closed_error()
        key, column, *lengths = error.args
        path = None if column < 0 else self._nest.columns[column].path
        return unstackable(self._table.name, key, path, *lengths)
