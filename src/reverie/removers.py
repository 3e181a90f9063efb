"""What makes room for a new item in a full table: values for `remover=`.

The strategies are those of `reverie.samplers`: `Fifo` lets the oldest item go.
"""

from __future__ import annotations

from reverie.samplers import Fifo, Lifo, MaxHeap, MinHeap, Prioritized, Uniform

__all__ = ["Fifo", "Lifo", "MaxHeap", "MinHeap", "Prioritized", "Uniform"]
