"""Loading: which checkpoint of a folder, and into which tables.

Whatever is filled is fresh and private: on any error it is dropped, and what the
caller has is as it was.
"""

from __future__ import annotations

import errno
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from reverie import _core
from reverie.checkpoint.disk.crc_file import reading
from reverie.checkpoint.disk.files import FILE_SYSTEM
from reverie.checkpoint.disk.scratch import blocks
from reverie.checkpoint.fits import (
    check_columns,
    check_has,
    check_room,
    check_windows,
    misfits,
)
from reverie.checkpoint.folder.place import is_folder
from reverie.checkpoint.format.snapshot import Progress
from reverie.checkpoint.source import Source, candidates, open_source
from reverie.errors import (
    CheckpointCorruptError,
    CheckpointLimitError,
    CheckpointMismatchError,
    CheckpointNotFoundError,
    CheckpointReadError,
)
from reverie.nests.nest import Nest
from reverie.runtime.turns import short_turns
from reverie.tables.settings import TableSettings
from reverie.tables.store import Store
from reverie.tables.table import Table

T = TypeVar("T")

_LOOKS = 20
"""How often a reader looks again for what a saver removes before its eyes."""

_NEAR = 100
"""How many folders are looked into for advice."""


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
        load: called once per try; see `first_whole`.
        on_corrupt: "raise", or "fallback" to try older checkpoints, with a warning for
            each damaged one.
        progress: called with bytes read and in all, where the source can tell.
        max_nbytes: see `open_source`.

    Raises:
        CheckpointNotFoundError: there is none; a damaged one is never "none".
        CheckpointCorruptError: it is damaged, or, with "fallback", all are.
        CheckpointError: whatever else `open_source` and `load` raise.
    """

    def look() -> list[Path]:
        found = candidates(root)
        if found:
            return found
        raise CheckpointNotFoundError(
            f"No complete checkpoint in {str(root)!r}: wanted a folder ckpt-<number> written "
            "by save(), or a Reverb checkpoint with its DONE file. To start with an empty "
            f"buffer, call a manager's create_replay_buffer().{hint(root)}"
        )

    return first_whole(
        look,
        lambda path: load(open_source(path, progress=progress, max_nbytes=max_nbytes)),
        on_corrupt=on_corrupt,
    )


def first_whole(
    look: Callable[[], Sequence[Path]], load: Callable[[Path], T], *, on_corrupt: str = "raise"
) -> T:
    """What `load` makes of the newest checkpoint, beside savers, too.

    A save removes what has become too old, perhaps while it is read here, and then it
    seems to be missing or damaged. So before such an error counts, the folder is looked
    at again: where another checkpoint is the newest by now, that one is tried.

    Args:
        look: the checkpoints, newest first, at least one; raises where there is none.
        load: called once per try, with fresh tables to fill each time.
        on_corrupt: see `load_newest`.

    Raises:
        CheckpointReadError: each of many was removed while it was read.
        CheckpointError: whatever else `look` and `load` raise.
    """
    found = look()
    for _ in range(_LOOKS):
        for path in found:
            try:
                with short_turns.wanted():
                    return load(path)
            except (
                CheckpointNotFoundError,
                CheckpointCorruptError,
                CheckpointReadError,
            ) as error:
                again = look()
                if again[0] != found[0]:
                    found = again
                    break
                damaged = isinstance(error, CheckpointCorruptError)
                if not damaged or on_corrupt != "fallback" or path == found[-1]:
                    raise
                warnings.warn(
                    f"Skipped a damaged checkpoint, trying an older one: {error}", stacklevel=5
                )
    raise CheckpointReadError(
        errno.EBUSY,
        f"{str(found[0].parent)[:200]!r}: each of {_LOOKS} checkpoints was removed by a save "
        "while it was read. Keep more of them (max_to_keep), or load while nothing is saved",
    )


def hint(root: Path) -> str:
    """Which folder was perhaps meant, where `root` holds no checkpoint; "" if none is near.

    Looks at the parent and at the folders in `root`. It is advice: where the system
    refuses to tell, there is none.
    """
    try:
        inside = sorted(path for path in root.iterdir() if is_folder(path))
    except OSError:
        inside = []
    for near in (root.parent, *inside[:_NEAR]):
        try:
            if any(path != near for path in candidates(near)):
                return f" {str(near)!r:.200} holds some: pass that."
        except (CheckpointReadError, CheckpointCorruptError):
            continue
    return ""


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
        with reading(FILE_SYSTEM, source.path):
            for name, state in states.items():
                left -= tables[name].core.restore(state, left)
            store.core.seal_restore()
    except _core.TooManyReferences as error:
        raise CheckpointLimitError(
            f"{str(source.path)!r}: the items of its tables reach over chunks more often than "
            f"{source.max_references} times, the limit for its size: loading and dropping "
            "them would take very long. If you trust it, raise max_nbytes."
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
    on_misfit: str,
) -> Table:
    """One table of a checkpoint as the caller configures it; the others come along.

    The table of the same name is taken; of what dm-reverb wrote, where names are its own,
    else the only one.

    Args:
        source: the checkpoint.
        store: a fresh one.
        settings: of the table.
        nest: of its steps.
        seed: of its sampler.
        on_misfit: what becomes of items of another length, see `misfits`. Left out is what
            was loaded before, so all of them must fit the capacity.

    Raises:
        CheckpointMismatchError: there is no such table, its items are not of these
            steps or of another sequence_length, or more than fit.
        CheckpointError: see `fill`.
    """
    name = settings.name
    names = list(source.settings)
    taken = name if name in names or not (source.foreign and len(names) == 1) else names[0]
    check_has(source.path, names, taken, "table_name")
    windows = source.settings[taken].sequence_length
    if source.settings[taken].roles is not None:
        raise CheckpointMismatchError(
            f"{str(source.path)!r}: table {taken[:200]!r} holds the steps of a ReplayBuffer, "
            "wanted the windows of a manager. Open it with reverie.open(path)."
        )
    if on_misfit != "leave_out":
        check_windows(source.path, taken, windows, settings)
    for columns in source.columns(taken):
        found = [(column.path, column.spec.dtype, column.spec.shape) for column in columns]
        check_columns(source.path, taken, found, nest)
    tables = {other: Table(of) for other, of in source.settings.items()}
    table = tables[taken] = Table(settings, nest=nest, seed=seed)
    for one in tables.values():
        one.attach(store)
    fill(source, store, tables, rows={taken: nest})
    _check_items(source, table, nest)
    if on_misfit == "leave_out" or windows is None:
        items = table.core.items()
        odd = misfits(
            source.path, taken, _steps(items), settings, on_misfit=on_misfit, stacklevel=8
        )
        table.core.delete(items["key"][odd])
    return table


def _steps(items: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """Of each item of the core's; -1 where its columns differ or one has no time axis."""
    steps = items["length"].astype(np.int64)
    first = np.cumsum(items["column_pieces"], dtype=np.int64) - items["column_pieces"]
    if len(first):
        columns = np.add.reduceat(items["piece_length"], first, dtype=np.int64)
        columns[items["column_squeeze"] != 0] = -1
        of = items["column_item"].astype(np.int64)
        steps[of] = columns
        steps[of[columns != steps[of]]] = -1
    return steps


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
