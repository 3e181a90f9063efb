"""What makes room for a new item in a full table: values for `remover=`.

The strategies of `reverie.samplers`: `Fifo` lets the oldest item go, `MinHeap` that of the
lowest priority. And `Reservoir`, which keeps a fair choice of all that there ever was.
"""

from __future__ import annotations

from reverie.samplers import Fifo, Lifo, MaxHeap, MinHeap, Prioritized, Uniform
from reverie.tables.selectors import ReservoirSelector

__all__ = ["Fifo", "Lifo", "MaxHeap", "MinHeap", "Prioritized", "Reservoir", "Uniform"]

Reservoir = ReservoirSelector
