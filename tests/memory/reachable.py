"""A slow, obvious model of which bytes of steps somebody can still reach.

It is told what a program appends and which items it makes, over which steps, into which
tables, and counts the bytes of the steps that the items left refer to, each step once. It
shares no code with the library. A stream has one column of whole records (an observer's) or
several of cells (a Reverb-shaped writer's).

    model = Reachable()
    model.table("replay", max_size=2)
    model.stream("a", keep=1)
    for step in range(5):
        model.append("a", 100)
        if step:
            model.insert("replay", [("a", 0, step - 1, 2)])
    assert model.reach().nbytes == 300
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass, field

# Of the removers that leave nothing to chance: whose item goes first.
REMOVERS = ("fifo", "lifo", "min_heap", "max_heap")

Run = tuple[Hashable, int, int, int]  # stream, column, number of the first cell, length


@dataclass(frozen=True, slots=True)
class Reach:
    """What somebody can still reach.

    Attributes:
        nbytes: of distinct steps that items refer to or the next items may still take.
        open_streams: streams that may go on.
        closed_streams: streams that are closed and have a step that an item refers to.
        rows: items that are runs of whole steps.
        indexed_rows: those of them whose table orders items by priority.
        trajectories: the other items.
        columns: of streams, with a step that can be reached.
        spans: stretches of consecutive steps that can be reached, of all columns.
        ends: ends of episodes at steps that can be reached.
    """

    nbytes: int
    open_streams: int
    closed_streams: int
    rows: int
    indexed_rows: int
    trajectories: int
    columns: int = field(default=0, compare=False)
    spans: int = field(default=0, compare=False)
    ends: int = field(default=0, compare=False)


@dataclass(slots=True)
class Item:
    """An item: what it refers to, and what decides when it goes."""

    serial: int
    runs: tuple[Run, ...]
    is_trajectory: bool
    priority: float
    touched: int


@dataclass(slots=True)
class _Stream:
    keep: int  # the latest cells of each column that the next items may take
    upto: list[list[int]]  # of each column: bytes before its n-th cell
    is_open: bool = True
    episode: int = 0  # number of its open episode's first step
    ends: list[int] = field(default_factory=list)  # the last step of each ended episode

    @property
    def count(self) -> int:
        return len(self.upto[0]) - 1


@dataclass(slots=True)
class _Table:
    max_size: int
    remover: str | None
    is_indexed: bool
    items: dict[int, Item] = field(default_factory=dict)  # by serial, in order of insertion


class Reachable:
    """Streams, and tables over them. Every operation is as slow as it is simple."""

    def __init__(self) -> None:
        self._streams: dict[Hashable, _Stream] = {}
        self._tables: dict[str, _Table] = {}
        self._clock = 0

    def table(
        self,
        name: str,
        max_size: int,
        remover: str | None = "fifo",
        *,
        is_indexed: bool | None = None,
    ) -> None:
        """A table.

        Args:
            name: its name.
            max_size: the most items; the remover makes room after each insert.
            remover: one of REMOVERS, or None where chance decides: then nothing goes
                before `keep_only` says what is left.
            is_indexed: whether its sampler or remover is prioritized or a heap; None: as
                its remover.
        """
        assert remover is None or remover in REMOVERS
        if is_indexed is None:
            is_indexed = remover is not None and remover.endswith("heap")
        self._tables[name] = _Table(max_size, remover, is_indexed)

    def stream(self, name: Hashable, keep: int, columns: int = 1) -> None:
        """Opens a new stream.

        Args:
            name: of no other stream ever.
            keep: the latest steps of an episode that its next items may still take.
            columns: how many columns of cells; 1 where a step is one record.
        """
        assert name not in self._streams
        self._streams[name] = _Stream(keep, [[0] for _ in range(columns)])

    def append(self, name: Hashable, *nbytes: int) -> int:
        """Appends a step of so many bytes in each column; returns its number."""
        stream = self._streams[name]
        assert stream.is_open
        for upto, size in zip(stream.upto, nbytes, strict=True):
            upto.append(upto[-1] + size)
        return stream.count - 1

    def end_episode(self, name: Hashable) -> None:
        """No later item takes a step that the stream has now."""
        stream = self._streams[name]
        if stream.episode < stream.count:
            stream.ends.append(stream.count - 1)
        stream.episode = stream.count

    def close(self, name: Hashable) -> None:
        """Ends a stream."""
        self.end_episode(name)
        self._streams[name].is_open = False

    def close_all(self) -> None:
        """Ends every stream, as a checkpoint's do that is loaded."""
        for name in self._streams:
            self.close(name)

    def count(self, name: Hashable) -> int:
        """Steps of the stream, and so the number of its next one."""
        return self._streams[name].count

    def episode(self, name: Hashable) -> int:
        """Steps of the stream's open episode."""
        return self._streams[name].count - self._streams[name].episode

    def insert(
        self,
        table: str,
        runs: Iterable[Run],
        priority: float = 1.0,
        *,
        is_trajectory: bool = False,
    ) -> int:
        """A new item over `runs`; then the remover makes room. Returns its serial number."""
        into = self._tables[table]
        self._clock += 1
        item = Item(self._clock, tuple(runs), is_trajectory, priority, self._clock)
        into.items[item.serial] = item
        if into.remover is not None:
            while len(into.items) > into.max_size:
                del into.items[_victim(into, into.remover)]
        return item.serial

    def set_priority(self, table: str, serial: int, priority: float) -> None:
        """Sets an item's priority; among equal ones it then counts as the newest."""
        self._clock += 1
        item = self._tables[table].items[serial]
        item.priority, item.touched = priority, self._clock

    def delete(self, table: str, serials: Iterable[int]) -> None:
        """Deletes items."""
        for serial in serials:
            del self._tables[table].items[serial]

    def keep_only(self, table: str, serials: Collection[int]) -> None:
        """What is left of a table whose remover leaves it to chance."""
        of = self._tables[table]
        assert len(serials) <= of.max_size
        of.items = {serial: of.items[serial] for serial in sorted(serials)}

    def clear(self, table: str) -> None:
        """Empties a table."""
        self._tables[table].items.clear()

    def items(self, table: str) -> list[Item]:
        """A table's items, in order of insertion."""
        return list(self._tables[table].items.values())

    def reach(self) -> Reach:
        """What can be reached now."""
        runs: dict[tuple[Hashable, int], list[tuple[int, int]]] = {}
        rows = indexed_rows = trajectories = 0
        for table in self._tables.values():
            for item in table.items.values():
                for stream, column, first, length in item.runs:
                    runs.setdefault((stream, column), []).append((first, first + length))
                trajectories += item.is_trajectory
                rows += not item.is_trajectory
                indexed_rows += table.is_indexed and not item.is_trajectory
        with_items = {stream for stream, _ in runs}
        open_streams = 0
        for name, one in self._streams.items():
            if one.is_open:
                open_streams += 1
                first = max(one.episode, one.count - one.keep)
                for column in range(len(one.upto)) if first < one.count else ():
                    runs.setdefault((name, column), []).append((first, one.count))
        nbytes = num_spans = 0
        ends: set[tuple[Hashable, int]] = set()
        for (name, column), spans in runs.items():
            upto = self._streams[name].upto[column]
            merged = union(spans)
            num_spans += len(merged)
            nbytes += sum(upto[last] - upto[first] for first, last in merged)
            ends.update((name, end) for end in _within(self._streams[name].ends, merged))
        return Reach(
            nbytes=nbytes,
            open_streams=open_streams,
            closed_streams=sum(not self._streams[name].is_open for name in with_items),
            rows=rows,
            indexed_rows=indexed_rows,
            trajectories=trajectories,
            columns=len(runs),
            spans=num_spans,
            ends=len(ends),
        )


def union(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Half-open spans as disjoint ones that cover the same numbers, ascending."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], last))
        else:
            merged.append((first, last))
    return merged


def _within(numbers: Sequence[int], spans: Sequence[tuple[int, int]]) -> list[int]:
    """Those of ascending numbers that lie in one of ascending, disjoint spans."""
    found, at = [], 0
    for number in numbers:
        while at < len(spans) and spans[at][1] <= number:
            at += 1
        if at < len(spans) and spans[at][0] <= number:
            found.append(number)
    return found


def _victim(table: _Table, remover: str) -> int:
    """Serial of the item that a full table gives up, be it the newest."""
    items = table.items
    if remover == "fifo":
        return next(iter(items))
    if remover == "lifo":
        return next(reversed(items))
    sign = 1 if remover == "min_heap" else -1
    return min(items.values(), key=lambda item: (sign * item.priority, item.touched)).serial
