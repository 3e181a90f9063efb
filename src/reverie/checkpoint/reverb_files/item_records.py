"""The records of `items.tfrecord`: keys, priorities, and slices of chunks."""

from __future__ import annotations

import dataclasses
import math
from array import array
from pathlib import Path
from typing import Any

from reverie import errors
from reverie.checkpoint.reverb_files.budget import Budget, Place, shown
from reverie.checkpoint.reverb_files.table_records import TableRecord
from reverie.checkpoint.reverb_files.tfrecord import read_records
from reverie.proto import schema


def _signed() -> array[int]:
    return array("q")


def _unsigned() -> array[int]:
    return array("Q")


@dataclasses.dataclass(slots=True)
class Items:
    """The items of one table while they are read, and their slices, flat.

    Attributes:
        path: The file they are in.
        record: Record of each item.
        byte: Where that record starts.
        keys: Key of each item.
        priorities: Priority of each item.
        times_sampled: Samples of each item.
        squeezed: Flags of the items that have squeezed columns.
        num_columns: Columns of each item.
        slice_item: Item of each slice.
        slice_column: Column of each slice.
        slice_chunk: Key of the chunk that each slice is of.
        slice_index: Which of the chunk's columns it is of.
        slice_offset: First row of each slice.
        slice_length: Rows of each slice.
    """

    path: Path
    record: array[int] = dataclasses.field(default_factory=_signed)
    byte: array[int] = dataclasses.field(default_factory=_signed)
    keys: array[int] = dataclasses.field(default_factory=_unsigned)
    priorities: array[float] = dataclasses.field(default_factory=lambda: array("d"))
    times_sampled: array[int] = dataclasses.field(default_factory=_signed)
    squeezed: dict[int, tuple[bool, ...]] = dataclasses.field(default_factory=dict)
    num_columns: array[int] = dataclasses.field(default_factory=_signed)
    slice_item: array[int] = dataclasses.field(default_factory=_signed)
    slice_column: array[int] = dataclasses.field(default_factory=_signed)
    slice_chunk: array[int] = dataclasses.field(default_factory=_unsigned)
    slice_index: array[int] = dataclasses.field(default_factory=_signed)
    slice_offset: array[int] = dataclasses.field(default_factory=_signed)
    slice_length: array[int] = dataclasses.field(default_factory=_signed)

    def place(self, item: int) -> Place:
        """Where an item's record is."""
        return Place(self.path, self.record[item], self.byte[item])

    def add(self, message: Any, place: Place, table: TableRecord) -> None:
        """Appends an item.

        Args:
            message: A `PrioritizedItem`.
            place: Where its record is.
            table: The table it belongs to.

        Raises:
            CheckpointCorruptError: A value that Reverb would not have written.
            CheckpointMismatchError: An item as old releases of Reverb wrote them.
        """
        if message.deprecated_chunk_keys or message.HasField("deprecated_sequence_range"):
            raise errors.CheckpointMismatchError(
                f"{place}: an item as old releases of Reverb wrote them. Load the checkpoint "
                "with dm-reverb 0.14 and save it again."
            )
        priority = message.priority
        if math.isnan(priority) or (
            table.settings.prioritized and not 0 <= priority < math.inf
        ):
            raise place.corrupt(f"a priority of {priority} in table {shown(message.table)}")
        if message.times_sampled < 0:
            raise place.corrupt(f"an item sampled {message.times_sampled} times")
        item = len(self.keys)
        self.record.append(place.record)
        self.byte.append(place.offset)
        self.keys.append(message.key)
        self.priorities.append(priority)
        self.times_sampled.append(message.times_sampled)
        self._add_columns(item, message.flat_trajectory.columns, place)

    def _add_columns(self, item: int, columns: Any, place: Place) -> None:
        if not columns:
            raise place.corrupt("an item without columns")
        self.num_columns.append(len(columns))
        squeezed = tuple(column.squeeze for column in columns)
        if any(squeezed):
            self.squeezed[item] = squeezed
        for number, column in enumerate(columns):
            steps = 0
            for piece in column.chunk_slices:
                length = piece.length
                if length < 1 or piece.offset < 0 or piece.index < 0:
                    raise place.corrupt(f"column {number} with a slice of {length} steps")
                steps += length
                self.slice_item.append(item)
                self.slice_column.append(number)
                self.slice_chunk.append(piece.chunk_key)
                self.slice_index.append(piece.index)
                self.slice_offset.append(piece.offset)
                self.slice_length.append(length)
            if not steps or (column.squeeze and steps != 1):
                raise place.corrupt(
                    f"column {number} of {steps} steps, squeezed: {column.squeeze}"
                )


def read_items(path: Path, tables: dict[str, TableRecord], budget: Budget) -> dict[str, Items]:
    """Reads all items.

    Args:
        path: The file.
        tables: All tables of the checkpoint.
        budget: Pays for the inflated bytes.

    Returns:
        The items of every table, in the order of the file, which is that of their
        insertion.

    Raises:
        CheckpointCorruptError: An item of no table, two items of one key, or not
            as many items as a table's counters say.
        CheckpointMismatchError: See `Items.add`.
        CheckpointLimitError: The budget is used up.
    """
    items = {name: Items(path) for name in tables}
    seen: set[int] = set()
    for place, payload in read_records(path, budget):
        message = schema.parse("PrioritizedItem", payload, place.corrupt)
        name = message.table
        if name not in tables:
            raise place.corrupt(f"an item of table {shown(name)}, which does not exist")
        if message.key in seen:
            raise place.corrupt(f"a second item of key {message.key}")
        seen.add(message.key)
        items[name].add(message, place, tables[name])
    for name, table in tables.items():
        if len(items[name].keys) != table.num_items:
            raise table.place.corrupt(
                f"table {shown(name)} had {table.num_items} items by its counters, but "
                f"{path.name} holds {len(items[name].keys)} of it"
            )
    return items
