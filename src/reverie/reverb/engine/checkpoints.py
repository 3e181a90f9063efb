"""Checkpoints of a server: all its tables at one point in time, saved and loaded."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from reverie.checkpoint.load import fill, first_whole, hint
from reverie.checkpoint.save import Saver
from reverie.checkpoint.source import Source, candidates, open_source
from reverie.errors import CheckpointMismatchError, CheckpointNotFoundError
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
    fresh: Callable[[], Store],
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
        fresh: gives the tables, as they were made, a new store to be filled; called for
            each try, see `first_whole`.
        tables: all of the server, by name.
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
    places = _places(path, fallback)

    def look() -> list[Path]:
        for place in places:
            found = candidates(place)
            if found:
                return found
        raise CheckpointNotFoundError(
            f"The checkpoints of {str(places[0])!r:.200} were removed while the server started."
        )

    if not there_is_one(path, fallback):
        advice = hint(places[0])
        if fallback or advice:
            _log.warning(
                "There is no checkpoint in %r%s: the tables %s start empty.%s",
                str(path),
                f", nor in the fallback {str(fallback)!r}" if fallback else "",
                repr(list(tables))[:200],
                advice,
            )
        return False
    first_whole(
        look, lambda found: _fill(open_source(found, max_nbytes=max_nbytes), fresh(), tables)
    )
    return True


def _fill(source: Source, store: Store, tables: Mapping[str, Table]) -> None:
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


def there_is_one(
    path: str | os.PathLike[str], fallback: str | os.PathLike[str] | None = None
) -> bool:
    """Whether `load` would find a checkpoint; CheckpointReadError where that cannot be seen."""
    return any(candidates(place) for place in _places(path, fallback))


def _places(
    path: str | os.PathLike[str], fallback: str | os.PathLike[str] | None
) -> list[Path]:
    return [Path(os.path.abspath(place)) for place in (path, fallback) if place]
