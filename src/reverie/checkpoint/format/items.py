"""One table's items: from the core's arrays to files and back, with all checks.

An item is a run of records, or a trajectory: columns of arbitrary pieces of chunks.
Trajectories have three files beside the items', each in the order of the one before,
which says how many rows of it are whose:

    trajectories   which items they are, the episode of each, and how many columns it has
    columns        which column of the chunks, how many pieces, squeezed or not
    pieces         each column's pieces: cells of a chunk, from one on

The order of insertion may have holes, where an item was deleted: what a uniform draw
finds depends on them. `holes` has one bit for each place of the order, in bytes whose
least significant bit comes first, and is there only where a bit is set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.checkpoint.disk.scratch import blocks, filled, repeated, scratch, totals
from reverie.checkpoint.folder.names import TABLE_FILES
from reverie.checkpoint.format.chunks import ChunkIndex
from reverie.checkpoint.format.manifest import TableEntry
from reverie.checkpoint.format.rows import (
    ROWS,
    Columns,
    RowFile,
    Wrong,
    bad_file,
    bad_row,
    refuse,
)
from reverie.checkpoint.format.snapshot import TableSnapshotLike

SPARE_SLOTS = 1024  # a slot whose generations are used up is named by no key
SPARE_HOLES = 64  # an order is packed before it has more holes than items and these

# What the core calls the fields of a file: they stand behind this.
_PREFIX = {"items": "", "trajectories": "traj_", "columns": "column_", "pieces": "piece_"}


def files_of(state: TableSnapshotLike, index: int) -> Iterator[RowFile]:
    """The files of a table of the core's snapshot: the items', and those with rows."""
    fields: list[NDArray[Any]]
    for role in TABLE_FILES:
        if role == "free":
            fields = [state.free_keys]
        elif role in ("touched", "holes"):
            fields = [state.items.get(role, np.empty(0, ROWS[role].dtype))]
        else:
            fields = [state.items.get(name, np.empty(0)) for name in _names_of(role).values()]
            if role == "trajectories":
                fields.append(_num_columns(state))
        if role == "items" or len(fields[0]):
            yield RowFile(role, f"{role}-{index}.npy", fields)


def _names_of(role: str) -> dict[str, str]:
    """What the core calls the fields of a file's rows.

    All but the number of a trajectory's columns, the last field of its row: to the core
    each column says whose it is.
    """
    names = (name for name in ROWS[role].names if (role, name) != ("trajectories", "columns"))
    return {name: f"{_PREFIX[role]}{name}" for name in names}


def _num_columns(state: TableSnapshotLike) -> NDArray[np.uint32]:
    """Columns of each trajectory of the core's snapshot, where they stand by their items."""
    none = np.empty(0, np.uint64)
    item, of_column = (state.items.get(name, none) for name in ("traj_item", "column_item"))

    def number(low: int, high: int) -> NDArray[Any]:
        first, last = (
            np.searchsorted(of_column, item[low:high], side) for side in ("left", "right")
        )
        return last - first

    return filled(len(item), np.uint32, number)


