"""Rate limiters under Reverb's names: `reverie.limiters`' values, as Reverb wraps them.

All of them are one rule with different numbers, see `reverie.tables.limiters.Limiter`.
"""

from __future__ import annotations

from reverie.reverb import pybind
from reverie.tables import limiters


class RateLimiter:
    """When samples and inserts may pass: Reverb's face of `reverie.limiters.Limiter`.

    Arguments, rule and errors are those of that value, which is `internal_limiter`.
    """

    def __init__(
        self,
        samples_per_insert: float,
        min_size_to_sample: int,
        min_diff: float,
        max_diff: float,
    ) -> None:
        self.internal_limiter: limiters.Limiter = pybind.RateLimiter(
            samples_per_insert=samples_per_insert,
            min_size_to_sample=min_size_to_sample,
            min_diff=min_diff,
            max_diff=max_diff,
        )

    def __repr__(self) -> str:
        """The four numbers."""
        return repr(self.internal_limiter)


class MinSize(RateLimiter):
    """See `reverie.tables.limiters.MinSize`."""

    def __init__(self, min_size_to_sample: int) -> None:
        self.internal_limiter = limiters.MinSize(min_size_to_sample)


class SampleToInsertRatio(RateLimiter):
    """See `reverie.tables.limiters.SampleToInsertRatio`."""

    def __init__(
        self,
        samples_per_insert: float,
        min_size_to_sample: int,
        error_buffer: float | tuple[float, float],
    ) -> None:
        self.internal_limiter = limiters.SampleToInsertRatio(
            samples_per_insert, min_size_to_sample, error_buffer
        )


class Queue(RateLimiter):
    """Of `Table.queue`, which is the way to make one: inserts wait while it is full.

    Args:
        size: the most items that wait to be sampled.
    """

    def __init__(self, size: int) -> None:
        self.internal_limiter = limiters.Queue(size)


class Stack(Queue):
    """Of `Table.stack`, which is the way to make one: inserts wait while it is full.

    Args:
        size: the most items that wait to be sampled.
    """
