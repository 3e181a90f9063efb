"""A table's signature as the nest that was given to Reverb."""

from __future__ import annotations

import collections
import keyword
import re
from typing import Any

from reverie.checkpoint.reverb_files import tensors
from reverie.checkpoint.reverb_files.places import Place, shown
from reverie.checkpoint.reverb_files.tables import shape_of
from reverie.errors import CheckpointMismatchError
from reverie.nests.codec import make_spec
from reverie.proto import schema

_MAX_DEPTH = 24  # what signatures of ours may have, too
_NAME = re.compile("[A-Za-z][A-Za-z0-9_]{0,99}")


def read_nest(message: Any, place: Place) -> Any:
    """The nest that a `StructuredValue` describes.

    Leaves are `tf.TensorSpec` where TensorFlow is loaded, else `TensorSpec`.

    Raises:
        CheckpointCorruptError: there is something else in it than tensor specs.
        CheckpointMismatchError: nothing here knows a dtype.
    """
    return _decode(message, place, 0)


def _decode(value: Any, place: Place, depth: int) -> Any:
    if depth > _MAX_DEPTH:
        raise place.corrupt(f"a signature nested deeper than {_MAX_DEPTH} levels")
    for kind in ("tensor_spec_value", "bounded_tensor_spec_value"):
        if value.HasField(kind):
            return _spec(getattr(value, kind), place)
    for kind in ("list_value", "tuple_value"):
        if value.HasField(kind):
            parts = getattr(value, kind).values
            children = [_decode(part, place, depth + 1) for part in parts]
            return children if kind == "list_value" else tuple(children)
    if value.HasField("dict_value"):
        return _pairs(value.dict_value.fields, place, depth)
    if value.HasField("named_tuple_value"):
        pairs = _pairs(value.named_tuple_value.values, place, depth)
        name = schema.text(value.named_tuple_value.name, place)
        # Plain identifiers only: the standard library makes a class out of them.
        for word in (name, *pairs):
            if not _NAME.fullmatch(word) or keyword.iskeyword(word):
                raise place.corrupt(f"a namedtuple in a signature with the name {shown(word)}")
        made: Any = collections.namedtuple(name, pairs)  # type: ignore[misc]
        return made(*pairs.values())
    if value.HasField("none_value"):
        return None
    raise place.corrupt("a signature with something other than tensor specs in it")


def _pairs(fields: Any, place: Place, depth: int) -> dict[str, Any]:
    pairs = {
        schema.text(pair.key, place): _decode(pair.value, place, depth + 1) for pair in fields
    }
    if len(pairs) != len(fields):
        raise place.corrupt("a signature with the same key twice")
    return pairs


def _spec(message: Any, place: Place) -> Any:
    name = tensors.numpy_name(message.dtype)
    if name is None:
        raise CheckpointMismatchError(
            f"{place}: a signature with dtype {tensors.type_name(message.dtype)}, which cannot "
            "be read."
        )
    shape = shape_of(message.shape)
    return make_spec(shape, name, schema.text(message.name, place), str(place))
