"""Nests as JSON: signatures and specs of steps come back, anything else is refused."""

from __future__ import annotations

import json
import sys
from collections import OrderedDict, namedtuple
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from reverie import ArraySpec, Trajectory
from reverie.errors import (
    CheckpointCorruptError,
    CheckpointMismatchError,
    InvalidArgumentError,
)
from reverie.nests.codec import TensorSpec, decode_nest, encode_nest, make_array_spec
from reverie.nests.nest import Nest

Point = namedtuple("Point", ["x", "y"])
NESTS: list[Any] = [
    None,
    TensorSpec((None, 3), np.dtype("f4"), "a"),
    {
        "b": [TensorSpec(None, np.dtype("O")), (None,)],
        "a": Point(TensorSpec((), np.dtype("?")), []),
    },
    {1: TensorSpec((2**40,), np.dtype("c16"), "é")},
]
FLAG = ArraySpec((), np.bool_)
STEPS: list[Any] = [
    ArraySpec((2,), np.float32, "name"),
    {"b": FLAG, "a": [ArraySpec((2, 0), np.int8), (FLAG, None)]},
    Point(FLAG, {2: FLAG, 1: FLAG}),
    Trajectory(*(ArraySpec((), np.int32) for _ in Trajectory._fields)),
]


def through_json(nest: Any) -> Any:
    return json.loads(json.dumps(encode_nest(nest)))


@pytest.mark.parametrize("nest", NESTS)
def test_signatures_come_back(nest: Any) -> None:
    assert repr(decode_nest(through_json(nest), "here")) == repr(nest)


@pytest.mark.parametrize("spec", STEPS)
def test_specs_of_steps_come_back(spec: Any) -> None:
    found = decode_nest(through_json(spec), "here", make_array_spec)
    assert repr(found) == repr(spec)
    assert Nest(found).columns == Nest(spec).columns
    assert Nest(found).boundary == Nest(spec).boundary


def test_a_trajectory_comes_back_as_ours_and_knows_its_boundaries() -> None:
    foreign: Any = namedtuple("Trajectory", Trajectory._fields)  # as TF-Agents' own
    spec = foreign(*(ArraySpec((), np.int32) for _ in Trajectory._fields))
    found = decode_nest(through_json(spec), "here", make_array_spec)
    assert type(found) is Trajectory
    assert Nest(found).boundary is not None


def test_another_namedtuple_of_that_name_gets_a_class_of_its_own() -> None:
    other: Any = namedtuple("Trajectory", ["step_type"])
    found = decode_nest(through_json(other(FLAG)), "here", make_array_spec)
    assert type(found).__name__ == "Trajectory"
    assert type(found) is not Trajectory


def test_an_ordered_dict_comes_back_as_a_dict_of_the_same_columns() -> None:
    spec = OrderedDict(b=FLAG, a=ArraySpec((), np.int8))
    found = decode_nest(through_json(spec), "here", make_array_spec)
    assert type(found) is dict
    assert Nest(found).columns == Nest(spec).columns


@pytest.mark.parametrize(
    "value",
    [
        *([], {}, "none", ["none", 1], ["spec"], ["spec", "f4", [1]], ["other", ["none"]]),
        *(["spec", "float32", [-1], ""], ["spec", "float32", [True], ""], ["spec", 1, [], ""]),
        *(["dict", "a"], ["dict", "a", ["none"], "a", ["none"]], ["dict", 1.5, ["none"]]),
        *(["namedtuple"], ["namedtuple", "class"], ["namedtuple", "A", "_x", ["none"]]),
        ["namedtuple", "A", "x):0 if __import__('os') else (", ["none"]],
        ["namedtuple", "A\n", "x", ["none"]],
        ["namedtuple", ["A"], "x", ["none"]],
        ["namedtuple", "A", 1, ["none"]],
    ],
)
def test_malformed_nests_are_refused(value: Any) -> None:
    with pytest.raises(CheckpointCorruptError, match="malformed nest"):
        decode_nest(value, "here")


def test_a_nest_too_deep_is_refused_on_both_sides() -> None:
    nest: Any = TensorSpec((), np.dtype("f4"))
    value: Any = ["none"]
    for _ in range(30):
        nest, value = [nest], ["list", value]
    with pytest.raises(InvalidArgumentError, match="deeper"):
        encode_nest(nest)
    with pytest.raises(CheckpointCorruptError):
        decode_nest(value, "here")


def test_a_dtype_that_tensorflow_does_not_know_is_numpys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def as_dtype(name: str) -> None:
        raise TypeError(name)

    fake = SimpleNamespace(TensorSpec=tuple, as_dtype=as_dtype)
    monkeypatch.setitem(sys.modules, "tensorflow", fake)
    spec = TensorSpec((None,), np.dtype("f4"))
    assert decode_nest(through_json(spec), "here") == spec


@pytest.mark.parametrize("dtype", ["float31", "f4,f4", "eval", "O; 1", "(2,)f4"])
def test_a_dtype_that_nobody_knows_is_named(dtype: str) -> None:
    for make in (None, make_array_spec):
        with pytest.raises(CheckpointMismatchError, match="not known here"):
            decode_nest(["spec", dtype, [], ""], "here", *((make and [make]) or []))


@pytest.mark.parametrize(
    "parts", [["object", []], ["float32", None], ["float32", [None]], ["float32", [1] * 40]]
)
def test_what_no_step_can_hold_is_refused(parts: list) -> None:
    with pytest.raises(CheckpointCorruptError, match="no spec of a step"):
        decode_nest(["spec", *parts, ""], "here", make_array_spec)
