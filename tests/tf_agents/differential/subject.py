"""Random columns, tables and values: what a random program is about."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from tests.tf_agents.differential.program import Selector, TableSpec

DTYPES = ("float32", "float64", "float16", "int8", "uint8", "int16", "int32", "int64")
DTYPES += ("uint16", "uint32", "uint64", "bool", "complex64", "bytes")
SHAPES = ((), (), (), (2,), (1,), (2, 3), (0,))
ORDERED = ("Fifo", "Lifo", "MinHeap", "MaxHeap")


class Subject:
    """The columns and tables of one program, drawn from its seed and theme."""

    def __init__(self, seed: int, theme: str) -> None:
        self.seed, self.theme = seed, theme
        self.rng = random.Random(f"{theme}/{seed}")
        self.written = 0  # makes every value of the program another one

    def draw(self) -> None:
        """Chooses columns and tables; a program is drawn once."""
        self.columns = self._columns()
        self.tables = tuple(self._table(n) for n in range(self.rng.randint(1, 4)))
        self.free = [t for t in self.tables if not t.holds_inserts_up]

    # Tables.

    def _columns(self) -> dict[tuple[str, ...], tuple[str, tuple[int, ...], int]]:
        """Path to dtype, shape and the step from which on the column is there."""
        rng = self.rng
        columns = {("n",): ("int64", (), 0)}
        for path in (("a",), ("b", "c"), ("b", "d"), ("e", "f")):
            if rng.random() < 0.6:
                late = rng.randint(1, 4) if rng.random() < 0.25 else 0
                columns[path] = (rng.choice(DTYPES), rng.choice(SHAPES), late)
        if self.theme in ("structured", "legacy"):
            columns = {path: (d, s, 0) for path, (d, s, _) in columns.items()}
        return columns

    def _selector(self) -> Selector:
        return Selector(self.rng.choice(ORDERED))

    def _table(self, number: int) -> TableSpec:
        rng, name = self.rng, f"t{number}"
        size = rng.choice((1, 2, 3, 5, 8, 100))
        kind = rng.random()
        signature = None
        if rng.random() < 0.3 and self.theme in ("trajectory", "checkpoint", "structured"):
            signature = {
                "n": ("int64", (None,) if rng.random() < 0.7 else (2,)),
                "last": ("int64", ()),
            }
        if self.theme == "ties":  # of heaps, in every role
            heaps = [Selector("MinHeap"), Selector("MaxHeap")]
            times = rng.choice((0, 0, 3))
            limiter = ("MinSize", 1)
            roles = rng.choice(heaps), rng.choice((*heaps, Selector("Fifo")))
            return TableSpec(name, *roles, rng.choice((4, 8, 100)), limiter, times)
        if self.theme == "shuffled":
            pick = (
                Selector("Uniform"),
                Selector("Prioritized", (rng.choice((0.0, 0.5, 1, 2)),)),
            )
            times = rng.choice((1, 2, 3))
            return TableSpec(
                name, rng.choice(pick), self._selector(), 100, ("MinSize", 1), times
            )
        # Now and then a legacy writer of Reverb hangs at a queue that has room again, and a
        # Table of Reverb whose server has loaded a checkpoint does not know its limiter.
        unlimited = self.theme in ("legacy", "checkpoint")
        if kind < 0.2 and number and not unlimited:
            limiter = (rng.choice(("queue", "stack")),)
            select = Selector("Fifo" if limiter == ("queue",) else "Lifo")
            return TableSpec(name, select, select, size, limiter, 1, signature)
        limiter = ("MinSize", rng.randint(1, min(3, size)))
        if kind < 0.45 and number and not unlimited:
            ratio = rng.choice((0.5, 1.0, 1.5, 2.0, 4.0))
            least = rng.randint(1, min(3, size))
            buffer: Any = max(1.0, ratio) * rng.choice((1.0, 1.5, 3.0))
            if rng.random() < 0.4:
                buffer = (ratio * least - buffer, ratio * least + buffer + 1.0)
            limiter = ("SampleToInsertRatio", ratio, least, buffer)
        times = rng.choice((0, 0, 0, 1, 2, 3))
        return TableSpec(
            name, self._selector(), self._selector(), size, limiter, times, signature
        )

    def _name(self) -> str:
        return self.rng.choice(self.tables).name

    # Values.

    def _value(self, dtype: str, shape: tuple[int, ...]) -> Any:
        self.written += 1
        base = np.arange(int(np.prod(shape))).reshape(shape) + self.written
        if dtype == "bytes":
            return (
                np.array([b"x" * (int(i) % 5) + b"%d" % i for i in base.flat], object).reshape(
                    shape
                )
                if shape
                else b"s%d" % self.written
            )
        value = base.astype(dtype)
        return value if shape else value[()]

    def _step(self, count: int, keep: Any = lambda path: True) -> Any:
        step: dict[str, Any] = {}
        for path, (dtype, shape, late) in self.columns.items():
            if count < late or not keep(path):
                continue
            *above, last = path
            place = step
            for name in above:
                place = place.setdefault(name, {})
            place[last] = self._value(dtype, shape)
        return step
