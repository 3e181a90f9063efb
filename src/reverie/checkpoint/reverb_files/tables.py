"""The records of `tables.tfrecord`: settings, counters and signatures of tables."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reverie import errors
from reverie.checkpoint.reverb_files import tensors
from reverie.checkpoint.reverb_files.model import (
    ReverbRateLimiter,
    ReverbSelector,
    SignatureLeaf,
)
from reverie.checkpoint.reverb_files.places import Budget, Place, shown
from reverie.checkpoint.reverb_files.tfrecord import ReadProgress, read_records
from reverie.proto import schema

_MAX_DEPTH = 32


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """A table's record; the fields are those of `ReverbTable`.

    Attributes:
        place: Where the record is.
        signature: As the reader was told to make it: leaves, or a whole nest.
    """

    place: Place
    name: str
    max_size: int
    max_times_sampled: int
    sampler: ReverbSelector
    remover: ReverbSelector
    rate_limiter: ReverbRateLimiter
    num_deleted_episodes: int
    num_unique_samples: int
    signature: Any

    @property
    def num_items(self) -> int:
        """Items the table held: its counters say so."""
        return self.rate_limiter.insert_count - self.rate_limiter.delete_count

    @property
    def prioritized(self) -> bool:
        """Whether a selector needs priorities that are finite and not negative."""
        return "prioritized" in (self.sampler.kind, self.remover.kind)

    def column_name(self, column: int, num_columns: int) -> str:
        """A column's name for messages: its path, where the signature has one."""
        named = self.signature is not None and len(self.signature) == num_columns
        path = f" ({shown(self.signature[column][0])})" if named and self.signature else ""
        return f"column {column}{path} of table {shown(self.name)}"


ReadSignature = Callable[[Any, Place], Any]
"""Makes something of a `StructuredValue` message that was found at a place."""


def read_tables(
    path: Path,
    budget: Budget,
    progress: ReadProgress,
    *,
    read_signature: ReadSignature | None = None,
) -> dict[str, Settings]:
    """Reads all tables.

    Args:
        path: The file.
        budget: Pays for the inflated bytes.
        progress: Called with (bytes read, size of the file).
        read_signature: Makes `Settings.signature`; None makes the list of leaves.

    Returns:
        Settings by table name, in the order of the file.

    Raises:
        CheckpointCorruptError: No table, two of one name, or a setting that
            Reverb would not have accepted.
        CheckpointMismatchError: A signature with texts, or items inside a
            table's record, where only old releases of Reverb put them.
        CheckpointLimitError: The budget is used up.
    """
    tables: dict[str, Settings] = {}
    for place, payload in read_records(path, budget, progress=progress):
        message = schema.parse("Table", payload, place)
        table = _settings(message, place, read_signature or _signature)
        if table.name in tables:
            raise place.corrupt(f"a second table named {shown(table.name)}")
        tables[table.name] = table
    if not tables:
        raise Place(path, 0, 0).corrupt("no table, and Reverb saves at least one")
    return tables


def _settings(message: Any, place: Place, read_signature: ReadSignature) -> Settings:
    if message.deprecated_items:
        raise errors.CheckpointMismatchError(
            f"{place}: items inside a table's record, as old releases of Reverb wrote them. "
            "Load the checkpoint with dm-reverb 0.14 and save it again."
        )
    table = Settings(
        place=place,
        name=schema.text(message.table_name, place),
        max_size=message.max_size,
        max_times_sampled=message.max_times_sampled,
        sampler=_selector(message.sampler, place),
        remover=_selector(message.remover, place),
        rate_limiter=_rate_limiter(message.rate_limiter, place),
        num_deleted_episodes=message.num_deleted_episodes,
        num_unique_samples=message.num_unique_samples,
        signature=read_signature(message.signature, place)
        if message.HasField("signature")
        else None,
    )
    counts = {
        "max_size": table.max_size - 1,
        "max_times_sampled": table.max_times_sampled,
        "num_deleted_episodes": table.num_deleted_episodes,
        "num_unique_samples": table.num_unique_samples,
        "items": table.num_items,
        "free places": table.max_size - table.num_items,
    }
    for name, count in counts.items():
        if count < 0:
            raise place.corrupt(f"table {shown(table.name)} with too small a number of {name}")
    if not table.name:
        raise place.corrupt("a table without a name")
    return table


