"""Selectors and rate limiters: which item is chosen, and when a table lets items pass."""

from __future__ import annotations

import contextlib
import math
import numbers
import operator
import sys
from typing import Any, ClassVar, Literal

from reverie.errors import InvalidArgumentError

SelectorKind = Literal["fifo", "lifo", "uniform", "prioritized", "min_heap", "max_heap"]


class ItemSelector:
    """Base of the strategies that choose an item, to sample it or to remove it.

    A selector is a setting without a state of its own: any number of tables may
    share one.

    Attributes:
        kind: the strategy.
        exponent: the priority exponent of a prioritized selector, else None.
        is_deterministic: whether the choice follows from the items alone.
    """

    kind: SelectorKind
    exponent: float | None = None
    is_deterministic: ClassVar[bool] = True

    def __repr__(self) -> str:
        """The name of the class, as Reverb has it."""
        return type(self).__name__


class FifoSelector(ItemSelector):
    """Chooses the item that was inserted first."""

    kind = "fifo"


class LifoSelector(ItemSelector):
    """Chooses the item that was inserted last."""

    kind = "lifo"


class UniformSelector(ItemSelector):
    """Chooses every item with the same probability."""

    kind = "uniform"
    is_deterministic = False


class PrioritizedSelector(ItemSelector):
    """Chooses an item with a probability proportional to its priority ** exponent.

    Items of priority 0 are chosen only where there are no others.

    Args:
        priority_exponent: 1 for probabilities proportional to the priorities, 0 for
            equal ones; a negative one prefers low priorities.

    Raises:
        TypeError: the exponent is no number.
        InvalidArgumentError: it is infinite or NaN.
    """

    kind = "prioritized"
    is_deterministic = False

    def __init__(self, priority_exponent: float) -> None:
        exponent = as_float("priority_exponent", priority_exponent)
        if not math.isfinite(exponent):
            raise InvalidArgumentError(
                f"priority_exponent: found {exponent}, wanted a finite number (1: "
                "probabilities proportional to priorities, 0: equal ones)."
            )
        self.exponent = exponent

    def __repr__(self) -> str:
        """As Reverb shows it."""
        return f"PrioritizedSelector(priority_exponent={self.exponent:g})"


class HeapSelector(ItemSelector):
    """Chooses the item of the lowest priority, or of the highest.

    Args:
        min_heap: whether the lowest. Of equal ones, the item inserted or updated
            least recently.

    Raises:
        TypeError: `min_heap` is no bool.
    """

    def __init__(self, min_heap: bool) -> None:
        if not isinstance(min_heap, bool):
            raise TypeError(f"min_heap: found {min_heap!r:.200}, wanted True or False.")
        self.kind = "min_heap" if min_heap else "max_heap"

    def __repr__(self) -> str:
        """As Reverb shows it."""
        return f"HeapSelector(sign={1 if self.kind == 'min_heap' else -1})"


def selector_of(kind: SelectorKind, exponent: float | None = None) -> ItemSelector:
    """The selector of a kind, as checkpoints and protobuf messages name it.

    Raises:
        InvalidArgumentError: there is no such kind, or the exponent is none.
    """
    if kind == "prioritized":
        return PrioritizedSelector(1.0 if exponent is None else exponent)
    if kind in ("min_heap", "max_heap"):
        return HeapSelector(kind == "min_heap")
    for selector in (FifoSelector, LifoSelector, UniformSelector):
        if selector.kind == kind:
            return selector()
    raise InvalidArgumentError(
        f"selector kind: found {kind!r:.200}, wanted fifo, lifo, uniform, prioritized, "
        "min_heap or max_heap."
    )


class RateLimiter:
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
                f"min_diff ({self.min_diff}) lets no sample pass, ever: sampling wants inserts "
                "* samples_per_insert - samples >= min_diff. Pass a smaller one."
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

    def __repr__(self) -> str:
        """Letter for letter what Reverb shows."""
        return (
            f"RateLimiter(samples_per_insert={self.samples_per_insert:g}, "
            f"min_diff_={self.min_diff:g}, max_diff={self.max_diff:g}, "
            f"min_size_to_sample={self.min_size_to_sample})"
        )


def as_int(name: str, value: Any) -> int:
    """`value` as a signed 64-bit integer.

    Raises:
        TypeError: it is none.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or not -(2**63) <= number < 2**63:
        raise TypeError(
            f"{name}: found {value!r:.200} of type {type(value).__name__}, wanted an integer "
            "of at most 64 bits."
        )
    return number


def as_float(name: str, value: Any) -> float:
    """`value` as a float.

    Raises:
        TypeError: it is no real number.
    """
    # NumPy's scalars and one-element arrays are no numbers.Real, but have a float.
    if isinstance(value, numbers.Real) or (
        hasattr(value, "__float__") and not isinstance(value, str)
    ):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            return float(value)
    raise TypeError(
        f"{name}: found {value!r:.200} of type {type(value).__name__}, wanted a number."
    )


def as_timeout(name: str, value: Any, unit: float = 1.0) -> float | None:
    """`value` in seconds; None, which waits for ever, for None, infinity or below 0.

    Args:
        name: of the argument.
        value: how long, in units of `unit` seconds.
        unit: 0.001 for milliseconds.

    Raises:
        TypeError: it is no real number.
        InvalidArgumentError: it is NaN.
    """
    if value is None:
        return None
    number = as_float(name, value)
    if math.isnan(number):
        raise InvalidArgumentError(f"{name} is NaN; wanted a number, or None to wait for ever.")
    return None if number < 0 or number == math.inf else number * unit
