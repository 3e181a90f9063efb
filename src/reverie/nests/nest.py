"""Nests: from a step to its leaves and back, checked against the data spec.

`Nest` is the one place that knows a spec's structure. The fast path is a single
call of optree; when a step does not match, the slow path finds out where and
says so, or casts a leaf whose dtype is merely convenient (float64 into float32).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import optree
from numpy.typing import NDArray

from reverie.errors import InvalidArgumentError, StepMismatchError
from reverie.nests.specs import (
    ArraySpec,
    Column,
    array_spec_nest,
    columns_of,
    escaped,
    record_dtype,
)
from reverie.nests.trajectory import LAST


class Boundary(NamedTuple):
    """Columns of a spec whose steps know where their episode ends; see `Trajectory`.

    Attributes:
        step_type: LAST in an episode's closing step, int32.
        next_step_type: int32.
        discount: 0 where the step before the boundary ended the episode for good,
            float32; -1 where there is no such column.
    """

    step_type: int
    next_step_type: int
    discount: int


class Nest:
    """The structure of one step: its columns, and how to flatten and rebuild it.

    Columns stand in Reverb's order, that of dm-tree: the keys of every mapping sorted,
    of an OrderedDict, too. Immutable, hence free to share between threads.

    Attributes:
        spec: the data spec with `ArraySpec` leaves.
        columns: its leaves by path, in that order.
        types: their dtypes and shapes: the layout of a step, as the core wants it.
        record_dtype: packed structured dtype of a stored step.
        boundary: where a Trajectory-like step says that it is one, else None.
        flatten_up_to: the leaves of a step in that order; raises ValueError or
            TypeError where its structure is another, see `explain`.

    Raises:
        SpecError: the spec cannot be stored; the message holds the path.
    """

    def __init__(self, data_spec: Any) -> None:
        self.spec = array_spec_nest(data_spec)
        columns = columns_of(self.spec)
        self._treespec: Any = optree.tree_structure(self.spec)
        self.flatten_up_to: Callable[[Any], list[Any]] = self._treespec.flatten_up_to
        order = _sorted_leaves(self._treespec.unflatten(range(len(columns))))
        self._place: list[int] | None = None  # of optree's i-th leaf, where that is not i
        if order != sorted(order):
            self._place = sorted(range(len(order)), key=order.__getitem__)
            natural = self.flatten_up_to

            def flatten_up_to(step: Any) -> list[Any]:
                leaves = natural(step)
                return [leaves[i] for i in order]

            self.flatten_up_to = flatten_up_to
        self.columns: tuple[Column, ...] = tuple(columns[i] for i in order)
        self.types = [(column.spec.dtype, column.spec.shape) for column in self.columns]
        self.record_dtype = record_dtype(self.columns)
        self.boundary = _boundary(self.spec, self.columns)

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
        if self._place is not None:
            leaves = [leaves[i] for i in self._place]
        return self._treespec.unflatten(leaves)

    def out_leaves(self, out: Any, leading: Sequence[tuple[int, ...]]) -> list[Any]:
        """The arrays of `out`, fit to be filled with a batch.

        Args:
            out: a nest of arrays.
            leading: for each column the axes before those of a step.

        Raises:
            InvalidArgumentError: its structure, a dtype or a shape differs.
        """
        found = self.difference(out)
        if found:
            raise InvalidArgumentError(f"out does not match the data spec {found}.")
        leaves = self.flatten_up_to(out)
        for leaf, column, axes in zip(leaves, self.columns, leading, strict=True):
            wanted = (*axes, *column.spec.shape)
            if (
                not isinstance(leaf, np.ndarray)
                or (leaf.shape, leaf.dtype) != (wanted, column.spec.dtype)
                or not (leaf.flags.c_contiguous and leaf.flags.writeable and leaf.flags.aligned)
            ):
                kind = (
                    f"{leaf.dtype} array of shape {leaf.shape}"
                    if isinstance(leaf, np.ndarray)
                    else type(leaf).__name__
                )
                raise InvalidArgumentError(
                    f"out leaf {column.path!r}: found {kind}; wanted a writeable, "
                    f"C-contiguous {column.spec.dtype} array of shape {wanted}."
                )
        return leaves

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


def _sorted_leaves(node: Any) -> list[int]:
    """The numbers at the leaves of a nest, in dm-tree's order; None has no leaf."""
    if isinstance(node, int):
        return [node]
    if isinstance(node, Mapping):
        return [leaf for key in _sorted_keys(node) for leaf in _sorted_leaves(node[key])]
    if isinstance(node, tuple | list):
        return [leaf for child in node for leaf in _sorted_leaves(child)]
    return [leaf for leaf in optree.tree_leaves(node) if leaf is not None]


def _sorted_keys(keys: Iterable[Any]) -> list[Any]:
    try:
        return sorted(keys)
    except TypeError:  # dm-tree refuses these; optree goes by their types first
        try:
            return sorted(keys, key=lambda key: (_type_name(key), key))
        except TypeError:
            return list(keys)


def _type_name(key: Any) -> str:
    return f"{type(key).__module__}.{type(key).__qualname__}"


def _boundary(spec: Any, columns: tuple[Column, ...]) -> Boundary | None:
    """Where a `Trajectory`-like spec keeps its step types; None for other nests.

    A named tuple counts as one if it has int32 scalars `step_type` and
    `next_step_type` and a method `is_boundary`, as TF-Agents' Trajectory has.
    """
    fields = getattr(type(spec), "_fields", ())
    if not {"step_type", "next_step_type"} <= set(fields) or not callable(
        getattr(spec, "is_boundary", None)
    ):
        return None

    def scalar(name: str, dtype: type[np.generic]) -> bool:
        leaf = getattr(spec, name, None)
        return isinstance(leaf, ArraySpec) and leaf.shape == () and leaf.dtype == dtype

    if not (scalar("step_type", np.int32) and scalar("next_step_type", np.int32)):
        return None
    paths = [column.path for column in columns]
    discount = paths.index("discount") if scalar("discount", np.float32) else -1
    return Boundary(paths.index("step_type"), paths.index("next_step_type"), discount)


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
    if np.ma.is_masked(leaf):
        raise StepMismatchError(
            f"{where}: found a masked array, whose mask would be lost; wanted "
            f"{_describe(wanted)}. Pass its filled(value). Nothing was stored."
        )
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
            "Not every such value has its like there: convert it yourself, as with "
            f"np.asarray(value, {wanted.dtype.name!r}), if the loss is meant. "
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
        if named and type(step) is not type(spec) and _kind(step) == _kind(spec):
            return (
                f"{where}: found another class of the same name, {_kind(step)}: was its "
                "notebook's cell run again, or its module reloaded? Make the data "
                "spec of the class that the steps have"
            )
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
