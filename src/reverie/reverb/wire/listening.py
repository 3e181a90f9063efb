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
from collections.abc import Coroutine, Iterator
from typing import Any

from reverie.errors import InvalidArgumentError
from reverie.reverb.engine.serving import Serving
from reverie.reverb.wire.loop import Loop, acquire
from reverie.reverb.wire.service import Service
from reverie.runtime.leaving import guard
from reverie.runtime.optional import require

_GRACE_S = 0.25  # for calls that are nearly done when the server is stopped
_CLOSING_S = 1.0  # for the socket to be closed; a forked child may have it still
_PATIENCE_S = 5.0  # for the loop's thread to do so
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
    """A bound port, whose calls the process's loop answers.

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
        self._host = host
        self._address = f"{host}:{port}"
        if not _is_free(host, port):  # gRPC would say so on standard error as well
            raise _taken(self._address, "it is in use")
        self._pid = os.getpid()
        self._is_started = False
        self._closed = threading.Event()
        with _without_fork_handlers():
            self._grpc = require("grpc", "wire", "Reverb's protocol")
            self._aio = require("grpc.aio", "wire", "Reverb's protocol")
            self._loop: Loop | None = acquire(self)
            try:
                self.port: int = self._call(self._bind())
            except BaseException:
                self._loop.release(self)
                raise
        _listeners.add(self)
        guard(self)

    def abandon(self) -> Any:
        """In a forked child: what must stay as it is, though nothing runs it there."""
        return self

    def serve(self, server: Serving) -> None:
        """Answers calls from now on, which have waited since the port was bound."""
        assert self._loop is not None, "it was stopped"
        service = Service(server, self._loop.waits, self._grpc)
        self._server.add_generic_rpc_handlers((service.handler(),))
        self._call(self._start())

    def stop(self) -> None:
        """Ends all calls and gives the port back. Idempotent."""
        if os.getpid() != self._pid:
            return
        loop, self._loop = self._loop, None
        if loop is None:  # another thread is at it; the exit must not be quicker
            self._closed.wait(_PATIENCE_S)
            return
        closing = asyncio.run_coroutine_threadsafe(self._close(), loop.loop)
        if threading.current_thread() is loop.thread:
            closing.add_done_callback(lambda _: self._leave(loop))
            return
        with contextlib.suppress(TimeoutError, concurrent.futures.TimeoutError):
            closing.result(_PATIENCE_S)
        # gRPC closes the socket by and by.
        end = time.monotonic() + _CLOSING_S
        while not _is_free(self._host, self.port) and time.monotonic() < end:
            time.sleep(0.002)
        self._leave(loop)

    def _leave(self, loop: Loop) -> None:
        self._closed.set()
        loop.release(self)

    def _call(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        assert self._loop is not None, "it was stopped"
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop.loop).result()

    async def _bind(self) -> int:
        self._server = self._aio.server(options=_OPTIONS, maximum_concurrent_rpcs=_MAX_CALLS)
        try:
            port: int = self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            raise _taken(self._address, str(error)) from None
        if port == 0:
            raise _taken(self._address, "gRPC gives no reason")
        return port

    async def _start(self) -> None:
        self._is_started = True
        await self._server.start()

    async def _close(self) -> None:
        if not self._is_started:  # one that never began would not give its port back
            await self._start()
        await self._server.stop(_GRACE_S)
        del self._server


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
