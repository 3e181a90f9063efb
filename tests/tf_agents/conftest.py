"""Settings that TensorFlow takes only before its first use; servers and clocks for readers."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from reverie.adapters import pace, tf_data

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
    monkeypatch.setattr(tf_data, "Pace", functools.partial(pace.Pace, clock=lambda: 0.0))


@pytest.fixture
def dear(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every dataset's call seems to have waited for a second."""
    late = functools.partial(pace.Pace, clock=lambda: time.time() + 1.0)
    monkeypatch.setattr(tf_data, "Pace", late)


@pytest.fixture
def served() -> Iterator[Any]:
    """A served queue: the server, a client of it and its address."""
    from tests.tf_agents.reverb_support import queue, serve  # TensorFlow need not be there

    server, client, address = serve(queue())
    yield server, client, address
    server.stop()
