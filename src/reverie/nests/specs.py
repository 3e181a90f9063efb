"""Data specs: what one step looks like, leaf by leaf.

A data spec is a nest (any pytree) whose leaves have a shape and a dtype. This
module turns whatever the user's framework calls that (`tf.TensorSpec`, dm_env
specs, gymnasium spaces, `jax.ShapeDtypeStruct`, NumPy arrays) into `ArraySpec`
leaves, by their attributes alone: no framework is imported.
"""

from __future__ import annotations

import collections
import contextlib
import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optree
from numpy.typing import DTypeLike

from reverie.errors import SpecError

# NumPy's own bools, integers, floats and complex numbers, but for long doubles, whose width
# depends on the machine.
_OWN_DTYPES = frozenset(np.dtype(code).num for code in "?bBhHiIlLqQefdFD")
_FIRST_FOREIGN = 256  # among the numbers of dtypes: NPY_USERDEF
# NumPy dtypes that the package ml_dtypes adds, JAX's among them; with their bytes. Those of
# less than eight bits take a byte each.
EXTENSION_DTYPES = {
    "bcomplex32": 4,
    "bfloat16": 2,
    "complex32": 4,
    "float4_e2m1fn": 1,
    "float6_e2m3fn": 1,
    "float6_e3m2fn": 1,
    "float8_e3m4": 1,
    "float8_e4m3": 1,
    "float8_e4m3b11fnuz": 1,
    "float8_e4m3fn": 1,
    "float8_e4m3fnuz": 1,
    "float8_e5m2": 1,
    "float8_e5m2fnuz": 1,
    "float8_e8m0fnu": 1,
    "int1": 1,
    "int2": 1,
    "int4": 1,
    "uint1": 1,
    "uint2": 1,
    "uint4": 1,
}
_MAX_NDIM = 30  # two more, batch and time, and NumPy's oldest limit of 32 is reached
_MAX_RECORD_NBYTES = 2**31 - 1  # NumPy's limit for a structured dtype
_WAY_OUT = (
    "Every leaf of a data spec needs a fixed shape and a numeric dtype, for example "
    "reverie.ArraySpec((3,), np.float32)."
)


@dataclass(frozen=True, slots=True, init=False)
class ArraySpec:
    """Shape and dtype of one leaf of a step.

    Attributes:
        shape: extents, all known and not negative; `()` for a scalar.
        dtype: a bool, integer, float or complex dtype of at most 16 bytes, NumPy's or one
            that ml_dtypes 0.6 adds (`EXTENSION_DTYPES`); kept in native byte order.
        name: for the reader only; columns are named by their path in the nest.

    Raises:
        SpecError: the shape or the dtype cannot be stored in a fixed-width record.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    name: str | None = None

    def __init__(self, shape: Sequence[int], dtype: DTypeLike, name: str | None = None) -> None:
        """Brings shape and dtype into their canonical form."""
        object.__setattr__(self, "shape", _shape(shape))
        object.__setattr__(self, "dtype", _dtype(dtype))
        object.__setattr__(self, "name", name)

    @property
    def nbytes(self) -> int:
        """Bytes of the leaf in one record."""
        return self.dtype.itemsize * math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Column:
    """One leaf of the spec: its path in the nest, such as `observation/position`."""

    path: str
    spec: ArraySpec


def dtype_named(name: str) -> np.dtype[Any]:
    """NumPy's dtype of this name; brings in ml_dtypes where that alone has it.

    Raises:
        TypeError: there is none here.
    """
    if name in EXTENSION_DTYPES:
        with contextlib.suppress(ImportError, AttributeError):
            import ml_dtypes  # here, so that `import reverie` is quick

            name = getattr(ml_dtypes, name)  # NumPy's own table has it only from then on
    return np.dtype(name)


def is_storable(dtype: np.dtype[Any]) -> bool:
    """Whether a cell may be of this dtype, in whichever byte order."""
    return dtype.num in _OWN_DTYPES or is_extension(dtype)


def is_extension(dtype: np.dtype[Any]) -> bool:
    """Whether it is one of ml_dtypes'."""
    # By its number first, as the name takes microseconds.
    return dtype.num >= _FIRST_FOREIGN and dtype.name in EXTENSION_DTYPES


def kind_of(dtype: np.dtype[Any]) -> str:
    """`dtype.kind`; of ml_dtypes' own, which are mostly "V" to NumPy, what they mean."""
    kind: str = dtype.kind
    return dtype.name.removeprefix("b")[0] if is_extension(dtype) else kind


def array_spec_nest(data_spec: Any) -> Any:
    """The same nest with an `ArraySpec` at each leaf.

    gymnasium's `Dict` and `Tuple` spaces become dicts and tuples, the form in
    which their samples come.

    Raises:
        SpecError: a leaf has no shape or dtype, or none that can be stored; the
            message holds its path.
    """
    return _convert(data_spec, "")


