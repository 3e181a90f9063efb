"""Nests of specs as TensorFlow's StructuredValue messages, without TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from reverie.errors import CheckpointError, SpecError
from reverie.nests.codec import decode_signature
from reverie.proto.data_types import STRING, number_of, numpy_name
from reverie.proto.schema import message_class


def encode(nest: Any) -> Any:
    """A `StructuredValue` for a nest of specs and None.

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
    elif isinstance(nest, Sequence) and not isinstance(nest, str | bytes):
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
        return STRING
    try:
        found = np.dtype(getattr(dtype, "as_numpy_dtype", dtype))
    except TypeError:
        found = None
    kinds = {"U": "object", "S": "object"}
    number = None if found is None else number_of(kinds.get(found.kind, found.name))
    if number is None:
        raise SpecError(f"dtype {dtype!r:.200}: TensorFlow has none like it.")
    return number


def decode(message: Any) -> Any:
    """The nest that a `StructuredValue` describes.

    Leaves are `tf.TensorSpec` where TensorFlow is loaded, else `TensorSpec`.

    Raises:
        SpecError: the message holds something that no table's signature can.
    """
    try:
        return decode_signature(as_json(message), "A StructuredValue")
    except CheckpointError as error:
        raise SpecError(str(error)) from None


def as_json(message: Any) -> list[object]:
    """A `StructuredValue` in the form that `nests.codec` decodes, which checks it.

    What no signature can hold becomes a node of a kind that the codec does not know.
    """
    kind = message.WhichOneof("kind")
    value: Any = getattr(message, kind) if kind else None
    if kind in ("tensor_spec_value", "bounded_tensor_spec_value"):
        shape = None
        if not value.shape.unknown_rank:
            shape = [None if dim.size < 0 else dim.size for dim in value.shape.dim]
        return ["spec", numpy_name(value.dtype), shape, value.name]
    if kind == "dict_value":
        return ["dict", *_parts((key, value.fields[key]) for key in sorted(value.fields))]
    if kind == "named_tuple_value":
        return ["namedtuple", value.name, *_parts((p.key, p.value) for p in value.values)]
    if kind in ("list_value", "tuple_value"):
        return [kind.removesuffix("_value"), *map(as_json, value.values)]
    return ["none"] if kind == "none_value" else [f"something other than tensor specs: {kind}"]


def _parts(pairs: Iterable[tuple[str, Any]]) -> Iterator[object]:
    for key, child in pairs:
        yield key
        yield as_json(child)
