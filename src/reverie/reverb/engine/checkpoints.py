"""Checkpoints of a server: all its tables at one point in time, saved and loaded."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from reverie.checkpoint.load import fill
from reverie.checkpoint.save import Saver
from reverie.checkpoint.source import Source, candidates, open_source
from reverie.errors import CheckpointMismatchError
from reverie.tables.store import Store
from reverie.tables.table import Table

_log = logging.getLogger("reverie.checkpoint")
_KEPT = 1  # as Reverb's server


def save(store: Store, path: str | os.PathLike[str]) -> str:
    """Saves a server's tables as the next checkpoint in the folder `path`, durable.

    One consistent point in time of all of them; items that still wait for a limiter
    are not in it. Older native checkpoints in the folder are then removed, as Reverb's
    server does; everything else stays. Thread-safe: saves into one folder take turns,
    and adding and sampling go on.

    Args:
        store: of the server.
        path: the folder of checkpoints; made where it is missing.

    Returns:
        The checkpoint's own folder, absolute.

    Raises:
        InvalidArgumentError: `path` is a checkpoint's own folder.
        CheckpointLockedError: another process saves into the folder.
        CheckpointWriteError: see `write_checkpoint`.
    """
    saver = Saver(Path(os.path.abspath(path)), _KEPT)
    try:
        return str(saver.save(store))
    finally:
        saver.close()


def load(
    store: Store,
    tables: Mapping[str, Table],
    path: str | os.PathLike[str],
    fallback: str | os.PathLike[str] | None = None,
    max_nbytes: int | None = None,
) -> bool:
    """Fills a new server's tables, their `core` not used yet, from its newest checkpoint.

    Tables are matched by name. A checkpoint's table replaces the settings of the one
    here, as in Reverb; a table that it does not hold stays empty, with its own
    settings. Of a native checkpoint the next draws are those of the uninterrupted run.
    From Reverb's come items in their order with their priorities, sample counts and the
    limiter's counters; their keys are new.

    Args:
        store: of the server.
        tables: all of it, by name.
        path: the folder of checkpoints, or a checkpoint's own folder.
        fallback: one checkpoint's own folder, native or Reverb's, where `path` holds
            none.
        max_nbytes: see `open_source`.

    Returns:
        Whether there was a checkpoint. False: the tables are as they were.

    Raises:
        CheckpointMismatchError: a table of the checkpoint is not among `tables`.
        CheckpointError: the newest checkpoint cannot be read; it is never taken for none,
            nor is an older one taken instead.
    """
    source = _newest(path, max_nbytes)
    if source is None and fallback:
        source = _newest(fallback, max_nbytes)
    if source is None:
        if fallback:
            _log.warning(
                "There is no checkpoint in %r, nor in the fallback %r: the tables %s start "
                "empty.",
                str(path),
                str(fallback),
                repr(list(tables))[:200],
            )
        return False
    for name, settings in source.settings.items():
        if name not in tables:
            raise CheckpointMismatchError(
                f"{str(source.path)!r}: trying to load table {name[:200]!r}, but the table was "
                f"not found in the provided list of tables. Available tables: "
                f"{repr(list(tables))[:200]}. Add a table of that name to the server; its "
                "settings come from the checkpoint."
            )
        tables[name].configure(settings)
    fill(source, store, tables)
    return True


def _newest(path: str | os.PathLike[str], max_nbytes: int | None) -> Source | None:
    found = candidates(Path(os.path.abspath(path)))
    return open_source(found[0], max_nbytes=max_nbytes) if found else None
