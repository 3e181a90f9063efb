"""Settings that TensorFlow takes only before its first use."""

from __future__ import annotations

import os

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
