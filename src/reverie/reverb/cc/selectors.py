"""Selectors as protobuf messages."""

from __future__ import annotations

from typing import Any

from reverie.errors import InvalidArgumentError
from reverie.proto.schema import message_class
from reverie.tables.selectors import ItemSelector, SelectorKind, selector_of


def selector_from_options(options: Any) -> ItemSelector:
    """The selector that a `KeyDistributionOptions` describes.

    Raises:
        InvalidArgumentError: the message names a selector and says that it is not it.
        NotImplementedError: the message names none.
    """
    chosen = options.WhichOneof("distribution")
    if chosen is None:
        raise NotImplementedError(
            "distribution=None: found a KeyDistributionOptions that names no selector, wanted "
            "fifo, lifo, uniform, prioritized or heap."
        )
    if chosen == "prioritized":
        return selector_of("prioritized", options.prioritized.priority_exponent)
    if chosen == "heap":
        return selector_of("min_heap" if options.heap.min_heap else "max_heap")
    if not getattr(options, chosen):
        raise InvalidArgumentError(
            f"distribution={chosen} but its value is false; wanted true."
        )
    kind: SelectorKind = chosen
    return selector_of(kind)


def selector_from_proto(serialized: bytes) -> ItemSelector:
    """The selector that a serialized `KeyDistributionOptions` describes.

    Raises:
        InvalidArgumentError: the bytes are no such message.
        NotImplementedError: the message names no selector.
    """
    options = message_class("KeyDistributionOptions")()
    try:
        options.ParseFromString(serialized)
    except Exception as error:  # the implementations of protobuf differ in what they raise
        raise InvalidArgumentError(
            f"Unable to deserialize KeyDistributionOptions from {serialized!r:.200} "
            f"({type(error).__name__})."
        ) from error
    return selector_from_options(options)
