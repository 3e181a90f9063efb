"""Programs over Reverb's API as data: what a server has, and what is done to it.

A program is made from a seed, runs on any module that looks like `reverb` (see
`runner.py`), and shows itself so that a failure can be read and run again.
"""

from __future__ import annotations

import dataclasses
from typing import Any

# What an operation does, by its name; the arguments are in the order given here.
#   writer(w, keep, validate)            a TrajectoryWriter called w
#   append(w, nest, partial)             item(w, table, priority, nest of Col)
#   column(w, Col)                       what a column of the history says of itself
#   flush(w)                             to the end, or until the limiter holds it up
#   end_episode(w, clear)                configure(w, path, keep, chunk)
#   steps(w)                             close(w)
#   structured(w, [Config])              s_append(w, nest, partial), s_end(w, clear)
#   legacy(w, length, chunk, delta)      l_append(w, nest), l_sequence(w, nest)
#   l_item(w, table, steps, priority)    l_close(w)
#   insert(nest, {table: priority})      sample(table, n, emit_timesteps, unpack)
#   drain(table)                         samples until nothing is left, in no order
#   wait(table, nest)                    a sample that waits, then the insert that lets it go
#   mutate(table, updates, deletes)      keys: n-th key ever seen, or one that never was: -n
#   reset(table)   info()   can(table, n)   checkpoint()   restart()
Op = tuple[Any, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Selector:
    """Of a table: the name of its class and its arguments."""

    name: str
    args: tuple[float, ...] = ()

    def make(self, rv: Any) -> Any:
        return getattr(rv.selectors, self.name)(*self.args)


@dataclasses.dataclass(frozen=True, slots=True)
class TableSpec:
    """A table; `limiter` is the class's name and its arguments, "queue" and "stack" alone."""

    name: str
    sampler: Selector
    remover: Selector
    max_size: int
    limiter: tuple[Any, ...]
    max_times_sampled: int = 0
    signature: Any = None  # nest of (dtype, shape)

    @property
    def holds_inserts_up(self) -> bool:
        return self.limiter[0] != "MinSize"

    def make(self, rv: Any) -> Any:
        signature = None if self.signature is None else _specs(self.signature)
        if self.limiter[0] in ("queue", "stack"):
            new = getattr(rv.Table, self.limiter[0])
            return new(self.name, self.max_size, signature=signature)
        return rv.Table(
            name=self.name,
            sampler=self.sampler.make(rv),
            remover=self.remover.make(rv),
            max_size=self.max_size,
            rate_limiter=getattr(rv.rate_limiters, self.limiter[0])(*self.limiter[1:]),
            max_times_sampled=self.max_times_sampled,
            signature=signature,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Col:
    """Part of a writer's history: `history[path][pick]`, then `[again]` of that."""

    path: tuple[str, ...]
    pick: Any
    again: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Config:
    """Of a StructuredWriter: the pattern has Cols whose `pick` is an int or a slice.

    A condition is (what, operator, number, modulus or None), or ("end",).
    """

    table: str
    pattern: Any
    conditions: tuple[tuple[Any, ...], ...] = ()
    priority: float | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Program:
    """Tables and what is done to them; `seed` makes the same again."""

    seed: int
    tables: tuple[TableSpec, ...]
    ops: tuple[Op, ...]

    def text(self, upto: int | None = None) -> str:
        """The program's source, up to the operation that a failure is about."""
        lines = [f"seed {self.seed}", *map(repr, self.tables)]
        ops = self.ops if upto is None else self.ops[: upto + 1]
        return "\n".join([*lines, *(f"{n}: {op!r}" for n, op in enumerate(ops))])


def _specs(nest: Any) -> Any:
    import tensorflow as tf

    if isinstance(nest, dict):
        return {name: _specs(child) for name, child in nest.items()}
    if isinstance(nest, list):
        return [_specs(child) for child in nest]
    return tf.TensorSpec(shape=nest[1], dtype=nest[0])
