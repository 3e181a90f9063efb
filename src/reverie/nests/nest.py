"""Nests: from a step to its leaves and back, checked against the data spec.

`Nest` is the one place that knows a spec's structure. The fast path is a single
call of optree; when a step does not match, the slow path finds out where and
says so, or casts a leaf whose dtype is merely convenient (float64 into float32).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optree
from numpy.typing import NDArray

from reverie.errors import StepMismatchError
from reverie.nests.specs import Column, array_spec_nest, columns_of, escaped, record_dtype
from reverie.nests.trajectory import LAST, boundary_columns


class Nest:
    """The structure of one step: its columns, and how to flatten and rebuild it.

    Immutable, hence free to share between threads.

    Attributes:
        spec: the data spec with `ArraySpec` leaves.
        columns: its leaves by path, in flattened order.
        record_dtype: packed structured dtype of a stored step.
        boundary: where a Trajectory-like step keeps its step types, else None.

    Raises:
        SpecError: the spec cannot be stored; the message holds the path.
    """

    def __init__(self, data_spec: Any) -> None:
        self.spec = array_spec_nest(data_spec)
        self.columns: tuple[Column, ...] = columns_of(self.spec)
        self.record_dtype = record_dtype(self.columns)
        self.boundary = boundary_columns(self.spec)
        self._treespec: Any = optree.tree_structure(self.spec)
        self.flatten_up_to = self._treespec.flatten_up_to  # raises ValueError; see explain()

    def __repr__(self) -> str:
        """`Nest(6 columns, 244 bytes)`."""
        return f"Nest({len(self.columns)} columns, {self.record_dtype.itemsize} bytes)"

    def leaves(self, step: Any) -> list[Any]:
        """The leaves of `step` in column order, as they are.

        Raises:
            StepMismatchError: its structure is not the spec's; says where.
        """
        try:
            return self.flatten_up_to(step)
        except (ValueError, TypeError):
            raise self.explain(step) from None

    def unflatten(self, leaves: Sequence[Any]) -> Any:
        """The nest with these leaves, one per column."""
        return self._treespec.unflatten(leaves)

    def explain(self, step: Any) -> StepMismatchError:
        """The error that says where the structure of `step` leaves the spec's."""
        return StepMismatchError(
            f"Step does not match the data spec {self.difference(step)}. Nothing was stored."
        )

    def difference(self, step: Any) -> str:
        """Where and how the structure of `step` leaves the spec's, in words; "" for nowhere."""
        found = difference(self.spec, step)
        if not found:
            try:
                self.flatten_up_to(step)
            except (ValueError, TypeError) as error:  # in a node that only optree knows
                return f"({error!s:.200})"
        return found

    def pad_record(self) -> bytes:
        """A pad step: zeros, for a Trajectory with the step types of a boundary."""
        record = np.zeros((), self.record_dtype)
        if self.boundary is not None:
            record[self.columns[self.boundary.step_type].path] = LAST
        return record.tobytes()


