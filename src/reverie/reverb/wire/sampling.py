"""One client's sample stream: as many items as it asked for, as soon as they may go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from reverie.errors import ClosedError
from reverie.reverb.engine.sampler import ItemStream
from reverie.reverb.engine.serving import Serving
from reverie.reverb.errors import UnreachableServerError
from reverie.reverb.wire.messages import parsed
from reverie.reverb.wire.samples import MESSAGE_NBYTES, entries
from reverie.reverb.wire.statuses import STOPPED, TIMEOUT, CallError, Code, unknown_table
from reverie.reverb.wire.waits import Waits
from reverie.tables.table import Table

_FIRST_BATCH = 4  # items chosen under one lock while their size is not known
_MAX_BATCH = 512


class SampleStream:
    """The samples of one stream of requests.

    A sample counts once it is chosen, so no more are chosen at a time than fill a message
    of a mebibyte, and the next ones when that is on its way: what a client does not read
    holds up its own stream alone.

    Args:
        find: the server, which this does not keep alive while it waits.
        waits: where waits for rate limiters go on.
    """

    def __init__(self, find: Callable[[], Serving], waits: Waits) -> None:
        self._find = find
        self._waits = waits
        self._item_nbytes = 0.0  # as the latest were
        self._batch = _FIRST_BATCH

    async def responses(self, payload: bytes) -> AsyncIterator[bytes]:
        """The messages that answer a request.

        Args:
            payload: a `SampleStreamRequest`.

        Raises:
            CallError: NOT_FOUND, no such table; INVALID_ARGUMENT, no samples are asked
                for; DEADLINE_EXCEEDED, the rate limiter let none pass within the timeout,
                what was sampled before is sent; CANCELLED, the server was stopped.
        """
        request = parsed("SampleStreamRequest", payload)
        if request.num_samples <= 0:
            raise CallError(
                Code.INVALID_ARGUMENT, f"`num_samples` must be > 0 (got{request.num_samples})."
            )
        timeout_s = None
        if request.rate_limiter_timeout.milliseconds > 0:
            timeout_s = request.rate_limiter_timeout.milliseconds / 1000
        server = self._find()
        table = server.tables.get(request.table)
        if table is None:
            raise unknown_table(request.table)
        stream = ItemStream(server, table.name, max_samples=request.num_samples)
        del server
        left = request.num_samples
        waited = False
        parts: list[bytes] = []
        nbytes = 0
        since = time.monotonic()
        while left:
            runs = _poll(stream, self._batch)
            if not runs:
                if parts:  # before a wait all that there is goes out
                    yield b"".join(parts)
                    parts, nbytes = [], 0
                await self._wait(table, since, timeout_s)
                waited = True
                continue
            chosen = sum(len(facts[0]) for facts, _ in runs)
            left -= chosen
            before = nbytes
            for run in runs:
                for entry in entries(table.name, run, waited):
                    parts.append(entry)
                    nbytes += len(entry)
                    if nbytes >= MESSAGE_NBYTES:
                        yield b"".join(parts)
                        parts, before, nbytes = [], before - nbytes, 0
            self._learn(chosen, nbytes - before)
            waited = False
            since = time.monotonic()
            await asyncio.sleep(0)  # others want their turn as well
        if parts:
            yield b"".join(parts)

    def _learn(self, items: int, nbytes: int) -> None:
        self._item_nbytes = nbytes / items
        fitting = int(MESSAGE_NBYTES / max(1.0, self._item_nbytes))
        self._batch = max(1, min(fitting, 4 * self._batch, _MAX_BATCH))

    async def _wait(self, table: Table, since: float, timeout_s: float | None) -> None:
        left = None if timeout_s is None else timeout_s - (time.monotonic() - since)
        core = table.core
        if left is not None and left <= 0:
            raise CallError(Code.DEADLINE_EXCEEDED, TIMEOUT)
        try:
            await self._waits.shared(
                table.name, lambda slice_s: bool(core.wait(1, slice_s)), left
            )
        except Exception as error:
            raise _stopped(error) from None


def _poll(stream: ItemStream, most: int) -> list[Any]:
    try:
        return stream.poll(most, 0.0)
    except Exception as error:
        raise _stopped(error) from None


def _stopped(error: Exception) -> Exception:
    """What ends the stream where the server was stopped; else the error itself."""
    from reverie import _core

    if isinstance(error, _core.Closed | ClosedError | UnreachableServerError):
        return CallError(Code.CANCELLED, STOPPED)
    return error
