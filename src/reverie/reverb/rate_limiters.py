"""Rate limiters: how far a table's samples and inserts may run apart.

All of them are one rule with different numbers, see `RateLimiter`.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from reverie.errors import InvalidArgumentError
from reverie.reverb import pybind
from reverie.tables.selectors import as_int

_log = logging.getLogger("reverie")


class RateLimiter:
    """The rule that says when samples and inserts may pass.

    With `diff = inserts * samples_per_insert - samples`:

    - `n` samples may pass when the table holds at least `min_size_to_sample` items and
      `diff - n >= min_diff`;
    - `n` inserts may pass when the table holds at most `min_size_to_sample` items
      afterwards, or `diff + n * samples_per_insert <= max_diff`.

    Args:
        samples_per_insert: samples that one insert stands for, > 0.
        min_size_to_sample: items needed before sampling starts, >= 1.
        min_diff: the smallest `diff` that sampling may lead to.
        max_diff: the largest `diff` that inserting may lead to.

    Raises:
        TypeError: an argument is no number.
        InvalidArgumentError: a number is out of range, or by it no sample could ever
            pass.
    """

    def __init__(
        self,
        samples_per_insert: float,
        min_size_to_sample: int,
        min_diff: float,
        max_diff: float,
    ) -> None:
        self.internal_limiter = pybind.RateLimiter(
            samples_per_insert=samples_per_insert,
            min_size_to_sample=min_size_to_sample,
            min_diff=min_diff,
            max_diff=max_diff,
        )

    def __repr__(self) -> str:
        """The four numbers."""
        return repr(self.internal_limiter)


class MinSize(RateLimiter):
    """Sampling waits until there are `min_size_to_sample` items; inserts always pass.

    Raises:
        TypeError: `min_size_to_sample` is no integer.
        InvalidArgumentError: it is below 1.
    """

    def __init__(self, min_size_to_sample: int) -> None:
        _check_min_size(min_size_to_sample)
        super().__init__(
            samples_per_insert=1.0,
            min_size_to_sample=min_size_to_sample,
            min_diff=-sys.float_info.max,
            max_diff=sys.float_info.max,
        )


class SampleToInsertRatio(RateLimiter):
    """Keeps samples / inserts near `samples_per_insert`, once the table has its items.

    Args:
        samples_per_insert: samples per item over its whole life, > 0.
        min_size_to_sample: items needed before sampling starts, >= 1. Until then
            inserts always pass.
        error_buffer: how far `diff` (see `RateLimiter`) may leave
            `min_size_to_sample * samples_per_insert`, to both sides; or a pair
            (min_diff, max_diff).

    Raises:
        TypeError: an argument is no number, `error_buffer` neither a number nor a pair.
        InvalidArgumentError: a number is out of range, or the range that the buffer
            leaves could block samples and inserts for ever.
    """

    def __init__(
        self,
        samples_per_insert: float,
        min_size_to_sample: int,
        error_buffer: float | tuple[float, float],
    ) -> None:
        if samples_per_insert <= 0:
            raise InvalidArgumentError(
                f"samples_per_insert ({samples_per_insert}) must be > 0."
            )
        centre = samples_per_insert * min_size_to_sample
        min_diff, max_diff = _bounds(error_buffer, centre)
        needed = 2 * max(1.0, samples_per_insert)
        if max_diff - min_diff < needed:
            raise InvalidArgumentError(
                f"error_buffer ({error_buffer!r:.200}) is too small: it leaves the range "
                f"{min_diff} to {max_diff}, which must be at least {needed} wide (2 * max(1.0, "
                f"samples_per_insert)), or samples and inserts could block each other for ever."
            )
        if min_diff > centre:
            raise InvalidArgumentError(
                f"error_buffer ({error_buffer!r:.200}) is above samples_per_insert * "
                f"min_size_to_sample = {centre}: once min_size_to_sample "
                f"({min_size_to_sample}) items are there, neither samples nor inserts could "
                "pass. Lower the first number."
            )
        _check_min_size(min_size_to_sample)
        if max_diff < centre:
            _log.warning(
                "error_buffer (%r) is below samples_per_insert * min_size_to_sample = %s: once "
                "min_size_to_sample (%s) items are there, inserts wait for samples, so that a "
                "single thread that does both in turn would wait for ever.",
                error_buffer,
                centre,
                min_size_to_sample,
            )
        super().__init__(
            samples_per_insert=samples_per_insert,
            min_size_to_sample=min_size_to_sample,
            min_diff=min_diff,
            max_diff=max_diff,
        )


class Queue(RateLimiter):
    """Of `Table.queue`, which is the way to make one: inserts wait while it is full.

    Args:
        size: the most items that wait to be sampled.
    """

    def __init__(self, size: int) -> None:
        super().__init__(
            samples_per_insert=1.0, min_size_to_sample=1, min_diff=0.0, max_diff=size
        )


class Stack(RateLimiter):
    """Of `Table.stack`, which is the way to make one: inserts wait while it is full.

    Args:
        size: the most items that wait to be sampled.
    """

    def __init__(self, size: int) -> None:
        super().__init__(
            samples_per_insert=1.0, min_size_to_sample=1, min_diff=0.0, max_diff=size
        )


def _bounds(error_buffer: Any, centre: float) -> tuple[float, float]:
    if isinstance(error_buffer, int | float):
        return centre - error_buffer, centre + error_buffer
    try:
        low, high = error_buffer
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"error_buffer: found {error_buffer!r:.200} of type {type(error_buffer).__name__}, "
            "wanted a number or a pair of numbers."
        ) from None
    return low, high


def _check_min_size(min_size_to_sample: int) -> None:
    min_size_to_sample = as_int("min_size_to_sample", min_size_to_sample)
    if min_size_to_sample < 1:
        raise InvalidArgumentError(
            f"min_size_to_sample ({min_size_to_sample}) must be a positive integer."
        )
