"""What users of JAX write, and which types they get back. It also runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray
from tests.door_support import filled
from typing_extensions import assert_type

from reverie import samplers
from reverie.jax import ArrayBatch, arrays


def main(folder: Path) -> None:
    """A batch, and its priorities."""
    with filled(sampler=samplers.Prioritized(0.6)) as buffer:
        batch = arrays(buffer.sample(8, beta=0.4))
        assert_type(batch, ArrayBatch)
        assert_type(batch.reward, jax.Array)
        assert_type(batch.discount, jax.Array)
        assert_type(batch.terminated, jax.Array)
        assert_type(batch.weight, jax.Array)
        assert_type(batch.probability, jax.Array)
        assert_type(batch.key, NDArray[np.uint64])
        assert_type(batch.observation, Any)
        data, info = batch
        assert_type(data, Any)
        assert_type(info.priority, jax.Array)
        assert_type(info.weight, jax.Array | None)
        buffer.update_priorities(batch.key, abs(batch.reward))
