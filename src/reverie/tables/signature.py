"""Whether a trajectory is what its table's signature asks for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from reverie.errors import CheckpointError, InvalidArgumentError, SpecError
from reverie.nests import structure
from reverie.nests.codec import TensorSpec, decode_nest, encode_nest
from reverie.nests.difference import columns_apart
from reverie.nests.nest import Nest
from reverie.nests.specs import escaped
from reverie.nests.structure import Path
from reverie.tables.cells import CellSpec, dtype_name, shape_name

Raised = TypeVar("Raised", bound=Exception)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One column of a signature.

    Attributes:
        path: of the leaf in the signature.
        dtype: object for texts.
        shape: with None for an extent that may be any; None for any shape.
    """

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...] | None

    def takes(self, dtype: np.dtype[Any], shape: Sequence[int]) -> bool:
        """Whether data of this dtype and shape fits."""
        if dtype != self.dtype:
            return False
        if self.shape is None:
            return True
        pairs = zip(self.shape, shape, strict=False)
        return len(shape) == len(self.shape) and all(a is None or a == b for a, b in pairs)

    def takes_step(self, dtype: np.dtype[Any], shape: Sequence[int]) -> bool:
        """Whether a run of steps, each of this dtype and shape, may be its data."""
        any_steps = self.shape and (None, *self.shape[1:])
        return self.shape != () and replace(self, shape=any_steps).takes(dtype, (1, *shape))

    def __str__(self) -> str:
        return f"{dtype_name(self.dtype)} {shape_name(self.shape)}"


def columns_of(signature: Any) -> tuple[Wanted, ...]:
    """The columns of a signature, any nest of leaves with a shape and a dtype."""
    return tuple(
        Wanted(path, _dtype(leaf.dtype), _shape(leaf.shape))
        for path, leaf in structure.flatten_with_path(signature)
    )


def item_signature(nest: Nest) -> Any:
    """The signature of items that are runs of steps; None where it has no words for them.

    A nest that Reverb's users cannot take apart as we do (with None, or nodes that only
    optree knows) has none, nor has one that no checkpoint could give back.
    """
    specs = [TensorSpec((None, *c.spec.shape), c.spec.dtype) for c in nest.columns]
    signature = nest.unflatten(specs)
    try:
        same = structure.flatten(signature) == specs
        decode_nest(encode_nest(signature), "signature", lambda *_: None)
    except (TypeError, ValueError, CheckpointError):
        same = False
    return signature if same else None


def step_spec(signature: Any) -> Any:
    """A step of items with this signature, as a nest of specs; None where that is open.

    So it is where a leaf has no time axis, or another extent that may be any.
    """
    leaves = []
    for column in columns_of(signature):
        if not column.shape or None in column.shape[1:]:
            return None
        leaves.append(TensorSpec(column.shape[1:], column.dtype))
    return structure.unflatten_as(signature, leaves)


def checked_signature(signature: Any) -> Any:
    """`signature`, or None for an empty nest.

    Raises:
        SpecError: a leaf has no shape and dtype, or is data and no description of it.
    """
    if signature is None:
        return None
    leaves = structure.flatten_with_path(signature)
    for path, leaf in leaves:
        if not _describes_an_array(leaf):
            raise SpecError(
                f"Unsupported signature spec: {leaf!r:.200} of type {type(leaf).__name__} at "
                f"{'/'.join(map(str, path)) or 'the root':.200}; wanted something with a shape "
                "and a dtype, such as a tf.TensorSpec or a reverb.reverb_types.TensorSpec."
            )
    return signature if leaves else None


def _describes_an_array(leaf: Any) -> bool:
    if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")) or isinstance(leaf, type):
        return False
    names = {cls.__name__ for cls in type(leaf).__mro__}
    # Of TensorFlow's type specs only this one describes one dense tensor.
    other_type_spec = "TypeSpec" in names and "TensorSpec" not in names
    return not (hasattr(leaf, "__array__") or other_type_spec)


