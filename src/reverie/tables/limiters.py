"""Limiters: how far a table's samples and inserts may run apart.

All of them are one rule with different numbers, see `Limiter`.
"""

from __future__ import annotations

import logging
import math
import sys
from typing import Any

from reverie.errors import InvalidArgumentError
from reverie.runtime.checks import as_float, as_int

_log = logging.getLogger("reverie")


class Limiter:
    """When a table lets samples and inserts pass, by its counters alone.

    With `diff = inserts * samples_per_insert - samples`, a sample may pass when the
    table has at least `min_size_to_sample` items and `diff` stays at least `min_diff`
    with it; an insert when the table has at most `min_size_to_sample` items with it,
    or `diff` stays at most `max_diff` with it. Settings without a state of their own:
    any number of tables may share them.

    Args:
        samples_per_insert: samples that an insert stands for, > 0.
        min_size_to_sample: items that must be there before sampling starts, >= 1.
        min_diff: lower bound of `diff`.
        max_diff: upper bound of `diff`.

    Raises:
        TypeError: an argument is no number, or `min_size_to_sample` no integer.
        InvalidArgumentError: an argument is out of range, NaN, or such that sampling
            could never begin.
    """

    def __init__(
        self,
        samples_per_insert: float,
        min_size_to_sample: int,
        min_diff: float,
        max_diff: float,
    ) -> None:
        self.samples_per_insert = as_float("samples_per_insert", samples_per_insert)
        self.min_size_to_sample = as_int("min_size_to_sample", min_size_to_sample)
        self.min_diff = as_float("min_diff", min_diff)
        self.max_diff = as_float("max_diff", max_diff)
        if self.min_size_to_sample < 1:
            raise InvalidArgumentError(
                f"min_size_to_sample ({self.min_size_to_sample}) must be a positive integer."
            )
        if not 0 < self.samples_per_insert < math.inf:
            raise InvalidArgumentError(
                f"samples_per_insert ({self.samples_per_insert}) must be > 0 and finite."
            )
        for name, value in (("min_diff", self.min_diff), ("max_diff", self.max_diff)):
            if math.isnan(value):
                raise InvalidArgumentError(f"{name} is NaN; wanted a number.")
        if self.min_diff in (math.inf, sys.float_info.max):
            raise InvalidArgumentError(
                "min_diff lets no sample pass, ever: found an infinite one, or the largest "
                "float. Sampling wants inserts * samples_per_insert - samples >= min_diff. "
                "Pass a smaller one."
            )

    def can_sample(self, n: int, *, inserts: int, samples: int, deletes: int) -> bool:
        """Whether `n` samples may pass at these counters."""
        if inserts - deletes < self.min_size_to_sample:
            return False
        return inserts * self.samples_per_insert - samples - n >= self.min_diff

    def can_insert(self, n: int, *, inserts: int, samples: int, deletes: int) -> bool:
        """Whether `n` inserts may pass at these counters."""
        if inserts + n - deletes <= self.min_size_to_sample:
            return True
        return (inserts + n) * self.samples_per_insert - samples <= self.max_diff

    def _numbers(self) -> tuple[float, ...]:
        return self.samples_per_insert, self.min_size_to_sample, self.min_diff, self.max_diff

    def __eq__(self, other: object) -> bool:
        """Whether both are the same rule: limiters are values."""
        if not isinstance(other, Limiter):
            return NotImplemented
        return self._numbers() == other._numbers()

    def __hash__(self) -> int:
        """Agrees with `==`."""
        return hash(self._numbers())

    @property
    def bounds_inserts(self) -> bool:
        """Whether an insert may have to wait."""
        return self.max_diff < sys.float_info.max

    def in_words(self) -> str:
        """What it asks for, for messages; of bounds that no count reaches it is silent."""
        low, high = (
            f"{bound:g}" if abs(bound) < sys.float_info.max else ""
            for bound in (self.min_diff, self.max_diff)
        )
        words = f"at least {self.min_size_to_sample} items to sample"
        if low or high:
            between = " and ".join(filter(None, (low and f">= {low}", high and f"<= {high}")))
            words += f", inserts * {self.samples_per_insert:g} - samples {between}"
        return words

    def __repr__(self) -> str:
        """Letter for letter what Reverb shows."""
        return (
            f"RateLimiter(samples_per_insert={self.samples_per_insert:g}, "
            f"min_diff_={self.min_diff:g}, max_diff={self.max_diff:g}, "
            f"min_size_to_sample={self.min_size_to_sample})"
        )


