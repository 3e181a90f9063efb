"""One iterator's samples, in chunks that TensorFlow takes in one call."""

from __future__ import annotations

import dataclasses
import itertools
import math
import operator
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from reverie.errors import InvalidArgumentError
from reverie.reverb.engine.local_client import Client
from reverie.reverb.engine.sampler import ItemStream, Run
from reverie.reverb.tf.common import (
    INFO_DTYPES,
    Column,
    as_text,
    check_received,
    check_requested,
    signature_columns,
)
from reverie.runtime.leaving import enter_from_outside
from reverie.runtime.pace import Pace
from reverie.runtime.waiting import report

# A call never waits longer: between two calls TensorFlow can cancel.
_SLICE_S = 0.1
# Items per request, bounded by bytes too: memory that stays in the caches is many
# times faster, and what is sampled later is fresher. And per call.
_MAX_NBYTES_PER_REQUEST, _MAX_NBYTES = 1 << 20, 8 << 20
_LIKENESS = operator.attrgetter("dtype", "shape")
# Requests in one, where calls wait for the interpreter and no sample counts: see Pace. Small
# ones up to a number of items that takes about as long as the interpreter lasts.
_MAX_REQUESTS, _MAX_ITEMS = 8, 2048


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What a dataset wants.

    Attributes:
        columns: as declared; of one step where `timesteps`. None: whatever comes.
        timesteps: items are cut into their steps.
        max_in_flight: items per request.
        timeout_s: after waiting so long for one request the dataset ends.
        max_samples: items in all; -1 for no end.
    """

    columns: tuple[Column, ...] | None
    timesteps: bool
    max_in_flight: int
    timeout_s: float = math.inf
    max_samples: int = -1


class Stream:
    """The samples of one iterator, or of one call of `TFClient.sample`.

    Items are requested `max_in_flight` at a time, fewer where they are large, when the
    last of the request before has been handed out, never earlier: so no more than that
    are ahead of the reader; or 8 times as many, and up to 2,048, where calls wait long for
    the interpreter, of a table whose settings say `may_run_ahead`. Not thread-safe:
    TensorFlow reads an iterator from one thread at a time.

    Args:
        address: of the server.
        table: its name.
        settings: see there.

    Raises:
        UnreachableServerError, UnknownTableError: from `next_chunk` as well.
        InvalidArgumentError: the table's signature does not agree with the columns.
    """

    def __init__(self, address: str, table: str, settings: Settings) -> None:
        server = Client(address).server
        self._settings = settings
        self._name = table
        self._items = ItemStream(server, table)
        served = server.table(table)
        most = max(_MAX_REQUESTS, _MAX_ITEMS // settings.max_in_flight)
        self._pace = Pace(1, most if served.settings.may_run_ahead else 1)
        signature = served.signature
        self._signature = None if signature is None else signature_columns(signature)
        if settings.columns is not None:
            check_requested(table, settings.columns, self._signature)
        self._left = settings.max_samples
        self._affordable = settings.max_in_flight  # items per request, by their size
        self._bearable = settings.max_in_flight  # items per call
        self._waited_s = 0.0
        self._pending: deque[Run] = deque()
        self._sound: set[Any] = set()  # dtypes and shapes that were found to fit

    def next_chunk(
        self, slice_s: float = _SLICE_S, asked_s: float | None = None
    ) -> list[Any] | None:
        """The next items, or steps, whose shapes agree.

        Args:
            slice_s: the longest that it waits.
            asked_s: when it was wanted, in seconds since the epoch; None: now.

        Returns:
            The fields of SampleInfo, then the columns, each `[n, ...]`; an empty list
            where nothing came within `slice_s`; None at the end: `max_samples` items
            have been returned, or a request has waited for `timeout_s`.

        Raises:
            InvalidArgumentError: an item does not fit the declared columns.
            UnreachableServerError: the server was stopped.
        """
        if asked_s is not None:
            self._pace.begin(asked_s)
        if not self._pending:
            if self._left == 0:
                return None
            runs = self._request(slice_s)
            if not runs:
                return None if self._waited_s >= self._settings.timeout_s else []
            if self._left > 0:
                self._left -= sum(len(facts[0]) for facts, _ in runs)
            self._pending.extend(runs)
        chunk = self._take()
        if asked_s is not None:
            self._pace.end()
        return chunk

    def describe_wait(self) -> str:
        """What it waits for, in words."""
        return self._items.describe_wait()

    def _request(self, slice_s: float) -> list[Run]:
        """The items of a request; none where none came in time."""
        count = min(self._affordable * self._pace.batches, self._bearable)
        count = count if self._left < 0 else min(count, self._left)
        start = time.monotonic()
        slice_s = min(slice_s, max(0.0, self._settings.timeout_s - self._waited_s))
        runs = self._items.poll(count, slice_s)
        before = self._waited_s
        self._waited_s = 0.0 if runs else before + time.monotonic() - start
        report(before, self._waited_s, self.describe_wait, "A dataset has waited")
        return runs

    def _take(self) -> list[Any]:
        """Removes the first pending run; its fields as one chunk."""
        facts, columns = self._pending.popleft()
        self._check([column[0, ...] for column in columns])
        nbytes = sum(column.nbytes for column in columns) // len(facts[0]) or 1
        most = self._settings.max_in_flight
        self._affordable = min(most, max(1, _MAX_NBYTES_PER_REQUEST // nbytes))
        self._bearable = max(self._affordable, _MAX_NBYTES // nbytes)
        if not self._settings.timesteps:
            return [*facts, *columns]
        items, length = columns[0].shape[:2]
        fields = [np.repeat(fact, length) for fact in facts]
        return [*fields, *(c.reshape(items * length, *c.shape[2:]) for c in columns)]

    def _check(self, columns: list[Any]) -> None:
        """Raises InvalidArgumentError where an item, of such columns, is not as declared."""
        likeness = tuple(map(_LIKENESS, columns))
        if likeness in self._sound:
            return
        if self._settings.timesteps:
            lengths = {column.shape[:1] for column in columns}
            if len(lengths) != 1 or () in lengths:
                raise InvalidArgumentError(
                    "Sampled trajectory cannot be decomposed into timesteps: the columns of "
                    f"an item of table '{self._name}' have the shapes "
                    f"{[column.shape for column in columns]!s:.200}. Use a TrajectoryDataset."
                )
            columns = [column[0] for column in columns]
        if self._signature is not None:
            check_received(self._name, self._signature, columns)
        if self._settings.columns is not None:
            check_received(self._name, self._settings.columns, columns)
        self._sound.add(likeness)


class _Slot:
    """A stream that is made when it is first read, and the error that ended it."""

    def __init__(self, make: Callable[[], Stream]) -> None:
        self._make = make
        self._stream: Stream | None = None
        self.error = ""

    def next_chunk(self, asked_s: float) -> list[Any] | None:
        try:
            if self._stream is None:
                self._stream = self._make()
            return self._stream.next_chunk(asked_s=asked_s)
        except RuntimeError as error:
            # Of a ValueError TensorFlow makes an InvalidArgumentError by itself.
            self.error = str(error)
            return None


class Streams:
    """The streams of all iterators of one dataset, by number, as TensorFlow refers to them.

    TensorFlow keeps callbacks for as long as the process lives: what they hold is
    this object, which is empty while no iterator is.

    Args:
        settings: of each.
    """

    _numbers = itertools.count()

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._slots: dict[int, _Slot] = {}
        self._nothing = [
            *(np.zeros(0, dtype) for dtype in INFO_DTYPES),
            *(_no_rows(column) for column in settings.columns or ()),
        ]

    def open(self, address: Any, table: Any) -> Any:
        """A new stream's number, for an iterator; the stream lives until `close`."""
        number = next(self._numbers)
        where, what = as_text(address), as_text(table)
        self._slots[number] = _Slot(lambda: Stream(where, what, self._settings))
        return np.int64(number)

    def fetch(self, number: Any, asked_s: Any) -> tuple[Any, ...]:
        """Called by TensorFlow, from any thread, with the moment at which it wanted to call.

        Returns:
            Why the stream ended before its time, empty if it did not; then a chunk as
            `Stream.next_chunk` returns it, of no rows where there is nothing yet.

        Raises:
            StopIteration: there is nothing more, by which TensorFlow knows the end.
        """
        slot = self._slots[int(number)]
        enter_from_outside(slot)
        chunk = slot.next_chunk(float(asked_s))
        if chunk is None and not slot.error:
            raise StopIteration
        return (slot.error.encode(), *(chunk or self._nothing))

    def close(self, number: Any) -> Any:
        """Ends an iterator's stream."""
        del self._slots[int(number)]
        return np.int64(0)

    def __len__(self) -> int:
        """How many streams there are."""
        return len(self._slots)


def _no_rows(column: Column) -> Any:
    shape: Sequence[int | None] = column.shape or ()
    return np.zeros((0, *(size or 0 for size in shape)), column.dtype)
