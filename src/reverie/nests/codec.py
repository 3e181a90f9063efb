"""A table's signature as JSON, and back: nests of tensor descriptions, no protobuf.

["spec", dtype, [extent or null, ...] or null, name]
["dict", key, node, key, node, ...]     ["list", node, ...]     ["tuple", node, ...]
["namedtuple", name, field, node, ...]  ["none"]
"""

from __future__ import annotations

import collections
import keyword
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reverie.errors import (
    CheckpointCorruptError,
    CheckpointMismatchError,
    InvalidArgumentError,
)

_MAX_DEPTH = 24  # with the manifest's own levels less than the 32 of its JSON
_NAME = re.compile("[A-Za-z][A-Za-z0-9_]{0,99}")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A leaf of a signature, where TensorFlow is not loaded.

    Attributes:
        shape: extents, None for an unknown one; None for an unknown rank.
        dtype: as NumPy has it; texts are object.
        name: "" for none.
    """

    shape: tuple[int | None, ...] | None
    dtype: np.dtype[Any]
    name: str = ""


def encode_signature(nest: Any) -> object:
    """A signature as a JSON value; None stays None.

    Args:
        nest: dicts, lists, tuples, namedtuples and None over anything that has a
            shape and a dtype.

    Raises:
        InvalidArgumentError: it holds anything else, or is nested deeper than 24.
    """
    return None if nest is None else _encode(nest, 0)


def _encode(node: Any, depth: int) -> list[object]:
    if depth > _MAX_DEPTH:
        raise InvalidArgumentError(
            f"A signature is nested deeper than {_MAX_DEPTH} levels; it cannot be saved."
        )
    if node is None:
        return ["none"]
    if hasattr(node, "shape") and hasattr(node, "dtype"):
        return _encode_spec(node)
    if isinstance(node, Mapping):
        keys = list(node)
        if not all(type(key) in (str, int) for key in keys):
            raise InvalidArgumentError(
                f"A signature has a dict with the keys {keys!r:.200}; only str and int can be "
                "saved."
            )
        return [
            "dict",
            *(part for key in keys for part in (key, _encode(node[key], depth + 1))),
        ]
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        pairs = zip(node._fields, node, strict=True)
        parts = (part for key, child in pairs for part in (key, _encode(child, depth + 1)))
        return ["namedtuple", type(node).__name__, *parts]
    if isinstance(node, (list, tuple)):
        kind = "tuple" if isinstance(node, tuple) else "list"
        return [kind, *(_encode(child, depth + 1) for child in node)]
    raise InvalidArgumentError(
        f"A signature holds {node!r:.200} of type {type(node).__name__}; it can be saved with "
        "dicts, lists, tuples and namedtuples of things that have a shape and a dtype."
    )


def _encode_spec(spec: Any) -> list[object]:
    unknown = spec.shape is None or getattr(spec.shape, "rank", 0) is None
    extents = None if unknown else [e if e is None else int(e) for e in spec.shape]
    name = getattr(spec, "name", None)
    return ["spec", _dtype_name(spec.dtype), extents, name if isinstance(name, str) else ""]


def _dtype_name(dtype: Any) -> str:
    name = getattr(dtype, "name", None)
    if not isinstance(dtype, np.dtype) and isinstance(name, str):
        return "object" if name == "string" else name  # TensorFlow's own
    try:
        known = np.dtype(dtype)
    except TypeError as error:
        raise InvalidArgumentError(
            f"A signature has the dtype {dtype!r:.200}, which NumPy does not know."
        ) from error
    return "object" if known.kind in "SUO" else known.name


def decode_signature(value: object, where: str) -> Any:
    """The nest of a JSON value that `encode_signature` made; None stays None.

    Leaves are `tf.TensorSpec` where TensorFlow is loaded, else `TensorSpec`.

    Raises:
        CheckpointCorruptError: the value is none of these; names `where`.
        CheckpointMismatchError: a dtype needs a package that is not loaded.
    """
    return None if value is None else _decode(value, where, 0)


def _decode(value: object, where: str, depth: int) -> Any:
    if depth > _MAX_DEPTH or not isinstance(value, list) or not value:
        raise _bad(where, value)
    kind, parts = value[0], value[1:]
    if kind == "none" and not parts:
        return None
    if kind == "spec" and len(parts) == 3:
        return _decode_spec(parts, where)
    if kind in ("list", "tuple"):
        children = [_decode(part, where, depth + 1) for part in parts]
        return children if kind == "list" else tuple(children)
    if kind == "dict":
        return dict(_pairs(value, parts, where, depth))
    if kind == "namedtuple" and parts:
        pairs = list(_pairs(value, parts[1:], where, depth))
        names = [parts[0], *(name for name, _ in pairs)]
        # Plain identifiers only: the standard library makes a class out of them.
        if not all(
            type(name) is str and _NAME.fullmatch(name) and not keyword.iskeyword(name)
            for name in names
        ):
            raise _bad(where, value)
        made: Any = collections.namedtuple(names[0], names[1:])  # type: ignore[misc]
        return made(*(child for _, child in pairs))
    raise _bad(where, value)


def _pairs(
    value: object, parts: Sequence[Any], where: str, depth: int
) -> Iterator[tuple[Any, Any]]:
    keys = parts[::2]
    known = all(type(key) in (str, int) for key in keys)
    if len(parts) % 2 or not known or len(set(keys)) != len(keys):
        raise _bad(where, value)
    for key, part in zip(keys, parts[1::2], strict=True):
        yield key, _decode(part, where, depth + 1)


def _decode_spec(parts: Sequence[Any], where: str) -> Any:
    dtype, extents, name = parts
    sound = type(dtype) is str and type(name) is str and len(name) <= 1000
    if not sound or not (extents is None or isinstance(extents, list)):
        raise _bad(where, parts)
    for extent in extents or ():
        if extent is not None and not (type(extent) is int and 0 <= extent < 1 << 63):
            raise _bad(where, parts)
    return make_spec(None if extents is None else tuple(extents), dtype, name, where)


def make_spec(shape: tuple[int | None, ...] | None, dtype: str, name: str, where: str) -> Any:
    """A leaf of a signature: `tf.TensorSpec` where TensorFlow is loaded, else `TensorSpec`.

    Args:
        shape: as `TensorSpec` has it.
        dtype: NumPy's name of it, `object` for texts, or TensorFlow's of a quantized one.
        name: "" for none.
        where: the place, for messages.

    Raises:
        CheckpointMismatchError: nothing here knows the dtype.
    """
    tensorflow: Any = sys.modules.get("tensorflow")
    try:
        if hasattr(tensorflow, "TensorSpec"):
            known = tensorflow.as_dtype("string" if dtype == "object" else dtype)
            return tensorflow.TensorSpec(shape, known, name or None)
        if not re.fullmatch("object|[a-z]+[a-z0-9_]{0,40}", dtype):
            raise TypeError("no name of a dtype")
        return TensorSpec(shape, np.dtype(dtype), name)
    except (TypeError, ValueError) as error:
        raise CheckpointMismatchError(
            f"{where}: a signature with the dtype {dtype!r:.100}, which is not known here. "
            "Import ml_dtypes for bfloat16 and 8-bit floats, TensorFlow for quantized types."
        ) from error


def _bad(where: str, found: object) -> CheckpointCorruptError:
    return CheckpointCorruptError(f"{where}: a malformed signature, found {found!r:.200}.")
