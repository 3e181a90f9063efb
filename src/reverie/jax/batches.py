"""Batches of JAX's arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reverie.sample import Named

if TYPE_CHECKING:
    from jax import Array


class ArrayInfo(NamedTuple):
    """A SampleInfo in arrays of JAX.

    Attributes:
        key: NumPy's uint64, on the host, for `update_priorities`.
        probability: see SampleInfo, as for the next three.
        table_size: see there.
        priority: see there.
        times_sampled: see there.
        weight: importance weights; None: it was sampled without `beta=`.
        source: which buffer of a mixture; None: of one buffer alone.
    """

    key: NDArray[np.uint64]
    probability: Array
    table_size: Array
    priority: Array
    times_sampled: Array
    weight: Array | None = None
    source: Array | None = None


class _Sampled(NamedTuple):
    data: Any
    info: ArrayInfo


class ArrayBatch(_Sampled, Named["Array"]):
    """A `reverie.Batch` in arrays of JAX, with the same attributes: `data, info = batch`.

    Attributes:
        data: as in the batch, in arrays of JAX.
        info: likewise, but for the keys.
    """

    __slots__ = ()
