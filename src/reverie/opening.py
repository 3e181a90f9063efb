"""Opening a saved buffer: `reverie.open`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from reverie.adding.autoreset import Autoreset
from reverie.checkpoint.fits import check_has
from reverie.checkpoint.folder.place import folder_of
from reverie.checkpoint.format.snapshot import Progress
from reverie.checkpoint.load import fill, load_newest
from reverie.checkpoint.save import Saver, check_keep
from reverie.checkpoint.source import Source
from reverie.errors import (
    CheckpointCorruptError,
    CheckpointMismatchError,
    InvalidArgumentError,
    SpecError,
)
from reverie.nests import structure
from reverie.nests.nest import Nest
from reverie.nests.specs import ArraySpec
from reverie.replay_buffer import ReplayBuffer, Unsaved
from reverie.runtime.checks import check_int
from reverie.tables.limiters import Staleness
from reverie.tables.signature import columns_of
from reverie.tables.store import Store
from reverie.tables.table import Table
from reverie.views.saved import check_roles


def open_buffer(
    path: str | os.PathLike[str],
    table: str | None = None,
    *,
    max_to_keep: int | None = None,
    progress: Progress | None = None,
    max_nbytes: int | None = None,
    num_envs: int | None = None,
    autoreset: Any = None,
) -> ReplayBuffer:
    """A saved buffer, without the code that wrote it: `reverie.open`.

    The checkpoint itself says what its steps look like. Everything is read and verified.
    Nothing is written, and no lock taken, before the first `save()`, which goes into the
    same folder of checkpoints. Tables other than the one that is seen come along, and
    are saved again.

    Args:
        path: a folder of checkpoints, of which the newest is taken; or one checkpoint's
            own folder. Native ones, or Reverb's.
        table: which, by name; None: the only one.
        max_to_keep: newest checkpoints that a save leaves; None keeps all.
        progress: called with bytes read so far and in all.
        max_nbytes: most bytes that the checkpoint may take. None: in proportion to what
            its files take on the disk.
        num_envs: of a ReplayBuffer's, to which steps will be added: see there.
        autoreset: likewise; None: as it was.

    Returns:
        The buffer; its batches go on where those of the saved one would have.

    Raises:
        InvalidArgumentError: `max_to_keep` or `num_envs` is below 1, there is no such
            autoreset, or they are not for what was saved.
        CheckpointNotFoundError: there is none.
        CheckpointCorruptError: it is damaged; names the file.
        CheckpointMismatchError: there is no such table, or none was chosen of several;
            or its items are nothing that batches could be made of: there are none and
            nothing says what they would be, or they hold texts.
        CheckpointVersionError: a later version of this library wrote it.
        CheckpointLimitError: it takes more than `max_nbytes`, or than there is.
        MissingDependencyError: it is Reverb's, and the `reverb-files` extra is missing.
    """
    check_keep(max_to_keep)
    if num_envs is not None:
        check_int("num_envs", num_envs, 1, 2**31 - 1)
    mode = None if autoreset is None else Autoreset(autoreset).mode
    root = folder_of("path", path)
    return load_newest(
        root,
        lambda source: _opened(
            source, root, table, num_envs, mode, lambda home: Saver(home, max_to_keep)
        ),
        progress=progress,
        max_nbytes=max_nbytes,
    )


def read_buffer(path: str | os.PathLike[str], *, num_envs: int) -> ReplayBuffer:
    """The same, without a folder of its own: for who takes the files away afterwards."""
    root = folder_of("path", path)
    return load_newest(
        root, lambda source: _opened(source, root, None, num_envs, None, lambda _: Unsaved())
    )


def _opened(
    source: Source,
    root: Path,
    table: str | None,
    num_envs: int | None,
    mode: str | None,
    saver_of: Callable[[Path], Any],
) -> ReplayBuffer:
    where = repr(str(source.path))
    names = list(source.settings)
    if table is None and len(names) > 1:
        raise CheckpointMismatchError(
            f"{where} holds the tables {names!r:.200}: pass the one to open as table=."
        )
    name = names[0] if table is None else table
    check_has(source.path, names, name, "table")
    store = Store(f"The buffer of {where}", way_out="Open it anew.", anew="Open it")
    tables = {other: Table(settings) for other, settings in source.settings.items()}
    settings = source.settings[name]
    if settings.roles is None and (num_envs, mode) != (None, None):
        raise InvalidArgumentError(
            f"num_envs= and autoreset= are for a ReplayBuffer's steps; {where} holds windows "
            "that observers wrote."
        )
    if settings.roles is not None and mode is not None:
        settings = replace(settings, roles=replace(settings.roles, autoreset=mode))
    use = None if settings.roles is None else settings.roles.use
    if use is not None and use.batch_size is not None and use.max_staleness is not None:
        settings = replace(settings, limiter=Staleness(use.batch_size, use.max_staleness))
    opened = tables[name] = Table(settings, nest=source.nest(name))
    nest = _known_nest(opened)
    for one in tables.values():
        one.attach(store)
    fill(source, store, tables, rows={} if nest is None else {name: nest})
    columns = opened.core.describe()
    length, lengths = opened.settings.sequence_length or 1, None
    if columns is not None and opened.settings.roles is None:
        nest = _nest_of(columns, opened, nest, where)
        found = [steps for _, _, steps in columns]
        most = max([1, *found])
        lengths = None if set(found) == {most} else found
        if lengths is not None or opened.settings.sequence_length is None:
            length = most
    if nest is None:
        raise CheckpointMismatchError(
            f"{where}: table {name!r} is empty, and nothing says what its items look like."
        )
    if opened.settings.roles is not None:
        try:
            check_roles(opened.settings.roles, nest)
        except ValueError as error:
            raise CheckpointCorruptError(f"{where}: roles of table {name!r}: {error}") from None
    home = source.path.parent if source.path == root else root
    return ReplayBuffer.over(
        opened,
        nest,
        saver_of(home),
        num_envs=num_envs,
        sequence_length=length,
        lengths=lengths,
    )


def _known_nest(table: Table) -> Nest | None:
    """What the checkpoint says of a table's steps."""
    try:
        return table.nest
    except SpecError:  # a signature with texts
        return None


def _nest_of(
    columns: Sequence[tuple[np.dtype[Any] | None, tuple[int, ...], int]],
    table: Table,
    known: Nest | None,
    where: str,
) -> Nest:
    """The structure of items that have these columns: the known one if it fits."""
    found = [(dtype, shape) for dtype, shape, _ in columns]
    if known is not None and found == known.types:
        return known
    specs = []
    for number, (dtype, shape) in enumerate(found):
        if dtype is None:
            raise CheckpointMismatchError(
                f"{where}: column {number} of table {table.name!r} holds texts, of which no "
                "batches can be made. Load it with a Server of reverie.reverb."
            )
        specs.append(ArraySpec(shape, dtype))
    if table.signature is not None and len(columns_of(table.signature)) == len(specs):
        return Nest(structure.unflatten_as(table.signature, specs))
    return Nest(specs)