def columns_of(spec_nest: Any) -> tuple[Column, ...]:
    """The columns of a nest of `ArraySpec`s, in flattened order.

    Raises:
        SpecError: there is no leaf, or all leaves together have no byte or 2 GiB and
            more; or two leaves have the same path.
    """
    accessors, leaves, _ = optree.tree_flatten_with_accessor(spec_nest)
    columns = tuple(
        Column(path_of(accessor), leaf)
        for accessor, leaf in zip(accessors, leaves, strict=True)
    )
    nbytes = sum(column.spec.nbytes for column in columns)
    if not nbytes:
        raise SpecError(f"The data spec {spec_nest!r:.200} has no leaf with data. {_WAY_OUT}")
    if nbytes > _MAX_RECORD_NBYTES:
        widest = max(columns, key=lambda column: column.spec.nbytes)
        raise SpecError(
            f"A step of this data spec has {nbytes} bytes, {widest.spec.nbytes} of them in "
            f"leaf {widest.path!r:.200}; wanted at most {_MAX_RECORD_NBYTES}."
        )
    for path, count in collections.Counter(column.path for column in columns).items():
        if count > 1:
            raise SpecError(
                f"{count} leaves of the data spec have the path {path!r:.200}, as the keys 1 "
                "and '1' would. Rename one: paths are the names of columns in checkpoints."
            )
    return columns


def path_of(accessor: Any) -> str:
    """`observation/0/position` for an optree accessor; `value` for the root itself."""
    parts = [escaped(getattr(entry, "field", entry.entry)) for entry in accessor]
    return "/".join(parts) or "value"


def escaped(key: object) -> str:
    """A key as part of a path: `~` as `~0` and `/` as `~1`, as JSON pointers have it."""
    return str(key).replace("~", "~0").replace("/", "~1")


def record_dtype(columns: tuple[Column, ...]) -> np.dtype[Any]:
    """The packed structured dtype of a stored step; its fields are the paths."""
    return np.dtype([(c.path, c.spec.dtype, c.spec.shape) for c in columns])


def _convert(node: Any, path: str) -> Any:
    spaces = getattr(node, "spaces", None)
    if isinstance(spaces, Mapping):
        return {key: _convert(space, f"{path}/{escaped(key)}") for key, space in spaces.items()}
    # A OneOf has spaces, too, but its samples are (index, sample) of changing shape.
    if isinstance(spaces, tuple | list) and isinstance(node, Sequence):
        return tuple(_convert(space, f"{path}/{i}") for i, space in enumerate(spaces))
    if hasattr(node, "shape") and hasattr(node, "dtype") and not isinstance(node, type):
        return _leaf(node, path)
    children, treespec = optree.tree_flatten(node, is_leaf=lambda child: child is not node)
    if treespec.num_leaves == 1 and treespec.is_leaf():
        raise SpecError(
            f"{_where(path)}: found {node!r:.200} of type {type(node).__name__}, which has no "
            f"shape and dtype. {_WAY_OUT}"
        )
    names = [path_of(accessor) for accessor in treespec.accessors()]
    return treespec.unflatten(
        _convert(child, f"{path}/{name}") for child, name in zip(children, names, strict=True)
    )


def _leaf(leaf: Any, path: str) -> ArraySpec:
    # gymnasium's Text, Sequence, Graph and OneOf: no framework is asked what a space is.
    if leaf.shape is None and hasattr(leaf, "sample") and hasattr(leaf, "contains"):
        raise SpecError(
            f"{_where(path)}: found a {type(leaf).__name__} space, whose samples differ in "
            "shape and cannot be stored. Describe arrays of a fixed shape instead, padded to "
            f"the longest sample. {_WAY_OUT}"
        )
    try:
        name = getattr(leaf, "name", None)
        return ArraySpec(
            leaf.shape, leaf.dtype, name if name and isinstance(name, str) else None
        )
    except SpecError as error:
        raise SpecError(f"{_where(path)}: {error}") from None


def _where(path: str) -> str:
    return f"Data spec leaf {path.lstrip('/') or 'value'!r}"


def _shape(shape: Any) -> tuple[int, ...]:
    try:
        # A TensorShape of unknown rank raises here, an unknown extent is None.
        extents = tuple(_extent(extent) for extent in shape)
    except (TypeError, ValueError):
        raise SpecError(
            f"shape {shape!r:.200}: wanted a tuple of integers, all known. {_WAY_OUT}"
        ) from None
    if any(extent < 0 for extent in extents):
        raise SpecError(f"shape {extents!r:.200} has a negative extent. {_WAY_OUT}")
    if len(extents) > _MAX_NDIM:
        raise SpecError(f"a shape of {len(extents)} axes: wanted at most {_MAX_NDIM}.")
    return extents


def _extent(extent: Any) -> int:
    if isinstance(extent, bool):
        raise TypeError("a bool is no extent")
    return operator.index(extent)


def _dtype(dtype: Any) -> np.dtype[Any]:
    try:
        # TensorFlow's dtypes say which NumPy dtype they are. None would mean float64.
        found = None if dtype is None else np.dtype(getattr(dtype, "as_numpy_dtype", dtype))
    except TypeError:
        found = None
    if found is None or not is_storable(found):
        raise SpecError(
            f"dtype {dtype!r:.200} cannot be stored: wanted a bool, integer, float or complex "
            f"dtype of fixed width, NumPy's or ml_dtypes'. {_WAY_OUT}"
        )
    native: np.dtype[Any] = found.newbyteorder("=")
    return native
