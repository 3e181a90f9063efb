"""What comes with each sampled item."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class SampleInfo(NamedTuple):
    """Facts about each sampled item at the moment it was chosen.

    Every field is an array of shape `[B]` (from `sample`) or `[B, T]`, repeated
    along time, in datasets. Names and dtypes are Reverb's.

    Attributes:
        key: uint64, never reused; for `update_priorities`.
        probability: float64, with which the item was chosen.
        table_size: int64, items in the table.
        priority: float64.
        times_sampled: int32, this time included.
    """

    key: NDArray[np.uint64]
    probability: NDArray[np.float64]
    table_size: NDArray[np.int64]
    priority: NDArray[np.float64]
    times_sampled: NDArray[np.int32]
