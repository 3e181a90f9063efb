"""Servers with a little of everything in their tables, for the tests of their checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reverie import _core
from reverie.reverb.engine.server import Checkpointer, Server
from reverie.reverb.engine.tables import Table
from reverie.tables.cells import column_of
from reverie.tables.limiters import Limiter
from reverie.tables.selectors import selector_of

KINDS = ("uniform", "fifo", "lifo", "prioritized", "min_heap", "max_heap")
POSITION = (np.dtype("<f4"), (2,))
FLAG = (np.dtype("?"), ())


def table(
    name: str,
    sampler: str = "uniform",
    remover: str = "fifo",
    *,
    max_size: int = 100,
    max_times_sampled: int = 0,
    limiter: Limiter | None = None,
    signature: Any = None,
) -> Table:
    """A table that lets everything pass unless told otherwise."""
    return Table(
        name,
        selector_of(sampler, 0.7 if sampler == "prioritized" else None),  # type: ignore[arg-type]
        selector_of(remover, 0.7 if remover == "prioritized" else None),  # type: ignore[arg-type]
        max_size,
        max_times_sampled,
        limiter or Limiter(1.0, 1, -1e300, 1e300),
        (),
        signature,
    )


def server(root: Path, tables: Sequence[Table], fallback: Path | None = None) -> Server:
    """A server that starts from the newest checkpoint in `root`."""
    made = Server(tables, checkpointer=Checkpointer(root, fallback_checkpoint_path=fallback))
    for one in tables:
        one.served_by = made  # type: ignore[attr-defined]  # lives as long as its tables
    return made


class Feeder:
    """Writes steps of a position, a text and a flag, and items of odd pieces of them."""

    def __init__(self, served: Any, keep: int = 20) -> None:
        self.writer = served.store.core.create_trajectory_writer()
        for column in (POSITION, None, FLAG):
            layout = None if column is None else _core.RecordLayout([column])
            self.writer.add_column(layout, keep)
        self.step = 0

    def steps(self, count: int) -> None:
        """Appends so many steps."""
        for _ in range(count):
            n = self.step
            cells = [np.array([n, -n], "f4"), b"text" * (n % 4), np.bool_(n % 2)]
            assert self.writer.append(cells) == -1
            self.step += 1

    def item(self, into: Table, priority: float = 1.0) -> None:
        """An item: two runs of positions, one squeezed text, two flags."""
        n = self.step
        assert self.writer.create_item(
            into.core,
            priority,
            np.array([0, 0, 1, 2], np.uint32),
            np.array([n - 6, n - 2, n - 3, n - 2], np.uint64),
            np.array([2, 1, 1, 2], np.uint32),
            np.array([2, 1, 1], np.uint32),
            np.array([0, 1, 0], np.uint8),
        )


def fill(served: Server, items: int = 40, names: Sequence[str] = ()) -> Feeder:
    """Feeds the same items to the tables of these names, or to all."""
    tables = [one for one in served.tables.values() if not names or one.name in names]
    return fill_tables(Feeder(served), tables, items)


def fill_tables(feeder: Feeder, tables: Sequence[Any], items: int) -> Feeder:
    """Feeds the same items to all these tables."""
    feeder.steps(6)
    for n in range(items):
        feeder.steps(1)
        for one in tables:
            feeder.item(one, 0.5 + n % 5)
        if n % 10 == 9:
            feeder.writer.end_episode(False)
            feeder.steps(6)
    return feeder


def draws(one: Table, calls: int = 30, each: int = 4) -> list[Any]:
    """The next samples, with all that is told of them, comparable."""
    found: list[Any] = []
    for _ in range(calls):
        for key, *told, columns in one.core.sample_items(each) or ():
            found.append((key, *told, [comparable(column_of(column)) for column in columns]))
    return found


def comparable(column: np.ndarray) -> tuple[str, tuple[int, ...], Any]:
    """dtype, shape and contents, NaN equal to itself."""
    contents = column.tolist() if column.dtype.kind == "O" else column.tobytes()
    return column.dtype.str, column.shape, contents
