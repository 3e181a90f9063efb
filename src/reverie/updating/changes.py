"""New values for steps that are stored, as the core takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reverie.adding.arrivals import is_exact, shape_of
from reverie.errors import InvalidArgumentError, StepMismatchError
from reverie.nests.casts import convert
from reverie.nests.difference import kind_name
from reverie.nests.specs import ArraySpec, Column
from reverie.runtime.checks import as_array, describe
from reverie.views.base import Fields, View

Cells = tuple[int, NDArray[np.uint8]]
_NOTHING = "Nothing was changed."


class Changes(NamedTuple):
    """What `_core.Table.update` takes beside keys.

    Attributes:
        steps: T, that a row may have.
        columns: fields, and the bytes of their values, `[B, T]` or `[B]` cells each.
        mask: `[B * T]`, steps that get values; None: all.
        version: the field of versions, and those of the values, `[B]`.
    """

    steps: int
    columns: list[Cells]
    mask: NDArray[np.uint8] | None
    version: Cells | None


def changes_of(
    fields: Fields,
    view: View,
    count: int,
    values: Mapping[str, Any],
    if_version: ArrayLike | None,
    mask: ArrayLike | None,
) -> Changes:
    """New values for steps of `count` rows, checked and cast as what is added is.

    Args:
        fields: of the buffer's steps.
        view: which steps, and in what form: its keys, the states and `once` aside, are
            `[B, T, ...]`, or `[B, ...]` where rows have no time axis.
        count: B.
        values: by key.
        if_version: an integer or `[B]`; None: whatever the steps' versions are.
        mask: `[B, T]`, or `[B]` without a time axis; None: all.

    Raises:
        InvalidArgumentError: a key cannot be updated, the steps have no version, or a number
            is none that fits.
        StepMismatchError: structure, dtype, shape or range of a value; names the path.
    """
    _check_keys(fields, values)
    if getattr(view, "ragged", False):
        raise InvalidArgumentError(
            f"update(): found {view!r:.200}, whose steps stand one after the other; wanted a "
            f"view of rows: pass view={type(view).__name__}(). {_NOTHING}"
        )
    leaves = [
        (place, key, leaf)
        for key, value in values.items()
        for place, leaf in zip(fields.places[key], fields.leaves(key, value), strict=True)
    ]
    time = view.time_axis
    if time == 0:
        time = _longest([leaf for _, key, leaf in leaves if key not in view.once])
    shape = (count,) if time is None else (count, time)
    columns = [
        (
            place,
            _cells(leaf, fields.nest.columns[place], shape[:1] if key in view.once else shape),
        )
        for place, key, leaf in leaves
    ]
    chosen = None if mask is None else _flags(mask, shape)
    steps = 1 if time is None else time
    if steps != 1 and set(values) <= set(view.once):
        chosen = None if chosen is None else np.ascontiguousarray(chosen[:, 0])
        steps = 1
    version = None if if_version is None else _versions(fields, if_version, count)
    as_bytes = None if chosen is None else chosen.reshape(-1).view(np.uint8)
    return Changes(steps, columns, as_bytes, version)


def _check_keys(fields: Fields, values: Any) -> None:
    may = fields.roles.updatable
    if not may:
        raise InvalidArgumentError(
            "update(): this buffer's steps stay as they were added. Make it with "
            'updatable=("value",), the keys that may change.'
        )
    if not isinstance(values, Mapping) or not values:
        raise InvalidArgumentError(
            f"values: found {kind_name(values)}, wanted a dict of new values by key, one at "
            f"least of {list(may)!r:.200}. {_NOTHING}"
        )
    odd = [key for key in values if key not in may]
    if odd:
        why = "states are shared by two steps" if odd[0] in fields.roles.state else ""
        why = why or "those that the buffer was made with as updatable="
        raise InvalidArgumentError(
            f"values: found {odd!r:.200}, wanted keys of {list(may)!r:.200}: {why}. {_NOTHING}"
        )


def _longest(leaves: list[Any]) -> int:
    """T, as the first of some leaves `[B, T, ...]` has it; what it has not is told later."""
    shape = shape_of(leaves[0]) if leaves else None
    return max(1, shape[1]) if shape is not None and len(shape) > 1 else 1


def _cells(leaf: Any, column: Column, leading: tuple[int, ...]) -> NDArray[np.uint8]:
    """The bytes of a leaf `[*leading, *shape]`."""
    wanted = ArraySpec((*leading, *column.spec.shape), column.spec.dtype)
    found = shape_of(leaf)
    if found is not None and found != wanted.shape:
        axes = "[B, T, ...]" if len(leading) == 2 else "[B, ...]"
        raise StepMismatchError(
            f"values: Step leaf {column.path!r}: found {kind_name(leaf)}, shape {found}; "
            f"wanted {wanted.dtype} of shape {wanted.shape}, {axes} as the view gives it for "
            f"these keys. {_NOTHING}"
        )
    if not is_exact(leaf, column.spec, leading):
        try:
            leaf = convert(leaf, Column(column.path, wanted))
        except StepMismatchError as error:
            words = str(error).replace("Nothing was stored.", _NOTHING)
            raise StepMismatchError(f"values: {words}") from None
    cells: NDArray[np.uint8] = leaf.reshape(-1).view(np.uint8)
    return cells


def _flags(mask: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    array = as_array("mask", mask)
    numbers = array.dtype.kind in "iuf" and bool(np.isin(array, (0, 1)).all())
    if array.shape != shape or not (numbers or array.dtype.kind == "b"):
        raise InvalidArgumentError(
            f"mask: found {describe(array)}, wanted bools (or 0 and 1) of shape {shape}. "
            f"{_NOTHING}"
        )
    return np.ascontiguousarray(array, np.bool_)


def _versions(fields: Fields, if_version: ArrayLike, count: int) -> Cells:
    key = fields.roles.version
    if key is None:
        raise InvalidArgumentError(
            "if_version: this buffer's steps have no version to compare with. Make it with "
            'version="policy_version", an integer of each step, or leave if_version out.'
        )
    (place,) = fields.places[key]
    dtype = fields.nest.columns[place].spec.dtype
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    found = as_array("if_version", if_version)
    if found.ndim == 0:
        found = np.full(count, found)
    fits = found.shape == (count,) and (found.dtype.kind in "iu" or not count)
    if not fits or (count and not low <= int(found.min()) <= int(found.max()) <= high):
        raise InvalidArgumentError(
            f"if_version: found {if_version!r:.200}, wanted an integer, or {count}, one for "
            f"each key, {low} to {high}. {_NOTHING}"
        )
    return place, found.astype(dtype).view(np.uint8)