def _selector(message: Any, place: Place) -> ReverbSelector:
    kinds = ("fifo", "lifo", "uniform", "prioritized", "heap")
    given = [kind for kind in kinds if message.HasField(kind)]
    if len(given) != 1:
        raise place.corrupt(f"{len(given)} kinds of selector, and one was wanted")
    if given == ["prioritized"]:
        exponent = message.prioritized.priority_exponent
        if not math.isfinite(exponent):
            raise place.corrupt(f"a priority exponent of {exponent}")
        return ReverbSelector("prioritized", exponent)
    if given == ["heap"]:
        return ReverbSelector("min_heap" if message.heap.min_heap else "max_heap")
    return ReverbSelector(given[0])  # type: ignore[arg-type]


def _rate_limiter(message: Any, place: Place) -> ReverbRateLimiter:
    limiter = ReverbRateLimiter(
        samples_per_insert=message.samples_per_insert,
        min_diff=message.min_diff,
        max_diff=message.max_diff,
        min_size_to_sample=message.min_size_to_sample,
        sample_count=message.sample_count,
        insert_count=message.insert_count,
        delete_count=message.delete_count,
    )
    counts = (limiter.min_size_to_sample, limiter.sample_count, limiter.delete_count)
    bounds = (limiter.samples_per_insert, limiter.min_diff, limiter.max_diff)
    if min(counts) < 0 or any(map(math.isnan, bounds)):
        raise place.corrupt(
            "a rate limiter with a negative counter or a bound that is no number"
        )
    return limiter


def _signature(message: Any, place: Place) -> list[SignatureLeaf]:
    leaves: list[SignatureLeaf] = []

    def visit(value: Any, path: tuple[str, ...]) -> None:
        if len(path) > _MAX_DEPTH:
            raise place.corrupt(f"a signature nested deeper than {_MAX_DEPTH} levels")
        if value.HasField("tensor_spec_value") or value.HasField("bounded_tensor_spec_value"):
            bounded = value.HasField("bounded_tensor_spec_value")
            spec = value.bounded_tensor_spec_value if bounded else value.tensor_spec_value
            name = "/".join(path)
            dtype = tensors.dtype_of(spec.dtype, f"{place}: signature leaf {shown(name)}")
            leaves.append((name, dtype, shape_of(spec.shape)))
            return
        for key, child in _children(value, place):
            visit(child, (*path, key))

    visit(message, ())
    return leaves


def _children(value: Any, place: Place) -> list[tuple[str, Any]]:
    for kind in ("list_value", "tuple_value"):
        if value.HasField(kind):
            return [(str(i), child) for i, child in enumerate(getattr(value, kind).values)]
    if value.HasField("named_tuple_value"):
        pairs = value.named_tuple_value.values
        return [(schema.text(pair.key, place), pair.value) for pair in pairs]
    if value.HasField("dict_value"):
        fields = {schema.text(pair.key, place): pair.value for pair in value.dict_value.fields}
        if len(fields) != len(value.dict_value.fields):
            raise place.corrupt("a signature with the same key twice in one dict")
        return sorted(fields.items())
    if value.HasField("none_value"):
        return []
    raise place.corrupt("a signature with something other than tensor specs in it")


def shape_of(message: Any) -> tuple[int | None, ...] | None:
    """The extents of a "Shape" message, None for an unknown one, or an unknown rank."""
    if message.unknown_rank:
        return None
    return tuple(None if dim.size < 0 else dim.size for dim in message.dim)
