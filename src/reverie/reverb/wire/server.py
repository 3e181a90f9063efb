"""The engine's server, which clients of other processes find as well."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from reverie.errors import InvalidArgumentError
from reverie.reverb.engine import registry
from reverie.reverb.engine import server as engine
from reverie.reverb.engine.server import Checkpointer
from reverie.tables.table import Table

if TYPE_CHECKING:
    from reverie.reverb.wire.listening import Listener

VARIABLE = "REVERIE_LISTEN"
_log = logging.getLogger("reverie")
_HOSTS = {"": "127.0.0.1", "loopback": "127.0.0.1", "off": ""}
_LOOK_S = 0.1  # how long Ctrl-C may have to wait
_MODULES = ("grpc", "cramjam", "google.protobuf", "google_crc32c")


class Server(engine.Server):
    """A server of this process that listens on its port, where the packages for it are there.

    Clients of this process take the direct way all the same. Arguments and errors as the
    engine's; a port that another program has is an InvalidArgumentError, too.
    """

    def __init__(
        self,
        tables: Sequence[Table],
        port: int | None = None,
        checkpointer: Checkpointer | None = None,
    ) -> None:
        self._listener: Listener | None = None
        number = engine.checked_port(port)
        host = wanted_host()
        if host and number not in registry.served_ports():  # else the engine says what is there
            from reverie.reverb.wire import listening  # brings gRPC

            self._listener = listening.Listener(host, number)
            number = self._listener.port
        try:
            super().__init__(tables, number or None, checkpointer)
            if self._listener is not None:
                self._listener.serve(self)
        except BaseException:
            self._stop_listening()
            raise

    def Wait(self) -> bool:
        """As the engine's; where other processes may come, for as long as it takes."""
        if self._listener is None:
            return super().Wait()
        while self.is_open:
            self._store.check_process()
            if self._stopped.wait(_LOOK_S):
                break
        self._store.check_process()
        return False

    def Stop(self) -> None:
        """Refuses later use, wakes who waits and ends the calls of others. Idempotent."""
        super().Stop()
        self._stop_listening()

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.stop()


def wanted_host() -> str:
    """The address to listen on; "" where that is switched off or packages are missing.

    Raises:
        InvalidArgumentError: the environment variable has another value.
    """
    value = os.environ.get(VARIABLE, "").lower()
    if value not in _HOSTS:
        raise InvalidArgumentError(
            f"{VARIABLE}: found {value!r:.200}, wanted 'loopback' (or nothing), for clients of "
            "other processes of this machine, or 'off', for those of this process alone."
        )
    if not _HOSTS[value] or not _there():
        return ""
    from reverie.reverb.wire import loop

    if loop.is_lost():
        _log.warning(
            "A Server of this process is for this process alone: it was forked from one that "
            "listens, and gRPC does not outlive os.fork(). Start processes with spawn, or "
            "before the first Server."
        )
        return ""
    return _HOSTS[value]


def _there() -> bool:
    """Whether all packages of the extra are installed."""
    try:
        return all(find_spec(module) is not None for module in _MODULES)
    except ImportError:
        return False
