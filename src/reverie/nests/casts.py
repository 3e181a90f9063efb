"""Casts: a leaf that is not of its column's dtype becomes so, or is refused with the cause.

The rules are NumPy's `same_kind`, made strict where values would change: what is stored is
`np.asarray(leaf).astype(dtype)`, and no value of another meaning. The core casts most leaves
itself, by the same rules; here is what it leaves over, and the words of every refusal.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.errors import StepMismatchError
from reverie.nests.difference import kind_name
from reverie.nests.specs import ArraySpec, Column, is_extension, kind_of

_KINDS = "buifc"  # each may become one that stands behind it
_WIDEST = {"u": np.uint64, "i": np.int64, "f": np.float64, "c": np.complex128}


def convert(leaf: Any, column: Column) -> NDArray[Any]:
    """`leaf` as a C-contiguous array of exactly the column's dtype and shape; a copy.

    bool, unsigned, signed, float, complex: a leaf may become what stands further right,
    or another dtype of its own kind. Python integers, in lists too, whatever their size,
    become any integer dtype that holds them. No number becomes one of another size:
    integers do not wrap around, floats do not become infinite, nor the largest where a
    dtype has no infinity. Digits may be lost, as always with floats.

    Raises:
        StepMismatchError: the shape differs, the dtype cannot be cast, or a number
            does not fit; it is masked. Names the path, what was found and wanted.
    """
    wanted = column.spec
    where = f"Step leaf {column.path!r}"
    if is_masked(leaf):
        raise StepMismatchError(
            f"{where}: found a masked array, whose mask would be lost; wanted "
            f"{_describe(wanted)}. Pass its filled(value). Nothing was stored."
        )
    try:
        found = np.asarray(leaf)
    except Exception as error:  # whatever a foreign __array__ raises
        way_out = way_to_numpy(leaf) and f": pass its {way_to_numpy(leaf)}"
        raise StepMismatchError(
            f"{where}: found {type(leaf).__name__}, which is no array ({error!s:.200}); "
            f"wanted {_describe(wanted)}{way_out}. Nothing was stored."
        ) from None
    if found.shape != wanted.shape:
        hint = ""
        if found.shape[1:] == wanted.shape:
            hint = " Steps have no batch axis: pass one step at a time."
        raise StepMismatchError(
            f"{where}: found {kind_name(leaf)}, shape {found.shape}; wanted "
            f"{_describe(wanted)}.{hint} Nothing was stored."
        )
    integers = _whole_numbers(leaf, found)
    # Python's are as unsigned ones: they may become any number, within its limits.
    have = kind_of(found.dtype) if integers is None else "u"
    want = kind_of(wanted.dtype)
    if not (have in _KINDS and _KINDS.index(have) <= _KINDS.index(want)):
        raise StepMismatchError(
            f"{where}: found {kind_name(leaf)}, dtype {found.dtype}; wanted "
            f"{_describe(wanted)}: {_why_not(have, want)}. Nothing was stored."
        )
    if integers is not None:
        found = integers
    if found.dtype == wanted.dtype:
        return np.array(found, order="C")
    if is_extension(found.dtype):
        found = found.astype(_WIDEST[have])  # among themselves some are cast to nonsense
    cast = _to_integers if want in "iu" else _to_floats
    return cast(where, found, wanted)


def way_to_numpy(value: Any) -> str:
    """What makes of a tensor of PyTorch, which is not imported, one that NumPy takes.

    Neither is done unasked: a priority that still has its gradient is a slip more often
    than not, and a copy from a GPU waits for all that is computed there.
    """
    found = ""
    if getattr(value, "requires_grad", False) is True:
        found += ".detach()"
    place = getattr(getattr(value, "device", None), "type", "cpu")
    if isinstance(place, str) and place != "cpu":
        found += ".cpu()"
    if str(getattr(value, "dtype", "")) == "torch.bfloat16":
        found += ".float()"
    return found


def is_masked(leaf: Any) -> bool:
    """Whether values in a leaf, an array or a list with such, are masked."""
    masked = sys.modules.get("numpy.ma")  # who has a masked array has imported it
    if masked is None:
        return False
    if isinstance(leaf, list | tuple):
        kinds = (list, tuple, masked.MaskedArray)
        return any(is_masked(one) for one in leaf if isinstance(one, kinds))
    return isinstance(leaf, masked.MaskedArray) and bool(masked.is_masked(leaf))


def _whole_numbers(leaf: Any, found: NDArray[Any]) -> NDArray[Any] | None:
    """A leaf of Python integers, as exact as it came; None where it is anything else.

    NumPy makes floats of lists whose integers have no common dtype, and objects of those
    beyond 64 bits.

    Args:
        leaf: as it came.
        found: what NumPy made of it.
    """
    if isinstance(leaf, float) or hasattr(leaf, "__array__"):  # has a dtype of its own
        return None
    if found.dtype.kind in "iu":
        return found
    if found.dtype.kind not in "fO":
        return None
    objects = np.array(leaf, dtype=object)
    are_integers = all(isinstance(one, int | np.integer) for one in objects.flat)
    return objects if are_integers and objects.shape == found.shape else None


def _to_integers(where: str, found: NDArray[Any], wanted: ArraySpec) -> NDArray[Any]:
    low, high = _limits_of(wanted.dtype)
    if found.size:
        # As Python integers, because NumPy compares int64 with uint64 as floats.
        for value in (int(found.min()), int(found.max())):
            if not low <= value <= high:
                raise _does_not_fit(where, value, wanted, f"{low} to {high}")
    if found.dtype.kind == "O" and is_extension(wanted.dtype):
        found = found.astype(np.int64)  # all of theirs are small
    return np.array(found, dtype=wanted.dtype, order="C")


def _to_floats(where: str, found: NDArray[Any], wanted: ArraySpec) -> NDArray[Any]:
    if found.dtype.kind == "O":
        try:
            found = found.astype(np.float64)
        except OverflowError:
            raise _does_not_fit(where, max(found.flat, key=abs), wanted) from None
    with np.errstate(over="ignore", invalid="ignore"):  # looked at below
        result = np.array(found, dtype=wanted.dtype, order="C")
    is_finite = np.isfinite(result)
    if not is_finite.all():
        lost = np.isfinite(found) & ~is_finite
        lost |= np.isnan(result) & ~np.isnan(found)  # an infinity, where there is none
        if lost.any():
            raise _does_not_fit(where, found[lost].flat[0], wanted)
    top = _saturation(wanted.dtype) if is_extension(wanted.dtype) else None
    if top is not None:
        lost = ~(np.abs(found) <= top)
        if lost.any():
            raise _does_not_fit(where, found[lost].flat[0], wanted, f"{-top} to {top}")
    return result


def _limits_of(dtype: np.dtype[Any]) -> tuple[int, int]:
    """The least and the greatest number of an integer dtype."""
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return int(limits.min), int(limits.max)
    bits = int(dtype.name.lstrip("uint"))
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if dtype.name[0] == "i" else (0, 2**bits - 1)


def _saturation(dtype: np.dtype[Any]) -> float | None:
    """What stands for all larger numbers in a dtype without infinity or NaN; else None."""
    with np.errstate(over="ignore"):
        top = np.array(1e300).astype(dtype)
    return float(top.astype(np.float64)) if np.isfinite(top) else None


def _why_not(have: str, want: str) -> str:
    """Why values of one kind would mean something else in another."""
    if have not in _KINDS:
        return "that is no number"
    if want == "b":
        return "a bool column holds True and False alone; convert it yourself if that is meant"
    if have == "i":
        return "it has no negative numbers; convert it yourself if there are none"
    part = "an imaginary part" if have == "c" else "a fraction"
    return f"{part} would be lost; convert it yourself if that is meant"


def _does_not_fit(
    where: str, value: Any, wanted: ArraySpec, held: str = "no such value"
) -> StepMismatchError:
    is_long = isinstance(value, int) and value.bit_length() > 2000  # Python prints no end of it
    text = f"of {value.bit_length()} bits" if is_long else f"{value!s:.200}"
    return StepMismatchError(
        f"{where}: found the value {text}, wanted {_describe(wanted)}, which holds "
        f"{held}. Nothing was stored."
    )


def _describe(spec: ArraySpec) -> str:
    return f"{spec.dtype} of shape {spec.shape}"
