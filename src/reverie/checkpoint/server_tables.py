"""Checkpoints of a server: all its tables at one point in time, saved and loaded.

What is saved is the native format. What is loaded may be that, or a checkpoint
that dm-reverb wrote. A load reads and checks everything before it touches a
table; where it fails the tables are as they were.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reverie.checkpoint.disk.crc_file import reading
from reverie.checkpoint.disk.files import FILE_SYSTEM
from reverie.checkpoint.folder import names
from reverie.checkpoint.native import write_checkpoint
from reverie.checkpoint.record_columns import as_cells
from reverie.checkpoint.server_settings import (
    ServerTableLike,
    current,
    names_of,
    settings_of,
)
from reverie.checkpoint.server_source import Source, native_source, reverb_source
from reverie.errors import (
    CheckpointCorruptError,
    CheckpointMismatchError,
    InvalidArgumentError,
)
from reverie.nests.codec import encode_signature

_log = logging.getLogger("reverie.checkpoint")
_KEPT = 1  # as Reverb's server


def save(tables: Sequence[ServerTableLike], path: str | os.PathLike[str]) -> str:
    """Saves a server's tables as the next checkpoint in the folder `path`, durable.

    One consistent point in time of all of them; items that still wait for a limiter
    are not in it. Cells that several items or tables share are written once. Older
    native checkpoints in the folder are then removed, as Reverb's server does;
    everything else stays. Thread-safe: saves into one folder take turns, and adding
    and sampling go on.

    Args:
        tables: all tables of one server, in any order.
        path: the folder of checkpoints; made where it is missing.

    Returns:
        The checkpoint's own folder, absolute.

    Raises:
        InvalidArgumentError: a table holds what the format cannot; nothing was written.
        CheckpointLockedError: another process saves into the folder.
        CheckpointWriteError: see `native.write_checkpoint`.
    """
    tables = list(tables)
    root = Path(os.path.abspath(path))
    # Before the snapshot: a core that is made at its first use is then part of it.
    cores = [table.core for table in tables]
    known = list(tables[0].host.cores)
    snapshot = as_cells(tables[0].store.snapshot())
    order = [next(i for i, one in enumerate(known) if one is core) for core in cores]
    if sorted(order) != list(range(len(snapshot.tables))):
        raise InvalidArgumentError(
            f"The store has {len(snapshot.tables)} tables, and {names_of(tables)} are to be "
            "saved. Save all tables of a server together."
        )
    ordered = [table for _, table in sorted(zip(order, tables, strict=True), key=_first)]
    written = write_checkpoint(
        root,
        snapshot,
        record_dtype=None,
        spec_json={
            "signatures": {table.name: encode_signature(table.signature) for table in ordered}
        },
        tables=[settings_of(table) for table in ordered],
        saved_at=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        max_to_keep=_KEPT,
    )
    return str(written)


def load(
    tables: Sequence[ServerTableLike],
    path: str | os.PathLike[str],
    fallback: str | os.PathLike[str] | None = None,
) -> bool:
    """Fills a new server's tables from its newest checkpoint.

    Tables are matched by name. A checkpoint's table replaces the settings of the one
    here, as in Reverb; a table that it does not hold stays empty, with its own
    settings. A native checkpoint comes before any of Reverb's in the same folder.
    Of a native one the next draws are those of the uninterrupted run. From Reverb's
    come items in their order with their priorities, sample counts and the limiter's
    counters; their keys are new.

    Args:
        tables: all tables of one server, empty, their `core` not used yet.
        path: the folder of checkpoints, or a checkpoint's own folder.
        fallback: one checkpoint's own folder, native or Reverb's, to load where `path`
            holds none.

    Returns:
        Whether there was a checkpoint. False: the tables are as they were.

    Raises:
        CheckpointMismatchError: a table of the checkpoint is not among `tables`, or
            its settings or dtypes cannot be had here.
        CheckpointCorruptError: the newest checkpoint is damaged; it is never taken for
            none, nor is an older one taken instead.
        CheckpointVersionError, CheckpointLimitError, CheckpointReadError,
        MissingDependencyError: as named.
    """
    tables = list(tables)
    source = _find(Path(os.path.abspath(path)))
    if source is None and fallback:
        source = _find(Path(os.path.abspath(fallback)))
        if source is None:
            _log.warning(
                "There is no checkpoint in %r, nor in the fallback %r: the tables %s start "
                "empty.",
                str(path),
                str(fallback),
                names_of(tables),
            )
    if source is None:
        return False
    _fill(source, tables)
    return True


def _first(pair: tuple[int, Any]) -> int:
    return pair[0]


def _find(root: Path) -> Source | None:
    """The newest checkpoint in a folder, or the folder's own; read as far as its tables."""
    from reverie.checkpoint.reverb_files import finding

    with reading(FILE_SYSTEM, root):
        if not root.is_dir():
            return None
        if names.sequence_number_of(root.name) or (root / "manifest.json").exists():
            return native_source(root)
        newest = names.find_newest(root)
        if newest is not None:
            return native_source(newest)
        found = finding.find_newest(root)
    return None if found is None else reverb_source(found)


def _fill(source: Source, tables: Sequence[ServerTableLike]) -> None:
    by_name = {table.name: table for table in tables}
    for name in source.settings:
        if name not in by_name:
            raise CheckpointMismatchError(
                f"{str(source.path)!r}: trying to load table {name[:200]!r}, but the table was "
                f"not found in the provided list of tables. Available tables: "
                f"{names_of(tables)}. Add a table of that name to the server; its settings "
                "come from the checkpoint."
            )
    store = tables[0].store
    before: dict[str, Mapping[str, Any]] = {}
    try:
        states = source.read(store)
        for name, wanted in source.settings.items():
            before[name] = current(by_name[name])
            _override(source, by_name[name], wanted)
        for name, state in states.items():
            by_name[name].core.restore(state)
    except BaseException as error:
        store.seal_restore()  # what was read so far is freed
        for name, was in before.items():
            _undo(by_name[name], was)
        if isinstance(error, ValueError) and not isinstance(error, CheckpointMismatchError):
            raise CheckpointCorruptError(
                f"{str(source.path)!r}: the core refused what the files hold: "
                f"{str(error)[:200]}"
            ) from error
        raise
    store.seal_restore()


def _override(source: Source, table: ServerTableLike, wanted: Mapping[str, Any]) -> None:
    try:
        table.override(**wanted)
    except (ValueError, TypeError, OverflowError) as error:
        raise CheckpointMismatchError(
            f"{str(source.path)!r}: table {table.name[:200]!r} has settings that cannot be had "
            f"here: {str(error)[:300]}"
        ) from error


def _undo(table: ServerTableLike, was: Mapping[str, Any]) -> None:
    with contextlib.suppress(ValueError):  # its core is made: the failing server drops it
        table.override(**was)
