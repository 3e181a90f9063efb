"""Selectors: what they are made from, how they show themselves, their messages."""

from __future__ import annotations

import math
from typing import Any

import pytest

from reverie.reverb import item_selectors, pybind
from reverie.reverb.cc import schema_pb2
from reverie.reverb.cc.selectors import selector_from_options
from reverie.reverb.reverb_types import _selector_options
from reverie.tables.selectors import selector_of

ALL = [
    item_selectors.Fifo(),
    item_selectors.Lifo(),
    item_selectors.Uniform(),
    item_selectors.Prioritized(0.5),
    item_selectors.MinHeap(),
    item_selectors.MaxHeap(),
]


@pytest.mark.parametrize(
    ("selector", "shown"),
    list(
        zip(
            ALL,
            [
                "FifoSelector",
                "LifoSelector",
                "UniformSelector",
                "PrioritizedSelector(priority_exponent=0.5)",
                "HeapSelector(sign=1)",
                "HeapSelector(sign=-1)",
            ],
            strict=True,
        )
    ),
)
def test_selectors_show_themselves_as_in_reverb(
    selector: pybind.ItemSelector, shown: str
) -> None:
    assert repr(selector) == shown


@pytest.mark.parametrize("selector", ALL, ids=repr)
def test_a_selector_comes_back_from_its_message(selector: pybind.ItemSelector) -> None:
    message = _selector_options(selector)
    for again in (
        selector_from_options(message),
        pybind.selector_from_proto(message.SerializeToString()),
        selector_of(selector.kind, selector.exponent),
    ):
        assert repr(again) == repr(selector)
        assert type(again) is type(selector)


def test_only_random_selectors_are_not_deterministic() -> None:
    random = [selector.kind for selector in ALL if not selector.is_deterministic]
    assert random == ["uniform", "prioritized"]


@pytest.mark.parametrize("exponent", [math.inf, -math.inf, math.nan])
def test_an_exponent_that_gives_no_probabilities_is_refused(exponent: float) -> None:
    with pytest.raises(ValueError, match=f"priority_exponent: found {float(exponent)}"):
        item_selectors.Prioritized(exponent)


@pytest.mark.parametrize("exponent", ["1", None])
def test_an_exponent_that_is_no_number_is_a_type_error(exponent: Any) -> None:
    with pytest.raises(TypeError, match="priority_exponent"):
        item_selectors.Prioritized(exponent)


def test_a_heap_wants_a_bool() -> None:
    with pytest.raises(TypeError, match="min_heap: found 1"):
        pybind.HeapSelector(1)  # type: ignore[arg-type]


def test_a_message_that_names_no_selector_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="names no selector"):
        selector_from_options(schema_pb2.KeyDistributionOptions())
    with pytest.raises(NotImplementedError, match="names no selector"):
        pybind.selector_from_proto(b"")


def test_a_message_that_says_it_is_not_what_it_names_is_refused() -> None:
    with pytest.raises(ValueError, match="distribution=fifo"):
        selector_from_options(schema_pb2.KeyDistributionOptions(fifo=False))


def test_bytes_that_are_no_message_are_refused() -> None:
    with pytest.raises(ValueError, match="Unable to deserialize"):
        pybind.selector_from_proto(b"junk")


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="selector kind: found 'best'"):
        selector_of("best")  # type: ignore[arg-type]
