"""The messages inside a Reverb checkpoint, and a strict parser for them.

The schema is the small table below, from which message types are built at run
time in a private pool. There is no generated code, which would tie users to one
range of protobuf releases, and nothing that could collide with the message types
of Reverb or TensorFlow in the same process.

Fields whose content this library has no use for are declared as `bytes`, which
has the same wire format as a message. So are texts, whose UTF-8 is checked where
they are used, alike under every protobuf release.

Sources of the numbers: the descriptors that dm-reverb 0.14 and TensorFlow 2.15
carry (checkpoint.proto, schema.proto, tensor.proto, struct.proto).
"""

from __future__ import annotations

import functools
from typing import Any

from reverie.checkpoint.reverb_files import deps
from reverie.checkpoint.reverb_files.places import Place

# Message -> its fields as "number name type"; a star marks a repeated field.
_MESSAGES: dict[str, tuple[str, ...]] = {
    "Table": (
        "1 table_name bytes",
        "2 deprecated_items *bytes",
        "3 rate_limiter RateLimiter",
        "4 sampler Selector",
        "5 remover Selector",
        "6 max_size int64",
        "7 max_times_sampled int32",
        "8 num_deleted_episodes int64",
        "9 signature StructuredValue",
        "10 num_unique_samples int64",
    ),
    "RateLimiter": (
        "2 samples_per_insert double",
        "3 min_diff double",
        "4 max_diff double",
        "5 min_size_to_sample int64",
        "6 sample_count int64",
        "7 insert_count int64",
        "8 delete_count int64",
    ),
    "Selector": (
        "1 fifo bool",
        "2 uniform bool",
        "3 prioritized Prioritized",
        "4 heap Heap",
        "6 lifo bool",
        "7 is_deterministic bool",
    ),
    "Prioritized": ("1 priority_exponent double",),
    "Heap": ("1 min_heap bool",),
    "Item": (
        "1 key uint64",
        "2 table bytes",
        "3 deprecated_chunk_keys bytes",
        "4 deprecated_sequence_range bytes",
        "5 priority double",
        "6 times_sampled int32",
        "7 inserted_at bytes",
        "8 flat_trajectory Trajectory",
    ),
    "Trajectory": ("1 columns *Column",),
    "Column": ("1 chunk_slices *ChunkSlice", "2 squeeze bool"),
    "ChunkSlice": ("1 chunk_key uint64", "2 offset int32", "3 length int32", "4 index int32"),
    "Chunk": (
        "1 chunk_key uint64",
        "2 sequence_range SequenceRange",
        "3 deprecated_data *bytes",
        "4 delta_encoded bool",
        "5 data ChunkTensors",
        "6 data_tensors_len int32",
        "7 data_uncompressed_size int64",
    ),
    "SequenceRange": ("1 episode_id uint64", "2 start int32", "3 end int32", "4 sparse bool"),
    "ChunkTensors": ("1 tensors *Tensor",),
    "Tensor": (
        "1 dtype int32",
        "2 tensor_shape Shape",
        "3 version_number int32",
        "4 tensor_content bytes",
        "8 string_val *bytes",
    ),
    "Shape": ("2 dim *Dim", "3 unknown_rank bool"),
    "Dim": ("1 size int64", "2 name bytes"),
    "StructuredValue": (
        "1 none_value bytes",
        "11 float64_value double",
        "12 int64_value sint64",
        "13 string_value bytes",
        "14 bool_value bool",
        "31 tensor_shape_value bytes",
        "32 tensor_dtype_value int32",
        "33 tensor_spec_value TensorSpec",
        "34 type_spec_value bytes",
        "35 bounded_tensor_spec_value TensorSpec",
        "51 list_value ValueList",
        "52 tuple_value ValueList",
        "53 dict_value ValueDict",
        "54 named_tuple_value NamedTuple",
        "55 tensor_value bytes",
        "56 numpy_value bytes",
    ),
    "ValueList": ("1 values *StructuredValue",),
    "ValueDict": ("1 fields *ValuePair",),
    "ValuePair": ("1 key bytes", "2 value StructuredValue"),
    "NamedTuple": ("1 name bytes", "2 values *ValuePair"),
    "TensorSpec": (
        "1 name bytes",
        "2 shape Shape",
        "3 dtype int32",
        "4 minimum bytes",
        "5 maximum bytes",
    ),
}
_PACKAGE = "reverie.reverb_files"


def parse(name: str, payload: bytes, place: Place) -> Any:
    """Parses one record, refusing whatever a sound writer would not have written.

    Args:
        name: The message, a key of the schema table: "Table", "Item", "Chunk".
        payload: The record.
        place: Where it was found.

    Returns:
        A protobuf message whose every byte has been accounted for.

    Raises:
        CheckpointCorruptError: The bytes are not that message, or hold unknown
            fields, repeated single fields or overlong numbers.
    """
    message = _classes()[name]()
    try:
        message.ParseFromString(payload)
        # Canonical and fully known: written again, it has the same size.
        message.DiscardUnknownFields()
        size = message.ByteSize()
    except Exception as error:  # The implementations of protobuf differ in what they raise.
        raise place.corrupt(f"not a {name} message ({type(error).__name__})") from error
    if size != len(payload):
        raise place.corrupt(
            f"{len(payload)} bytes, of which a {name} message explains {size}: the rest are "
            "unknown fields or trailing bytes"
        )
    return message


def text(value: bytes, place: Place) -> str:
    """Decodes a text field.

    Raises:
        CheckpointCorruptError: It is not UTF-8.
    """
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise place.corrupt(f"a name is not UTF-8 ({error.reason})") from error


@functools.lru_cache(maxsize=1)
def _classes() -> dict[str, Any]:
    loaded = deps.load()
    field_type = loaded.descriptor_pb2.FieldDescriptorProto
    file = loaded.descriptor_pb2.FileDescriptorProto(
        name="reverie_reverb_files.proto", package=_PACKAGE, syntax="proto2"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for line in fields:
            number, field_name, kind = line.split()
            field = message.field.add(name=field_name, number=int(number))
            repeated = kind.startswith("*")
            field.label = getattr(
                field_type, "LABEL_REPEATED" if repeated else "LABEL_OPTIONAL"
            )
            kind = kind.lstrip("*")
            if kind in _MESSAGES:
                field.type = field_type.TYPE_MESSAGE
                field.type_name = f".{_PACKAGE}.{kind}"
            else:
                field.type = getattr(field_type, f"TYPE_{kind.upper()}")
    pool = loaded.descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    types = {name: pool.FindMessageTypeByName(f"{_PACKAGE}.{name}") for name in _MESSAGES}
    # GetMessageClass came with protobuf 4.22; GetPrototype left with 5.26.
    get_class = getattr(loaded.message_factory, "GetMessageClass", None)
    if get_class is None:
        get_class = loaded.message_factory.MessageFactory(pool).GetPrototype
    return {name: get_class(kind) for name, kind in types.items()}
