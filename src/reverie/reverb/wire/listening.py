"""A port of this machine on which clients of other processes find a server."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import os
import socket
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

from reverie.errors import InvalidArgumentError
from reverie.reverb.engine.serving import Serving
from reverie.reverb.wire.service import Service
from reverie.reverb.wire.waits import Waits
from reverie.runtime.company import met
from reverie.runtime.leaving import guard
from reverie.runtime.optional import require

_GRACE_S = 0.1  # for calls that are nearly done when the server is stopped
_CLOSING_S = 1.0  # for the socket to be closed; a forked child may have it still
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
        with _without_fork_handlers():
            self._grpc = require("grpc", "wire", "Reverb's protocol")
            self._aio = require("grpc.aio", "wire", "Reverb's protocol")
        self._host = host
        self._address = f"{host}:{port}"
        if not _is_free(host, port):  # gRPC would say so on standard error as well
            raise _taken(self._address, "it is in use")
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
        with _without_fork_handlers():
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
            # gRPC closes the socket by and by.
            end = time.monotonic() + _CLOSING_S
            while not _is_free(self._host, self.port) and time.monotonic() < end:
                time.sleep(0.002)

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
            self._bound.set_exception(_taken(self._address, str(error)))
            return
        self._bound.set_result(bound)
        await self._ready.wait()
        if self._service is not None:
            server.add_generic_rpc_handlers((self._service.handler(),))
            met()  # clients of other processes may end a wait of this one
        await server.start()  # one that never began would not give its port back
        await self._stop.wait()
        await server.stop(_GRACE_S)


def _taken(address: str, why: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"port: {address} cannot be had ({why:.200}). Stop what is on it, take another port, "
        "or pass None for an unused one. (Reverb: Failed to BuildAndStart gRPC server.)"
    )


def _is_free(host: str, port: int) -> bool:
    with socket.socket() as probe:
        if sys.platform != "win32":  # where it means that several may have the port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


@contextlib.contextmanager
def _without_fork_handlers() -> Iterator[None]:
    """GRPC's, which it reads about when it begins.

    They could not work while a thread listens, and would say so on standard error at each
    fork. A forked child must not use the parent's gRPC in any case.
    """
    variable = "GRPC_ENABLE_FORK_SUPPORT"
    if variable in os.environ:
        yield
        return
    os.environ[variable] = "0"
    try:
        yield
    finally:
        os.environ.pop(variable, None)


@atexit.register
def _at_exit() -> None:
    """So that no call is under way when the interpreter's names go."""
    for listener in list(_listeners):
        listener.stop()
