"""What the datasets and `TFClient` share: columns, their checks, and TensorFlow's errors."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reverie.errors import InvalidArgumentError
from reverie.nests import structure
from reverie.reverb.replay_sample import SampleInfo
from reverie.runtime.optional import require
from reverie.tables.cells import dtype_name, shape_name

tf: Any = require("tensorflow", "tf", "The TensorFlow part of reverb")

INFO_DTYPES = tuple(np.dtype(t) for t in ("u8", "f8", "i8", "f8", "i4"))
NUM_INFO = len(SampleInfo._fields)


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """What a column is declared to hold.

    Attributes:
        name: its path in the nest, such as "observation/camera"; "" for a nest that is
            one leaf.
        dtype: object for strings.
        shape: None for any; a size of None for any.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...] | None

    def accepts(self, dtype: np.dtype[Any], shape: tuple[int | None, ...] | None) -> bool:
        """Whether such an array, or column, may stand here."""
        if dtype != self.dtype and not (self.dtype == object and dtype.kind in "OSU"):
            return False
        if self.shape is None or shape is None:
            return True
        return len(shape) == len(self.shape) and all(
            wanted == size or wanted is None or size is None
            for wanted, size in zip(self.shape, shape, strict=True)
        )

    def __str__(self) -> str:
        """`(float, [?,3])`."""
        return f"({dtype_name(self.dtype)}, {shape_name(self.shape)})"


def as_column(name: str, dtype: Any, shape: Any) -> Column:
    """A `Column` of TensorFlow's dtype and shape.

    Raises:
        TypeError, ValueError: TensorFlow knows no such dtype or shape.
    """
    static = tf.TensorShape(shape)
    return Column(
        name,
        np.dtype(tf.as_dtype(dtype).as_numpy_dtype),
        None if static.rank is None else tuple(static.as_list()),
    )


def signature_columns(signature: Any) -> list[Column]:
    """The columns of a table's signature: a nest whose leaves have dtype and shape."""
    leaves = tf.nest.flatten(signature)
    return [
        as_column(name, leaf.dtype, leaf.shape)
        for name, leaf in zip(paths(signature), leaves, strict=True)
    ]


def check_requested(
    table: str, requested: Sequence[Column], signature: Sequence[Column] | None
) -> None:
    """Compares what a dataset declares with the table's signature.

    Raises:
        InvalidArgumentError: the number of columns, a dtype or a shape cannot agree.
    """
    if signature is None:
        return
    if len(requested) != len(signature):
        raise InvalidArgumentError(
            f"Inconsistent number of tensors requested from table '{table}'.  Requested "
            f"{len(requested)} tensors, but table signature shows {len(signature)} tensors.  "
            f"Table signature: {_listed(signature)}"
        )
    for index, (wanted, found) in enumerate(zip(requested, signature, strict=True)):
        if not found.accepts(wanted.dtype, wanted.shape):
            raise InvalidArgumentError(
                f"Requested incompatible tensor at flattened index {index} from table "
                f"'{table}'.  Requested (dtype, shape): {wanted}.  Signature (dtype, shape): "
                f"{found}.  It is column {found.name!r}.  Table signature: {_listed(signature)}"
            )


def check_received(table: str, columns: Sequence[Column], arrays: Sequence[Any]) -> None:
    """Compares a sampled item with what was declared.

    Raises:
        InvalidArgumentError: the number of columns, a dtype or a shape differs.
    """
    if len(columns) != len(arrays):
        found = [as_column("", array.dtype, array.shape) for array in arrays]
        raise InvalidArgumentError(
            f"Inconsistent number of tensors received from table '{table}'.  Specification "
            f"has {len(columns)} tensors, but data coming from the table shows {len(arrays)} "
            f"tensors.  Specification: {_listed(columns)}.  Data: {_listed(found)}"
        )
    for index, (column, array) in enumerate(zip(columns, arrays, strict=True)):
        if not column.accepts(array.dtype, array.shape):
            raise InvalidArgumentError(
                f"Received incompatible tensor at flattened index {index} from table "
                f"'{table}'.  Specification has (dtype, shape): {column}.  Tensor has (dtype, "
                f"shape): {as_column('', array.dtype, array.shape)}.  It is column "
                f"{column.name!r}.  Specification: {_listed(columns)}"
            )


def not_found(message: Any) -> Any:
    """A tensor whose op fails with NotFoundError and `message`, a scalar string tensor.

    TensorFlow's ops in Python can fail with few classes of error, this one not among
    them; reading a file that does not exist does.
    """
    # The first part of the path is short: over 255 bytes would be another error.
    return tf.io.read_file(tf.strings.join(["(reverb)/ ", tf.strings.substr(message, 0, 2000)]))


def internal_failure(message: str) -> Any:
    """What a `tf.numpy_function` returns to fail with InternalError and `message`.

    TensorFlow says "Unsupported object type", then the type's name.
    """
    return np.array(type(message.replace("\0", " "), (), {})(), object)


def as_text(value: Any) -> str:
    """A str from what TensorFlow makes of one: bytes, or an array of them."""
    value = value.item() if isinstance(value, np.ndarray) else value
    return value.decode() if isinstance(value, bytes) else str(value)


def lists_to_tuples(nest: Any) -> Any:
    """The same nest with tuples for its lists, which tf.data takes for tensors."""
    if isinstance(nest, tuple) and hasattr(nest, "_fields"):
        return type(nest)(*map(lists_to_tuples, nest))
    if isinstance(nest, (list, tuple)):
        return tuple(map(lists_to_tuples, nest))
    if isinstance(nest, Mapping):
        result: Any = copy.copy(nest)
        for key, value in nest.items():
            result[key] = lists_to_tuples(value)
        return result
    fields = getattr(type(nest), "__attrs_attrs__", None)
    if fields is not None:
        result = copy.copy(nest)
        for field in fields:
            object.__setattr__(result, field.name, lists_to_tuples(getattr(nest, field.name)))
        return result
    return nest


def paths(nest: Any) -> list[str]:
    """The path of each leaf, in the order in which `tf.nest.flatten` has the leaves."""
    return ["/".join(map(str, path)) for path, _ in structure.flatten_with_path(nest)]


def _listed(columns: Sequence[Column]) -> str:
    text = ", ".join(
        f"{index}: {column.name!r} {column}" for index, column in enumerate(columns)
    )
    return text if len(text) <= 1000 else text[:1000] + "..."
