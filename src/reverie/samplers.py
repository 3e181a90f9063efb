"""What chooses the items of a batch: values for `sampler=`.

Uniform choices cost O(1) an item, priorities O(log n). Names and meaning are Reverb's.
"""

from __future__ import annotations

from reverie.tables.selectors import (
    FifoSelector,
    HeapSelector,
    Initial,
    LifoSelector,
    PrioritizedSelector,
    UniformSelector,
    finite_exponent,
)

__all__ = ["Fifo", "Lifo", "MaxHeap", "MinHeap", "Prioritized", "Uniform"]

Fifo = FifoSelector
Lifo = LifoSelector
Uniform = UniformSelector


def Prioritized(
    alpha: float = 1.0, *, initial: Initial = "max", eps: float = 1e-6
) -> PrioritizedSelector:
    """Chooses an item with a probability proportional to its priority ** alpha.

    Schaul et al. 2016 write `alpha`, Reverb `priority_exponent`. Items of priority 0 are
    chosen only where there are no others.

    `initial` and `eps` are for a buffer that makes its items itself. Where an observer or a
    writer makes them, it says which priority they have, and priorities are what
    `update_priorities` is given; so it is with `reverb.selectors.Prioritized`, which equals
    `Prioritized(alpha, initial=None, eps=0)`.

    Args:
        alpha: 1 for probabilities proportional to priorities, 0 for equal ones.
        initial: the priority of new items: "max", the largest in the table when they go in
            (it falls when the largest leaves or is updated; 1.0 in an empty table), or a
            number above 0. None: whoever writes them says so.
        eps: a priority is the size of an error and this.

    Raises:
        TypeError: an argument is of another type.
        InvalidArgumentError: alpha is infinite or NaN, `initial` no positive finite number,
            or `eps` negative, infinite or NaN.
    """
    return PrioritizedSelector(finite_exponent("alpha", alpha), initial=initial, eps=eps)


def MinHeap() -> HeapSelector:
    """Chooses the item of the lowest priority; of equal ones, the one updated longest ago."""
    return HeapSelector(min_heap=True)


def MaxHeap() -> HeapSelector:
    """Chooses the item of the highest priority; of equal ones, the one updated longest ago."""
    return HeapSelector(min_heap=False)
