"""A port of this machine on which clients of other processes find a server."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import os
import threading
import weakref
from typing import Any

from reverie.errors import InvalidArgumentError
from reverie.reverb.engine.serving import Serving
from reverie.reverb.wire.service import Service
from reverie.reverb.wire.waits import Waits
from reverie.runtime.company import met
from reverie.runtime.leaving import guard
from reverie.runtime.optional import require

_GRACE_S = 0.1  # for calls that are nearly done when the server is stopped
_PATIENCE_S = 5.0  # for the loop's thread to do what it is told
MAX_MESSAGE_NBYTES = 512 << 20
_OPTIONS = (
    ("grpc.so_reuseport", 0),  # or two servers would share a port without a word
    ("grpc.max_receive_message_length", MAX_MESSAGE_NBYTES),
    ("grpc.max_send_message_length", -1),
    # A client whose machine is gone is noticed.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
)
_MAX_CALLS = 4096  # at once; more are refused

_listeners: weakref.WeakSet[Listener] = weakref.WeakSet()


class Listener:
    """A bound port, and the thread with the event loop that serves it.

    One thread serves all streams of all clients: an open stream costs it nothing until
    something happens on it. What blocks goes to the threads of `Waits`.

    Args:
        host: the address to bind.
        port: 0 takes an unused one.

    Raises:
        InvalidArgumentError: the port cannot be had.

    Attributes:
        port: the number that was bound.
    """

    def __init__(self, host: str, port: int) -> None:
        self._grpc = require("grpc", "wire", "Reverb's protocol")
        self._aio = require("grpc.aio", "wire", "Reverb's protocol")
        self._address = f"{host}:{port}"
        self._pid = os.getpid()
        self._service: Service | None = None
        self._loop = asyncio.new_event_loop()
        self._waits = Waits(self._loop, "reverie-wire-wait")
        self._bound: concurrent.futures.Future[int] = concurrent.futures.Future()
        self._ready = asyncio.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"reverie-wire: clients of port {port}", daemon=True
        )
        self._thread.start()
        self.port = self._bound.result()
        self._thread.name = f"reverie-wire: clients of port {self.port}"
        _listeners.add(self)
        guard(self)

    def abandon(self) -> Any:
        """In a forked child: what must stay as it is, though nothing runs it there."""
        return self

    def serve(self, server: Serving) -> None:
        """Answers calls from now on, which have waited since the port was bound."""
        self._service = Service(server, self._waits, self._grpc)
        self._loop.call_soon_threadsafe(self._ready.set)

    def stop(self) -> None:
        """Ends all calls, gives the port back and ends the thread. Idempotent."""
        if os.getpid() != self._pid or not self._thread.is_alive():
            return
        with contextlib.suppress(RuntimeError):  # the loop was closed just now
            self._loop.call_soon_threadsafe(self._end)
        if threading.current_thread() is not self._thread:
            self._thread.join(_PATIENCE_S)

    def _end(self) -> None:
        self._stop.set()
        self._ready.set()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
        finally:
            self._loop.close()

    async def _main(self) -> None:
        try:
            server = self._aio.server(options=_OPTIONS, maximum_concurrent_rpcs=_MAX_CALLS)
            bound = server.add_insecure_port(self._address)
            if bound == 0:
                raise RuntimeError("no port")
        except RuntimeError as error:
            self._bound.set_exception(
                InvalidArgumentError(
                    f"port: {self._address} cannot be bound ({error!s:.200}). Stop what is on "
                    "it, take another port, or pass None for an unused one. (Reverb: Failed "
                    "to BuildAndStart gRPC server.)"
                )
            )
            return
        self._bound.set_result(bound)
        await self._ready.wait()
        if not self._stop.is_set() and self._service is not None:
            server.add_generic_rpc_handlers((self._service.handler(),))
            met()  # clients of other processes may end a wait of this one
            await server.start()
            await self._stop.wait()
        await server.stop(_GRACE_S)


@atexit.register
def _at_exit() -> None:
    """So that no call is under way when the interpreter's names go."""
    for listener in list(_listeners):
        listener.stop()
