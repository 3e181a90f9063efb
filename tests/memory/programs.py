"""Random programs for a server's tables, run on the library and on the model side by side.

Every step says, in each of its columns, which stream it is of and which number it has there,
so an item says what it is made of, and a step that is torn or of another stream is seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tests.memory.reachable import REMOVERS, Item, Reach, Reachable, Run

from reverie import reverb
from reverie.observers import EpisodeObserver, ParallelObserver, TrajectoryObserver

KINDS = ("windows", "batch", "episodes", "cells", "steps")
NAMES = ("first", "second")
ENVS = 3
_MARK = 16  # bytes of a stream's and a step's number
_SELECTORS = {
    "fifo": reverb.selectors.Fifo(),
    "lifo": reverb.selectors.Lifo(),
    "min_heap": reverb.selectors.MinHeap(),
    "max_heap": reverb.selectors.MaxHeap(),
    "uniform": reverb.selectors.Uniform(),
    "prioritized": reverb.selectors.Prioritized(0.7),
}
ALL_REMOVERS = tuple(_SELECTORS)

Steps = list[tuple[int, int]]  # stream and number of each
Contents = tuple[Steps, ...]  # of each column


@dataclass(frozen=True, slots=True)
class TableOf:
    """A table of a program: its remover by name, and the most items."""

    remover: str
    max_size: int


@dataclass(frozen=True, slots=True)
class Program:
    """What to do, in numbers that any draw makes sense of.

    Attributes:
        tables: one for each of NAMES.
        filling: bytes of a step's second column besides its numbers.
        operations: name of a method of `World`, and its arguments.
    """

    tables: tuple[TableOf, TableOf]
    filling: int
    operations: tuple[tuple[Any, ...], ...]


def marked(stream: int, number: int, filling: int) -> np.ndarray[Any, Any]:
    """Bytes that say which step they are of, and could be no other's."""
    head = np.array([stream, number], np.int64).view(np.uint8)
    tail = (np.arange(filling) * 7 + stream * 31 + number * 13) % 251
    return np.concatenate([head, tail.astype(np.uint8)])


def steps_of(column: np.ndarray[Any, Any]) -> Steps:
    """Which steps a column of an item holds.

    Raises:
        AssertionError: a step is torn.
    """
    found: Steps = []
    for cell in column:
        stream, number = (
            cell if cell.dtype == np.int64 else cell[:_MARK].copy().view(np.int64)
        ).tolist()
        if cell.dtype != np.int64:
            wanted = marked(stream, number, len(cell) - _MARK)
            assert np.array_equal(cell, wanted), f"step {number} of stream {stream} is torn"
        found.append((stream, number))
    return found


def contents_of(columns: Sequence[np.ndarray[Any, Any]]) -> Contents:
    """Which steps each column of an item holds."""
    return tuple(steps_of(column) for column in columns)


def expected(item: Item) -> Contents:
    """The same of the model's item, whose columns are its runs; of rows there are two."""
    columns: list[Steps] = []
    for stream, _, first, length in item.runs:
        assert isinstance(stream, int)
        columns.append([(stream, first + i) for i in range(length)])
    return tuple(columns if item.is_trajectory else columns * 2)


@dataclass(slots=True)
class _Writer:
    """One writer, and the model's streams that it writes."""

    kind: str
    is_for: tuple[str, ...]
    length: int  # of a window, the most of an episode, the cells that are kept
    engine: Any
    streams: list[int]


