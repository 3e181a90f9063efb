"""Steps against their spec: every mismatch says where, what was found and what was wanted."""

from __future__ import annotations

import collections
import types
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from reverie import ArraySpec
from reverie.errors import StepMismatchError
from reverie.nests.casts import convert
from reverie.nests.difference import difference
from reverie.nests.nest import Nest
from reverie.nests.specs import Column


class Pair(NamedTuple):
    left: Any
    right: Any


SCALAR = ArraySpec((), np.float32)
SPEC = {
    "matrix": ArraySpec((2, 3), np.float32),
    "inner": {"int": ArraySpec((), np.int32), "a/b": SCALAR},
    "pair": Pair(SCALAR, (SCALAR, [SCALAR])),
    "none": None,
    "queue": collections.deque([SCALAR, SCALAR]),
}
NEST = Nest(SPEC)


def good() -> dict[str, Any]:
    zero = np.float32(0)
    return {
        "matrix": np.zeros((2, 3), np.float32),
        "inner": {"int": np.int32(0), "a/b": zero},
        "pair": Pair(zero, (zero, [zero])),
        "none": None,
        "queue": collections.deque([zero, zero]),
    }


def refusal(step: Any) -> str:
    """The message with which `leaves` refuses a step."""
    with pytest.raises(StepMismatchError) as caught:
        NEST.leaves(step)
    message = str(caught.value)
    assert message.startswith("Step does not match the data spec ")
    assert message.endswith("Nothing was stored.")
    assert len(message) < 900
    return message


# Structure ----------------------------------------------------------------------


def test_a_good_step_flattens_into_columns_and_comes_back() -> None:
    leaves = NEST.leaves(good())
    assert len(leaves) == len(NEST.columns) == 8
    again = NEST.unflatten(leaves)
    assert difference(SPEC, again) == ""
    assert isinstance(again["pair"], Pair)


MISMATCHES: dict[str, tuple[Callable[[dict[str, Any]], Any], list[str]]] = {
    "missing key": (lambda s: s["inner"].pop("int"), ["missing ['inner/int']"]),
    "extra key": (lambda s: s.update(more=1), ["unknown ['more']", "'matrix'"]),
    "int key": (lambda s: s["inner"].update({7: 1}), ["unknown ['inner/7']"]),
    "array for a dict": (
        lambda s: s.update(inner=np.zeros(2)),
        ["'inner'", "ndarray", "'int'"],
    ),
    "None for a dict": (lambda s: s.update(inner=None), ["'inner'", "NoneType", "mapping"]),
    "value for None": (lambda s: s.update(none=1), ["'none'", "int", "None"]),
    "tuple for a named one": (
        lambda s: s.update(pair=tuple(s["pair"])),
        ["'pair'", "tuple", "Pair"],
    ),
    "list for a tuple": (
        lambda s: s.update(pair=Pair(0, [0, [0]])),
        ["'pair/right'", "list", "tuple"],
    ),
    "too short a tuple": (
        lambda s: s.update(pair=Pair(0, (0,))),
        ["missing ['pair/right/1/0']"],
    ),
    "too long a list": (
        lambda s: s.update(pair=Pair(0, (0, [0, 0]))),
        ["unknown ['pair/right/1/1']"],
    ),
    "array for a list": (
        lambda s: s.update(pair=Pair(0, (0, np.zeros(1)))),
        ["'pair/right/1'", "ndarray", "list of 1"],
    ),
    "another mapping": (
        lambda s: s.update(inner=types.MappingProxyType(s["inner"])),
        ["'inner'", "mappingproxy", "dict"],
    ),
}


@pytest.mark.parametrize("what", MISMATCHES)
def test_every_mismatch_of_structure_says_where_and_what(what: str) -> None:
    change, words = MISMATCHES[what]
    step = good()
    change(step)
    message = refusal(step)
    assert [word for word in words if word not in message] == []


@pytest.mark.parametrize("step", [None, "x", np.zeros(3), [1], (), {}.items()], ids=repr)
def test_anything_but_a_mapping_is_refused_at_the_root(step: Any) -> None:
    message = refusal(step)
    assert f"at the root: found {type(step).__name__}" in message.replace("builtins.", "")
    assert "wanted a mapping with keys ['matrix'" in message


def test_a_mismatch_in_a_node_that_only_optree_knows_is_told_in_its_words() -> None:
    step = good()
    step["queue"] = collections.deque([np.float32(0)])
    with pytest.raises(StepMismatchError, match=r"deque.*expected: 2.*Nothing was stored"):
        NEST.leaves(step)


