"""Which addresses are this machine's."""

from __future__ import annotations

import socket

import pytest

from reverie.reverb.engine.registry import port_of
from reverie.reverb.errors import UnreachableServerError


def _outward_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("This machine has no address but its loopback.")
        return str(probe.getsockname()[0])


@pytest.mark.parametrize("host", ["127.0.1.1", "127.8.9.10"])
def test_every_loopback_address_is_this_machine(host: str) -> None:
    assert port_of(f"{host}:8000") == 8000


def test_an_address_of_an_interface_is_this_machine() -> None:
    assert port_of(f"{_outward_address()}:8000") == 8000


@pytest.mark.parametrize("host", ["192.0.2.1", "[2001:db8::1]", "224.0.0.1", "elsewhere"])
def test_others_are_refused_without_asking_a_name_server(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", None)
    with pytest.raises(UnreachableServerError):
        port_of(f"{host}:8000")
