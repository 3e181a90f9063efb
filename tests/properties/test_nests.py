"""Nests come back as they went in, bit for bit, and casting follows NumPy."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import optree
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reverie import ArraySpec, ReplayBufferManager
from reverie.errors import SpecError, StepMismatchError
from reverie.nests.casts import convert
from reverie.nests.nest import Nest
from reverie.nests.specs import Column
from reverie.testing import strategies as rst
from reverie.testing.model import expect_same_nest

DTYPES = rst.STORABLE_DTYPES
SLOW = settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])


@st.composite
def specs_and_steps(draw: st.DrawFn, count: int = 1) -> tuple[Any, list[Any]]:
    spec = draw(rst.data_specs() | rst.trajectory_specs())
    return spec, [draw(rst.steps(spec)) for _ in range(count)]


def stacked(steps: list[Any]) -> Any:
    """What `gather_all` gives for windows of one step."""
    return optree.tree_map(lambda *leaves: np.stack(leaves)[:, None], *steps)


def gathered(spec: Any, steps: list[Any]) -> Any:
    """The steps, after a visit to a buffer."""
    with ReplayBufferManager(spec, 100, "never made", 1) as manager:
        _, observer = manager.create_replay_buffer()
        for step in steps:
            observer(step)
        return manager.gather_all()


@given(specs_and_steps())
@SLOW
def test_leaves_and_unflatten_are_inverse(case: tuple[Any, list[Any]]) -> None:
    spec, (step,) = case
    nest = Nest(spec)
    expect_same_nest("nest", nest.unflatten(nest.leaves(step)), step)
    plain = _with_plain_dicts(spec)  # their keys are sorted, an OrderedDict's are not
    assert [column.spec for column in nest.columns] == optree.tree_leaves(plain)


def _with_plain_dicts(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _with_plain_dicts(child) for key, child in node.items()}
    children, treespec = optree.tree_flatten(node, is_leaf=lambda child: child is not node)
    if treespec.is_leaf():
        return node
    return treespec.unflatten(map(_with_plain_dicts, children))


@given(specs_and_steps(count=3))
@SLOW
def test_every_value_comes_back_bit_for_bit(case: tuple[Any, list[Any]]) -> None:
    spec, steps = case
    expect_same_nest("items", gathered(spec, steps), stacked(steps))


@given(specs_and_steps(count=2))
@SLOW
def test_byte_order_memory_layout_and_order_of_keys_do_not_matter(
    case: tuple[Any, list[Any]],
) -> None:
    spec, steps = case
    foreign = [with_keys_reversed(optree.tree_map(with_bytes_reversed, step)) for step in steps]
    expect_same_nest("items", gathered(spec, foreign), stacked(steps))


def with_bytes_reversed(leaf: np.ndarray) -> Any:
    swapped = leaf.astype(leaf.dtype.newbyteorder(">"))
    return np.asfortranarray(swapped) if leaf.ndim else swapped[()]


def with_keys_reversed(nest: Any) -> Any:
    """The same nest with the keys of each plain dict in the opposite order."""
    if type(nest) is dict:
        return {key: with_keys_reversed(nest[key]) for key in reversed(nest)}
    if isinstance(nest, tuple | list):
        inner = [with_keys_reversed(value) for value in nest]
        return type(nest)(*inner) if hasattr(nest, "_fields") else type(nest)(inner)
    return nest


@given(specs_and_steps(count=2))
@SLOW
def test_a_checkpoint_keeps_every_bit_whatever_the_names(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[Any, list[Any]]
) -> None:
    spec, steps = case
    with tempfile.TemporaryDirectory(dir=tmp_path_factory.getbasetemp()) as folder:
        with ReplayBufferManager(spec, 100, folder, 1) as manager:
            _, observer = manager.create_replay_buffer()
            for step in steps:
                observer(step)
            manager.save()
        with ReplayBufferManager(spec, 100, folder, 1) as manager:
            manager.load_replay_buffer()
            expect_same_nest("items", manager.gather_all(), stacked(steps))


@given(st.integers(), rst.array_specs(), rst.array_specs())
def test_keys_that_read_alike_are_refused(key: int, one: ArraySpec, other: ArraySpec) -> None:
    one = ArraySpec((1, *one.shape), one.dtype)
    with pytest.raises(SpecError):
        Nest(({key: one, str(key): other}, ArraySpec((), np.int8)))


# Casting. Sources that no spec can have are among them: they must be refused in peace.

SOURCES = [*DTYPES, *(np.dtype(code) for code in ("g", "G", "U1", "S1", "O", "M8[s]", "m8[s]"))]
Convert = Callable[[Any, Column], np.ndarray]


def check_casting(source: np.dtype, wanted: np.dtype, convert: Convert) -> None:
    """Raises AssertionError where `convert` casts unlike NumPy."""
    leaf = np.array([0, 1]).astype(source)
    column = Column("leaf", ArraySpec((2,), wanted))
    try:
        found = convert(leaf, column)
    except StepMismatchError:
        found = None
    assert (found is not None) == np.can_cast(source, wanted, casting="same_kind")
    if found is not None:
        assert (found.dtype, found.shape) == (wanted, (2,))
        assert found.tobytes() == leaf.astype(wanted).tobytes()


def check_numbers(leaf: Any, wanted: np.dtype, convert: Convert) -> None:
    """Raises AssertionError where `convert` stores another number than it was given."""
    array = np.asarray(leaf)
    try:
        found = convert(leaf, Column("leaf", ArraySpec(array.shape, wanted)))
    except StepMismatchError:
        return
    assert found.tolist() == array.tolist()


@pytest.mark.parametrize("wanted", DTYPES, ids=str)
def test_arrays_are_cast_where_numpys_same_kind_casting_allows_it(wanted: np.dtype) -> None:
    for source in SOURCES:
        check_casting(source, wanted, convert)


INTEGERS = [dtype for dtype in DTYPES if dtype.kind in "iu"]


@pytest.mark.parametrize("wanted", INTEGERS, ids=str)
def test_python_integers_are_stored_just_where_they_fit(wanted: np.dtype) -> None:
    limits = np.iinfo(wanted)
    column = Column("leaf", ArraySpec((), wanted))
    for number in {0, 1, -1, *(limits.min, limits.max), 2**63 - 1, -(2**63), 2**64 - 1}:
        if limits.min <= number <= limits.max:
            assert convert(number, column).item() == number
    for number in (limits.min - 1, limits.max + 1, 2**64, -(2**63) - 1, 10**30):
        if not limits.min <= number <= limits.max:
            with pytest.raises(StepMismatchError):
                convert(number, column)


@given(st.data(), st.sampled_from(INTEGERS), st.sampled_from(INTEGERS))
def test_integers_never_wrap_around(data: Any, source: np.dtype, wanted: np.dtype) -> None:
    check_numbers(data.draw(rst.values(ArraySpec((2, 2), source))), wanted, convert)


@given(st.integers(-(2**70), 2**70), st.sampled_from(INTEGERS))
def test_python_integers_never_wrap_around(number: int, wanted: np.dtype) -> None:
    check_numbers(number, wanted, convert)


@pytest.mark.parametrize("number", [True, 3, 2.5, 1e300, float("inf"), float("nan"), 1 + 2j])
@pytest.mark.parametrize("wanted", DTYPES, ids=str)
def test_python_numbers_are_weak_but_keep_their_kind(number: complex, wanted: np.dtype) -> None:
    kinds = ["?biufc".index(kind) for kind in (np.asarray(number).dtype.kind, wanted.kind)]
    weaker = kinds[0] <= kinds[1] or (type(number) is int and wanted.kind == "u")
    fits = not (number == 1e300 and wanted.char in "efF")
    column = Column("leaf", ArraySpec((), wanted))
    if weaker and fits:
        expected = np.asarray(number).astype(wanted)
        assert convert(number, column).tobytes() == expected.tobytes()
    else:
        with pytest.raises(StepMismatchError):
            convert(number, column)


def test_the_checks_see_casting_without_rules() -> None:
    def reckless(leaf: Any, column: Column) -> np.ndarray:
        return np.asarray(leaf).astype(column.spec.dtype)

    int8, int32, float32 = (np.dtype(code) for code in ("b", "i", "f"))
    with pytest.raises(AssertionError):
        check_casting(float32, int32, reckless)
    with pytest.raises(AssertionError):
        check_numbers(np.array([300]), int8, reckless)


def test_the_checks_see_casting_that_is_too_strict() -> None:
    def strict(leaf: Any, column: Column) -> np.ndarray:
        if leaf.dtype != column.spec.dtype:
            raise StepMismatchError("no")
        return np.array(leaf)

    with pytest.raises(AssertionError):
        check_casting(np.dtype("d"), np.dtype("f"), strict)


def test_the_round_trip_sees_a_flipped_bit() -> None:
    spec = {"a": ArraySpec((2,), np.float32)}
    step = {"a": np.array([np.nan, 1], np.float32)}
    found = gathered(spec, [step])
    found["a"].view(np.uint8)[0, 0, 0] ^= 1
    with pytest.raises(AssertionError, match="leaf 0"):
        expect_same_nest("items", found, stacked([step]))