def test_the_check_of_refusals_sees_a_step_that_is_taken() -> None:
    with pytest.raises(pytest.fail.Exception):
        refusal(good())


def test_keys_in_paths_are_escaped_as_in_column_names() -> None:
    nest = Nest({"a/b": {"c": SCALAR}})
    with pytest.raises(StepMismatchError, match=r"'a~1b'"):
        nest.leaves({"a/b": 1})
    assert nest.columns[0].path == "a~1b/c"


@pytest.mark.parametrize(
    "kind",
    [
        collections.OrderedDict,
        lambda items: collections.defaultdict(int, items),
        lambda items: dict(reversed(list(items.items()))),
    ],
)
def test_pythons_own_dicts_may_stand_for_each_other_in_any_order(kind: Any) -> None:
    step = good()
    expected = NEST.leaves(good())
    step["inner"] = kind(step["inner"])
    assert [np.shape(leaf) for leaf in NEST.leaves(step)] == [np.shape(x) for x in expected]


def test_very_many_keys_do_not_make_an_endless_message() -> None:
    step = good()
    step.update({f"key number {i}": 1 for i in range(10_000)})
    refusal(step)


def test_unsortable_keys_in_a_step_are_a_mismatch() -> None:
    with pytest.raises(StepMismatchError, match=r"unknown \['\(3,\)', '1', 'None'\]"):
        Nest({"a": SCALAR}).leaves({"a": 1, 1: 2, (3,): 4, None: 5})


# Leaves ---------------------------------------------------------------------------


def column(dtype: Any, shape: tuple[int, ...] = ()) -> Column:
    return Column("o/x", ArraySpec(shape, dtype))


def leaf_refusal(leaf: Any, dtype: Any, shape: tuple[int, ...] = ()) -> str:
    """The message with which `convert` refuses a leaf: path and what was wanted are in it."""
    with pytest.raises(StepMismatchError) as caught:
        convert(leaf, column(dtype, shape))
    message = str(caught.value)
    assert "'o/x'" in message
    assert f"wanted {np.dtype(dtype)} of shape {shape}" in message
    assert message.endswith("Nothing was stored.")
    assert len(message) < 700
    return message


@pytest.mark.parametrize(
    ("leaf", "dtype", "value"),
    [
        (5, np.int32, 5),
        (5, np.uint8, 5),
        (-(2**31), np.int32, -(2**31)),
        (2**64 - 1, np.uint64, 2**64 - 1),
        (np.int64(5), np.int32, 5),
        (np.uint64(7), np.int8, 7),
        (np.array(5), np.int16, 5),
        (np.array(5, ">i8"), np.int64, 5),
        (True, np.int32, 1),
        (True, np.bool_, True),
        (np.bool_(True), np.float32, 1.0),
        (2.5, np.float16, 2.5),
        (3, np.float64, 3.0),
        (np.float64(2.5), np.float32, 2.5),
        (1j, np.complex64, 1j),
        (2.5, np.complex128, 2.5 + 0j),
    ],
)
def test_scalars_are_cast_without_loss_of_kind(leaf: Any, dtype: Any, value: Any) -> None:
    found = convert(leaf, column(dtype))
    assert (found.dtype, found.shape, found.item()) == (np.dtype(dtype), (), value)


@pytest.mark.parametrize("leaf", [[1, 2, 3], (1, 2, 3), range(1, 4), np.array([1, 2, 3])])
@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.float32])
def test_sequences_of_integers_are_leaves(leaf: Any, dtype: Any) -> None:
    assert convert(leaf, column(dtype, (3,))).tolist() == [1, 2, 3]


def test_lists_of_python_integers_are_as_weak_as_one_python_integer() -> None:
    assert convert([1, 2, 255], column(np.uint8, (3,))).tolist() == [1, 2, 255]
    assert "256" in leaf_refusal([1, 2, 256], np.uint8, (3,))
    assert "-1" in leaf_refusal([1, 2, -1], np.uint8, (3,))


