"""From the contents of a Reverb checkpoint to a table of ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reverie.checkpoint import reverb_files
from reverie.errors import CheckpointCorruptError, CheckpointMismatchError
from reverie.nests.nest import Nest
from reverie.table import ReplayTable

_CHUNK_NBYTES = 1 << 20


def fill_from_reverb(folder: Path, table: ReplayTable) -> None:
    """Fills a fresh table from a checkpoint that dm-reverb wrote.

    The table of the same name is taken, or the only one there is. Steps that
    items share are stored once. Items keep their order, priorities and sample
    counts, whatever their length; they get new keys. Capacity, sampler, remover
    and limiter stay those of `table`.

    Raises:
        CheckpointCorruptError: the checkpoint is damaged; names the file.
        CheckpointMismatchError: no such table, other columns than the spec, or
            more items than the capacity.
        MissingDependencyError: the `reverb-files` extra is not installed.
    """
    found = reverb_files.read_checkpoint(folder)
    source = _choose(found, table.name, folder)
    if len(source) > table.capacity:
        raise CheckpointMismatchError(
            f"{str(folder)!r}: table {source.name!r} holds {len(source)} items, but the "
            f"capacity is {table.capacity}. Use a larger capacity."
        )
    state = _empty_state(table)
    if len(source):
        order = reverb_order(table.nest)
        _check_columns(source, table.nest, order, folder)
        chunk_of_step = _store_runs(source, table, order)
        _item_state(state, source, chunk_of_step, order)
    try:
        table.core.restore(state)
        table.store.seal_restore()
    except ValueError as error:
        raise CheckpointCorruptError(
            f"{str(folder)!r}: table {source.name!r}: the core refused its items: {error}"
        ) from error


def reverb_order(nest: Nest) -> list[int]:
    """For each of Reverb's columns, which of ours it is.

    Reverb flattens with dm-tree, which sorts the keys of every mapping; optree
    keeps the insertion order of an OrderedDict.
    """

    def walk(node: Any) -> list[int]:
        if isinstance(node, int):
            return [node]
        if isinstance(node, Mapping):
            return [leaf for key in _sorted(node) for leaf in walk(node[key])]
        return [leaf for child in node or () for leaf in walk(child)]  # None has no leaf

    return walk(nest.unflatten(range(len(nest.columns))))


def _sorted(keys: Iterable[Any]) -> list[Any]:
    try:
        return sorted(keys)
    except TypeError:  # dm-tree refuses these, too: no checkpoint of Reverb's has them
        return list(keys)


def _choose(
    found: list[reverb_files.ReverbTable], name: str, folder: Path
) -> reverb_files.ReverbTable:
    for candidate in found:
        if candidate.name == name:
            return candidate
    if len(found) == 1:
        return found[0]
    names = [candidate.name for candidate in found]
    raise CheckpointMismatchError(
        f"{str(folder)!r}: found the tables {names!r:.200}, wanted {name!r}. Pass the one you "
        "want as table_name=."
    )


def _check_columns(
    source: reverb_files.ReverbTable, nest: Nest, order: list[int], folder: Path
) -> None:
    where = f"{str(folder)!r}: table {source.name!r}"
    if len(source.columns) != len(order):
        raise CheckpointMismatchError(
            f"{where}: found {len(source.columns)} columns, the data spec has {len(order)}: "
            f"{[column.path for column in nest.columns]!r:.200}."
        )
    for (dtype, shape), index in zip(source.columns, order, strict=True):
        column = nest.columns[index]
        if (dtype, shape) != (column.spec.dtype, column.spec.shape):
            raise CheckpointMismatchError(
                f"{where}: column {column.path!r}: found {dtype} of shape {shape}, the data "
                f"spec wants {column.spec.dtype} of shape {column.spec.shape}. Load it with "
                "the spec it was written with."
            )


def _store_runs(
    source: reverb_files.ReverbTable, table: ReplayTable, order: list[int]
) -> list[tuple[int, int]]:
    """Copies the runs into chunks; returns each run's first chunk id and chunk length.

    Runs are cut so that evicting their first items can free memory.
    """
    capacity = max(1, _CHUNK_NBYTES // table.layout.record_nbytes)
    first_chunks = []
    chunk_id = 0
    for run in source.runs:
        steps = len(run[0])
        first_chunks.append((chunk_id + 1, capacity))
        for start in range(0, steps, capacity):
            count = min(capacity, steps - start)
            chunk_id += 1
            raw = table.store.restore_chunk(table.layout, chunk_id, count)
            records = raw.view(table.nest.record_dtype)[:, 0]
            for values, index in zip(run, order, strict=True):
                records[table.nest.columns[index].path] = values[start : start + count]
            if start:
                table.store.link_chunk(chunk_id - 1, chunk_id)
    return first_chunks


def _empty_state(table: ReplayTable) -> dict[str, Any]:
    names = {
        "chunk": np.uint64,
        "offset": np.uint32,
        "length": np.uint32,
        "priority": np.float64,
        "times_sampled": np.int32,
        "span_item": np.uint64,
        "span_column": np.uint32,
        "span_start": np.uint32,
        "span_length": np.uint32,
        "free_keys": np.uint64,
    }
    state: dict[str, Any] = {name: np.zeros(0, dtype) for name, dtype in names.items()}
    state["key"] = None  # fresh ones: Reverb's random keys cannot be looked up in O(1)
    state["counters"] = {"inserts": 0, "samples": 0, "deletes": 0}
    state["rng_state"] = np.random.SeedSequence(table.seed).generate_state(4, np.uint64)
    return state


def _item_state(
    state: dict[str, Any],
    source: reverb_files.ReverbTable,
    first_chunks: list[tuple[int, int]],
    order: list[int],
) -> None:
    firsts = np.array(first_chunks, np.int64)[source.run]
    state["chunk"] = (firsts[:, 0] + source.start // firsts[:, 1]).astype(np.uint64)
    state["offset"] = (source.start % firsts[:, 1]).astype(np.uint32)
    state["length"] = source.length.astype(np.uint32)
    state["priority"] = np.ascontiguousarray(source.priorities, np.float64)
    state["times_sampled"] = source.times_sampled.astype(np.int32)
    spans = [
        (item, order[column], start, length)
        for item, columns in sorted(source.spans.items())
        for column, (start, length) in enumerate(columns)
    ]
    for position, name in enumerate(("span_item", "span_column", "span_start", "span_length")):
        state[name] = np.array([span[position] for span in spans], state[name].dtype)
    # The limiter's arithmetic needs inserts - deletes to be the size.
    inserts = max(source.rate_limiter.insert_count, len(source))
    state["counters"] = {
        "inserts": inserts,
        "samples": max(source.rate_limiter.sample_count, 0),
        "deletes": inserts - len(source),
    }
