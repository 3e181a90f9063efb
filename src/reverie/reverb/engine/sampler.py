"""Samples of a table one after the other: the stream under clients and datasets."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from reverie import _core
from reverie.errors import InvalidArgumentError, WaitTimeoutError
from reverie.reverb.engine.serving import Serving
from reverie.runtime.checks import as_int, as_timeout
from reverie.runtime.waiting import wait_until
from reverie.tables.cells import column_of, stack
from reverie.tables.table import Table

# Items whose columns are alike: the same facts and columns, with one more axis in front.
Run: TypeAlias = tuple[tuple[NDArray[Any], ...], list[NDArray[Any]]]
# key, probability, table_size, priority, times_sampled, columns
Item: TypeAlias = tuple[int, float, int, float, int, list[NDArray[Any]]]

_Samples = TypeVar("_Samples")


class ItemStream:
    """Items of one table, sampled when they are asked for.

    An iterator of `Item`s: facts about the item, and its columns, (T, *shape) or, if
    squeezed, (*shape); texts are arrays of bytes objects. It ends after `max_samples`,
    or when the rate limiter has kept it waiting for the timeout. Nothing is fetched
    ahead but the rest of a batch. For one thread at a time; any number of streams.

    Args:
        server: where the table is.
        table: its name.
        timeout_ms: how long to wait for the rate limiter; None or a negative number:
            for ever.
        max_samples: -1: no end.
        batch: samples fetched under one lock, at most.

    Raises:
        UnknownTableError: the server has no such table.
        InvalidArgumentError: `max_samples` is 0 or below -1, or `batch` < 1.
        UnreachableServerError, ForkedProcessError: the server does not serve.
    """

    def __init__(
        self,
        server: Serving,
        table: str,
        *,
        timeout_ms: int | None = None,
        max_samples: int = -1,
        batch: int = 1,
    ) -> None:
        server.check_open()
        self._store = server.store  # another server may take the table over later
        self._table: Table = server.table(table)
        self._core = self._table.core
        self._timeout = as_timeout("timeout_ms", timeout_ms, 0.001)
        self._left = as_int("max_samples", max_samples)
        if self._left != -1 and self._left < 1:
            raise InvalidArgumentError(f"max_samples ({self._left}) must be -1 or >= 1")
        if as_int("batch", batch) < 1:
            raise InvalidArgumentError(f"batch ({batch}) must be a positive integer.")
        self._batch = batch
        self._ready: deque[Item] = deque()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        """The next item; waits for it, open to Ctrl-C.

        Raises:
            StopIteration: the timeout passed, or there were `max_samples`.
            EndlessWaitError: no timeout, and no other thread that could add items.
            UnreachableServerError, ForkedProcessError: the server stopped serving.
        """
        try:
            return self.next(self._timeout)
        except WaitTimeoutError:
            raise StopIteration from None

    def next(self, timeout: float | None) -> Item:
        """The next item, waiting at most `timeout` seconds; None: for ever.

        Raises:
            StopIteration: there were `max_samples`.
            WaitTimeoutError: no sample within `timeout`.
            EndlessWaitError, UnreachableServerError, ForkedProcessError: see `__next__`.
        """
        if self._ready:
            return self._ready.popleft()
        if self._left == 0:
            raise StopIteration
        if not self._fill(0.0):
            wait_until(
                self._fill,
                timeout=timeout,
                what=self.describe_wait,
                progress=self._store.progress,
            )
        return self._ready.popleft()

    def poll(self, max_items: int, slice_s: float) -> list[Run]:
        """At most so many items, of those that are there within `slice_s` seconds.

        [] where none was, or after `max_samples`. Not for one stream beside `next`.

        Raises:
            UnreachableServerError, ForkedProcessError: the server stopped serving.
        """
        runs = self._fetch(self._core.sample_runs, max_items, slice_s) if self._left else None
        if runs is None:
            return []
        if self._left > 0:
            self._left -= sum(len(facts[0]) for facts, _ in runs)
        mask = np.uint64(self._table.key_mask)
        return [
            ((facts[0] ^ mask, *facts[1:]), columns)
            for run in runs
            for facts, columns in _decoded_runs(run)
        ]

    def describe_wait(self) -> str:
        """What it waits for, in words."""
        return self._table.describe_sample_wait()

    def _fill(self, slice_s: float) -> bool:
        items = self._fetch(self._core.sample_items, self._batch, slice_s)
        if items is None:
            return False
        if self._left > 0:
            self._left -= len(items)
        mask = self._table.key_mask
        self._ready.extend((item[0] ^ mask, *decoded(item)[1:]) for item in items)
        return True

    def _fetch(
        self, sample: Callable[[int], _Samples | None], most: int, slice_s: float
    ) -> _Samples | None:
        if self._left > 0:
            most = min(most, self._left)
        self._store.check_open()
        try:
            items = sample(most)
            if items is None and slice_s > 0 and self._core.wait(1, slice_s):
                items = sample(most)
        except _core.Closed:
            self._store.check_open()
            raise
        return items


def decoded(item: Any) -> Item:
    """A sample of the core with its texts unpacked."""
    columns = item[5]
    for column in columns:
        if not isinstance(column, np.ndarray):
            return (*item[:5], [column_of(each) for each in columns])
    result: Item = item
    return result


def _decoded_runs(run: Run) -> Iterator[Run]:
    """A run of the core with its texts unpacked, in runs whose texts are alike, too."""
    facts, columns = run
    texts = {
        index: [column_of(cells) for cells in column]
        for index, column in enumerate(columns)
        if not isinstance(column, np.ndarray)
    }
    if not texts:
        yield run
        return
    shapes = list(zip(*([text.shape for text in each] for each in texts.values()), strict=True))
    first = 0
    for _, alike in itertools.groupby(shapes):
        rows = slice(first, first + len(list(alike)))
        first = rows.stop
        yield (
            tuple(fact[rows] for fact in facts),
            [
                stack(texts[index][rows]) if index in texts else column[rows]
                for index, column in enumerate(columns)
            ],
        )


def timesteps(columns: list[NDArray[Any]]) -> int:
    """How many timesteps an item can be cut into.

    Raises:
        InvalidArgumentError: a column is squeezed, or they differ in length.
    """
    lengths = [len(column) if column.ndim else None for column in columns]
    if not lengths or None in lengths or len(set(lengths)) != 1:
        found = ", ".join("squeezed" if n is None else str(n) for n in lengths)
        raise InvalidArgumentError(
            "Can't split non timestep trajectory into timesteps: its columns have the lengths "
            f"{found or 'of nothing'}; wanted one length for all. Sample it whole, with "
            "emit_timesteps=False or a TrajectoryDataset."
        )
    return len(columns[0])


class Sampler:
    """Reverb's sampler: items of a table, whole or step by step.

    Args:
        open_stream: makes the stream at the first use, so that a wrong table is an
            error of that moment, as in Reverb.
    """

    NUM_INFO_TENSORS = 5

    def __init__(self, open_stream: Callable[[], ItemStream]) -> None:
        self._open = open_stream
        self._stream: ItemStream | None = None
        self._steps: deque[list[NDArray[Any]]] = deque()

    def GetNextTrajectory(self) -> list[NDArray[Any]]:
        """The next item: its five facts as arrays without axes, then its columns.

        Raises:
            RuntimeError: there were `max_samples`; no sample within the timeout; the
                table is unknown; the server stopped.
        """
        item = self.next_item()
        return [*_facts(item), *item[5]]

    def GetNextTimestep(self) -> tuple[list[NDArray[Any]], bool]:
        """The next step: facts and a leaf of each column; True with an item's last.

        Raises:
            RuntimeError: as GetNextTrajectory.
            InvalidArgumentError: the item cannot be cut into steps.
        """
        if not self._steps:
            item = self.next_item()
            facts = _facts(item)
            for i in range(timesteps(item[5])):
                self._steps.append([*facts, *(step_of(column, i) for column in item[5])])
        step = self._steps.popleft()
        return step, not self._steps

    def next_item(self) -> Item:
        """The next item, as the stream gives it; errors as GetNextTrajectory."""
        if self._stream is None:
            self._stream = self._open()
        try:
            return next(self._stream)
        except StopIteration:
            raise RuntimeError(
                "The sampler has no more samples: `max_samples` were returned, or the rate "
                "limiter let none pass within its timeout."
            ) from None


def step_of(column: NDArray[Any], index: int) -> NDArray[Any]:
    """One step of a column, an array even where it has no axes."""
    return np.asarray(column[index], column.dtype)


def _facts(item: Item) -> list[NDArray[Any]]:
    return [
        np.array(item[0], np.uint64),
        np.array(item[1], np.float64),
        np.array(item[2], np.int64),
        np.array(item[3], np.float64),
        np.array(item[4], np.int32),
    ]