MATRIX = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize(
    "leaf",
    [
        MATRIX,
        np.asfortranarray(MATRIX),
        np.repeat(MATRIX, 2, axis=1)[:, ::2],
        MATRIX[::-1, ::-1].copy()[::-1, ::-1],
        MATRIX.astype(">f4"),
        MATRIX.astype(">f8"),
        MATRIX.astype(np.int64),
        MATRIX.astype(np.float16),
        MATRIX.tolist(),
        [list(map(np.float64, row)) for row in MATRIX],
    ],
    ids=str,
)
def test_any_layout_and_byte_order_gives_the_same_contiguous_values(leaf: Any) -> None:
    found = convert(leaf, column(np.float32, (2, 3)))
    assert np.array_equal(found, MATRIX)
    assert found.flags.c_contiguous
    assert found.dtype.isnative


@pytest.mark.parametrize(
    "leaf",
    [MATRIX.ravel(), MATRIX.T, MATRIX[None], MATRIX[:1], MATRIX[..., None], 1.0, None, "text"],
    ids=lambda leaf: str(np.shape(leaf)),
)
def test_another_shape_is_refused(leaf: Any) -> None:
    message = leaf_refusal(leaf, np.float32, (2, 3))
    assert f"shape {np.shape(leaf)}" in message
    assert type(leaf).__name__ in message


def test_a_leading_batch_axis_is_refused_and_explained() -> None:
    assert "no batch axis" in leaf_refusal(MATRIX[None], np.float32, (2, 3))
    assert "no batch axis" in leaf_refusal([1], np.int32)
    assert "no batch axis" not in leaf_refusal(MATRIX.T, np.float32, (2, 3))


@pytest.mark.parametrize(
    ("leaf", "dtype"),
    [
        (1.0, np.int32),
        (np.float32(1), np.int64),
        (np.int64(1), np.uint8),
        (1, np.bool_),
        (1.0, np.bool_),
        (1j, np.float64),
    ],
    ids=str,
)
def test_a_dtype_of_another_kind_is_refused(leaf: Any, dtype: Any) -> None:
    message = leaf_refusal(leaf, dtype)
    assert f"found {type(leaf).__name__}" in message
    assert "convert it yourself" in message


@pytest.mark.parametrize(
    ("leaf", "dtype", "why"),
    [
        (1.5, np.int32, "a fraction would be lost"),
        (np.float16(1), np.uint8, "a fraction would be lost"),
        (1j, np.int32, "an imaginary part would be lost"),
        (1j, np.float32, "an imaginary part would be lost"),
        (np.int8(1), np.uint64, "has no negative numbers"),
        (1, np.bool_, "holds True and False alone"),
        (1j, np.bool_, "holds True and False alone"),
    ],
)
def test_what_would_be_lost_is_said(leaf: Any, dtype: Any, why: str) -> None:
    assert why in leaf_refusal(leaf, dtype)


@pytest.mark.parametrize(
    ("leaf", "dtype"),
    [
        ("5", np.int32),
        (b"5", np.int32),
        (None, np.float32),
        pytest.param(object(), np.float32, id="object"),  # its repr holds an address
        ({}, np.float32),
        (np.datetime64("2020-01-01"), np.int64),
    ],
    ids=str,
)
def test_what_is_no_number_is_refused(leaf: Any, dtype: Any) -> None:
    message = leaf_refusal(leaf, dtype)
    assert f"found {type(leaf).__name__}" in message
    assert "is no number" in message


@pytest.mark.parametrize("exponent", [400, 5000])
@pytest.mark.parametrize("dtype", [np.float64, np.complex64, np.int64, np.uint64])
def test_an_integer_beyond_all_dtypes_is_refused(exponent: int, dtype: Any) -> None:
    number = -(10**exponent)
    assert "the value" in leaf_refusal(number, dtype)
    assert "the value" in leaf_refusal([0, number], dtype, (2,))


@pytest.mark.parametrize(
    ("leaf", "dtype"),
    [
        ([2**63, 1], np.uint64),
        ([2**64 - 1, 0], np.uint64),
        ([np.uint64(2**64 - 1), np.int64(3)], np.uint64),
        ([2**63 - 1, np.uint64(1)], np.int64),
        ([2**70, 1], np.float64),
        ([1, 2], np.uint8),
        ([2**63], np.float32),
        ([True, 2**63], np.uint64),
    ],
    ids=str,
)
def test_integers_in_lists_are_stored_exactly(leaf: Any, dtype: Any) -> None:
    found = convert(leaf, column(dtype, (len(leaf),)))
    assert (found.dtype, found.tolist()) == (np.dtype(dtype), [int(one) for one in leaf])