class MinSize(Limiter):
    """Sampling waits until there are `min_size_to_sample` items; inserts always pass.

    Raises:
        TypeError: `min_size_to_sample` is no integer.
        InvalidArgumentError: it is below 1.
    """

    def __init__(self, min_size_to_sample: int) -> None:
        super().__init__(
            samples_per_insert=1.0,
            min_size_to_sample=min_size_to_sample,
            min_diff=-sys.float_info.max,
            max_diff=sys.float_info.max,
        )


class SampleToInsertRatio(Limiter):
    """Keeps samples / inserts near `samples_per_insert`, once the table has its items.

    Args:
        samples_per_insert: samples per item over its whole life, > 0.
        min_size_to_sample: items needed before sampling starts, >= 1. Until then
            inserts always pass.
        error_buffer: how far `diff` (see `Limiter`) may leave
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
        super().__init__(
            samples_per_insert=samples_per_insert,
            min_size_to_sample=min_size_to_sample,
            min_diff=min_diff,
            max_diff=max_diff,
        )
        if max_diff < centre:
            _log.warning(
                "error_buffer (%r) is below samples_per_insert * min_size_to_sample = %s: once "
                "min_size_to_sample (%s) items are there, inserts wait for samples, so that a "
                "single thread that does both in turn would wait for ever.",
                error_buffer,
                centre,
                min_size_to_sample,
            )


class Queue(Limiter):
    """Each item is sampled once; inserts wait while `size` items wait to be sampled.

    Of a table with `max_times_sampled=1`, as Reverb's queues and stacks have it.

    Args:
        size: the most items that wait to be sampled.

    Raises:
        TypeError: `size` is no number.
    """

    def __init__(self, size: int) -> None:
        super().__init__(
            samples_per_insert=1.0, min_size_to_sample=1, min_diff=0.0, max_diff=size
        )


class Staleness(Limiter):
    """Bounds by how many versions the policy that played a rollout is behind the learner's.

    Rollouts are used once, `batch_size` for each version of the policy. Of so many at most
    `batch_size * (max_staleness + 1)` are on their way or wait: `ReplayBuffer.admit` lets the
    next one begin. Nothing is thrown away for its age: whoever does so prefers what is short.

    Of a `ReplayBuffer(view=views.Episodes(), version=...)`; tables of Reverb's side have no
    versions.

    Args:
        batch_size: rollouts that each version is trained on, >= 1.
        max_staleness: versions, >= 0; 0: each is used by the policy that played it.

    Raises:
        TypeError: an argument is no integer.
        InvalidArgumentError: it is out of range.
    """

    def __init__(self, batch_size: int, max_staleness: int) -> None:
        super().__init__(
            samples_per_insert=1.0,
            min_size_to_sample=1,
            min_diff=-sys.float_info.max,
            max_diff=sys.float_info.max,
        )
        self.batch_size = as_int("batch_size", batch_size)
        self.max_staleness = as_int("max_staleness", max_staleness)
        for name, least in (("batch_size", 1), ("max_staleness", 0)):
            if not least <= getattr(self, name) < 2**31:
                raise InvalidArgumentError(
                    f"{name}: found {getattr(self, name)}, wanted at least {least}."
                )

    def _numbers(self) -> tuple[float, ...]:
        return self.batch_size, self.max_staleness

    def in_words(self) -> str:
        """See the base."""
        return f"{self.batch_size} for each version, at most {self.max_staleness} versions old"

    def __repr__(self) -> str:
        """`Staleness(batch_size=64, max_staleness=2)`."""
        return f"Staleness(batch_size={self.batch_size}, max_staleness={self.max_staleness})"


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
