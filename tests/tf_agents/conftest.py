"""Settings that TensorFlow takes only before its first use; servers and clocks for readers."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from reverie.runtime import pace

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

try:
    import tensorflow as tf
    import tf_agents  # noqa: F401
except ImportError:
    # Each module says itself that it is skipped, and why.
    pass
else:
    # Two devices, so that a distribution strategy has something to distribute to.
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )


@pytest.fixture
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """No dataset's call seems to have waited, as on a loaded machine it might have."""
    set_clock(monkeypatch, lambda: 0.0)


@pytest.fixture
def dear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every dataset's call seems to have waited for a second."""
    set_clock(monkeypatch, lambda: time.time() + 1.0)


def set_clock(monkeypatch: pytest.MonkeyPatch, clock: Callable[[], float]) -> None:
    for module in ("reverie.tf.source", "reverie.reverb.tf.streams"):
        monkeypatch.setattr(f"{module}.Pace", functools.partial(pace.Pace, clock=clock))


@pytest.fixture(scope="session")
def lasting_server() -> Iterator[Any]:
    """A server of Reverie in another process."""
    from tests.tf_agents.wire_support import ServerProcess

    with ServerProcess() as process:
        yield process


@pytest.fixture
def server(lasting_server: Any) -> Iterator[Any]:
    """The same with empty tables; afterwards, whatever was done to it, it serves."""
    import numpy as np
    import reverb
    from tests.tf_agents.wire_support import PATIENCE_S, within

    lasting_server.reset()
    yield lasting_server
    client = reverb.Client(lasting_server.address)
    lasting_server.reset()
    within(PATIENCE_S, lambda: client.insert([np.int64(7)], {"t": 1.0}))
    [sample] = within(PATIENCE_S, lambda: list(client.sample("t", 1)))
    assert int(sample[0].data[0]) == 7


@pytest.fixture
def client(server: Any) -> Any:
    """A client of dm-reverb's, of that server."""
    import reverb

    return reverb.Client(server.address)


@pytest.fixture
def served() -> Iterator[Any]:
    """A served queue: the server, a client of it and its address."""
    from tests.tf_agents.reverb_support import queue, serve  # TensorFlow need not be there

    server, client, address = serve(queue())
    yield server, client, address
    server.stop()
