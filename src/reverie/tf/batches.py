"""Batches of tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reverie.sample import Named

if TYPE_CHECKING:
    from tensorflow import Tensor


class TensorInfo(NamedTuple):
    """A SampleInfo in tensors.

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
    probability: Tensor
    table_size: Tensor
    priority: Tensor
    times_sampled: Tensor
    weight: Tensor | None = None
    source: Tensor | None = None


class _Sampled(NamedTuple):
    data: Any
    info: TensorInfo


class TensorBatch(_Sampled, Named["Tensor"]):
    """A `reverie.Batch` in tensors, with the same attributes: `data, info = batch`.

    Attributes:
        data: as in the batch, in tensors.
        info: likewise, but for the keys.
    """

    __slots__ = ()
