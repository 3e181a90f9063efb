"""Arguments: what callers pass, checked and brought into one form."""

from __future__ import annotations

import contextlib
import math
import numbers
import operator
import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reverie.errors import InvalidArgumentError
from reverie.nests.casts import is_masked, way_to_numpy
from reverie.nests.specs import kind_of


def check_int(name: str, value: Any, low: int, high: int) -> int:
    """`value` as an int within [low, high].

    Raises:
        InvalidArgumentError: it is no integer (a bool or float is none) or out of range.
    """
    try:
        # A bool has an index, too, and so have NumPy's older ones, with a warning.
        number = None if isinstance(value, bool | np.bool_) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise InvalidArgumentError(
            f"{name}: found {value!r:.200} of type {type(value).__name__}, wanted an integer."
        )
    if not low <= number <= high:
        raise InvalidArgumentError(f"{name}: found {number}, wanted {low} to {high}.")
    return number


def check_choice(name: str, value: Any, choices: tuple[str, str]) -> None:
    """Raises InvalidArgumentError where `value` is neither of two words."""
    if value not in choices:
        raise InvalidArgumentError(
            f"{name}: found {value!r:.200}, wanted {choices[0]!r} or {choices[1]!r}."
        )


def check_num_steps(num_steps: Any, sequence_length: int) -> int:
    """`num_steps` as a divisor of `sequence_length`.

    Raises:
        InvalidArgumentError: it is none, in the words of TF-Agents' replay buffer.
    """
    steps = check_int("num_steps", num_steps, 1, 2**32 - 1)
    if steps > sequence_length:
        raise InvalidArgumentError(
            f"num_steps > sequence_length: found num_steps={steps}, wanted a divisor of "
            f"sequence_length={sequence_length}."
        )
    if sequence_length % steps:
        raise InvalidArgumentError(
            f"sequence_length={sequence_length} is not a multiple of num_steps={steps}."
        )
    return steps


def as_keys(keys: ArrayLike) -> NDArray[np.uint64]:
    """Keys as a vector: `[B]`, `[B, T]` (column 0) or a sequence of ints.

    Raises:
        InvalidArgumentError: they are no integers of one or two dimensions, or an array
            of a dtype that cannot hold a key.
    """
    if type(keys) is np.ndarray and keys.ndim == 1 and keys.dtype == np.uint64:
        return np.ascontiguousarray(keys)  # as a batch holds them
    array = as_array("keys", keys)
    if array.dtype.kind in "fO" and _are_keys(keys):
        array = np.array(keys, np.uint64)  # NumPy makes floats of ints from 2**63 on
    if array.size == 0:
        return np.zeros(0, np.uint64)
    if _are_cut(keys, array.dtype):
        raise InvalidArgumentError(
            f"keys: found {describe(array)}: they lost their upper half. Keys are uint64: pass "
            "SampleInfo.key as it came, or keep JAX from cutting it with "
            'jax.config.update("jax_enable_x64", True).'
        )
    if array.ndim not in (1, 2) or array.dtype.kind not in "iu" or (array < 0).any():
        raise InvalidArgumentError(
            f"keys: found {describe(array)}; wanted integers of shape [B] or [B, T], as "
            "SampleInfo.key holds them."
        )
    return np.ascontiguousarray(array[:, 0] if array.ndim == 2 else array, np.uint64)


def _are_cut(keys: Any, dtype: np.dtype[Any]) -> bool:
    """Whether some come with a dtype that holds no key; Python's integers have none."""
    if hasattr(keys, "dtype"):
        return dtype.kind == "f" or (dtype.kind in "iu" and dtype.itemsize < 8)
    return isinstance(keys, list | tuple) and any(
        _are_cut(key, np.asarray(key).dtype) for key in keys if type(key) is not int
    )


def _are_keys(keys: Any) -> bool:
    """Whether they are a flat sequence of integers within uint64."""
    return isinstance(keys, list | tuple) and all(
        isinstance(key, int | np.integer) and 0 <= key < 2**64 for key in keys
    )


def as_priorities(priorities: ArrayLike) -> NDArray[np.float64]:
    """Priorities as float64: a vector, `[B, T]` (column 0) or one number for all.

    Raises:
        InvalidArgumentError: they are no real numbers.
    """
    array = as_array("priorities", priorities)
    if array.size == 0:
        return np.zeros(0, np.float64)
    if kind_of(array.dtype) not in "biuf":
        raise InvalidArgumentError(f"priorities: found {describe(array)}; wanted numbers.")
    return np.array(array[:, 0] if array.ndim == 2 else array, np.float64, order="C")


