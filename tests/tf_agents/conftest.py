"""Settings that TensorFlow takes only before its first use, and a server for its readers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

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
def served() -> Iterator[Any]:
    """A served queue: the server, a client of it and its address."""
    from tests.tf_agents.reverb_support import queue, serve  # TensorFlow need not be there

    server, client, address = serve(queue())
    yield server, client, address
    server.stop()
