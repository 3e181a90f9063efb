"""Nests of array descriptions as JSON, and back: signatures of tables, specs of steps.

["spec", dtype, [extent or null, ...] or null, name]
["dict", key, node, key, node, ...]     ["list", node, ...]     ["tuple", node, ...]
["namedtuple", name, field, node, ...]  ["none"]
"""

from __future__ import annotations

import collections
import contextlib
import keyword
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reverie.errors import (
    CheckpointCorruptError,
    CheckpointMismatchError,
    InvalidArgumentError,
    SpecError,
)
from reverie.nests.specs import ArraySpec, dtype_named
from reverie.nests.trajectory import Trajectory

Extents = tuple[int | None, ...] | None
"""A shape as it is written: None for an unknown extent, or for an unknown rank."""

MakeLeaf = Callable[[Extents, str, str, str], Any]
"""Makes a leaf of its extents, dtype, name ("" for none) and place, for messages."""

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

    shape: Extents
    dtype: np.dtype[Any]
    name: str = ""


def encode_nest(nest: Any) -> object:
    """A nest of array descriptions as a JSON value; None stays None.

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
            f"A nest is nested deeper than {_MAX_DEPTH} levels; it cannot be saved."
        )
    if node is None:
        return ["none"]
    if hasattr(node, "shape") and hasattr(node, "dtype"):
        return _encode_spec(node)
    if isinstance(node, Mapping):
        keys = list(node)
        if not all(
            type(key) is str or (type(key) is int and abs(key) < 1 << 63) for key in keys
        ):
            raise InvalidArgumentError(
                f"A nest has a dict with the keys {keys!r:.200}; only str and int (of 64 bits) "
                "can be saved."
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
        f"A nest holds {node!r:.200} of type {type(node).__name__}; it can be saved with "
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
            f"A nest has the dtype {dtype!r:.200}, which NumPy does not know."
        ) from error
    return "object" if known.kind in "SUO" else known.name


def decode_signature(value: object, where: str) -> Any:
    """The signature of a table, see `make_spec` for its leaves; raises as `decode_nest`."""
    return decode_nest(value, where, make_spec)


def make_spec(shape: Extents, dtype: str, name: str, where: str) -> Any:
    """A leaf of a signature: `tf.TensorSpec` where TensorFlow knows it, else `TensorSpec`.

    Args:
        shape: as `TensorSpec` has it.
        dtype: NumPy's name of it, `object` for texts, or TensorFlow's of a quantized one.
        name: "" for none.
        where: the place, for messages.

    Raises:
        CheckpointMismatchError: nothing here knows the dtype.
    """
    tensorflow: Any = sys.modules.get("tensorflow")
    if hasattr(tensorflow, "TensorSpec"):
        with contextlib.suppress(TypeError, ValueError):  # NumPy has dtypes of its own
            known = tensorflow.as_dtype("string" if dtype == "object" else dtype)
            return tensorflow.TensorSpec(shape, known, name or None)
    try:
        return TensorSpec(shape, _known_dtype(dtype), name)
    except (TypeError, ValueError) as error:
        raise _unknown(dtype, where) from error


def make_array_spec(shape: Extents, dtype: str, name: str, where: str) -> ArraySpec:
    """A leaf of a step's spec.

    Raises:
        CheckpointCorruptError: no step can hold such a leaf.
        CheckpointMismatchError: nothing here knows the dtype.
    """
    try:
        known = _known_dtype(dtype)
    except (TypeError, ValueError) as error:
        raise _unknown(dtype, where) from error
    try:
        return ArraySpec(shape, known, name or None)  # type: ignore[arg-type]
    except SpecError as error:
        raise CheckpointCorruptError(f"{where}: no spec of a step: {error!s:.200}") from error


def decode_nest(value: object, where: str, make_leaf: MakeLeaf = make_spec) -> Any:
    """The nest of a JSON value that `encode_nest` made; None stays None.

    A namedtuple of the name and the fields of `Trajectory` becomes one. Other
    namedtuples get a class of their own.

    Args:
        value: parsed JSON that nobody vouches for.
        where: the place, for messages.
        make_leaf: `make_spec` for a signature, `make_array_spec` for the spec of a step.

    Raises:
        CheckpointCorruptError: the value is none of these; names `where`.
        CheckpointMismatchError: a dtype needs a package that is not loaded.
    """
    return None if value is None else _Decoder(where, make_leaf).decode(value, 0)


@dataclass(frozen=True, slots=True)
class _Decoder:
    where: str
    make_leaf: MakeLeaf

    def decode(self, value: object, depth: int) -> Any:
        if depth > _MAX_DEPTH or not isinstance(value, list) or not value:
            raise _bad(self.where, value)
        kind, parts = value[0], value[1:]
        if kind == "none" and not parts:
            return None
        if kind == "spec" and len(parts) == 3:
            return self._leaf(parts)
        if kind in ("list", "tuple"):
            children = [self.decode(part, depth + 1) for part in parts]
            return children if kind == "list" else tuple(children)
        if kind == "dict":
            return dict(self._pairs(value, parts, depth))
        if kind == "namedtuple" and parts:
            return self._named(value, parts[0], dict(self._pairs(value, parts[1:], depth)))
        raise _bad(self.where, value)

    def _named(self, value: object, name: Any, children: dict[Any, Any]) -> Any:
        fields = tuple(children)
        if (name, fields) == (Trajectory.__name__, Trajectory._fields):
            return Trajectory(**children)
        # Plain identifiers only: the standard library makes a class out of them. It takes a
        # leading underscore in the name of the class alone.
        stem = name.removeprefix("_") if type(name) is str else name
        if not all(
            type(part) is str and _NAME.fullmatch(part) and not keyword.iskeyword(part)
            for part in (stem, *fields)
        ):
            raise _bad(self.where, value)
        made: Any = collections.namedtuple(name, fields)  # type: ignore[misc]
        return made(*children.values())

    def _pairs(
        self, value: object, parts: Sequence[Any], depth: int
    ) -> Iterator[tuple[Any, Any]]:
        keys = parts[::2]
        known = all(type(key) in (str, int) for key in keys)
        if len(parts) % 2 or not known or len(set(keys)) != len(keys):
            raise _bad(self.where, value)
        for key, part in zip(keys, parts[1::2], strict=True):
            yield key, self.decode(part, depth + 1)

    def _leaf(self, parts: Sequence[Any]) -> Any:
        dtype, extents, name = parts
        sound = type(dtype) is str and type(name) is str and len(name) <= 1000
        if not sound or not (extents is None or isinstance(extents, list)):
            raise _bad(self.where, parts)
        for extent in extents or ():
            if extent is not None and not (type(extent) is int and 0 <= extent < 1 << 63):
                raise _bad(self.where, parts)
        shape = None if extents is None else tuple(extents)
        return self.make_leaf(shape, dtype, name, self.where)


def _known_dtype(name: str) -> np.dtype[Any]:
    if not re.fullmatch("object|[a-z]+[a-z0-9_]{0,40}", name):
        raise TypeError("no name of a dtype")
    return dtype_named(name)


def _unknown(dtype: str, where: str) -> CheckpointMismatchError:
    return CheckpointMismatchError(
        f"{where}: a nest with the dtype {dtype!r:.100}, which is not known here. "
        "Run: pip install --upgrade ml_dtypes, for bfloat16 and other narrow numbers; or "
        "import TensorFlow, for quantized types."
    )


def _bad(where: str, found: object) -> CheckpointCorruptError:
    return CheckpointCorruptError(f"{where}: a malformed nest, found {found!r:.200}.")
