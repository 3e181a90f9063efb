"""What chooses the items of a batch: values for `sampler=`.

Uniform choices cost O(1) an item, priorities O(log n). Names and meaning are Reverb's.
"""

from __future__ import annotations

from reverie.tables.selectors import (
    FifoSelector,
    HeapSelector,
    LifoSelector,
    PrioritizedSelector,
    UniformSelector,
    finite_exponent,
)

__all__ = ["Fifo", "Lifo", "MaxHeap", "MinHeap", "Prioritized", "Uniform"]

Fifo = FifoSelector
Lifo = LifoSelector
Uniform = UniformSelector


def Prioritized(alpha: float = 1.0) -> PrioritizedSelector:
    """Chooses an item with a probability proportional to its priority ** alpha.

    Schaul et al. 2016 write `alpha`, Reverb `priority_exponent`. Items of priority 0 are
    chosen only where there are no others.

    Args:
        alpha: 1 for probabilities proportional to priorities, 0 for equal ones.

    Raises:
        TypeError: it is no number.
        InvalidArgumentError: it is infinite or NaN.
    """
    return PrioritizedSelector(finite_exponent("alpha", alpha))


def MinHeap() -> HeapSelector:
    """Chooses the item of the lowest priority; of equal ones, the one updated longest ago."""
    return HeapSelector(min_heap=True)


def MaxHeap() -> HeapSelector:
    """Chooses the item of the highest priority; of equal ones, the one updated longest ago."""
    return HeapSelector(min_heap=False)
