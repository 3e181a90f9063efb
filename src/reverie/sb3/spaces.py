"""Gymnasium's spaces as what a step stores, and values of SB3's shapes as rows of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.errors import InvalidArgumentError, StepMismatchError
from reverie.nests.specs import ArraySpec

Spec = ArraySpec | dict[str, ArraySpec]
REWARD = ArraySpec((), np.float32)
DONE = ArraySpec((), np.bool_)


def observation_spec(space: Any) -> Spec:
    """Of an array, at least one axis; of a Dict, one by key.

    Raises:
        InvalidArgumentError: it is neither, or a Dict holds another.
    """
    parts = getattr(space, "spaces", None)
    if isinstance(parts, Mapping):
        return {
            key: _with_axis(_array("observation_space", part)) for key, part in parts.items()
        }
    return _with_axis(_array("observation_space", space))


def action_spec(space: Any) -> ArraySpec:
    """Flat, as SB3 stores actions; a policy's numbers are float32, as its weights are.

    Raises:
        InvalidArgumentError: it is no array's.
    """
    found = _array("action_space", space)
    dtype = np.dtype(np.float32) if found.dtype == np.float64 else found.dtype
    return ArraySpec((int(np.prod(found.shape)),), dtype)


def by_key(function: Callable[[Any], Any], value: Any) -> Any:
    """`function(part)`, for each key where there are keys."""
    if isinstance(value, dict):
        return {key: function(part) for key, part in value.items()}
    return function(value)


def rows_of(name: str, value: Any, spec: Spec, count: int) -> Any:
    """`[count, *shape]`, cast as NumPy assigns; by key where there are keys.

    Args:
        name: the argument, for messages.
        value: as passed; of a dict, more keys than the spec's do not count.
        spec: of a row.
        count: environments.

    Raises:
        StepMismatchError: a key is missing, or an array is of another size.
    """
    if isinstance(spec, dict):
        if not isinstance(value, Mapping) or not spec.keys() <= value.keys():
            found = list(value) if isinstance(value, Mapping) else type(value).__name__
            raise StepMismatchError(
                f"{name}: found {found!r:.200}, wanted a dict with the keys "
                f"{list(spec)!r:.200}. Nothing was stored."
            )
        return {
            key: rows_of(f"{name}[{key!r:.50}]", value[key], part, count)
            for key, part in spec.items()
        }
    if (
        type(value) is np.ndarray
        and value.dtype == spec.dtype
        and value.shape == (count, *spec.shape)
    ):
        return value
    try:
        return np.asarray(value).astype(spec.dtype, copy=False).reshape(count, *spec.shape)
    except (ValueError, TypeError) as error:
        raise StepMismatchError(
            f"{name}: found shape {np.shape(value)}, wanted {spec.dtype} of shape "
            f"{(count, *spec.shape)}, a row for each of {count} environments ({error!s:.100}). "
            "Nothing was stored."
        ) from None


def bytes_of(rows: Any) -> list[bytes]:
    """Rows as bytes, so that NaN equals itself; of a dict by key."""
    if isinstance(rows, dict):
        return [row.tobytes() for row in rows.values()]
    return [rows.tobytes()]


def rows_that_differ(one: list[bytes], other: list[bytes], count: int) -> NDArray[np.intp]:
    """Which of `count` rows differ in `bytes_of` them."""
    found = np.zeros(count, np.bool_)
    for pair in zip(one, other, strict=True):
        mine, theirs = (np.frombuffer(each, np.uint8).reshape(count, -1) for each in pair)
        found |= (mine != theirs).any(axis=1)
    return np.flatnonzero(found)


def _with_axis(spec: ArraySpec) -> ArraySpec:
    return ArraySpec(spec.shape or (1,), spec.dtype)


def _array(name: str, space: Any) -> ArraySpec:
    shape, dtype = getattr(space, "shape", None), getattr(space, "dtype", None)
    if shape is None or dtype is None or hasattr(space, "spaces"):
        raise InvalidArgumentError(
            f"{name}: found {space!r:.200}, wanted one array's, such as Box or Discrete, or, "
            "of observations, a Dict of these. For others use reverie.ReplayBuffer, which "
            "stores any nest."
        )
    return ArraySpec(tuple(shape), np.dtype(dtype))