def check_trajectory(table: str, signature: Any, found: Sequence[CellSpec]) -> None:
    """Refuses an item that the signature of its table does not describe.

    Args:
        table: its name.
        signature: of the table.
        found: dtype and shape of each column, the time axis included.

    Raises:
        InvalidArgumentError: the number of columns, a dtype or a shape differs; names
            the column and its path, what was found and wanted.
    """
    wanted = columns_of(signature)
    start = (
        f"Unable to create item in table '{table}' since the provided trajectory is "
        "inconsistent with the table signature. "
    )
    if len(wanted) != len(found):
        raise _refusal(
            f"{start}The trajectory has {len(found)} columns but the table signature has "
            f"{len(wanted)} columns.",
            wanted,
            found,
        )
    for i, (want, got) in enumerate(zip(wanted, found, strict=True)):
        if not want.takes(got.dtype, got.shape):
            raise _refusal(
                f"{start}The table expects column {i} to be a {want} tensor but got a "
                f"{dtype_name(got.dtype)} {shape_name(got.shape)} tensor. In the signature it "
                f"is the leaf {want.path!r:.200}.",
                wanted,
                found,
            )


def check_steps(table: str, signature: Any, found: Sequence[CellSpec], length: int) -> None:
    """As `check_trajectory`, for the legacy writer.

    A signature may describe its items, or one step of them, column by column.

    Args:
        table: its name.
        signature: of the table.
        found: dtype and shape of each leaf of a step.
        length: steps of the item.

    Raises:
        InvalidArgumentError: as `check_trajectory`.
    """
    wanted = columns_of(signature)
    start = (
        f"Unable to CreateItem in table '{table}' because Append was called with a tensor "
        "signature inconsistent with the table signature. "
    )
    if len(wanted) != len(found):
        raise _refusal(
            f"{start}Append was called with {len(found)} tensors, but table requires "
            f"{len(wanted)} tensors per entry.",
            wanted,
            found,
        )
    for i, (want, got) in enumerate(zip(wanted, found, strict=True)):
        whole = (length, *got.shape)
        if not (want.takes(got.dtype, got.shape) or want.takes(got.dtype, whole)):
            raise _refusal(
                f"{start}At flattened index {i}, saw a tensor of dtype "
                f"{dtype_name(got.dtype)}, shape {shape_name(got.shape)}, but expected tensor "
                f"{want.path!r:.200} of dtype {dtype_name(want.dtype)} and shape compatible "
                f"with {shape_name(want.shape)}.",
                wanted,
                found,
            )


def with_names(
    error: Raised, found: Iterable[Path], wanted: Iterable[Path] | None = None
) -> Raised:
    """The same error, which also says what columns are missing and unknown if some are.

    Args:
        error: of those who know columns by their numbers alone.
        found: paths of the columns that were refused.
        wanted: paths of those that there should be; of errors of `check_trajectory` and
            `check_steps` they are known, and of all others None means not to look.
    """
    wanted = vars(error).get("_wanted", wanted)
    apart = "" if wanted is None else columns_apart(column_names(wanted), column_names(found))
    return type(error)(f"{error} In the names of its columns: {apart}.") if apart else error


def column_names(paths: Iterable[Path]) -> list[str]:
    """What columns at these paths are called; one that is the whole step is "value"."""
    return ["/".join(map(escaped, path)) or "value" for path in paths]


def _refusal(
    text: str, wanted: Sequence[Wanted], found: Sequence[CellSpec]
) -> InvalidArgumentError:
    want = ", ".join(f"{i}: {column.path} {column}" for i, column in enumerate(wanted))
    got = ", ".join(
        f"{i}: {dtype_name(column.dtype)} {shape_name(column.shape)}"
        for i, column in enumerate(found)
    )
    error = InvalidArgumentError(
        f"{text}\n\nThe table signature is:\n\t{want:.2000}"
        f"\n\nThe provided trajectory signature is:\n\t{got:.2000}.\n"
    )
    vars(error)["_wanted"] = [column.path for column in wanted]
    return error


def _dtype(dtype: Any) -> np.dtype[Any]:
    if getattr(dtype, "name", None) == "string":  # TensorFlow's own
        return np.dtype(object)
    found: np.dtype[Any] = np.dtype(getattr(dtype, "as_numpy_dtype", dtype))
    if found.kind in "USO":
        return np.dtype(object)
    return found if found.isnative else found.newbyteorder("=")


def _shape(shape: Any) -> tuple[int | None, ...] | None:
    if shape is None or getattr(shape, "rank", 0) is None:
        return None
    extents = (getattr(extent, "value", extent) for extent in shape)  # TF 1's Dimension
    return tuple(None if extent is None else int(extent) for extent in extents)
