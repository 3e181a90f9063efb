"""Reverb's protobuf messages, built at run time in a pool of their own, and parsed.

There is no generated code, which would tie users to one range of protobuf releases,
and no message enters the process-wide pool, so these live beside those of an
installed Reverb or TensorFlow. They have the same names, numbers and wire format.

A message is described by lines of "number name type"; a star before the type marks a
repeated field, "type @group" a member of a oneof, "{Type}" a map from str to Type. A
dotted message name is nested. The members of a oneof stand together, as old releases
of protobuf want it. Sources of the numbers: the descriptors that dm-reverb
0.14 and TensorFlow 2.15 carry (checkpoint.proto, schema.proto,
reverb_service.proto, tensor.proto, struct.proto).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

from reverie.errors import CheckpointCorruptError
from reverie.proto.data_types import DATA_TYPES
from reverie.runtime.optional import require

_TENSORFLOW = {
    "StructuredValue": (
        "1 none_value NoneValue @kind",
        "11 float64_value double @kind",
        "12 int64_value sint64 @kind",
        "13 string_value string @kind",
        "14 bool_value bool @kind",
        "31 tensor_shape_value TensorShapeProto @kind",
        "32 tensor_dtype_value DataType @kind",
        "33 tensor_spec_value TensorSpecProto @kind",
        "34 type_spec_value TypeSpecProto @kind",
        "35 bounded_tensor_spec_value BoundedTensorSpecProto @kind",
        "51 list_value ListValue @kind",
        "52 tuple_value TupleValue @kind",
        "53 dict_value DictValue @kind",
        "54 named_tuple_value NamedTupleValue @kind",
        "55 tensor_value TensorProto @kind",
        "56 numpy_value TensorProto @kind",
    ),
    "NoneValue": (),
    "ListValue": ("1 values *StructuredValue",),
    "TupleValue": ("1 values *StructuredValue",),
    "DictValue": ("1 fields {StructuredValue}",),
    "PairValue": ("1 key string", "2 value StructuredValue"),
    "NamedTupleValue": ("1 name string", "2 values *PairValue"),
    "TensorSpecProto": ("1 name string", "2 shape TensorShapeProto", "3 dtype DataType"),
    "BoundedTensorSpecProto": (
        "1 name string",
        "2 shape TensorShapeProto",
        "3 dtype DataType",
        "4 minimum TensorProto",
        "5 maximum TensorProto",
    ),
    "TypeSpecProto": (
        "1 type_spec_class int32",  # an enum that nothing here needs: the same bytes
        "2 type_state StructuredValue",
        "3 type_spec_class_name string",
        "4 num_flat_components int32",
    ),
    "TensorShapeProto": ("2 dim *TensorShapeProto.Dim", "3 unknown_rank bool"),
    "TensorShapeProto.Dim": ("1 size int64", "2 name string"),
    "TensorProto": (
        "1 dtype DataType",
        "2 tensor_shape TensorShapeProto",
        "3 version_number int32",
        "4 tensor_content bytes",
        "5 float_val *float",
        "6 double_val *double",
        "7 int_val *int32",
        "8 string_val *bytes",
        "9 scomplex_val *float",
        "10 int64_val *int64",
        "11 bool_val *bool",
        "12 dcomplex_val *double",
        "13 half_val *int32",
        "16 uint32_val *uint32",
        "17 uint64_val *uint64",
        "18 float8_val bytes",
    ),
}
_REVERB = {
    # reverb/cc/schema.proto
    "ChunkData": (
        "1 chunk_key uint64",
        "2 sequence_range SequenceRange",
        "3 deprecated_data *TensorProto",
        "4 delta_encoded bool",
        "5 data ChunkData.Data",
        "6 data_tensors_len int32",
        "7 data_uncompressed_size int64",
    ),
    "ChunkData.Data": ("1 tensors *TensorProto",),
    "SliceRange": ("1 offset int32", "2 length int32"),
    "SequenceRange": ("1 episode_id uint64", "2 start int32", "3 end int32", "4 sparse bool"),
    "FlatTrajectory": ("1 columns *FlatTrajectory.Column",),
    "FlatTrajectory.ChunkSlice": (
        "1 chunk_key uint64",
        "2 offset int32",
        "3 length int32",
        "4 index int32",
    ),
    "FlatTrajectory.Column": ("1 chunk_slices *FlatTrajectory.ChunkSlice", "2 squeeze bool"),
    "Timestamp": ("1 seconds int64", "2 nanos int32"),
    "PrioritizedItem": (
        "1 key uint64",
        "2 table string",
        "3 deprecated_chunk_keys *uint64",
        "4 deprecated_sequence_range SliceRange",
        "5 priority double",
        "6 times_sampled int32",
        "7 inserted_at Timestamp",
        "8 flat_trajectory FlatTrajectory",
    ),
    "KeyWithPriority": ("1 key uint64", "2 priority double"),
    "SampleInfo": (
        "1 item PrioritizedItem",
        "2 probability double",
        "3 table_size int64",
        "4 rate_limited bool",
    ),
    "TableInfo": (
        "1 sampler_options KeyDistributionOptions",
        "2 remover_options KeyDistributionOptions",
        "3 max_size int64",
        "4 max_times_sampled int32",
        "5 rate_limiter_info RateLimiterInfo",
        "6 signature StructuredValue",
        "7 current_size int64",
        "8 name string",
        "9 num_episodes int64",
        "10 num_deleted_episodes int64",
        "11 num_unique_samples int64",
        "12 table_worker_time TableWorkerTime",
    ),
    "RateLimiterCallStats": ("2 completed int64",),
    "RateLimiterInfo": (
        "1 samples_per_insert double",
        "2 min_diff double",
        "3 max_diff double",
        "4 min_size_to_sample int64",
        "5 insert_stats RateLimiterCallStats",
        "6 sample_stats RateLimiterCallStats",
    ),
    "TableWorkerTime": (
        "1 running_ms int64",
        "2 sampling_ms int64",
        "3 inserting_ms int64",
        "4 sleeping_ms int64",
        "5 waiting_for_sampling_ms int64",
        "6 waiting_for_inserts_ms int64",
    ),
    "KeyDistributionOptions": (
        "1 fifo bool @distribution",
        "2 uniform bool @distribution",
        "3 prioritized KeyDistributionOptions.Prioritized @distribution",
        "4 heap KeyDistributionOptions.Heap @distribution",
        "6 lifo bool @distribution",
        "7 is_deterministic bool",
    ),
    "KeyDistributionOptions.Prioritized": ("1 priority_exponent double",),
    "KeyDistributionOptions.Heap": ("1 min_heap bool",),
    "Uint128": ("1 high uint64", "2 low uint64"),
    "Timeout": ("1 milliseconds int64",),
    # reverb/cc/patterns.proto
    "PatternNode": (
        "1 flat_source_index int32",
        "2 start int32 @start_or_none",
        "3 stop int32 @stop_or_none",
        "4 step int32 @step_or_none",
    ),
    "Condition": (
        "1 step_index bool @left",
        "2 steps_since_applied bool @left",
        "3 buffer_length bool @left",
        "4 is_end_episode bool @left",
        "9 flat_source_index int32 @left",
        "5 eq int32 @cmp",
        "6 ge int32 @cmp",
        "7 mod_eq Condition.ModuloEq @cmp",
        "8 inverse bool",
    ),
    "Condition.ModuloEq": ("1 mod int32", "2 eq int32"),
    "Priority": (
        "1 constant_fn Priority.ConstantPriorityFn @priority_fn",
        "2 td_error Priority.TDError @priority_fn",
    ),
    "Priority.ConstantPriorityFn": ("1 value double",),
    "Priority.TDError": ("1 max_priority_weight double", "2 flat_source_index int32"),
    "StructuredWriterConfig": (
        "1 flat *PatternNode",
        "2 pattern_structure StructuredValue",
        "3 table string",
        "4 priority Priority",
        "5 conditions *Condition",
    ),
    # reverb/cc/reverb_service.proto
    "InitializeConnectionRequest": (
        "1 pid int64",
        "2 table_name string",
        "3 ownership_transferred bool",
    ),
    "InitializeConnectionResponse": ("1 address int64",),
    "CheckpointRequest": (),
    "CheckpointResponse": ("1 checkpoint_path string",),
    "InsertStreamRequest": (
        "1 chunks *ChunkData",
        "2 items *PrioritizedItem",
        "3 keep_chunk_keys *uint64",
    ),
    "InsertStreamResponse": ("1 keys *uint64",),
    "MutatePrioritiesRequest": (
        "1 table string",
        "2 updates *KeyWithPriority",
        "3 delete_keys *uint64",
    ),
    "MutatePrioritiesResponse": (),
    "ServerInfoRequest": (),
    "ServerInfoResponse": ("1 tables_state_id Uint128", "2 table_info *TableInfo"),
    "SampleStreamRequest": (
        "1 table string",
        "2 num_samples int64",
        "3 rate_limiter_timeout Timeout",
    ),
    "SampleStreamResponse": ("1 entries *SampleStreamResponse.SampleEntry",),
    "SampleStreamResponse.SampleEntry": (
        "1 info SampleInfo",
        "2 data *ChunkData",
        "3 end_of_sequence bool",
    ),
    "ResetRequest": ("1 table string",),
    "ResetResponse": (),
    # reverb/cc/checkpointing/checkpoint.proto and reverb_config.proto
    "PriorityTableCheckpoint": (
        "1 table_name string",
        "2 deprecated_items *PrioritizedItem",
        "3 rate_limiter RateLimiterCheckpoint",
        "4 sampler KeyDistributionOptions",
        "5 remover KeyDistributionOptions",
        "6 max_size int64",
        "7 max_times_sampled int32",
        "8 num_deleted_episodes int64",
        "9 signature StructuredValue",
        "10 num_unique_samples int64",
    ),
    "RateLimiterCheckpoint": (
        "2 samples_per_insert double",
        "3 min_diff double",
        "4 max_diff double",
        "5 min_size_to_sample int64",
        "6 sample_count int64",
        "7 insert_count int64",
        "8 delete_count int64",
    ),
    "ReverbServerConfig": ("1 tables *PriorityTableCheckpoint", "2 port int32"),
}
_PACKAGES = {"tensorflow": _TENSORFLOW, "deepmind.reverb": _REVERB}


def message_class(name: str) -> Any:
    """The class of a top-level message, such as "TableInfo" or "StructuredValue".

    Raises:
        MissingDependencyError: the package `protobuf` is not installed.
        KeyError: there is no such message.
    """
    return _classes()[name]


def parse(name: str, payload: bytes, corrupt: Callable[[str], CheckpointCorruptError]) -> Any:
    """Parses bytes of a file as strictly as Reverb writes them.

    Args:
        name: the message, "PriorityTableCheckpoint", "PrioritizedItem", "ChunkData".
        payload: all of its bytes.
        corrupt: makes the error out of what is wrong; it knows the place.

    Returns:
        A message whose every byte has been accounted for.

    Raises:
        CheckpointCorruptError: the bytes are not that message, or hold unknown fields,
            single fields twice, two members of a oneof, texts that are not UTF-8, or
            overlong numbers.
    """
    message = message_class(name)()
    try:
        message.ParseFromString(payload)
        # Canonical and fully known: written again, it has the same size.
        message.DiscardUnknownFields()
        size = message.ByteSize()
    except Exception as error:  # the implementations of protobuf differ in what they raise
        raise corrupt(f"not a {name} message ({type(error).__name__})") from error
    if size != len(payload):
        raise corrupt(
            f"{len(payload)} bytes, of which a {name} message explains {size}: the rest are "
            "unknown fields, a second value of a field, or trailing bytes"
        )
    return message


@functools.lru_cache(maxsize=1)
def _classes() -> dict[str, Any]:
    pb2, pools, factory = (
        require(f"google.protobuf.{module}", "reverb", "Reverb's protobuf messages")
        for module in ("descriptor_pb2", "descriptor_pool", "message_factory")
    )
    pool = pools.DescriptorPool()
    for package, messages in _PACKAGES.items():
        pool.AddSerializedFile(_file(pb2, package, messages).SerializeToString())
    # GetMessageClass came with protobuf 4.22; GetPrototype left with 5.26.
    get_class = getattr(factory, "GetMessageClass", None)
    if get_class is None:
        get_class = factory.MessageFactory(pool).GetPrototype
    return {
        name: get_class(pool.FindMessageTypeByName(f"{package}.{name}"))
        for package, messages in _PACKAGES.items()
        for name in messages
        if "." not in name
    }


def _file(pb2: ModuleType, package: str, messages: dict[str, tuple[str, ...]]) -> Any:
    file = pb2.FileDescriptorProto(
        name=f"reverie/{package.replace('.', '/')}.proto", package=package, syntax="proto3"
    )
    if package == "tensorflow":
        enum = file.enum_type.add(name="DataType")
        for number, name in enumerate(DATA_TYPES):
            enum.value.add(name=f"DT_{name}", number=number)
    else:
        file.dependency.append("reverie/tensorflow.proto")
    made: dict[str, Any] = {}
    for name, fields in messages.items():
        outer, _, inner = name.rpartition(".")
        made[name] = (made[outer].nested_type if outer else file.message_type).add(name=inner)
        for line in fields:
            _add_field(pb2, package, made[name], name, line)
    return file


def _add_field(pb2: ModuleType, package: str, message: Any, name: str, line: str) -> None:
    number, field_name, kind, *group = line.split()
    field_type = pb2.FieldDescriptorProto
    field = message.field.add(name=field_name, number=int(number))
    field.label = field_type.LABEL_OPTIONAL
    if kind.startswith("{"):
        entry = message.nested_type.add(name=f"{field_name.title()}Entry")
        entry.options.map_entry = True
        _add_field(pb2, package, entry, name, "1 key string")
        _add_field(pb2, package, entry, name, f"2 value {kind[1:-1]}")
        kind = f"*.{package}.{name}.{entry.name}"
    if kind.startswith("*"):
        field.label = field_type.LABEL_REPEATED
        kind = kind[1:]
    if kind == "DataType":
        field.type = field_type.TYPE_ENUM
        field.type_name = ".tensorflow.DataType"
    elif kind[0].isupper() or kind[0] == ".":
        home = "tensorflow" if kind in _TENSORFLOW else package
        field.type = field_type.TYPE_MESSAGE
        field.type_name = kind if kind[0] == "." else f".{home}.{kind}"
    else:
        field.type = getattr(field_type, f"TYPE_{kind.upper()}")
    if group:
        oneof = group[0][1:]
        names = [known.name for known in message.oneof_decl]
        if oneof not in names:
            message.oneof_decl.add(name=oneof)
            names.append(oneof)
        field.oneof_index = names.index(oneof)
