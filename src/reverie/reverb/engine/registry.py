"""Which server of this process has which port, and what an address means here."""

from __future__ import annotations

import ipaddress
import re
import socket
import weakref
from collections.abc import Iterator
from typing import Protocol

from reverie.errors import InvalidArgumentError
from reverie.reverb.errors import UnreachableServerError
from reverie.runtime.company import met
from reverie.runtime.optional import install_command


class Served(Protocol):
    """What is registered: a server, as far as this module knows it."""

    @property
    def is_open(self) -> bool:
        """Whether it serves."""

    def check_open(self) -> None:
        """Raises where it does not serve."""


_LOCAL = {"localhost", "127.0.0.1", "[::1]", "[::]", "0.0.0.0", "ip6-localhost"}
_ADDRESS = re.compile(r"(?:dns:///|ipv4:|ipv6:)?(?P<host>\[[^\]]*\]|[^:/]+):(?P<port>\d{1,5})")
WAY_OUT = (
    "Reverie's Client finds the Servers of its own process alone. For a server elsewhere "
    "install dm-reverb and connect with its own client, or make the manager with "
    'backend="reverb". A Server of Reverie listens for such clients of other processes where '
    f"its packages are there: {install_command('wire')}."
)

# No lock, which a fork could leave locked in the child: each operation on it is atomic.
_servers: dict[int, weakref.ref[Served]] = {}
_once_served: set[int] = set()  # ports on which there was a server, which may be gone


def port_of(address: str) -> int:
    """The port of an address of this machine.

    Args:
        address: "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "0.0.0.0:8000",
            one of this machine's own IP addresses, or its own name.

    Raises:
        TypeError: the address is no str.
        UnreachableServerError: it is another machine's, or no address at all.
    """
    if not isinstance(address, str):
        raise TypeError(
            f"server_address: found {address!r:.200} of type {type(address).__name__}, wanted "
            'a str such as "localhost:8000".'
        )
    match = _ADDRESS.fullmatch(address.strip())
    if match is None:
        raise UnreachableServerError(
            f"server_address: found {address!r:.200}, wanted host:port, for example "
            f'"localhost:8000". {WAY_OUT}'
        )
    host = match["host"].lower()
    if host not in _LOCAL and host not in _own_names() and not _is_own_address(host):
        raise UnreachableServerError(
            f"server_address: found {address!r:.200}, wanted this machine's, for example "
            f'"localhost:{match["port"]}". {WAY_OUT}'
        )
    return int(match["port"])


def find(port: int) -> Served:
    """The running server on `port`.

    Raises:
        UnreachableServerError: no server of this process has it, or it was stopped.
        ForkedProcessError: it was made before `os.fork()`.
    """
    met()
    server = _get(port)
    if server is None:
        raise UnreachableServerError(nobody_on(port))
    server.check_open()
    return server


def nobody_on(port: int) -> str:
    """That no server has the port, which ones are served, and what to do."""
    ports = ", ".join(map(str, served_ports()))
    return (
        f"No server of this process is on port {port}; the ports served here: "
        f"{ports or 'none'}. A Server stops with the last reference to it: keep one. {WAY_OUT}"
    )


def may_come(port: int) -> bool:
    """Whether a server on `port` may still be made: none was there yet."""
    return port not in _once_served


def served_ports() -> list[int]:
    """The ports of the running servers, sorted."""
    return sorted(port for port in list(_servers) if _serving(_get(port)))


def register(port: int, server: Served) -> None:
    """Puts `server` on `port`; it is not kept alive by this.

    Raises:
        InvalidArgumentError: a running server is there.
    """
    mine = weakref.ref(server)
    while (found := _servers.setdefault(port, mine)) is not mine:
        if _serving(found()):
            raise InvalidArgumentError(
                f"port ({port}): a server of this process is on it already. Stop that one "
                "first, take another port, or pass None for an unused one. (Reverb: Failed to "
                "BuildAndStart gRPC server.)"
            )
        if _servers.get(port) is found:
            _servers.pop(port, None)
    _once_served.add(port)


def register_unused(server: Served) -> int:
    """Puts `server` on a port that nobody uses, and returns it."""
    port = unused_port()
    register(port, server)
    return port


def unregister(port: int, server: Served) -> None:
    """Takes `server` off `port`, if it is there."""
    if _get(port) is server:
        _servers.pop(port, None)


def unused_port() -> int:
    """A port number that no program of this machine uses now; nothing listens on it.

    It counts as new, although a server may have had it long ago: see `may_come`.
    """
    port = next(port for port in _candidates() if not _serving(_get(port)))
    _once_served.discard(port)
    return port


def _candidates() -> Iterator[int]:
    """Ports that the system says are free; where sockets are forbidden, all numbers."""
    for _ in range(100):
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.bind(("127.0.0.1", 0))
                port = int(probe.getsockname()[1])
        except OSError:
            break
        yield port
    yield from range(65535, 0, -1)


def _get(port: int) -> Served | None:
    reference = _servers.get(port)
    return None if reference is None else reference()


def _serving(server: Served | None) -> bool:
    return server is not None and server.is_open


def _own_names() -> set[str]:
    name = socket.gethostname().lower()
    return {name, name.split(".")[0]}


def _is_own_address(host: str) -> bool:
    """Whether `host` is an IP address that this machine can bind to. Asks no name server."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return False
    if address.is_loopback:
        return True
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return not address.is_multicast
