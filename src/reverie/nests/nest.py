"""Nests: from a step to its leaves and back, checked against the data spec.

`Nest` is the one place that knows a spec's structure. The fast path is a single
call of optree; when a step does not match, `difference` says where. Leaves are
checked by the core; those that it cannot take go through `casts.convert`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import optree

from reverie.errors import InvalidArgumentError, StepMismatchError
from reverie.nests.difference import difference
from reverie.nests.specs import (
    ArraySpec,
    Column,
    array_spec_nest,
    columns_of,
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
        unflatten: the nest with these leaves, one per column.

    Raises:
        SpecError: the spec cannot be stored; the message holds the path.
    """

    def __init__(self, data_spec: Any) -> None:
        self.spec = array_spec_nest(data_spec)
        columns = columns_of(self.spec)
        self._treespec: Any = optree.tree_structure(self.spec)
        self.flatten_up_to: Callable[[Any], list[Any]] = self._treespec.flatten_up_to
        self.unflatten: Callable[[Sequence[Any]], Any] = self._treespec.unflatten
        order = _sorted_leaves(self._treespec.unflatten(range(len(columns))))
        if order != sorted(order):
            place = sorted(range(len(order)), key=order.__getitem__)  # of optree's i-th leaf
            flatten, build = self.flatten_up_to, self.unflatten

            def flatten_up_to(step: Any) -> list[Any]:
                leaves = flatten(step)
                return [leaves[i] for i in order]

            def unflatten(leaves: Sequence[Any]) -> Any:
                return build([leaves[i] for i in place])

            self.flatten_up_to, self.unflatten = flatten_up_to, unflatten
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