@dataclass(frozen=True, slots=True, eq=False)
class TableArrays:
    """What a table's files hold, each by its role, in the dtypes of `ROWS`.

    `touched` is empty where no heap needs it, `holes` where the order has none.
    """

    items: Columns
    free: NDArray[Any]
    touched: NDArray[Any]
    holes: NDArray[Any]
    trajectories: Columns
    columns: Columns
    pieces: Columns

    @staticmethod
    def read(
        entry: TableEntry,
        columns: Callable[[str], Columns],
        vector: Callable[[str], NDArray[Any]],
    ) -> TableArrays:
        """From the files of a table, unchecked.

        Args:
            entry: the table's.
            columns: what a file of several fields holds, by its name.
            vector: what a file of one holds, by its name.
        """
        found: dict[str, Any] = {}
        for role in TABLE_FILES:
            is_vector = role not in _PREFIX
            if role in entry.files:
                found[role] = (vector if is_vector else columns)(entry.files[role])
            else:
                found[role] = (
                    np.empty(0, ROWS[role].dtype) if is_vector else Columns.empty(role, 0)
                )
        return TableArrays(**found)

    def state(self, entry: TableEntry) -> dict[str, Any]:
        """What the core's `Table.restore` takes."""
        state: dict[str, Any] = {
            "free_keys": self.free,
            "counters": dict(entry.counters),
            "rng_state": np.array(entry.rng_state, np.uint64),
        }
        if "touched" in entry.files:
            state["touched"] = self.touched
        if len(self.holes):
            state["holes"] = self.holes
        for role in _PREFIX:
            if role in entry.files:
                rows = getattr(self, role)
                state |= {known: rows[name] for name, known in _names_of(role).items()}
        if "trajectories" in entry.files:
            of = self.trajectories
            state["column_item"] = repeated(of["item"], of["columns"])
        return state

    def runs(self) -> Iterator[tuple[NDArray[np.int64], Columns]]:
        """The items that are runs of records, block by block: their rows, and they."""
        trajectories = self.trajectories["item"]
        for low, high in blocks(len(self.items)):
            rows, items = np.arange(low, high), self.items.part(low, high)
            first, last = np.searchsorted(trajectories, np.array([low, high], np.uint64))
            if first != last:
                is_run = np.ones(high - low, np.bool_)
                is_run[trajectories[first:last] - np.uint64(low)] = False
                rows = rows[is_run]
                items = Columns({name: of[is_run] for name, of in items.fields.items()})
            yield rows, items

    def check(self, chunks: ChunkIndex, table: TableEntry, where: Callable[[str], str]) -> None:
        """Checks all references and values.

        Args:
            chunks: what items may refer to.
            table: whose they are.
            where: names the file of a role, for messages.

        Raises:
            CheckpointCorruptError: naming the row. Of items: see `ChunkIndex.check_runs`;
                a trajectory with a run of its own, a priority that is NaN, or of a
                prioritized table negative or infinite, a negative times_sampled, or keys
                as `_check_keys` refuses them. Of trajectories: no such item, no columns,
                more or fewer columns or pieces than their files have rows, columns that do
                not fit, or pieces as `ChunkIndex.check_pieces` refuses them. Of `touched`:
                another number than there are items. Of `holes`: see `_check_holes`.
        """
        self._check_trajectories(chunks, where)
        items, trajectories = self.items, self.trajectories["item"]
        at, prioritized = where("items"), table.settings.prioritized
        for low, high in blocks(len(trajectories)):
            rows = trajectories[low:high]
            fields = [items[name][rows] for name in ("chunk", "offset", "length")]
            inside = np.any([field != 0 for field in fields], axis=0)
            if inside.any():
                row = int(np.argmax(inside))
                wanted = "no chunk, offset or length, because the item is a trajectory"
                raise bad_row(at, int(rows[row]), f"chunk {fields[0][row]}", wanted)
        chunks.check_runs(self.runs(), at)

        def checks(low: int, high: int) -> Iterator[Wrong]:
            priority = items["priority"][low:high]
            if prioritized:
                odd = ~np.isfinite(priority) | (priority < 0)
                yield odd, priority, "priority {}", "finite and at least 0"
            else:
                yield np.isnan(priority), priority, "priority {}", "a number"
            times = items["times_sampled"][low:high]
            yield times < 0, times, "times_sampled {}", "at least 0"

        refuse(len(items), at, checks)
        if len(self.touched) not in (0, len(items)):
            wanted = f"one for each of {len(items)} items"
            raise bad_file(where("touched"), f"{len(self.touched)} elements", wanted)
        if len(self.holes):
            _check_holes(self.holes, len(items), where("holes"))
        _check_keys(
            items["key"], self.free, table, where("free" if len(self.free) else "items")
        )

    def _check_trajectories(self, chunks: ChunkIndex, where: Callable[[str], str]) -> None:
        of, columns, pieces = self.trajectories, self.columns, self.pieces

        def of_rows(low: int, high: int) -> Iterator[Wrong]:
            item, episode = of["item"][low:high], of["episode"][low:high]
            number = of["columns"][low:high]
            yield item >= len(self.items), item, "item {}", f"a row below {len(self.items)}"
            yield episode >= 1 << 62, episode, "episode {}", "one below 2**62"
            yield number == 0, number, "columns {}", "at least 1"
            wanted = "rows in ascending order of the items"
            yield _not_rising(of["item"], low, high), item, "item {}", wanted

        def of_columns(low: int, high: int) -> Iterator[Wrong]:
            squeeze, number = columns["squeeze"][low:high], columns["pieces"][low:high]
            yield squeeze > 1, squeeze, "squeeze {}", "0 or 1"
            yield number == 0, number, "pieces {}", "at least 1"

        at = where("columns")
        refuse(len(of), where("trajectories"), of_rows)
        refuse(len(columns), at, of_columns)
        for owners, rows, name, there in (
            (of, columns, "columns", where("trajectories")),
            (columns, pieces, "pieces", at),
        ):
            total = int(owners[name].sum(dtype=np.uint64))
            if total != len(rows):
                wanted = f"{len(rows)}, one for each row of the {name}"
                raise bad_file(there, f"{total} {name} in all", wanted)
        ends = totals(columns["pieces"])
        chunks.check_pieces(pieces, ends, columns["field"], where("pieces"), at)

        def of_cells(low: int, high: int) -> Iterator[Wrong]:
            start = int(ends[low - 1]) if low else 0
            starts = ends[low:high] - columns["pieces"][low:high] - start
            lengths = pieces["length"][start : ends[high - 1]].astype(np.uint64)
            cells = np.add.reduceat(lengths, starts)
            yield cells >= 1 << 32, cells, "{} cells", "fewer than 2**32"
            squeezed = columns["squeeze"][low:high] != 0
            wanted = "one, because the column is squeezed"
            yield squeezed & (cells != 1), cells, "{} cells", wanted

        refuse(len(columns), at, of_cells)


