"""Whether what a checkpoint holds is what the caller wants; whoever wrote it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reverie.errors import CheckpointMismatchError
from reverie.nests.nest import Nest
from reverie.tables.settings import TableSettings


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
        CheckpointMismatchError: the number of columns differs, or a path, a dtype or a
            shape; names the first.
    """
    where = f"{str(path)!r}: table {table[:200]!r}"
    uneven, named = len(found) != len(nest.columns), any(name for name, _, _ in found)
    # Of another number, columns without names say nothing one by one.
    pairs = zip(found, nest.columns, strict=False) if named or not uneven else ()
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
        raise CheckpointMismatchError(
            f"{where}: found {len(found)} columns, the data spec has {len(nest.columns)}: "
            f"{[column.path for column in nest.columns]!r:.200}."
        )
