"""The records of `tables.tfrecord`: settings, counters and signatures of tables."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from reverie import errors
from reverie.checkpoint.reverb_files.budget import Budget, Place, shown
from reverie.checkpoint.reverb_files.tfrecord import read_records
from reverie.nests import structure
from reverie.nests.codec import decode_signature
from reverie.proto import schema
from reverie.proto.structured_value import as_json
from reverie.tables.limiters import Limiter
from reverie.tables.selectors import ItemSelector, selector_of
from reverie.tables.settings import TableSettings


@dataclasses.dataclass(frozen=True, slots=True)
class TableRecord:
    """What a table's record says.

    Attributes:
        place: Where the record is.
        settings: As Reverb has them.
        counters: As the core's `restore` takes them.
    """

    place: Place
    settings: TableSettings
    counters: dict[str, int]

    @property
    def num_items(self) -> int:
        """Items the table held: its counters say so."""
        return self.counters["inserts"] - self.counters["deletes"]

    def column_name(self, column: int, num_columns: int) -> str:
        """A column's name for messages: its path, where the signature has one."""
        path, signature = "", self.settings.signature
        paths = [] if signature is None else structure.flatten_with_path(signature)
        if len(paths) == num_columns:
            path = f" ({shown('/'.join(map(str, paths[column][0])))})"
        return f"column {column}{path} of table {shown(self.settings.name)}"


def read_tables(path: Path, budget: Budget) -> dict[str, TableRecord]:
    """Reads all tables.

    Args:
        path: The file.
        budget: Pays for the inflated bytes.

    Returns:
        Records by table name, in the order of the file.

    Raises:
        CheckpointCorruptError: No table, two of one name, or a setting that
            Reverb would not have accepted.
        CheckpointMismatchError: A setting that cannot be had here, or items inside a
            table's record, where only old releases of Reverb put them.
        CheckpointLimitError: The budget is used up.
    """
    tables: dict[str, TableRecord] = {}
    for place, payload in read_records(path, budget):
        table = _record(schema.parse("PriorityTableCheckpoint", payload, place.corrupt), place)
        if table.settings.name in tables:
            raise place.corrupt(f"a second table named {shown(table.settings.name)}")
        tables[table.settings.name] = table
    if not tables:
        raise Place(path, 0, 0).corrupt("no table, and Reverb saves at least one")
    return tables


def _record(message: Any, place: Place) -> TableRecord:
    if message.deprecated_items:
        raise errors.CheckpointMismatchError(
            f"{place}: items inside a table's record, as old releases of Reverb wrote them. "
            "Load the checkpoint with dm-reverb 0.14 and save it again."
        )
    name, limiter = message.table_name, message.rate_limiter
    num_items = limiter.insert_count - limiter.delete_count
    counts = {
        "max_size": message.max_size - 1,
        "max_times_sampled": message.max_times_sampled,
        "num_deleted_episodes": message.num_deleted_episodes,
        "num_unique_samples": message.num_unique_samples,
        "items": num_items,
        "free places": message.max_size - num_items,
    }
    for what, count in counts.items():
        if count < 0:
            raise place.corrupt(f"table {shown(name)} with too small a number of {what}")
    if not name:
        raise place.corrupt("a table without a name")
    limits = (limiter.min_size_to_sample, limiter.sample_count, limiter.delete_count)
    bounds = (limiter.samples_per_insert, limiter.min_diff, limiter.max_diff)
    if min(limits) < 0 or any(map(math.isnan, bounds)):
        raise place.corrupt(
            "a rate limiter with a negative counter or a bound that is no number"
        )
    return TableRecord(
        place,
        _settings(message, place),
        {
            "inserts": limiter.insert_count,
            "samples": limiter.sample_count,
            "deletes": limiter.delete_count,
            "num_unique_samples": message.num_unique_samples,
            "num_deleted_episodes": message.num_deleted_episodes,
        },
    )


def _settings(message: Any, place: Place) -> TableSettings:
    sampler, remover = _selector(message.sampler, place), _selector(message.remover, place)
    limiter, signature = message.rate_limiter, None
    if message.HasField("signature"):
        signature = decode_signature(as_json(message.signature), str(place))
    try:
        return TableSettings(
            name=message.table_name,
            max_size=message.max_size,
            sampler=sampler,
            remover=remover,
            limiter=Limiter(
                samples_per_insert=limiter.samples_per_insert,
                min_size_to_sample=limiter.min_size_to_sample,
                min_diff=limiter.min_diff,
                max_diff=limiter.max_diff,
            ),
            max_times_sampled=message.max_times_sampled,
            signature=signature,
        )
    except (ValueError, TypeError, OverflowError) as error:
        raise errors.CheckpointMismatchError(
            f"{place}: table {shown(message.table_name)} has settings that cannot be had "
            f"here: {str(error)[:300]}"
        ) from error


def _selector(message: Any, place: Place) -> ItemSelector:
    kind = message.WhichOneof("distribution")
    if kind is None:
        raise place.corrupt("no kind of selector, and one was wanted")
    if kind == "heap":
        return selector_of("min_heap" if message.heap.min_heap else "max_heap")
    if kind != "prioritized":
        return selector_of(kind)
    exponent = message.prioritized.priority_exponent
    if not math.isfinite(exponent):
        raise place.corrupt(f"a priority exponent of {exponent}")
    return selector_of(kind, exponent)