@pytest.mark.parametrize("leaf", [[2**64, 1], [-1, 2**63], [2**63, -(2**70)]], ids=str)
def test_integers_in_lists_that_do_not_fit_are_named(leaf: Any) -> None:
    message = leaf_refusal(leaf, np.uint64, (2,))
    assert f"the value {min(leaf) if min(leaf) < 0 else max(leaf)}" in message
    assert f"0 to {2**64 - 1}" in message


def test_all_columns_that_differ_are_named() -> None:
    spec = Nest({"o": {"a": SCALAR, "b": SCALAR}, "act": SCALAR, "none": ()})
    with pytest.raises(
        StepMismatchError,
        match=r"missing \['act', 'none', 'o/b'\], unknown \['o/c', 'reward/x'\]; "
        r"wanted \['act', 'o/a', 'o/b'\]",
    ):
        spec.leaves({"o": {"a": 1, "c": 1}, "reward": {"x": 1}})
    with pytest.raises(StepMismatchError, match=r"in its columns: missing .*; at 'o': found "):
        spec.leaves({"o": [1], "none": ()})
    with pytest.raises(
        StepMismatchError, match=r"missing \['1'\], unknown \['1'\].*another type"
    ):
        Nest({1: SCALAR}).leaves({"1": 1})


@pytest.mark.parametrize(
    ("leaf", "dtype"),
    [
        (2**31, np.int32),
        (-(2**31) - 1, np.int32),
        (2**63, np.int64),
        (2**64, np.int64),
        (2**64, np.uint64),
        (-1, np.uint64),
        (10**30, np.int8),
        (-(10**30), np.uint8),
        (256, np.uint8),
        (np.int64(2**31), np.int32),
        (np.uint64(2**63), np.int64),
        (np.array(2**63, np.uint64), np.int64),
        (np.array(2**63 - 1, np.uint64), np.int32),
    ],
    ids=repr,
)
def test_an_integer_out_of_range_is_refused_not_wrapped(leaf: Any, dtype: Any) -> None:
    assert f"the value {int(leaf)}" in leaf_refusal(leaf, dtype)
    limits = np.iinfo(dtype)
    assert f"{limits.min} to {limits.max}" in leaf_refusal(leaf, dtype)


def test_one_integer_of_many_out_of_range_is_refused() -> None:
    assert "9223372036854775808" in leaf_refusal(
        np.array([1, 2**63, 2], np.uint64), np.int64, (3,)
    )
    assert "-129" in leaf_refusal(np.array([1, -129]), np.int8, (2,))


@pytest.mark.parametrize(
    ("leaf", "dtype"), [(1e300, np.float32), (-1e6, np.float16), (1e300j, np.complex64)]
)
def test_a_finite_float_that_would_become_infinite_is_refused(leaf: Any, dtype: Any) -> None:
    assert "the value" in leaf_refusal(leaf, dtype)
    assert "the value" in leaf_refusal(np.array([0, leaf]), dtype, (2,))


def test_nan_infinity_and_the_loss_of_digits_are_fine() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = [np.nan, np.inf, -np.inf, 1e-300, 1 / 3]
        found = convert(values, column(np.float32, (5,)))
    assert np.array_equal(found, np.float32(values), equal_nan=True)


def test_a_foreign_object_that_cannot_become_an_array_is_told_in_its_words() -> None:
    class Broken:
        def __array__(self, *args: Any, **kwargs: Any) -> Any:
            raise RuntimeError("needs grad " + 1000 * "x")

    message = leaf_refusal(Broken(), np.float32)
    assert "Broken" in message
    assert "needs grad" in message


def test_a_ragged_list_is_refused() -> None:
    leaf_refusal([[1, 2], [3]], np.float32, (2, 2))


def test_the_check_of_leaves_sees_a_leaf_that_is_taken() -> None:
    with pytest.raises(pytest.fail.Exception):
        leaf_refusal(1.0, np.float32)


def test_what_is_converted_is_a_copy() -> None:
    leaf = np.zeros(2, np.float32)
    found = convert(leaf, column(np.float32, (2,)))
    leaf[0] = 1
    assert found.tolist() == [0, 0]


# Pad steps ------------------------------------------------------------------------


def test_a_pad_record_is_zeros_of_the_records_size() -> None:
    assert NEST.pad_record() == bytes(NEST.record_dtype.itemsize)
    assert repr(NEST) == f"Nest(8 columns, {NEST.record_dtype.itemsize} bytes)"
