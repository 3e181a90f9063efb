"""Finds Reverb checkpoints, and reads them into tables of NumPy arrays."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from reverie import errors
from reverie.checkpoint.reverb_files import deps, tensors
from reverie.checkpoint.reverb_files.chunks import Chunks, read_chunks
from reverie.checkpoint.reverb_files.items import Items, read_items
from reverie.checkpoint.reverb_files.layout import Layout, Pieces, Slices, arrange
from reverie.checkpoint.reverb_files.model import Array, Column, ReverbTable
from reverie.checkpoint.reverb_files.places import Budget, shown, shown_path
from reverie.checkpoint.reverb_files.tables import Settings, read_tables
from reverie.checkpoint.reverb_files.tfrecord import ReadProgress

_TABLES, _ITEMS, _CHUNKS = "tables.tfrecord", "items.tfrecord", "chunks.tfrecord"
_DONE = "DONE"

Progress = Callable[[str, int, int], None]


def find_newest(root: Path) -> Path | None:
    """Finds the checkpoint that Reverb itself would load from a folder.

    A checkpoint is a folder with a file DONE, which Reverb writes last, and at
    least one of Reverb's files. The newest is the last by name, as for Reverb,
    which names folders by the time of day. Whatever else is in `root` is ignored.
    Only names are looked at; nothing is opened, and nothing is ever changed.

    Args:
        root: The checkpointer's folder, or a checkpoint's own folder.

    Returns:
        The newest complete checkpoint directly in `root`; `root` itself if it is a
        checkpoint; None if there is none, or no such folder.

    Raises:
        OSError: The folder cannot be listed.
    """
    if not root.is_dir():
        return None
    if (root / _DONE).is_file() and (root / _TABLES).exists():
        return root
    complete = [child for child in root.iterdir() if _is_complete(child)]
    return max(complete, key=lambda folder: folder.name, default=None)


def _is_complete(folder: Path) -> bool:
    names = (_TABLES, _ITEMS, _CHUNKS)
    return (folder / _DONE).is_file() and any((folder / name).exists() for name in names)


def read_checkpoint(
    folder: Path,
    *,
    table_names: Collection[str] | None = None,
    max_nbytes: int = 64 << 30,
    progress: Progress | None = None,
) -> list[ReverbTable]:
    """Reads a checkpoint that dm-reverb wrote, without Reverb or TensorFlow.

    All of it is checked before anything is returned: the ends and checksums of the
    files, the records, that every item's chunks are there and hold its steps, and
    that every table has as many items as it counted. Nothing in the files is
    executed, and nothing but the three files is opened.

    Args:
        folder: A checkpoint's folder, see `find_newest`.
        table_names: The tables to return; None means all. The others are checked,
            but their steps are not unpacked.
        max_nbytes: Limit of the inflated bytes of the files and the bytes of the
            returned steps, together.
        progress: Called now and then with (stage, done, total). Stages are the
            names of the files, counted in bytes, then "steps", counted in copies.

    Returns:
        The tables in the order of the file. Peak memory is about the size of the
        returned steps plus that of the packed chunks.

    Raises:
        CheckpointNotFoundError: The folder is no complete Reverb checkpoint.
        CheckpointCorruptError: It is damaged; the message names the file, the
            record and the byte.
        CheckpointMismatchError: It is sound, but a table that was asked for is not
            in it, the items of a table have different columns, a column holds
            texts, or it is of a release of Reverb before 0.14.
        CheckpointLimitError: It needs more than `max_nbytes`.
        MissingDependencyError: The `reverb-files` extra is not installed.
        OSError: A file cannot be read.
    """
    deps.load()
    if not (folder / _DONE).is_file():
        raise errors.CheckpointNotFoundError(
            f"{shown_path(folder)} is no complete Reverb checkpoint: it has no file {_DONE}"
        )
    budget = Budget(max_nbytes)
    tables = read_tables(folder / _TABLES, budget, _stage(progress, _TABLES))
    unknown = sorted(set(table_names or ()) - set(tables))
    if unknown:
        raise errors.CheckpointMismatchError(
            f"{shown_path(folder)} has no table {shown(unknown[0])}; it has "
            f"{shown(list(tables))}"
        )
    items = read_items(folder / _ITEMS, tables, budget, _stage(progress, _ITEMS))
    chunks = read_chunks(folder / _CHUNKS, budget, _stage(progress, _CHUNKS))
    slices = {name: chunks.resolve(of) for name, of in items.items() if of.keys}
    try:
        return [
            _table(table, items[name], slices.get(name), chunks, budget, progress)
            for name, table in tables.items()
            if table_names is None or name in table_names
        ]
    except MemoryError as error:
        raise errors.CheckpointLimitError(
            f"{shown_path(folder)} needs more memory than this process can have"
        ) from error


def _stage(progress: Progress | None, stage: str) -> ReadProgress:
    def report(done: int, total: int) -> None:
        if progress is not None:
            progress(stage, done, total)

    return report


def _table(
    settings: Settings,
    items: Items,
    slices: Slices | None,
    chunks: Chunks,
    budget: Budget,
    progress: Progress | None,
) -> ReverbTable:
    columns: list[Column] = []
    runs: list[list[Array]] = []
    spans: dict[int, list[tuple[int, int]]] = {}
    run = start = length = np.empty(0, np.int64)
    if slices is not None:
        columns = _columns(settings, items, slices, chunks)
        layout = arrange(slices, len(items.keys), items.num_columns)
        run, start, length = layout.run, layout.start, layout.length
        steps = _steps(settings, columns, layout, chunks, budget, progress)
        edges = layout.run_base.tolist()
        runs = [
            [column[low:high] for column in steps] for low, high in itertools.pairwise(edges)
        ]
        spans = _spans(layout)
    return ReverbTable(
        name=settings.name,
        max_size=settings.max_size,
        max_times_sampled=settings.max_times_sampled,
        sampler=settings.sampler,
        remover=settings.remover,
        rate_limiter=settings.rate_limiter,
        num_deleted_episodes=settings.num_deleted_episodes,
        num_unique_samples=settings.num_unique_samples,
        signature=settings.signature,
        columns=columns,
        runs=runs,
        keys=np.array(items.keys, np.uint64),
        run=run,
        start=start,
        length=length,
        priorities=np.array(items.priorities, np.float64),
        times_sampled=np.array(items.times_sampled, np.int64),
        spans=spans,
        squeezed=items.squeezed,
    )


def _columns(settings: Settings, items: Items, slices: Slices, chunks: Chunks) -> list[Column]:
    """The dtype and step shape of each column, the same in all items."""
    kinds = chunks.tensor_type[slices.tensor]
    # The first item has every column, so its slices are the first of each column.
    first = np.unique(slices.column, return_index=True)[1]
    columns: list[Column] = []
    for column, at in enumerate(first):
        tensor = chunks.tensors[slices.tensor[at]]
        what = settings.column_name(column, len(first))
        columns.append((tensors.dtype_of(tensor.code, what), tensor.step_shape))
    odd = np.flatnonzero(kinds != kinds[first][slices.column])
    if len(odd):
        column, other = int(slices.column[odd[0]]), chunks.tensors[slices.tensor[odd[0]]]
        raise errors.CheckpointMismatchError(
            f"{items.place(int(slices.item[odd[0]]))}: "
            f"{settings.column_name(column, len(first))} has steps of "
            f"{tensors.type_name(other.code)} {other.step_shape}, and of {columns[column][0]} "
            f"{columns[column][1]} in the items before. Steps of different kinds cannot share "
            "a table here; write them to tables of their own."
        )
    return columns


def _steps(
    settings: Settings,
    columns: list[Column],
    layout: Layout,
    chunks: Chunks,
    budget: Budget,
    progress: Progress | None,
) -> list[Array]:
    """One array for each column, with the steps of all runs one after another."""
    rows = int(layout.run_base[-1])
    steps: list[Array] = []
    for dtype, shape in columns:
        nbytes = rows * int(np.prod(shape, dtype=object)) * dtype.itemsize
        budget.take(nbytes, f"Table {shown(settings.name)}")
        steps.append(np.zeros((rows, *shape), dtype))
    _copy(layout.pieces, chunks, steps, _stage(progress, "steps"))
    return steps


def _copy(pieces: Pieces, chunks: Chunks, steps: list[Array], report: ReadProgress) -> None:
    numbers = (pieces.column, pieces.tensor, pieces.offset, pieces.target, pieces.length)
    total = len(pieces.tensor)
    unpacked, rows = -1, np.empty(0)
    for done, (column, tensor, offset, target, length) in enumerate(
        zip(*(values.tolist() for values in numbers), strict=True)
    ):
        if tensor != unpacked:
            chunk = int(chunks.tensor_chunk[tensor])
            rows = tensors.unpack(
                chunks.tensors[tensor],
                delta_encoded=bool(chunks.delta_encoded[chunk]),
                place=chunks.places[chunk],
            )
            unpacked = tensor
        steps[column][target : target + length] = rows[offset : offset + length]
        if done % 1024 == 0:
            report(done, total)
    report(total, total)


def _spans(layout: Layout) -> dict[int, list[tuple[int, int]]]:
    uneven = (layout.column_start != 0) | (layout.column_length != layout.length[:, None])
    return {
        item: list(
            zip(
                layout.column_start[item].tolist(),
                layout.column_length[item].tolist(),
                strict=True,
            )
        )
        for item in np.flatnonzero(uneven.any(axis=1)).tolist()
    }
