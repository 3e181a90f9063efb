"""Waits of the core under an event loop: each in a thread, for as long as it lasts."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeAlias

_SLICE_S = 0.2  # how long a wait that nobody wants any more may go on
_IDLE_S = 5.0  # for which a thread stays for the next wait

Job: TypeAlias = Callable[[], None]


class Waits:
    """Runs what blocks without the GIL. Its methods are for the loop's thread.

    Who waits on whom: a coroutine for its future, the future for a daemon thread, the
    thread in the core for what moves a rate limiter. Threads are as many as there are
    waits at once, and stay a moment for the next ones.

    Args:
        loop: whose coroutines wait.
        name: of the threads.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._loop = loop
        self._name = name
        self._jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._shared: dict[Any, asyncio.Future[bool]] = {}

    async def until(self, ready: Callable[[float], bool]) -> None:
        """Waits until `ready(slice_s)`, called in another thread, says True.

        Raises:
            Exception: whatever `ready` raised.
        """
        over = threading.Event()

        def loop_until_ready() -> bool:
            while not over.is_set():
                if ready(_SLICE_S):
                    return True
            return False

        try:
            await self.run(loop_until_ready)
        finally:
            over.set()

    async def shared(
        self, key: Any, ready: Callable[[float], bool], timeout_s: float | None
    ) -> bool:
        """As `until`, one wait for all that have the key; False at the timeout.

        After True there may be nothing left: another may have been quicker.
        """
        found = self._shared.get(key)
        if found is None:
            found = self._shared[key] = asyncio.ensure_future(self._first(key, ready))
            found.add_done_callback(_looked_at)
        done, _ = await asyncio.wait({found}, timeout=timeout_s)
        if done:
            found.result()
        return bool(done)

    async def _first(self, key: Any, ready: Callable[[float], bool]) -> bool:
        try:
            await self.until(ready)
        finally:
            self._shared.pop(key, None)
        return True

    async def run(self, work: Callable[[], Any]) -> Any:
        """What `work` returns or raises, in another thread."""
        future: asyncio.Future[Any] = self._loop.create_future()

        def settle(result: Any, error: BaseException | None) -> None:
            if not future.done():
                if error is None:
                    future.set_result(result)
                else:
                    future.set_exception(error)

        def job() -> None:
            result, failed = None, None
            try:
                result = work()
            except BaseException as error:
                failed = error
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(settle, result, failed)

        self._jobs.put(job)
        if not self._idle.acquire(blocking=False):
            threading.Thread(target=self._work, name=self._name, daemon=True).start()
        return await future

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=_IDLE_S)
            except queue.Empty:
                # Whoever counted on this thread has put a job there.
                if self._idle.acquire(blocking=False):
                    return
                job = self._jobs.get()
            job()
            del job
            self._idle.release()


def _looked_at(future: asyncio.Future[bool]) -> None:
    """So that an error that nobody waits for any more is not reported."""
    if not future.cancelled():
        future.exception()
