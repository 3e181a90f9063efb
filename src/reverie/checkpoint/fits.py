"""Whether what a checkpoint holds is what the caller wants; whoever wrote it."""

from __future__ import annotations

import collections
import warnings
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


def misfits(
    path: Path,
    table: str,
    steps: NDArray[np.integer[Any]],
    settings: TableSettings,
    *,
    on_misfit: str,
    stacklevel: int,
) -> NDArray[np.int64]:
    """Which items to leave out because no batch takes them: a later `sample` would fail.

    Where all are of unequal columns the very first batch says so, and they are read one
    by one.

    Args:
        path: of the checkpoint.
        table: its name.
        steps: of each item; -1 where its columns differ, or one has no time axis.
        settings: of the table to fill.
        on_misfit: "raise", or "leave_out", with a warning that counts them.
        stacklevel: of that warning.

    Returns:
        Their places in `steps`.

    Raises:
        CheckpointMismatchError: there are some, which were not to be left out; or there is
            nothing else.
    """
    wanted = settings.sequence_length
    odd = np.flatnonzero(steps != wanted)
    if wanted is None or not len(odd) or (steps == -1).all():
        return odd[:0]
    found = np.unique(steps[odd])
    lengths = ["unequal" if one < 0 else str(one) for one in found[:_SHOWN].tolist()]
    what = (
        f"{str(path)!r}: {len(odd)} of the {len(steps)} items of table {table[:200]!r} have "
        f"{', '.join(lengths)}{', ...' if len(found) > _SHOWN else ''} steps, and not those of "
        f"sequence_length={wanted}"
    )
    if len(odd) == len(steps):
        raise CheckpointMismatchError(
            f"{what}, so no batch can be made of any. Load it with their sequence_length, or "
            "read it with reverie.open()."
        )
    if on_misfit != "leave_out":
        raise CheckpointMismatchError(
            f"{what}, and a batch that drew one would fail. Pass on_misfit='leave_out' to load "
            "the others, or read it with reverie.open()."
        )
    warnings.warn(f"{what}: they were left out.", stacklevel=stacklevel + 1)
    return odd


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
