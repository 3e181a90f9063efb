"""Whether what a checkpoint holds is what the caller wants; whoever wrote it."""

from __future__ import annotations

import collections
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.errors import CheckpointMismatchError
from reverie.nests.nest import Nest
from reverie.tables.settings import TableSettings

_SHOWN = 20
"""How many names a message lists."""


def check_has(path: Path, tables: Collection[str], wanted: str, argument: str) -> None:
    """Refuses a checkpoint without the wanted table.

    Args:
        path: of the checkpoint.
        tables: the names of those that it holds.
        wanted: the name.
        argument: where the caller may pass another one.

    Raises:
        CheckpointMismatchError: it is not among them.
    """
    if wanted not in tables:
        raise CheckpointMismatchError(
            f"{str(path)!r}: found the tables {list(tables)!r:.200}, wanted {wanted!r:.200}. "
            f"Pass the one you want as {argument}=."
        )


def check_room(path: Path, table: str, count: int, capacity: int) -> None:
    """Refuses more items than a table takes.

    Raises:
        CheckpointMismatchError: there are more.
    """
    if count > capacity:
        raise CheckpointMismatchError(
            f"{str(path)!r}: table {table[:200]!r} holds {count} items, but the capacity is "
            f"{capacity}. Use a larger capacity."
        )


def check_lengths(
    path: Path, table: str, lengths: NDArray[np.integer[Any]], settings: TableSettings
) -> None:
    """Refuses a table none of whose items could ever be in a batch.

    For checkpoints in which nobody wrote down how long windows are. Where only some have
    another length, as episodes may, they are the caller's.

    Args:
        path: of the checkpoint.
        table: its name.
        lengths: of the items that are runs of steps; 0 of others.
        settings: of the table to fill.

    Raises:
        CheckpointMismatchError: there are runs, and none of the wanted length.
    """
    known, wanted = np.unique(lengths[lengths > 0]), settings.sequence_length
    if wanted is not None and len(known) and wanted not in known:
        some = known.tolist()[:_SHOWN]
        raise CheckpointMismatchError(
            f"{str(path)!r}: the items of table {table[:200]!r} have {some} steps"
            f"{', and more' if len(known) > _SHOWN else ''}, none sequence_length={wanted}, so "
            f"no batch can be made of them. Load it with a sequence_length of theirs, or read "
            "it with reverie.open()."
        )


def check_windows(path: Path, table: str, found: int | None, settings: TableSettings) -> None:
    """Refuses windows of another length: a batch would be refused as soon as it drew one.

    Args:
        path: of the checkpoint.
        table: its name.
        found: steps of the windows that were saved; None where nobody wrote it down.
        settings: of the table to fill.

    Raises:
        CheckpointMismatchError: the lengths are known and differ.
    """
    wanted = settings.sequence_length
    if found is not None and wanted is not None and found != wanted:
        raise CheckpointMismatchError(
            f"{str(path)!r}: table {table[:200]!r} holds windows of sequence_length={found}, "
            f"but wanted are those of sequence_length={wanted}, and items of unequal length "
            f"make no batch. Load it with sequence_length={found}, or read it with "
            "reverie.open(), and add its steps anew."
        )


def check_columns(
    path: Path,
    table: str,
    found: Sequence[tuple[str, np.dtype[Any], tuple[int, ...]]],
    nest: Nest,
) -> None:
    """Refuses steps that are not those of the data spec.

    Args:
        path: of the checkpoint.
        table: its name.
        found: path, dtype and shape of each column; the path is "" where nobody wrote it
            down, and then only its place says which one it is.
        nest: of the data spec.

    Raises:
        CheckpointMismatchError: columns are missing or too many, all of which it names; or
            a dtype or a shape differs, or the order: it names the first.
    """
    where = f"{str(path)!r}: table {table[:200]!r}"
    uneven, named = len(found) != len(nest.columns), any(name for name, _, _ in found)
    if named:
        ours, theirs = [column.path for column in nest.columns], [name for name, _, _ in found]
        missing, extra = _less(ours, theirs), _less(theirs, ours)
        if missing or extra:
            raise CheckpointMismatchError(
                f"{where}: its columns are not those of the data spec. Only the checkpoint "
                f"has: {_listed(extra)}. Only the spec has: {_listed(missing)}. Load it with "
                "the spec it was saved with."
            )
    # Of another number, columns without names say nothing one by one.
    pairs = zip(found, nest.columns, strict=True) if not uneven else ()
    for (name, dtype, shape), want in pairs:
        same = (dtype, shape) == (want.spec.dtype, want.spec.shape)
        if not same or name not in ("", want.path):
            column = f"{name[:200]!r} is" if name else f"{want.path[:200]!r}: found"
            raise CheckpointMismatchError(
                f"{where}: column {column} {dtype} of shape {shape}, but the data spec wants "
                f"{want.path[:200]!r}, {want.spec.dtype} of shape {want.spec.shape}, in its "
                "place. Load it with the spec it was saved with."
            )
    if uneven:
        kinds = [f"{dtype} of shape {shape}" for _, dtype, shape in found]
        wanted = [
            f"{column.spec.dtype} of shape {column.spec.shape}" for column in nest.columns
        ]
        raise CheckpointMismatchError(
            f"{where}: found {len(found)} columns, the data spec has {len(nest.columns)}. "
            f"Only the checkpoint has: {_listed(_less(kinds, wanted))}. Only the spec has: "
            f"{_listed(_less(wanted, kinds))}. The spec's columns: "
            f"{_listed([column.path for column in nest.columns])}. Load it with the spec it "
            "was saved with."
        )


def _less(these: Sequence[str], those: Sequence[str]) -> list[str]:
    """These without those, each as often as it is here and not there, in order."""
    left = collections.Counter(those)
    rest = []
    for one in these:
        if left[one]:
            left[one] -= 1
        else:
            rest.append(one)
    return rest


def _listed(names: Sequence[str]) -> str:
    """Foreign names, short enough for a message however many or long they are."""
    if not names:
        return "none"
    text = ", ".join(f"{name!r:.200}" for name in names[:_SHOWN])
    return text + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
