"""Strategies for choosing items: what a table's `sampler` and `remover` can be."""

from __future__ import annotations

import functools

from reverie.reverb import pybind

Fifo = pybind.FifoSelector
Lifo = pybind.LifoSelector
MaxHeap = functools.partial(pybind.HeapSelector, False)
MinHeap = functools.partial(pybind.HeapSelector, True)
Prioritized = pybind.PrioritizedSelector
Uniform = pybind.UniformSelector
