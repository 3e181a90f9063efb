"""The schema of Reverb's messages against the descriptors that dm-reverb carries."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("reverb")

import reverb
from google.protobuf import descriptor_pool, timestamp_pb2
from google.protobuf.internal import decoder
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


@functools.cache
def service() -> Any:
    """The descriptor of Reverb's service, which only its compiled library carries."""
    path = b"reverb/cc/reverb_service.proto"
    start = b"\n%c%b\x12" % (len(path), path)
    library = Path(reverb.__file__).with_name("libreverb_service_cc_proto.so").read_bytes()
    at = end = library.index(start)
    while library[end] & 7 == 2 and 1 <= library[end] >> 3 <= 12:  # fields of such a message
        length, end = decoder._DecodeVarint(library, end + 1)
        end += length
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(library[at:end])
    return pool.FindServiceByName("deepmind.reverb.ReverbService")


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
    if name in service().file.message_types_by_name:
        return service().file.message_types_by_name[name]
    fields = struct_pb2.TensorSpecProto.DESCRIPTOR.fields_by_name
    return {"TensorShapeProto": fields["shape"].message_type}[name]


@pytest.mark.parametrize("name", sorted(schema._classes()))
def test_every_field_is_as_dm_reverb_has_it(name: str) -> None:
    ours, real = described(schema.message_class(name).DESCRIPTOR), described(theirs(name))
    assert ours.keys() == real.keys() - LEFT_OUT
    assert {key: ours[key] for key in ours if key not in AS_NUMBER} == {
        key: real[key] for key in ours if key not in AS_NUMBER
    }


def test_the_calls_are_those_of_dm_reverbs_service() -> None:
    pytest.importorskip("grpc")
    import grpc.aio

    from reverie.reverb.wire.messages import SERVICE
    from reverie.reverb.wire.service import Service

    assert service().full_name == SERVICE
    handler = Service(_Nothing(), None, grpc).handler()  # type: ignore[arg-type]
    ours = {path.rpartition("/")[2] for path in handler._method_handlers}
    assert ours == {method.name for method in service().methods}
    messages = {method.input_type.name for method in service().methods}
    assert messages == {f"{name}Request" for name in ours}


class _Nothing:
    """What a service may look for and not find."""


def test_the_numbers_of_dtypes_are_tensorflows() -> None:
    for number, name in enumerate(DATA_TYPES):
        assert types_pb2.DataType.Name(number) == f"DT_{name}"


def test_a_number_that_is_off_by_one_is_seen() -> None:
    real = described(schema_pb2.Timeout.DESCRIPTOR)
    assert real == {"Timeout.milliseconds": (1, 3, 1, None, None)}
