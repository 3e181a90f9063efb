"""Messages of the service: bytes in, and the few that are not protobuf's work out.

Samples are written byte by byte, as most of each is the same for all items of a run: an
object of protobuf's for every column of every item would take most of a sample's time.
"""

from __future__ import annotations

import struct
from typing import Any

from reverie.proto import schema
from reverie.reverb.wire.statuses import CallError, Code

SERVICE = "deepmind.reverb.ReverbService"


def parsed(name: str, payload: bytes) -> Any:
    """The message of that name.

    Raises:
        CallError: INVALID_ARGUMENT, the bytes are none.
    """
    message = schema.message_class(name)()
    try:
        message.ParseFromString(payload)
    except Exception as error:  # the implementations of protobuf differ in what they raise
        raise CallError(
            Code.INVALID_ARGUMENT,
            f"The {len(payload)} bytes of a request are no {name} message "
            f"({type(error).__name__}).",
        ) from None
    return message


def serialized(name: str, **fields: Any) -> bytes:
    """A message of that name with these fields."""
    payload: bytes = schema.message_class(name)(**fields).SerializeToString()
    return payload


def varint(value: int) -> bytes:
    """A number >= 0, seven bits to a byte, the lowest first."""
    if value < 0x80:
        return bytes((value,))
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def block(field: int, payload: bytes) -> bytes:
    """A field that holds a message, bytes or a text."""
    return b"%c%b%b" % (field << 3 | 2, varint(len(payload)), payload)


def number(field: int, value: int) -> bytes:
    """A field that holds an integer >= 0; of 0 nothing is written."""
    return bytes((field << 3,)) + varint(value) if value else b""


def double(field: int, value: float) -> bytes:
    """A field that holds a double."""
    return struct.pack("<Bd", field << 3 | 1, value)