def _not_rising(values: NDArray[Any], low: int, high: int) -> NDArray[np.bool_]:
    """Which of the rows low..high-1 are not above the one before."""
    wrong = np.zeros(high - low, np.bool_)
    first = max(low, 1)
    wrong[first - low :] = values[first:high] <= values[first - 1 : high - 1]
    return wrong


def _check_holes(holes: NDArray[np.uint8], num_items: int, where: str) -> None:
    """Checks the holes of an order of insertion against the items in it.

    There is at least one, else there would be no file. In all places that are no holes
    stands an item. A table packs its order before it is mostly holes, so the order is no
    longer than its items allow.

    Raises:
        CheckpointCorruptError: more bytes than so many items can need, no hole or too
            many, more or fewer bytes than the places need, a bit set behind the last
            place, or a hole in the first or the last place. O(N).
    """
    most = num_items + SPARE_HOLES
    longest = -(-(num_items + most) // 8)
    if len(holes) > longest:  # before the bits are spread
        raise bad_file(
            where,
            f"{len(holes)} bytes",
            f"at most {longest} for the order of {num_items} items",
        )
    found = sum(int(np.count_nonzero(np.unpackbits(holes[a:b]))) for a, b in blocks(len(holes)))
    if not 1 <= found <= most:
        raise bad_file(where, f"{found} holes", f"1 to {most} among {num_items} items")
    places = num_items + found
    order = f"{places} places, {num_items} items and {found} holes"
    if len(holes) != -(-places // 8):
        raise bad_file(where, f"{len(holes)} bytes", f"{-(-places // 8)} for {order}")
    start = 8 * (len(holes) - 1)  # of the last byte's places
    behind = np.unpackbits(holes[-1:], bitorder="little")[places - start :]
    if behind.any():  # else as many of the places are taken as there are items
        place = places + int(np.argmax(behind))
        raise bad_file(where, f"a hole in place {place}", f"none behind the last of {order}")
    for place in (0, places - 1):
        if holes[place // 8] >> (place % 8) & 1:
            raise bad_file(where, f"a hole in place {place}", f"an item there, of {order}")


def _check_keys(
    of_items: NDArray[Any], free: NDArray[Any], table: TableEntry, where: str
) -> None:
    """Checks the keys of one table's items, and those last used in its free slots.

    A key is `generation << 32 | slot`. Generations of keys are odd, and no slot occurs
    twice. Slots count from 0, and a table had never more of them than items fit in; those
    below its `next_slot` are nearly all named.

    Raises:
        CheckpointCorruptError: naming the row, counted through the items and then
            the free keys; or a `next_slot` beyond the slots that are named. O(N), O(N log N)
            where few of the slots are named.
    """
    total = len(of_items) + len(free)
    limit = max(total, table.settings.max_size) + SPARE_SLOTS
    # The first key of a slot that nobody names is one higher than this.
    unnamed = table.counters["first_generation"]
    parts = [
        (base + low, keys[low:high])
        for base, keys in ((0, of_items), (len(of_items), free))
        for low, high in blocks(len(keys))
    ]
    for is_wrong, wanted in (
        (lambda _, keys: _generations(keys) % np.uint64(2) == 0, "an odd generation"),
        (lambda _, keys: _slots(keys) >= limit, f"a slot below {limit}"),
        (
            lambda first, keys: (
                (_generations(keys) + np.uint64(1) == unnamed) & (first >= len(of_items))
            ),
            f"no generation that a slot without a key has, {unnamed}",
        ),
    ):
        for first, keys in parts:
            wrong = is_wrong(first, keys)
            if wrong.any():
                row = int(np.argmax(wrong))
                raise bad_row(where, first + row, f"key {keys[row]}", wanted)
    if table.counters["next_slot"] > total + SPARE_SLOTS:
        raise bad_file(
            where,
            f"{total} keys, and {table.counters['next_slot']} as the next slot",
            f"at most {total + SPARE_SLOTS}",
        )
    highest = max((int(_slots(keys).max()) for _, keys in parts), default=0)
    if highest < 4 * total + SPARE_SLOTS:
        seen = scratch(highest + 1, np.bool_)
        seen[:] = False
        for _, keys in parts:
            seen[_slots(keys)] = True
        if np.count_nonzero(seen) == total:
            return
    slots = _slots(np.concatenate((of_items, free)))
    ordered = np.sort(slots)
    twice = ordered[1:] == ordered[:-1]
    if twice.any():
        slot = ordered[int(np.argmax(twice))]
        row = int(np.argmax(slots == slot))
        raise bad_row(where, row, f"slot {slot} occurs twice", "distinct ones")


def _generations(keys: NDArray[Any]) -> NDArray[Any]:
    generations: NDArray[Any] = keys >> np.uint64(32)
    return generations


def _slots(keys: NDArray[Any]) -> NDArray[Any]:
    slots: NDArray[Any] = keys & np.uint64(0xFFFFFFFF)
    return slots
