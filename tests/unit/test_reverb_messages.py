"""Reverb's messages: parsed strictly, and their nests as ours."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np
import pytest

pytest.importorskip("google.protobuf", reason="needs protobuf")

from reverie import ArraySpec
from reverie.errors import CheckpointCorruptError, SpecError
from reverie.nests.codec import TensorSpec
from reverie.proto import schema, structured_value
from reverie.proto.data_types import DATA_TYPES, STRING, number_of, numpy_name

NAME = b"\x0a\x01t"  # table_name = "t"
SELECTOR = b"\x22\x02\x08\x01"  # sampler = {fifo: true}


def parse(payload: bytes, name: str = "PriorityTableCheckpoint") -> Any:
    return schema.parse(name, payload, CheckpointCorruptError)


def test_what_reverb_writes_is_parsed() -> None:
    message = parse(NAME + SELECTOR)
    assert (message.table_name, message.sampler.fifo) == ("t", True)
    assert parse(b"").table_name == ""


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (NAME + b"\xf8\x07\x01", "unknown fields"),
        (b"\x1a\x03\x98\x06\x01", "unknown fields"),  # inside the rate limiter
        (NAME + NAME, "a second value"),
        (b"\x22\x04\x08\x01\x10\x01", "a second value"),  # fifo, and uniform too
        (b"\x30\x00", "a second value"),  # max_size = 0, which nobody writes
        (b"\x30\x81\x00", "a second value"),  # max_size = 1 in two bytes
        (b"\x0a\x01\xff", "not a PriorityTableCheckpoint message"),  # a name that is no UTF-8
        (b"\x0a\x05t", "not a PriorityTableCheckpoint message"),
        (NAME + b"\0", "not a PriorityTableCheckpoint message"),
    ],
)
def test_all_else_is_refused(payload: bytes, words: str) -> None:
    with pytest.raises(CheckpointCorruptError, match=words):
        parse(payload)


def test_a_key_that_occurs_twice_in_a_dict_is_refused() -> None:
    pair = b"\x0a\x05\x0a\x01a\x12\x00"  # {"a": empty}
    once, twice = (b"\xaa\x03" + bytes([len(p)]) + p for p in (pair, pair * 2))
    assert list(parse(once, "StructuredValue").dict_value.fields) == ["a"]
    with pytest.raises(CheckpointCorruptError, match="a second value"):
        parse(twice, "StructuredValue")


def test_a_class_with_an_underscore_comes_back() -> None:
    cls: Any = collections.namedtuple("_Private", "a b")  # type: ignore[name-match]
    leaf = TensorSpec((2,), np.dtype(np.int8))
    found = structured_value.decode(structured_value.encode(cls(leaf, {"x": leaf})))
    assert (type(found).__name__, tuple(found)) == ("_Private", (leaf, {"x": leaf}))


@pytest.mark.parametrize(
    "fill",
    [
        lambda message: None,
        lambda message: setattr(message, "int64_value", 3),
        lambda message: message.tensor_value.SetInParent(),
        lambda message: message.list_value.values.add().type_spec_value.SetInParent(),
        lambda message: setattr(message.tensor_spec_value, "dtype", 99),
        lambda message: setattr(message.named_tuple_value, "name", "a b"),
        lambda message: setattr(message.named_tuple_value, "name", "__x"),
    ],
)
def test_what_no_signature_holds_is_refused(fill: Any) -> None:
    message = schema.message_class("StructuredValue")()
    fill(message)
    with pytest.raises(SpecError, match="A StructuredValue: "):
        structured_value.decode(message)


def test_a_nest_deeper_than_any_signature_is_refused() -> None:
    nest: Any = ArraySpec((), np.dtype(np.int8))
    for _ in range(25):
        nest = [nest]
    with pytest.raises(SpecError, match="malformed"):
        structured_value.decode(structured_value.encode(nest))


def test_every_number_of_a_dtype_has_one_name() -> None:
    names = [numpy_name(number) for number in range(len(DATA_TYPES))]
    assert [number_of(name) for name in names] == list(range(len(names)))
    assert (numpy_name(STRING), numpy_name(1), number_of("M8")) == ("object", "float32", None)
    assert numpy_name(-1) == "number -1 of TensorFlow"