@dataclass(slots=True)
class World:
    """A server, and what the model knows of it.

    Args:
        program: of which only the tables and the filling are read here.
        folder: for checkpoints.
    """

    program: Program
    folder: Path
    model: Reachable = field(default_factory=Reachable)
    _most_items: dict[str, int] = field(default_factory=dict)
    _writers: list[_Writer] = field(default_factory=list)
    _last_stream: int = 0
    _server: Any = None
    _client: Any = None

    def __post_init__(self) -> None:
        for name, table in zip(NAMES, self.program.tables, strict=True):
            remover = table.remover if table.remover in REMOVERS else None
            self.model.table(name, table.max_size, remover)
        self._serve()

    def run(self) -> None:
        """The whole program; contents are compared after every operation."""
        for name, *arguments in self.program.operations:
            getattr(self, name)(*arguments)
            self.check()

    def close(self) -> None:
        """Closes all writers, and stops the server."""
        for writer in self._writers:
            writer.engine.close()
        self._writers.clear()
        self._server.stop()

    @property
    def most_items(self) -> int:
        """The most items that each table ever held, added up."""
        return sum(self._most_items.values())

    def core(self, name: str) -> Any:
        return self._server._server.tables[name].core

    # Operations.

    def open(self, kind: str, both: bool, length: int) -> None:
        """A new writer, for one table or both."""
        is_for = NAMES if both else NAMES[:1]
        client = self._client
        if kind == "windows":
            engine: Any = TrajectoryObserver(client, is_for, length)
        elif kind == "batch":
            engine = ParallelObserver(client, is_for, length, num_envs=ENVS)
        elif kind == "episodes":
            engine = EpisodeObserver(client, is_for, length, bypass_partial_episodes=True)
        elif kind == "cells":
            engine = client.trajectory_writer(num_keep_alive_refs=length)
        else:
            engine = client.writer(max_sequence_length=length)
        writer = _Writer(kind, is_for, length, engine, [])
        self._writers.append(writer)
        self._new_streams(writer)

    def append(self, which: int, count: int, last: bool) -> None:
        """Steps of one writer; `last`: the last of them ends its episode."""
        writer = self._pick(which)
        if writer is None:
            return
        for i in range(count):
            is_last = last and i == count - 1
            if writer.kind == "episodes":
                (stream,) = writer.streams
                # One that grows too long is not what this is about.
                is_last = is_last or self.model.episode(stream) == writer.length - 1
            self._append(writer, is_last)

    def item(
        self, which: int, into: int, back: int, length: int, uneven: bool, priority: int
    ) -> None:
        """An item of a Reverb-shaped writer, over any of the latest steps."""
        writer = self._pick(which, kinds=("cells", "steps"))
        if writer is None:
            return
        (stream,) = writer.streams
        there = min(writer.length, self.model.episode(stream))
        if not there:
            return
        name, end = NAMES[into], 0 if writer.kind == "steps" else back % there
        length = 1 + length % (there - end)
        last = self._count(stream) - end
        runs: list[Run] = [(stream, column, last - length, length) for column in (0, 1)]
        if writer.kind == "steps":
            writer.engine.create_item(name, length, priority)
        else:
            history = writer.engine.history
            columns = {key: history[key][-(end + length) : -end or None] for key in ("n", "x")}
            if uneven:
                runs[1] = (stream, 1, last - 1, 1)
                columns["x"] = history["x"][-(end + 1) : -end or None]
            writer.engine.create_item(name, priority, columns)
            writer.engine.flush()
        self._insert(name, runs, float(priority), is_trajectory=True)

    def end(self, which: int) -> None:
        """Ends one writer's episodes."""
        writer = self._pick(which, kinds=("windows", "batch", "episodes", "cells"))
        if writer is None:
            return
        if writer.kind == "cells":
            writer.engine.end_episode()
        else:
            writer.engine.reset(write_cached_steps=False)
        for stream in writer.streams:
            self.model.end_episode(stream)

    def shut(self, which: int, again: bool) -> None:
        """Closes a writer; an observer may be opened again, with new streams."""
        writer = self._pick(which)
        if writer is None:
            return
        writer.engine.close()
        for stream in writer.streams:
            self.model.close(stream)
        if again and hasattr(writer.engine, "open"):
            writer.engine.open()
            self._new_streams(writer)
        else:
            self._writers.remove(writer)

    def prioritize(self, into: int, first: int, stride: int, priority: int) -> None:
        """Sets the priority of every `stride`-th item."""
        name = NAMES[into]
        chosen = slice(first, None, stride)
        keys = self.core(name).items()["key"][chosen].copy()
        priorities = np.full(len(keys), priority, np.float64)
        assert self.core(name).update_priorities(keys, priorities) == 0
        for item in self.model.items(name)[chosen]:
            self.model.set_priority(name, item.serial, float(priority))

    def delete(self, into: int, first: int, stride: int) -> None:
        """Deletes every `stride`-th item by its key."""
        name = NAMES[into]
        chosen = slice(first, None, stride)
        serials = [item.serial for item in self.model.items(name)[chosen]]
        keys = self.core(name).items()["key"][chosen].copy()
        assert self.core(name).delete(keys) == 0
        self.model.delete(name, serials)

    def save_and_load(self) -> None:
        """Saves, and goes on with a new server that loads it."""
        self.save()
        self.load()

    # What is looked at.

    def contents(self, name: str) -> list[Contents]:
        """What a table's items hold, in order of insertion."""
        core = self.core(name)
        return [contents_of(core.item(key)) for key in core.items()["key"].tolist()]

    def check(self) -> None:
        """Compares the contents, and tells the model what chance has removed.

        Raises:
            AssertionError: an item holds other steps than it was made of, is missing, or
                should have gone.
        """
        for name, table in zip(NAMES, self.program.tables, strict=True):
            found = self.contents(name)
            wanted = self.model.items(name)
            if table.remover not in REMOVERS:
                size = min(len(wanted), table.max_size)
                assert len(found) == size, f"{name}: {len(found)} items, wanted {size}"
                wanted = matching(found, wanted)
                self.model.keep_only(name, [item.serial for item in wanted])
            differing = [
                (a, b) for a, b in zip(found, map(expected, wanted), strict=True) if a != b
            ]
            assert not differing, f"{name}: found, wanted: {differing[0]!r:.400}"

    def check_samples(self) -> None:
        """Samples hold what the item of their key holds."""
        for name in NAMES:
            core = self.core(name)
            for key, *_, columns in core.sample_items(8) or () if core.size else ():
                assert contents_of(columns) == contents_of(core.item(key))

    def reach(self) -> Reach:
        return self.model.reach()

    def save(self) -> Path:
        """The folder of a new checkpoint."""
        return Path(self._client.checkpoint())

    def load(self) -> None:
        """Goes on with a new server that loads the newest checkpoint."""
        self.close()
        self.model.close_all()
        self._serve()

    def _serve(self) -> None:
        tables = [
            reverb.Table(
                name=name,
                sampler=reverb.selectors.Uniform(),
                remover=_SELECTORS[table.remover],
                max_size=table.max_size,
                rate_limiter=reverb.rate_limiters.MinSize(1),
            )
            for name, table in zip(NAMES, self.program.tables, strict=True)
        ]
        at = reverb.checkpointers.DefaultCheckpointer(str(self.folder))
        self._server = reverb.Server(tables, checkpointer=at)
        self._client = self._server.localhost_client()

    def _pick(self, which: int, kinds: Sequence[str] = KINDS) -> _Writer | None:
        some = [writer for writer in self._writers if writer.kind in kinds]
        return some[which % len(some)] if some else None

    def _new_streams(self, writer: _Writer) -> None:
        count = ENVS if writer.kind == "batch" else 1
        writer.streams = [self._last_stream + i + 1 for i in range(count)]
        self._last_stream += count
        is_by_step = writer.kind in ("windows", "batch")
        for stream in writer.streams:
            columns = 2 if writer.kind in ("cells", "steps") else 1
            self.model.stream(stream, writer.length - is_by_step, columns)

    def _count(self, stream: int) -> int:
        """The number of the stream's next step."""
        return self.model.count(stream)

    def _append(self, writer: _Writer, last: bool) -> None:
        filling, mark = self.program.filling, _MARK
        each = [
            {
                "n": np.array([stream, self._count(stream)], np.int64),
                "x": marked(stream, self._count(stream), filling),
            }
            for stream in writer.streams
        ]
        if writer.kind == "batch":
            step = {key: np.stack([one[key] for one in each]) for key in ("n", "x")}
            writer.engine(step, last=np.full(ENVS, last))
        elif writer.kind in ("windows", "episodes"):
            writer.engine(each[0], last=last)
        else:
            writer.engine.append(each[0])
        for stream in writer.streams:
            if writer.kind in ("cells", "steps"):
                self.model.append(stream, mark, mark + filling)
            else:
                self.model.append(stream, 2 * mark + filling)
            self._items_of_step(writer, stream, last)

    def _items_of_step(self, writer: _Writer, stream: int, last: bool) -> None:
        if writer.kind in ("cells", "steps"):
            return
        steps, length = self.model.episode(stream), writer.length
        if writer.kind == "episodes":
            length = steps if last else steps + 1
        if steps >= length:
            for name in writer.is_for:
                self._insert(name, [(stream, 0, self._count(stream) - length, length)])
        if last:
            self.model.end_episode(stream)

    def _insert(
        self,
        name: str,
        runs: Sequence[Run],
        priority: float = 1.0,
        *,
        is_trajectory: bool = False,
    ) -> None:
        # A full table makes room after the insert.
        size = self.program.tables[NAMES.index(name)].max_size
        most = min(len(self.model.items(name)), size) + 1
        self._most_items[name] = max(self._most_items.get(name, 0), most)
        self.model.insert(name, runs, priority, is_trajectory=is_trajectory)


def matching(found: Sequence[Contents], items: Sequence[Item]) -> list[Item]:
    """The items, in order, that hold what was found, in order.

    Raises:
        AssertionError: something was found that no further item holds.
    """
    rest, chosen = iter(items), []
    for contents in found:
        item = next((item for item in rest if expected(item) == contents), None)
        assert item is not None, f"found {contents!r:.400}, which is no item's in this order"
        chosen.append(item)
    return chosen
