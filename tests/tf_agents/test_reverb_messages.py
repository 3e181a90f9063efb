"""The schema of Reverb's messages against the descriptors that dm-reverb carries."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("reverb")

from google.protobuf import timestamp_pb2
from reverb.cc import patterns_pb2, schema_pb2
from reverb.cc.checkpointing import checkpoint_pb2
from reverb.server_executable import reverb_config_pb2
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import struct_pb2

from reverie.proto import schema
from reverie.proto.data_types import DATA_TYPES

# What Reverb's files and its API have no use for, and what stands as its bytes.
LEFT_OUT = {"TensorProto.resource_handle_val", "TensorProto.variant_val"}
AS_NUMBER = {"TypeSpecProto.type_spec_class"}


def described(descriptor: Any) -> dict[str, tuple[Any, ...]]:
    """Every field of a message and of those inside it."""
    found = {}
    for field in descriptor.fields:
        oneof = field.containing_oneof
        found[f"{descriptor.name}.{field.name}"] = (
            field.number,
            field.type,
            field.label,
            # Google's own Timestamp has the same fields.
            field.message_type
            and field.message_type.full_name.replace("google.protobuf.", "deepmind.reverb."),
            oneof.name if oneof else None,
        )
    for inner in descriptor.nested_types:
        inside = described(inner)
        found |= {f"{descriptor.name}.{name}": value for name, value in inside.items()}
    return found


def theirs(name: str) -> Any:
    modules = (
        timestamp_pb2,
        schema_pb2,
        patterns_pb2,
        checkpoint_pb2,
        reverb_config_pb2,
        struct_pb2,
        tensor_pb2,
    )
    for module in modules:
        if hasattr(module, name):
            return getattr(module, name).DESCRIPTOR
    fields = struct_pb2.TensorSpecProto.DESCRIPTOR.fields_by_name
    return {"TensorShapeProto": fields["shape"].message_type}[name]


@pytest.mark.parametrize("name", sorted(schema._classes()))
def test_every_field_is_as_dm_reverb_has_it(name: str) -> None:
    ours, real = described(schema.message_class(name).DESCRIPTOR), described(theirs(name))
    assert ours.keys() == real.keys() - LEFT_OUT
    assert {key: ours[key] for key in ours if key not in AS_NUMBER} == {
        key: real[key] for key in ours if key not in AS_NUMBER
    }


def test_the_numbers_of_dtypes_are_tensorflows() -> None:
    for number, name in enumerate(DATA_TYPES):
        assert types_pb2.DataType.Name(number) == f"DT_{name}"


def test_a_number_that_is_off_by_one_is_seen() -> None:
    real = described(schema_pb2.Timeout.DESCRIPTOR)
    assert real == {"Timeout.milliseconds": (1, 3, 1, None, None)}