def convert(leaf: Any, column: Column) -> NDArray[Any]:
    """`leaf` as a C-contiguous array of exactly the column's dtype and shape.

    NumPy's `same_kind` casting; Python integers, in lists too, are as weak as in
    NumPy's own arithmetic. A finite number that does not fit is an error: integers
    do not wrap around, floats do not become infinite.

    Raises:
        StepMismatchError: the shape differs, the dtype cannot be cast, or a number
            does not fit; names the path, what was found and wanted.
    """
    wanted = column.spec
    where = f"Step leaf {column.path!r}"
    try:
        found = np.asarray(leaf)
    except Exception as error:  # whatever a foreign __array__ raises
        raise StepMismatchError(
            f"{where}: found {type(leaf).__name__}, which is no array ({error!s:.200}); "
            f"wanted {_describe(wanted)}. Nothing was stored."
        ) from None
    if found.shape != wanted.shape:
        hint = ""
        if found.shape[1:] == wanted.shape:
            hint = " Steps have no batch axis: pass one step at a time."
        raise StepMismatchError(
            f"{where}: found {_kind(leaf)}, shape {found.shape}; wanted {_describe(wanted)}."
            f"{hint} Nothing was stored."
        )
    weak = not hasattr(leaf, "dtype") and (found.dtype.kind in "iu" or isinstance(leaf, int))
    castable = np.can_cast(found.dtype, wanted.dtype, casting="same_kind") or (
        weak and wanted.dtype.kind in "iu"
    )
    if not castable:
        raise StepMismatchError(
            f"{where}: found {_kind(leaf)}, dtype {found.dtype}; wanted {_describe(wanted)}. "
            "This is no same_kind cast: convert it yourself if the loss is meant. "
            "Nothing was stored."
        )
    if wanted.dtype.kind in "iu" and found.dtype != wanted.dtype and found.size:
        limits = np.iinfo(wanted.dtype)
        # As Python integers, because NumPy compares int64 with uint64 as floats.
        for value in (int(found.min()), int(found.max())):
            if not limits.min <= value <= limits.max:
                raise _does_not_fit(where, value, wanted, f"{limits.min} to {limits.max}")
    with np.errstate(over="ignore"):  # looked at below
        result = np.array(found, dtype=wanted.dtype, order="C")
    if (
        found.dtype != wanted.dtype
        and wanted.dtype.kind not in "biu"
        and found.dtype.kind != "V"
    ):
        lost = np.isfinite(found) & ~np.isfinite(result)
        if lost.any():
            raise _does_not_fit(where, found[lost].flat[0], wanted, "no such magnitude")
    return result


def _does_not_fit(where: str, value: Any, wanted: Any, held: str) -> StepMismatchError:
    return StepMismatchError(
        f"{where}: found the value {value!s:.200}, wanted {_describe(wanted)}, which holds "
        f"{held}. Nothing was stored."
    )


def difference(spec: Any, step: Any, path: str = "") -> str:
    """Where and how `step` first leaves the structure of `spec`, in words."""
    where = f"at {path[1:]!r}" if path else "at the root"
    if isinstance(spec, Mapping):
        if not isinstance(step, Mapping):
            return f"{where}: found {_kind(step)}, wanted a mapping with keys {_keys(spec)}"
        missing = [key for key in spec if key not in step]
        extra = [key for key in step if key not in spec]
        if missing or extra:
            parts = [f"missing keys {missing!r:.200}"] if missing else []
            parts += [f"unknown keys {extra!r:.200}"] if extra else []
            return f"{where}: {', '.join(parts)}; wanted the keys {_keys(spec)}"
        pairs = [(key, spec[key], step[key]) for key in spec]
    elif isinstance(spec, tuple | list):
        named = hasattr(spec, "_fields")
        if type(step) is not type(spec) and (named or not isinstance(step, type(spec))):
            return f"{where}: found {_kind(step)}, wanted {_kind(spec)}"
        if len(step) != len(spec):
            return f"{where}: found {len(step)} entries, wanted {len(spec)}"
        names: Any = getattr(spec, "_fields", range(len(spec)))
        pairs = [(name, a, b) for name, a, b in zip(names, spec, step, strict=True)]
    elif spec is None and step is not None:
        return f"{where}: found {_kind(step)}, wanted None"
    else:
        return ""  # a leaf: anything may stand here
    for name, inner_spec, inner_step in pairs:
        found = difference(inner_spec, inner_step, f"{path}/{escaped(name)}")
        if found:
            return found
    if type(spec) is not type(step):
        return f"{where}: found {_kind(step)}, wanted {_kind(spec)}"
    return ""


def _kind(value: Any) -> str:
    cls = type(value)
    if isinstance(value, Mapping):
        return f"{cls.__name__} with keys {_keys(value)}"
    if isinstance(value, tuple | list):
        return f"{cls.__module__}.{cls.__name__} of {len(value)}"
    return f"{cls.__name__}"


def _keys(mapping: Mapping[Any, Any]) -> str:
    return f"{list(mapping)!r:.200}"


def _describe(spec: Any) -> str:
    return f"{spec.dtype} of shape {spec.shape}"
