"""What items of one make have in common, worked out once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reverie import _core
from reverie.errors import InvalidArgumentError
from reverie.runtime.checks import priority_range
from reverie.tables import cells
from reverie.tables.cells import CellSpec
from reverie.tables.table import Table


class ItemPlan(NamedTuple):
    """Table, runs and limits of the priority, as the core's `create_item` wants them.

    Attributes:
        table: for which the items are.
        limits: the lowest and the highest priority.
        columns: the core's column of each run.
        lengths: cells of each run.
        runs: runs of each column of the item.
        squeezed: whether it is without a time axis.
    """

    table: _core.Table
    limits: tuple[float, float]
    columns: NDArray[np.uint32]
    lengths: NDArray[np.uint32]
    runs: NDArray[np.uint32]
    squeezed: NDArray[np.uint8]


def priority_limits(table: Table) -> tuple[float, float]:
    """The lowest and the highest priority of a table's items."""
    return priority_range(table.settings.prioritized)


def priority_error(priority: float, table: str) -> InvalidArgumentError:
    """That a priority is none for a table."""
    if math.isnan(priority):
        return InvalidArgumentError(
            f"`priority` must not be nan. (Table {table!r:.200}; nothing was changed.)"
        )
    return InvalidArgumentError(
        f"`priority` must be finite and not negative but got {priority}: table "
        f"{table!r:.200} draws by priority. Nothing was changed."
    )


def joined(position: int, specs: Sequence[CellSpec], length: int, squeeze: bool) -> CellSpec:
    """The spec of one column of an item.

    Args:
        position: of the column, for messages.
        specs: of the cells of each of its runs.
        length: cells of all its runs.
        squeeze: whether it is without a time axis.

    Raises:
        InvalidArgumentError: it is empty, of several dtypes or shapes, or squeezed and
            not of one cell.
    """
    where = f"Error in column {position}:"
    if not specs:
        raise InvalidArgumentError(f"{where} it is empty; wanted at least one cell.")
    for i, spec in enumerate(specs):
        if spec.dtype != specs[0].dtype:
            raise InvalidArgumentError(
                f"{where} Column references tensors with different dtypes: "
                f"{cells.dtype_name(specs[0].dtype)} (index 0) != "
                f"{cells.dtype_name(spec.dtype)} (index {i})."
            )
        if spec.shape != specs[0].shape:
            raise InvalidArgumentError(
                f"{where} Column references tensors with incompatible shapes: "
                f"{cells.shape_name(specs[0].shape)} (index 0) not compatible with "
                f"{cells.shape_name(spec.shape)} (index {i})."
            )
    if not squeeze:
        return CellSpec(specs[0].dtype, (length, *specs[0].shape))
    if length != 1:
        raise InvalidArgumentError(
            f"{where} TrajectoryColumn must contain exactly one row when squeeze is set but "
            f"got {length}."
        )
    return specs[0]
