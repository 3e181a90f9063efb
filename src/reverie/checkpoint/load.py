"""Loading: which checkpoint of a folder, and into which tables.

Whatever is filled is fresh and private: on any error it is dropped, and what the
caller has is as it was.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from reverie import _core
from reverie.checkpoint.disk.scratch import blocks
from reverie.checkpoint.fits import check_columns, check_has, check_room, check_windows
from reverie.checkpoint.format.snapshot import Progress
from reverie.checkpoint.source import Source, candidates, open_source
from reverie.errors import (
    CheckpointCorruptError,
    CheckpointLimitError,
    CheckpointMismatchError,
    CheckpointNotFoundError,
)
from reverie.nests.nest import Nest
from reverie.tables.settings import TableSettings
from reverie.tables.store import Store
from reverie.tables.table import Table

T = TypeVar("T")


def load_newest(
    root: Path,
    load: Callable[[Source], T],
    *,
    on_corrupt: str = "raise",
    progress: Progress | None = None,
    max_nbytes: int | None = None,
) -> T:
    """What `load` makes of the newest complete checkpoint of `root`.

    A native checkpoint comes before any of Reverb's, whose names are wall-clock text and
    cannot be compared with ours.

    Args:
        root: the folder of checkpoints, or a checkpoint's own folder.
        load: called once per try.
        on_corrupt: "raise", or "fallback" to try older checkpoints, with a warning for
            each damaged one.
        progress: called with bytes read and in all, where the source can tell.
        max_nbytes: see `open_source`.

    Raises:
        CheckpointNotFoundError: there is none; a damaged one is never "none".
        CheckpointCorruptError: it is damaged, or, with "fallback", all are.
        CheckpointError: whatever else `open_source` and `load` raise.
    """
    found = candidates(root)
    if not found:
        raise CheckpointNotFoundError(
            f"No complete checkpoint in {str(root)!r}: wanted a folder ckpt-<number> written "
            "by save(), or a Reverb checkpoint with its DONE file. To start with an empty "
            "buffer, call a manager's create_replay_buffer()."
        )
    for path in found:
        try:
            return load(open_source(path, progress=progress, max_nbytes=max_nbytes))
        except CheckpointCorruptError as error:
            if on_corrupt != "fallback" or path == found[-1]:
                raise
            warnings.warn(
                f"Skipped a damaged checkpoint, trying an older one: {error}", stacklevel=4
            )
    raise AssertionError("unreachable")


def fill(
    source: Source,
    store: Store,
    tables: Mapping[str, Table],
    *,
    rows: Mapping[str, Nest] | None = None,
) -> None:
    """Fills fresh tables of a fresh store with all tables of a checkpoint.

    Args:
        source: the checkpoint.
        store: to which `tables` were attached, their cores not made yet.
        tables: by the names of the checkpoint's, none of which may be missing; those
            that it does not have stay empty.
        rows: see `Source.read`.

    Raises:
        CheckpointMismatchError: a table holds more items than fit, or priorities that its
            selectors cannot draw by.
        CheckpointCorruptError: a file or a value is not as it must be.
        CheckpointLimitError: its items refer to chunks too often, or need more memory
            than there is.
        CheckpointError: as `Source.read`.
    """
    rows = rows or {}
    for name in source.settings:
        nest = rows[name] if name in rows else source.nest(name)
        if nest is not None:
            store.know(nest)
    states = source.read(store.core, rows)
    for name, state in states.items():
        settings = tables[name].settings
        check_room(source.path, name, len(state["offset"]), settings.max_size)
        weights = settings.prioritized
        if weights and not _can_weigh(state["priority"]):
            raise CheckpointMismatchError(
                f"{str(source.path)!r}: table {name[:200]!r} holds negative or infinite "
                "priorities, which nothing is drawn by. Use another sampler and remover."
            )
    left = source.max_references
    try:
        for name, state in states.items():
            left -= tables[name].core.restore(state, left)
        store.core.seal_restore()
    except _core.TooManyReferences as error:
        raise CheckpointLimitError(
            f"{str(source.path)!r}: the items of its tables reach over chunks more often than "
            f"{source.max_references} times, the limit for its size: loading and dropping "
            "them would take very long. If you trust it, raise max_nbytes."
        ) from error
    except MemoryError as error:
        raise CheckpointLimitError(
            f"{str(source.path)!r} needs more memory than this process can have. Load it where "
            "there is more."
        ) from error
    except ValueError as error:
        raise CheckpointCorruptError(
            f"{str(source.path)!r}: the core refused what the files hold: {str(error)[:200]}"
        ) from error


def load_table(
    source: Source,
    store: Store,
    settings: TableSettings,
    nest: Nest,
    *,
    seed: int,
) -> Table:
    """One table of a checkpoint as the caller configures it; the others come along.

    The table of the same name is taken; of what dm-reverb wrote, where names are its own,
    else the only one.

    Raises:
        CheckpointMismatchError: there is no such table, its items are not of these
            steps or of another sequence_length, or more than fit.
        CheckpointError: see `fill`.
    """
    name = settings.name
    names = list(source.settings)
    taken = name if name in names or not (source.foreign and len(names) == 1) else names[0]
    check_has(source.path, names, taken, "table_name")
    check_windows(source.path, taken, source.settings[taken].sequence_length, settings)
    for columns in source.columns(taken):
        found = [(column.path, column.spec.dtype, column.spec.shape) for column in columns]
        check_columns(source.path, taken, found, nest)
    tables = {other: Table(of) for other, of in source.settings.items()}
    table = tables[taken] = Table(settings, nest=nest, seed=seed)
    for one in tables.values():
        one.attach(store)
    fill(source, store, tables, rows={taken: nest})
    _check_items(source, table, nest)
    return table


def _can_weigh(priorities: NDArray[np.float64]) -> bool:
    """Whether all are numbers that something can be drawn in proportion to."""
    parts = (priorities[low:high] for low, high in blocks(len(priorities)))
    return all(((part >= 0) & (part < np.inf)).all() for part in parts)


def _check_items(source: Source, table: Table, nest: Nest) -> None:
    """Refuses trajectories whose columns are not those of the data spec."""
    columns = table.core.describe()
    if columns is None:
        return
    found = [(dtype, shape) for dtype, shape, _ in columns]
    if found != nest.types:
        raise CheckpointMismatchError(
            f"{str(source.path)!r}: the items of table {table.name!r} have columns of "
            f"{found!r:.300}, and not those of the data spec, {nest.columns!r:.300}. Load it "
            "with reverie.open(), or with Server(..., checkpointer=DefaultCheckpointer(path))."
        )
