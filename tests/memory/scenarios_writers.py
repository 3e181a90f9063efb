"""What Reverb's writers are put through, beside the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tests.memory.fresh_process import Done, Scenario, Tell
from tests.memory.reachable import Reachable
from tests.memory.scenarios_observers import served

from reverie import reverb

_MIN_HEAP, _LIFO = reverb.selectors.MinHeap(), reverb.selectors.Lifo()
_FIFO = reverb.selectors.Fifo()


def rare(steps: int, every: int) -> Scenario:
    """One of so many items goes into a second table, too, which keeps it."""

    def tables(folder: Path) -> Any:
        return served(folder, ("main", 200, _FIFO), ("rare", 10_000, _FIFO))

    def names(step: int) -> tuple[str, ...]:
        return () if step < 4 else ("main",) if step % every else ("main", "rare")

    def work(folder: Path) -> Done:
        server, client = tables(folder)
        writer = client.trajectory_writer(num_keep_alive_refs=5)
        frame = np.full((84, 84), 7, np.uint8)
        for step in range(steps):
            writer.append({"o": frame})
            for name in names(step):
                writer.create_item(name, 1.0, {"o": writer.history["o"][-5:]})
        return Done((server, writer), client.checkpoint)

    def model(_: Tell) -> Reachable:
        made = Reachable()
        made.table("main", 200)
        made.table("rare", 10_000)
        made.stream(0, keep=5)
        for step in range(steps):
            made.append(0, 84 * 84)
            for name in names(step):
                made.insert(name, [(0, 0, step - 4, 5)], is_trajectory=True)
        return made

    return Scenario(work, model, tables)


def few(
    steps: int, every: int, items: int, remover: Any, kind: str,
    priority: Callable[[int], int] = lambda step: 1,
) -> Scenario:  # fmt: skip
    """A table keeps a few cells of 1 KiB out of many."""

    def tables(folder: Path) -> Any:
        return served(folder, ("few", items, remover))

    def work(folder: Path) -> Done:
        server, client = tables(folder)
        writer = client.trajectory_writer(num_keep_alive_refs=1)
        for step in range(steps):
            writer.append(np.full(256, step, np.float32))
            if step % every == 0:
                writer.create_item("few", priority(step), writer.history[-1:])
        return Done((server, writer), client.checkpoint)

    def model(_: Tell) -> Reachable:
        made = Reachable()
        made.table("few", items, kind)
        made.stream(0, keep=1)
        for step in range(steps):
            made.append(0, 1024)
            if step % every == 0:
                run = (0, 0, step, 1)
                made.insert("few", [run], priority(step), is_trajectory=True)
        return made

    return Scenario(work, model, tables)


def writers(count: int, steps: int, capacity: int) -> Scenario:
    """Many open writers of two columns, 64 and 8 bytes."""

    def tables(folder: Path) -> Any:
        return served(folder, ("t", capacity, _FIFO))

    def work(folder: Path) -> Done:
        server, client = tables(folder)
        each = [client.trajectory_writer(num_keep_alive_refs=2) for _ in range(count)]
        x = np.full(16, 7, np.float32)
        for step in range(steps):
            for writer in each:
                writer.append({"n": step, "x": x})
                if step:
                    item = {name: writer.history[name][-2:] for name in ("n", "x")}
                    writer.create_item("t", 1.0, item)
        return Done((server, each), client.checkpoint)

    def model(_: Tell) -> Reachable:
        made = Reachable()
        made.table("t", capacity)
        for stream in range(count):
            made.stream(stream, keep=2, columns=2)
        for step in range(steps):
            for stream in range(count):
                made.append(stream, 8, 64)
                if step:
                    runs = [(stream, column, step - 1, 2) for column in (0, 1)]
                    made.insert("t", runs, is_trajectory=True)
        return made

    return Scenario(work, model, tables)


def short_writers(count: int, capacity: int) -> Scenario:
    """Writers that are closed after two steps of 8 bytes and an item of both."""

    def tables(folder: Path) -> Any:
        return served(folder, ("t", capacity, _FIFO))

    def work(folder: Path) -> Done:
        server, client = tables(folder)
        x = np.full(2, 7, np.float32)
        for _ in range(count):
            writer = client.trajectory_writer(num_keep_alive_refs=2)
            writer.append(x)
            writer.append(x)
            writer.create_item("t", 1.0, writer.history[-2:])
            writer.close()
        return Done(server, client.checkpoint)

    return Scenario(work, lambda _: _short(count, capacity, 2), tables)


def inserts(count: int, capacity: int) -> Scenario:
    """`Client.insert`, which makes a writer for each step."""

    def tables(folder: Path) -> Any:
        return served(folder, ("t", capacity, _FIFO))

    def work(folder: Path) -> Done:
        server, client = tables(folder)
        x = np.full(2, 7, np.float32)
        for _ in range(count):
            client.insert(x, {"t": 1.0})
        return Done(server, client.checkpoint)

    return Scenario(work, lambda _: _short(count, capacity, 1), tables)


def _short(count: int, capacity: int, steps: int) -> Reachable:
    made = Reachable()
    made.table("t", capacity)
    for stream in range(min(count, capacity)):
        made.stream(stream, keep=steps)
        for _ in range(steps):
            made.append(stream, 8)
        made.insert("t", [(stream, 0, 0, steps)], is_trajectory=True)
        made.close(stream)
    return made


SCENARIOS = {
    "rare": rare(24_000, 150),
    "few": few(51_200, 1024, 50, _MIN_HEAP, "min_heap"),
    "lifo": few(40_000, 100, 300, _LIFO, "lifo"),
    "heap": few(20_000, 1, 300, _MIN_HEAP, "min_heap", lambda step: step * 7919 % 100_003),
    "writers_1000": writers(1000, 60, 10_000),
    "short_writers": short_writers(100_000, 150_000),
    "inserts": inserts(100_000, 50_000),
}