def priority_range(prioritized: bool) -> tuple[float, float]:
    """The lowest and the highest priority that a table's items may have; NaN is none.

    Args:
        prioritized: whether the table draws in proportion to priorities, which must then
            be good for weights.
    """
    return (0.0, sys.float_info.max) if prioritized else (-math.inf, math.inf)


def as_priority(priority: Any) -> float:
    """`priority` as a float that is good for a weight.

    Raises:
        InvalidArgumentError: it is no number, negative, infinite or NaN.
    """
    lowest, highest = priority_range(True)
    if not isinstance(priority, numbers.Real) or not lowest <= float(priority) <= highest:
        raise InvalidArgumentError(
            f"priority: found {priority!r:.200}, wanted a finite number >= 0."
        )
    return float(priority)


def as_array(name: str, values: Any) -> NDArray[Any]:
    """`values` as NumPy makes an array of them.

    Raises:
        InvalidArgumentError: it makes none, or some are masked.
    """
    if is_masked(values):
        raise InvalidArgumentError(
            f"{name}: found a masked array, whose mask would be lost. Pass its compressed() or "
            "filled(value)."
        )
    try:
        return np.asarray(values)
    except Exception as error:  # a ragged list, or whatever a foreign __array__ raises
        way_out = way_to_numpy(values)
        raise InvalidArgumentError(
            f"{name}: found {type(values).__name__}, which is no array ({error!s:.200})."
            + (f" Pass {name}{way_out}." if way_out else "")
        ) from None


def describe(value: Any) -> str:
    """What an argument is, in words."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} array of shape {value.shape}"
    return type(value).__name__


def as_updates(
    keys: ArrayLike, priorities: ArrayLike
) -> tuple[NDArray[np.uint64], NDArray[np.float64]]:
    """Keys `[B]` and the priority of each, as `as_keys` and `as_priorities` take them.

    Raises:
        InvalidArgumentError: the shapes differ, or a priority is not finite or negative.
    """
    chosen = as_keys(keys)
    values = as_priorities(priorities)
    if values.ndim == 0:
        values = np.full(chosen.shape, values)
    if values.shape != chosen.shape:
        raise InvalidArgumentError(
            f"priorities: found {describe(values)} for {chosen.shape[0]} keys; "
            "wanted one for each, or one number for all."
        )
    lowest, highest = priority_range(True)
    if len(values) and not (lowest <= values.min() and values.max() <= highest):  # or NaN
        bad = np.flatnonzero(~((lowest <= values) & (values <= highest)))
        raise InvalidArgumentError(
            f"priorities[{bad[0]}] is {values[bad[0]]}; wanted a finite number that is not "
            "negative. No priority was changed."
        )
    return chosen, values


def as_int(name: str, value: Any) -> int:
    """`value` as a signed 64-bit integer.

    Raises:
        TypeError: it is none.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or not -(2**63) <= number < 2**63:
        raise TypeError(
            f"{name}: found {value!r:.200} of type {type(value).__name__}, wanted an integer "
            "of at most 64 bits."
        )
    return number


def as_float(name: str, value: Any) -> float:
    """`value` as a float.

    Raises:
        TypeError: it is no real number.
    """
    # NumPy's scalars and one-element arrays are no numbers.Real, but have a float.
    if isinstance(value, numbers.Real) or (
        hasattr(value, "__float__") and not isinstance(value, str)
    ):
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            return float(value)
    raise TypeError(
        f"{name}: found {value!r:.200} of type {type(value).__name__}, wanted a number."
    )


def check_timeout(timeout: Any) -> float | None:
    """A manager's `timeout` in seconds; None, which waits for ever, for None and infinity.

    Reverb's own timeouts are `as_timeout`'s: below 0 they wait for ever.

    Raises:
        InvalidArgumentError: it is no number, or below 0.
    """
    if timeout is None:
        return None
    number = isinstance(timeout, numbers.Real) and not isinstance(timeout, bool)
    seconds = float(timeout) if number else math.nan
    if not seconds >= 0:
        raise InvalidArgumentError(
            f"timeout: found {timeout!r:.200}, wanted seconds >= 0, or None to wait for ever."
        )
    return None if seconds == math.inf else seconds


def as_timeout(name: str, value: Any, unit: float = 1.0) -> float | None:
    """`value` in seconds; None, which waits for ever, for None, infinity or below 0.

    Args:
        name: of the argument.
        value: how long, in units of `unit` seconds.
        unit: 0.001 for milliseconds.

    Raises:
        TypeError: it is no real number.
        InvalidArgumentError: it is NaN.
    """
    if value is None:
        return None
    number = as_float(name, value)
    if math.isnan(number):
        raise InvalidArgumentError(f"{name} is NaN; wanted a number, or None to wait for ever.")
    return None if number < 0 or number == math.inf else number * unit
