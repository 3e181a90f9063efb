"""Nests of specs as TensorFlow's StructuredValue messages, without TensorFlow."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from reverie.errors import CheckpointMismatchError, SpecError
from reverie.nests.codec import TensorSpec, make_spec
from reverie.proto.messages import DATA_TYPES, message_class

__all__ = ["TensorSpec", "decode", "encode"]

# NumPy's names of TensorFlow's dtypes where the two differ.
_NUMPY_NAMES = {"FLOAT": "float32", "DOUBLE": "float64", "HALF": "float16", "STRING": "object"}
_DTYPE_NUMBERS = {
    _NUMPY_NAMES.get(name, name.lower()): number for number, name in enumerate(DATA_TYPES)
}


def encode(nest: Any) -> Any:
    """A `StructuredValue` for a nest of specs, numbers, texts and None.

    Dicts, lists, tuples and namedtuples are kept as such.

    Raises:
        SpecError: a leaf is something else, or of a dtype that TensorFlow does not have.
        MissingDependencyError: the package `protobuf` is not installed.
    """
    message = message_class("StructuredValue")()
    _encode(nest, message)
    return message


def _encode(nest: Any, message: Any) -> None:
    if nest is None:
        message.none_value.SetInParent()
    elif isinstance(nest, bool):
        message.bool_value = nest
    elif isinstance(nest, int):
        message.int64_value = nest
    elif isinstance(nest, float):
        message.float64_value = nest
    elif isinstance(nest, str):
        message.string_value = nest
    elif isinstance(nest, tuple) and hasattr(nest, "_fields"):
        message.named_tuple_value.name = type(nest).__name__
        for key, value in zip(nest._fields, nest, strict=True):
            pair = message.named_tuple_value.values.add(key=key)
            pair.value.SetInParent()
            _encode(value, pair.value)
    elif isinstance(nest, Mapping):
        message.dict_value.SetInParent()
        for key, value in nest.items():
            if not isinstance(key, str):
                raise SpecError(f"key {key!r:.200} of a dict: wanted a str.")
            message.dict_value.fields[key].SetInParent()
            _encode(value, message.dict_value.fields[key])
    elif hasattr(nest, "shape") and hasattr(nest, "dtype"):
        _encode_spec(nest, message.tensor_spec_value)
    elif isinstance(nest, Sequence) and not isinstance(nest, bytes):
        values = message.tuple_value if isinstance(nest, tuple) else message.list_value
        values.SetInParent()
        for value in nest:
            _encode(value, values.values.add())
    else:
        raise SpecError(
            f"found {nest!r:.200} of type {type(nest).__name__}, wanted something with a shape "
            "and a dtype."
        )


def _encode_spec(spec: Any, message: Any) -> None:
    message.SetInParent()
    if isinstance(name := getattr(spec, "name", None), str):
        message.name = name
    rank = getattr(spec.shape, "rank", 0)
    if spec.shape is None or rank is None:
        message.shape.unknown_rank = True
    else:
        message.shape.SetInParent()
        for extent in spec.shape:
            message.shape.dim.add(size=-1 if extent is None else int(extent))
    message.dtype = _dtype_number(spec.dtype)


def _dtype_number(dtype: Any) -> int:
    name = getattr(dtype, "name", None)
    if name == "string":  # TensorFlow's own
        return _DTYPE_NUMBERS["object"]
    try:
        found = np.dtype(getattr(dtype, "as_numpy_dtype", dtype))
    except TypeError:
        found = None
    kinds = {"U": "object", "S": "object"}
    number = found and _DTYPE_NUMBERS.get(kinds.get(found.kind, found.name))
    if number is None:
        raise SpecError(f"dtype {dtype!r:.200}: TensorFlow has none like it.")
    return number


def decode(message: Any) -> Any:
    """The nest that a `StructuredValue` describes.

    Leaves are `tf.TensorSpec` where TensorFlow is loaded, else `TensorSpec`.

    Raises:
        SpecError: the message holds something that no table's signature can.
    """
    kind = message.WhichOneof("kind")
    value: Any = getattr(message, kind) if kind else None
    if kind in ("tensor_spec_value", "bounded_tensor_spec_value"):
        return _decode_spec(value)
    if kind == "dict_value":
        return {key: decode(child) for key, child in value.fields.items()}
    if kind == "list_value":
        return [decode(child) for child in value.values]
    if kind == "tuple_value":
        return tuple(decode(child) for child in value.values)
    if kind == "named_tuple_value":
        fields = [pair.key for pair in value.values]
        try:
            cls: Any = collections.namedtuple(value.name, fields)  # type: ignore[misc]
        except ValueError as error:
            raise SpecError(f"a namedtuple {value.name!r:.200}: {error!s:.200}") from None
        return cls(*(decode(pair.value) for pair in value.values))
    if kind == "none_value":
        return None
    if kind in ("float64_value", "int64_value", "string_value", "bool_value"):
        return value
    raise SpecError(f"found a {kind} in a nest of specs; wanted tensor specs in dicts, lists.")


def _decode_spec(message: Any) -> Any:
    shape = None
    if not message.shape.unknown_rank:
        shape = tuple(None if dim.size < 0 else int(dim.size) for dim in message.shape.dim)
    names = {number: name for name, number in _DTYPE_NUMBERS.items()}
    dtype = names.get(message.dtype, f"number {message.dtype}")
    try:
        return make_spec(shape, dtype, message.name, "A StructuredValue")
    except CheckpointMismatchError as error:
        raise SpecError(str(error)) from None
