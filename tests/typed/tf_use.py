"""What users of TensorFlow write, and which types they get back. It also runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tests.door_support import filled
from typing_extensions import assert_type

from reverie import samplers, views, weights
from reverie.tf import TensorBatch, dataset, tensors


def main(folder: Path) -> None:
    """A batch and a dataset, and their priorities."""
    with filled(sampler=samplers.Prioritized(0.6)) as buffer:
        batch = tensors(buffer.sample(8, beta=0.4))
        assert_type(batch, TensorBatch)
        assert_type(batch.reward, tf.Tensor)
        assert_type(batch.discount, tf.Tensor)
        assert_type(batch.weight, tf.Tensor)
        assert_type(batch.key, NDArray[np.uint64])
        assert_type(batch.observation, Any)
        data, info = batch
        assert_type(data, Any)
        assert_type(info.priority, tf.Tensor)
        assert_type(info.weight, tf.Tensor | None)
        buffer.update_priorities(batch.key, tf.abs(batch.reward))
        schedule = weights.LinearSchedule(0.4, 1.0, 100)
        batches = dataset(buffer, 8, view=views.Transitions(3), beta=schedule, timeout_s=5.0)
        assert_type(batches, tf.data.Dataset[Any])
        for data, info in batches.take(2):
            buffer.update_priorities(info.key, tf.abs(data["reward"]))
