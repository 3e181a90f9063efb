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

from reverie.checkpoint.folder.names import TABLE_FILES
from reverie.checkpoint.format.chunks import ChunkIndex
from reverie.checkpoint.format.manifest import TableEntry
from reverie.checkpoint.format.rows import ROWS, RowFile, bad_file, bad_row, refuse
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
    low, high = (np.searchsorted(of_column, item, side) for side in ("left", "right"))
    return (high - low).astype(np.uint32)


@dataclass(frozen=True, slots=True, eq=False)
class TableArrays:
    """What a table's files hold, each by its role, in the dtype of `ROWS`.

    `touched` is empty where no heap needs it, `holes` where the order has none.
    """

    items: NDArray[Any]
    free: NDArray[Any]
    touched: NDArray[Any]
    holes: NDArray[Any]
    trajectories: NDArray[Any]
    columns: NDArray[Any]
    pieces: NDArray[Any]

    @staticmethod
    def read(entry: TableEntry, read: Callable[[str], NDArray[Any]]) -> TableArrays:
        """From the files of a table, by what `read` gives for their names; unchecked."""
        return TableArrays(
            **{
                role: read(entry.files[role])
                if role in entry.files
                else np.empty(0, ROWS[role].dtype)
                for role in TABLE_FILES
            }
        )

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
                state |= {
                    known: np.ascontiguousarray(rows[name])
                    for name, known in _names_of(role).items()
                }
        if "trajectories" in entry.files:
            of = self.trajectories
            state["column_item"] = np.repeat(of["item"], of["columns"])
        return state

    def runs(self) -> NDArray[np.int64]:
        """The rows of the items that are runs of records."""
        return np.delete(np.arange(len(self.items)), self.trajectories["item"].astype(np.int64))

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
        items = self.items
        inside = (items["chunk"] != 0) | (items["offset"] != 0) | (items["length"] != 0)
        runs = self.runs()
        inside[runs] = False
        wanted = "no chunk, offset or length, because the item is a trajectory"
        refuse(items, where("items"), [(inside, "chunk", wanted)])
        chunks.check_runs(items[runs], runs, where("items"))
        priority = items["priority"]
        prioritized = table.settings.prioritized
        odd = ~np.isfinite(priority) | (priority < 0) if prioritized else np.isnan(priority)
        refuse(
            items,
            where("items"),
            (
                (odd, "priority", "finite and at least 0" if prioritized else "a number"),
                (items["times_sampled"] < 0, "times_sampled", "at least 0"),
            ),
        )
        if len(self.touched) not in (0, len(items)):
            wanted = f"one for each of {len(items)} items"
            raise bad_file(where("touched"), f"{len(self.touched)} elements", wanted)
        if len(self.holes):
            _check_holes(self.holes, len(items), where("holes"))
        _check_keys(
            items["key"], self.free, table, where("free" if len(self.free) else "items")
        )

    def _check_trajectories(self, chunks: ChunkIndex, where: Callable[[str], str]) -> None:
        item, columns = self.trajectories["item"], self.columns
        refuse(
            self.trajectories,
            where("trajectories"),
            (
                (item >= len(self.items), "item", f"a row below {len(self.items)}"),
                (self.trajectories["episode"] >= 1 << 62, "episode", "one below 2**62"),
                (self.trajectories["columns"] == 0, "columns", "at least 1"),
                (_not_rising(item), "item", "rows in ascending order of the items"),
            ),
        )
        at = where("columns")
        refuse(
            columns,
            at,
            (
                (columns["squeeze"] > 1, "squeeze", "0 or 1"),
                (columns["pieces"] == 0, "pieces", "at least 1"),
            ),
        )
        for of, rows, name, there in (
            (self.trajectories, columns, "columns", where("trajectories")),
            (columns, self.pieces, "pieces", at),
        ):
            total = int(of[name].sum(dtype=np.uint64))
            if total != len(rows):
                wanted = f"{len(rows)}, one for each row of the {name}"
                raise bad_file(there, f"{total} {name} in all", wanted)
        of_column = np.repeat(np.arange(len(columns)), columns["pieces"])
        chunks.check_pieces(self.pieces, of_column, columns["field"], where("pieces"), at)
        starts = np.cumsum(columns["pieces"], dtype=np.int64) - columns["pieces"]
        length = self.pieces["length"].astype(np.uint64)
        cells = np.add.reduceat(length, starts) if len(starts) else length[:0]
        for wrong, wanted in (
            (cells >= 1 << 32, "fewer than 2**32"),
            ((columns["squeeze"] != 0) & (cells != 1), "one, because the column is squeezed"),
        ):
            if wrong.any():
                row = int(np.argmax(wrong))
                raise bad_row(at, row, f"{cells[row]} cells", wanted)


def _not_rising(values: NDArray[Any]) -> NDArray[np.bool_]:
    wrong = np.zeros(len(values), np.bool_)
    wrong[1:] = values[1:] <= values[:-1]
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
    bits = np.unpackbits(holes, bitorder="little")
    found = int(np.count_nonzero(bits))
    if not 1 <= found <= most:
        raise bad_file(where, f"{found} holes", f"1 to {most} among {num_items} items")
    places = num_items + found
    order = f"{places} places, {num_items} items and {found} holes"
    if len(holes) != -(-places // 8):
        raise bad_file(where, f"{len(holes)} bytes", f"{-(-places // 8)} for {order}")
    if bits[places:].any():  # else as many of the places are taken as there are items
        place = places + int(np.argmax(bits[places:]))
        raise bad_file(where, f"a hole in place {place}", f"none behind the last of {order}")
    for place in (0, places - 1):
        if bits[place]:
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
            the free keys; or a `next_slot` beyond the slots that are named. O(N log N).
    """
    keys = np.concatenate((of_items, free))
    slots = keys & np.uint64(0xFFFFFFFF)
    generations = keys >> np.uint64(32)
    limit = max(len(keys), table.settings.max_size) + SPARE_SLOTS
    # The first key of a slot that nobody names is one higher than this.
    unnamed = table.counters["first_generation"]
    for wrong, wanted in (
        (generations % np.uint64(2) == 0, "an odd generation"),
        (slots >= limit, f"a slot below {limit}"),
        (
            (generations + np.uint64(1) == unnamed) & (np.arange(len(keys)) >= len(of_items)),
            f"no generation that a slot without a key has, {unnamed}",
        ),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise bad_row(where, row, f"key {keys[row]}", wanted)
    if table.counters["next_slot"] > len(keys) + SPARE_SLOTS:
        raise bad_file(
            where,
            f"{len(keys)} keys, and {table.counters['next_slot']} as the next slot",
            f"at most {len(keys) + SPARE_SLOTS}",
        )
    ordered = np.sort(slots)
    twice = ordered[1:] == ordered[:-1]
    if twice.any():
        slot = ordered[int(np.argmax(twice))]
        row = int(np.argmax(slots == slot))
        raise bad_row(where, row, f"slot {slot} occurs twice", "distinct ones")
