"""Configs of structured writers: how they are built, and which are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("google.protobuf", reason="needs protobuf")

from tests.structured_support import config, drained, tables
from tests.unit.reverb.support import Serve

from reverie.errors import InvalidArgumentError
from reverie.reverb import structured_writer as structured
from reverie.reverb.cc import patterns_pb2
from reverie.reverb.client import Client

Condition = structured.Condition
Node = patterns_pb2.PatternNode
REF = structured.create_reference_step([None, None])
LAST, LAST_B = REF[0][-1], REF[1][-1]


@pytest.fixture
def client(serve: Serve) -> Client:
    return serve(*tables())


GOOD = Node(stop=-1)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (dict(nodes=[]), "`flat` must not be empty"),
        (dict(table=""), "`table` must not be empty"),
        (dict(nodes=[Node(flat_source_index=-1, stop=-1)]), "must be >= 0 but got -1"),
        (dict(nodes=[Node()]), "At least one of `start` and `stop`"),
        (dict(nodes=[Node(start=0)]), "`start` must be < 0 but got 0"),
        (dict(nodes=[Node(start=-2, stop=1)]), "`stop` must be <= 0 but got 1"),
        (dict(nodes=[Node(stop=0)]), "`stop` must be < 0 when `start` isn't set"),
        (dict(nodes=[Node(start=-2, stop=-2)]), r"`stop` \(-2\) must be > `start` \(-2\)"),
        (dict(nodes=[Node(stop=-2, step=1)]), "`step` must only be set when `start` is set"),
        (dict(nodes=[Node(start=-2, step=0)]), "`step` must be > 0 but got 0"),
        (dict(conditions=[dict(eq=1)]), "specify a value for `left`"),
        (dict(conditions=[dict(step_index=True)]), "specify a value for `cmp`"),
        (dict(conditions=[dict(flat_source_index=-1, eq=1)]), "must be >= 0 but got -1"),
        (dict(conditions=[dict(step_index=True, mod_eq={})]), "`mod_eq.mod` must be > 0"),
        (
            dict(conditions=[dict(step_index=True, mod_eq=dict(mod=2, eq=-1))]),
            "`mod_eq.eq` must be >= 0",
        ),
        (dict(conditions=[dict(is_end_episode=True, ge=1)]), "must use `eq=1`"),
        (dict(conditions=[dict(is_end_episode=True, eq=1, inverse=True)]), "must use `eq=1`"),
        (dict(priority=patterns_pb2.Priority()), "Priority function undefined"),
        (dict(priority=structured.constant_priority_fn(np.nan)), "must not be nan"),
    ],
)
def test_an_invalid_config_is_refused_with_its_position(
    client: Client, bad: dict[str, Any], message: str
) -> None:
    conditions = [patterns_pb2.Condition(**c) for c in bad.pop("conditions", ())]
    broken = config(*bad.pop("nodes", [GOOD]), conditions=conditions, **bad)
    with pytest.raises(ValueError, match=f"Invalid configuration at position 1: .*{message}"):
        client.structured_writer([config(GOOD), broken])


def test_no_configs_unknown_tables_and_no_messages_are_refused(client: Client) -> None:
    with pytest.raises(ValueError, match="At least one config must be provided"):
        client.structured_writer([])
    with pytest.raises(RuntimeError, match="nowhere"):
        client.structured_writer([config(GOOD, table="nowhere")])
    with pytest.raises(ValueError, match="Unable to deserialize"):
        client._client.NewStructuredWriter([b"\xff\xff"])


# Building configs.


def test_a_config_holds_the_pattern_as_it_was_given() -> None:
    def transform(step: Any) -> Any:
        return {"b": (step["x"][-2:], [step["y"]["z"][-1]]), "a": step["x"][-3:-1:2]}

    pattern = structured.pattern_from_transform({"x": None, "y": {"z": None}}, transform)
    made = structured.create_config(pattern, "a")
    assert structured.unpack_pattern(made) == pattern
    assert [node.flat_source_index for node in made.flat] == [0, 0, 1]
    assert made.priority.constant_fn.value == 1.0
    again = patterns_pb2.StructuredWriterConfig.FromString(made.SerializeToString())
    assert structured.unpack_pattern(again) == pattern


def test_what_is_no_index_or_no_node_is_refused() -> None:
    with pytest.raises(ValueError, match="Key must be int or slice"):
        REF[0]["x"]
    with pytest.raises(TypeError, match="wanted a PatternNode"):
        structured.create_config({"x": REF[0]}, "a")
    with pytest.raises(InvalidArgumentError, match="== and !="):
        assert Condition.step_index() % 3 >= 1


SPEC = {"a": np.zeros((3, 3), np.float32), "b": np.zeros((), np.float64)}
SPEC_REF = structured.create_reference_step(SPEC)


def test_a_signature_has_the_shapes_of_the_items_even_where_a_step_leaves_a_rest(
    client: Client,
) -> None:
    pattern = {"x": SPEC_REF["a"][-5::2], "y": {"z": SPEC_REF["b"][-1]}}
    made = structured.create_config(pattern, "a")
    signature = structured.infer_signature([made], SPEC)
    found = [signature["x"], signature["y"]["z"]]
    assert [tuple(spec.shape) for spec in found] == [(3, 3, 3), ()]
    assert [spec.name for spec in found] == ["x", "y/z"]
    writer = client.structured_writer([made])
    for _ in range(5):
        writer.append(SPEC)
    assert np.shape(drained(client)[0][0]) == (3, 3, 3)


def test_configs_of_unequal_lengths_have_a_signature_of_unknown_length() -> None:
    configs = [structured.create_config(SPEC_REF["a"][-n:], "a") for n in (2, 3)]
    assert tuple(structured.infer_signature(configs, SPEC).shape) == (None, 3, 3)


@pytest.mark.parametrize(
    ("patterns", "tables", "message"),
    [
        ([], "", "At least one config must be provided."),
        ([SPEC_REF["a"][-1]] * 3, "cab", "All configs must target the same table.* a, b, c."),
        (
            [{"x": SPEC_REF["a"][-1]}, {"y": SPEC_REF["a"][-1]}],
            "aa",
            "All configs must have exactly the same pattern_structure.",
        ),
        (
            [{"x": SPEC_REF["a"][-1]}, {"x": SPEC_REF["b"][-1]}],
            "aa",
            r"multiple dtypes at \('x',\). Got ",
        ),
        (
            [{"x": SPEC_REF["a"][-1]}, {"x": SPEC_REF["a"][-2:]}],
            "aa",
            r"incompatible shapes at \('x',\). Got ",
        ),
        ([Node(flat_source_index=7, stop=-1)], "a", "takes leaf 7 of the steps"),
    ],
)
def test_configs_that_do_not_go_together_have_no_signature(
    patterns: list[Any], tables: str, message: str
) -> None:
    configs = [structured.create_config(p, t) for p, t in zip(patterns, tables, strict=True)]
    with pytest.raises(ValueError, match=message):
        structured.infer_signature(configs, SPEC)
