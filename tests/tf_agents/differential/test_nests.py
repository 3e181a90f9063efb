"""Steps of every structure, and growing ones: history and items are as Reverb's."""

from __future__ import annotations

import collections
from typing import Any

import numpy as np
import pytest

reverb = pytest.importorskip("reverb", reason="needs dm-reverb")
tree = pytest.importorskip("tree", reason="needs dm-tree")
attr = pytest.importorskip("attr", reason="needs attrs")
tf = pytest.importorskip("tensorflow", reason="needs TensorFlow")

from tests.tf_agents.differential.observe import Raised, canonical  # noqa: E402

from reverie import reverb as ours  # noqa: E402

Pair = collections.namedtuple("Pair", ["second", "first"])


@attr.s(frozen=True)
class Point:
    y = attr.ib()
    x = attr.ib()


A, B = np.float32(1), np.arange(2)
# Steps, one after the other.
NESTS: dict[str, list[Any]] = {
    "a leaf": [A, A],
    "a list": [[A, B]] * 2,
    "a tuple": [(A, (B, A))] * 2,
    "a namedtuple": [Pair(second=A, first=B)] * 2,
    "an attrs class": [Point(y=A, x=B)] * 2,
    "dicts out of order": [{"b": A, "a": B}, {"a": B, "b": A}],
    "an OrderedDict": [collections.OrderedDict(b=A, a=B)] * 2,
    "nested": [{"p": Pair([A, {"z": B}], (A,)), "o": Point(B, [A])}] * 2,
    "None for a leaf": [{"a": A, "b": None}, {"a": A, "b": B}],
    "None at the root": [None, A],
    "None of a tuple": [(A, None), (None, B), (A, B)],
    "an empty list beside": [{"a": A, "b": []}] * 2,
    "a column more": [{"a": A}, {"a": A, "b": B}],
    "a column less": [{"a": A, "b": B}, {"a": A}],
    "another column": [{"a": A}, {"b": B}, {"a": A, "b": B}],
    "a column more below": [{"a": {"b": A}}, {"a": {"b": A, "c": B}}],
    "a longer list": [[A], [A, B]],
    "a longer tuple": [(A,), (A, B)],
    "a list becomes a tuple": [[A, B], (A, B)],
    "numbers for keys": [{1: A, 0: B}] * 2,
    "keys of two types": [{1: A, "a": B}] * 2,
    "a text": ["word", "other"],
    "a list of numbers": [[1, 2.5, True]] * 2,
    "Python and NumPy scalars": [{"a": 1, "b": np.int64(1)}, {"a": np.int64(2), "b": 2}],
    "an array of texts": [np.array(["a", "bc"])] * 2,
    "an array in Fortran's order": [np.asfortranarray(np.arange(6.0).reshape(2, 3))] * 2,
    "a strided array": [np.arange(10)[::3]] * 2,
    "a masked array": [np.ma.masked_array([1.0, 2.0], [False, True])] * 2,
    "a tensor": [tf.constant([1.0, 2.0])] * 2,
    "complex numbers": [np.complex64(1j), np.complex64(2)],
}


def shown(rv: Any, steps: list[Any]) -> list[Any]:
    """What a writer, the legacy writer and `insert` make of these steps."""
    table = rv.Table.queue("t", 100)
    server = rv.Server([table])
    client = rv.Client(f"localhost:{server.port}")
    seen: list[Any] = []

    def attempt(function: Any) -> None:
        try:
            seen.append(canonical(function()))
        except Exception as error:
            seen.append(Raised.of(error))

    def sampled() -> Any:
        n = table.info.current_size
        return [s.data for s in client.sample("t", n, emit_timesteps=False)] if n else []

    writer = client.trajectory_writer(4)
    for step in steps:
        attempt(lambda step=step: writer.append(step))
    attempt(lambda: tree.map_structure(len, writer.history))
    attempt(lambda: tree.map_structure(lambda c: c[-1].numpy(), writer.history))
    attempt(
        lambda: writer.create_item(
            "t", 1.0, tree.map_structure(lambda c: c[-1:], writer.history)
        )
    )
    attempt(lambda: writer.flush(timeout_ms=5000))
    attempt(sampled)
    attempt(lambda: client.insert(steps[-1], {"t": 1.0}))
    attempt(sampled)
    writer.close()
    server.stop()
    return seen


@pytest.mark.parametrize("name", NESTS)
def test_steps_of_any_structure_are_kept_as_by_reverb(name: str) -> None:
    assert shown(ours, NESTS[name]) == shown(reverb, NESTS[name])


@pytest.mark.parametrize("value", [np.zeros(2, "V4"), np.array([1, "a"], object)])
def test_what_is_no_tensor_is_refused_as_by_reverb(value: Any) -> None:
    # What comes then differs: Reverb keeps the column of a step that it has refused.
    assert shown(ours, [value])[0] == shown(reverb, [value])[0]
    assert isinstance(shown(ours, [value])[0], Raised)


@pytest.mark.parametrize("steps", [[{"a": A}, {"a": {"b": B}}], [{"a": {"b": B}}, {"a": A}]])
def test_a_field_that_becomes_another_kind_of_nest_is_a_value_error(steps: Any) -> None:
    # KeyError and AttributeError from within in Reverb.
    mine, theirs = shown(ours, steps)[1], shown(reverb, steps)[1]
    assert "ValueError" in mine.names
    assert theirs.names[0] in ("KeyError", "AttributeError")


def test_big_endian_numbers_keep_their_values() -> None:
    steps = [np.arange(3, dtype=">i4")]
    wanted = canonical(np.arange(3, dtype="i4"))
    assert wanted in shown(ours, steps)
    assert wanted not in shown(reverb, steps)  # the bytes are taken as they lie


def test_bfloat16_can_be_stored() -> None:
    steps = [np.ones(2, tf.bfloat16.as_numpy_dtype)]
    assert canonical(steps[0]) in shown(ours, steps)
    assert isinstance(shown(reverb, steps)[0], Raised)
