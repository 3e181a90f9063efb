"""Selectors: which item of a table is chosen, to be sampled or to make room."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from reverie.errors import InvalidArgumentError
from reverie.runtime.checks import as_float

SelectorKind = Literal[
    "fifo", "lifo", "uniform", "prioritized", "min_heap", "max_heap", "reservoir"
]

Initial = float | Literal["max"] | None
"""The priority of new items: a number, the largest in the table, or (None) their writer's."""


class ItemSelector:
    """Base of the strategies that choose an item, to sample it or to remove it.

    A selector is a value without a state of its own: any number of tables may
    share one.

    Attributes:
        kind: the strategy.
        exponent: the priority exponent of a prioritized selector, else None.
        initial: the priority of the items that a buffer makes; None: whoever writes says so.
        eps: what a buffer adds to an error to have a priority, so that none is 0.
        is_deterministic: whether the choice follows from the items alone.
        reads_priorities: whether it depends on their priorities. A prioritized selector
            does whatever its exponent: 0 is a value that experiments go through.
        removes_alone: whether it is for `remover=` alone.
    """

    kind: SelectorKind
    exponent: float | None = None
    initial: Initial = None
    eps: float = 0.0
    is_deterministic: ClassVar[bool] = True
    reads_priorities: ClassVar[bool] = False
    removes_alone: ClassVar[bool] = False

    def __eq__(self, other: object) -> bool:
        """Whether both are the same strategy: selectors are values."""
        if not isinstance(other, ItemSelector):
            return NotImplemented
        return self._value() == other._value()

    def __hash__(self) -> int:
        """Agrees with `==`."""
        return hash(self._value())

    def _value(self) -> tuple[object, ...]:
        return self.kind, self.exponent, self.initial, self.eps

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


class ReservoirSelector(ItemSelector):
    """Removes so that all items there ever were are equally likely to be left.

    The n-th item of a full table comes to stay with a probability of capacity / n, and
    another, each with the same, makes room (Vitter 1985, algorithm R). As old policies weigh
    as much as new ones, it is what averages over them (NFSP: Heinrich & Silver 2016).
    """

    kind = "reservoir"
    is_deterministic = False
    removes_alone = True


class PrioritizedSelector(ItemSelector):
    """Chooses an item with a probability proportional to its priority ** exponent.

    Items of priority 0 are chosen only where there are no others.

    Args:
        priority_exponent: 1 for probabilities proportional to the priorities, 0 for
            equal ones; a negative one prefers low priorities.
        initial: the priority of the items that a buffer makes: the largest of those that are
            in the table at that moment ("max"; 1.0 where there are none), or a number above
            0. None, as in Reverb: the one that the item's writer gives.
        eps: what a buffer adds to the size of an error to have the item's priority. 0, as in
            Reverb: priorities are what `update_priorities` is given.

    Raises:
        TypeError: an argument is of another type.
        InvalidArgumentError: the exponent is infinite or NaN, `initial` no positive finite
            number, or `eps` negative, infinite or NaN.
    """

    kind = "prioritized"
    is_deterministic = False
    reads_priorities = True

    def __init__(
        self, priority_exponent: float, *, initial: Initial = None, eps: float = 0.0
    ) -> None:
        self.exponent = finite_exponent("priority_exponent", priority_exponent)
        self.initial = _checked_initial(initial)
        self.eps = as_float("eps", eps)
        if not 0 <= self.eps < math.inf:
            raise InvalidArgumentError(
                f"eps: found {self.eps}, wanted a finite number >= 0, such as 1e-6. It is "
                "added to each error, so that an item without any is sampled now and then, too."
            )

    def __repr__(self) -> str:
        """As Reverb shows it, and what Reverb's has not."""
        more = "" if self.initial is None else f", initial={self.initial!r}"
        more += f", eps={self.eps:g}" if self.eps else ""
        return f"PrioritizedSelector(priority_exponent={self.exponent:g}{more})"


def _checked_initial(value: Initial) -> Initial:
    if value is None or (isinstance(value, str) and value == "max"):
        return value
    number = math.nan if isinstance(value, str) else as_float("initial", value)
    if not 0 < number < math.inf:
        raise InvalidArgumentError(
            f"initial: found {value!r:.200}, wanted 'max' (the largest priority in the table), "
            "a finite number above 0 (with 0 none would be sampled), or None: the writer's."
        )
    return number


def finite_exponent(name: str, value: float) -> float:
    """`value`, the argument of this name, as the exponent of priorities.

    Raises:
        TypeError: it is no number.
        InvalidArgumentError: it is infinite or NaN.
    """
    exponent = as_float(name, value)
    if not math.isfinite(exponent):
        raise InvalidArgumentError(
            f"{name}: found {exponent}, wanted a finite number (1: probabilities proportional "
            "to priorities, 0: equal ones)."
        )
    return exponent


class HeapSelector(ItemSelector):
    """Chooses the item of the lowest priority, or of the highest.

    Args:
        min_heap: whether the lowest. Of equal ones, the item inserted or updated
            least recently.

    Raises:
        TypeError: `min_heap` is no bool.
    """

    reads_priorities = True

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
    for selector in (FifoSelector, LifoSelector, UniformSelector, ReservoirSelector):
        if selector.kind == kind:
            return selector()
    raise InvalidArgumentError(
        f"selector kind: found {kind!r:.200}, wanted fifo, lifo, uniform, prioritized, "
        "min_heap, max_heap or reservoir."
    )
