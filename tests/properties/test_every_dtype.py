"""Every dtype of NumPy and ml_dtypes, however spelled, comes out as it went in."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.dtype_support import (
    DOORS,
    DTYPES,
    EXTENSIONS,
    INEXACT,
    OWN_DTYPES,
    SHAPES,
    SPELLINGS,
    Door,
    check,
    door,
    extension_types,
    spelled,
    stored_by_all_doors,
    values_of,
    wanted_of,
)

import reverie
from reverie import ArraySpec, ReplayBufferManager
from reverie.errors import SpecError, StepMismatchError
from reverie.nests.casts import convert
from reverie.nests.specs import EXTENSION_DTYPES, Column, kind_of

ROUNDS = 3


def available(doors: list[str]) -> list[str]:
    """Those for which the packages are here."""
    try:
        import google.protobuf  # noqa: F401
    except ImportError:
        return [name for name in doors if name != "structured writer"]
    return doors


@pytest.mark.parametrize("name", DOORS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_goes_in_comes_out(
    dtype: np.dtype, shape: tuple[int, ...], name: str, tmp_path: Path
) -> None:
    if name not in available(DOORS):
        pytest.skip("structured writers need protobuf")
    with door(name, dtype, shape, tmp_path) as into:
        for seed in range(ROUNDS):
            values = values_of(dtype, shape, seed)
            for spelling, spell in SPELLINGS.items():
                value = spelled(into, spell, values)
                if isinstance(value, list) and not into.keeps_dtype:
                    continue
                if spelling in INEXACT and name == "kept trajectory writer":
                    continue  # another dtype, which its column refuses: see below
                fate = check(into, value, wanted_of(into, values, spelling, value))
                assert fate == "stored" or spelling in INEXACT, spelling


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_numbers_that_a_dtype_has_are_taken_from_python_and_from_wider_ones(
    dtype: np.dtype, tmp_path: Path
) -> None:
    """The fuzz permits refusals there: ones and zeros leave no reason for any."""
    with door("observer", dtype, (2,), tmp_path) as into:
        ones = np.ones(2).astype(dtype)
        for spelling in SPELLINGS:
            assert check(into, SPELLINGS[spelling](ones), ones) == "stored", spelling


def test_a_column_keeps_its_dtype(tmp_path: Path) -> None:
    for dtype in EXTENSIONS:
        with door("kept trajectory writer", dtype, (), tmp_path) as into:
            one = np.ones((), dtype)
            assert check(into, one, one) == "stored"
            assert check(into, np.float32(1), one) == "refused"
            assert check(into, dtype.type(1), one) == "stored"


def mask(values: np.ndarray) -> np.ma.MaskedArray:
    return np.ma.masked_array(values, np.ones(values.shape, bool))


@pytest.mark.parametrize("spell", [mask, lambda values: [mask(values)]])
@pytest.mark.parametrize("name", ["observer", "parallel observer", "episode observer"])
def test_masked_values_are_refused(name: str, spell: Any, tmp_path: Path) -> None:
    for dtype, shape in itertools.product(OWN_DTYPES, SHAPES):
        with door(name, dtype, shape, tmp_path) as into:
            with pytest.raises(StepMismatchError, match=r"'x': .*masked array"):
                into.put(spelled(into, spell, np.ones(shape, dtype)))
            assert into.size() == 0


def test_jax_arrays_are_what_numpy_sees(tmp_path: Path) -> None:
    jnp = pytest.importorskip("jax.numpy")

    def spell(values: np.ndarray) -> Any:
        if values.dtype.char in "lLqQdD":
            return None  # cut to half its width, unless JAX is told not to
        try:
            return jnp.asarray(values)
        except (TypeError, RuntimeError):
            return None

    stored = stored_by_all_doors(spell, tmp_path, available(DOORS))
    assert {"bool", "uint8", "int32", "float32", "bfloat16", "float8_e5m2", "int4"} <= stored


def test_torch_tensors_are_what_numpy_sees(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    def spell(values: np.ndarray) -> Any:
        try:
            return torch.from_numpy(values)
        except TypeError:
            return None

    stored = stored_by_all_doors(spell, tmp_path, available(DOORS))
    assert {"bool", "uint8", "int64", "float32", "complex64"} <= stored


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_it_survives_a_checkpoint(dtype: np.dtype, tmp_path: Path) -> None:
    spec = {"x": ArraySpec((5,), dtype), "y": ArraySpec((), dtype)}
    steps = [
        {"x": values_of(dtype, (5,), seed), "y": values_of(dtype, (), seed)}
        for seed in range(9)
    ]
    with ReplayBufferManager(spec, 20, tmp_path, 1) as manager:
        _, observer = manager.create_replay_buffer()
        for step in steps:
            observer(step, last=False)
        wanted = manager.gather_all()
        manager.save()
    with ReplayBufferManager(spec, 20, tmp_path, 1) as manager:
        manager.load_replay_buffer()
        found = manager.gather_all()
    assert found["x"].dtype == dtype
    assert found["x"].tobytes() == wanted["x"].tobytes()
    assert found["y"].tobytes() == wanted["y"].tobytes()
    assert found["x"].tobytes() == b"".join(step["x"].tobytes() for step in steps)
    with contextlib.closing(reverie.open(tmp_path)) as opened:
        assert opened.gather_all()["x"].tobytes() == wanted["x"].tobytes()


@pytest.mark.parametrize("name", sorted(extension_types()))
def test_a_dtype_of_ml_dtypes_is_known_or_refused_by_name(name: str) -> None:
    kind = extension_types()[name]
    if name in EXTENSION_DTYPES:
        assert ArraySpec((), kind).dtype.itemsize == EXTENSION_DTYPES[name]
    else:
        with pytest.raises(SpecError, match=name):
            ArraySpec((), kind)


def limits(dtype: np.dtype) -> list[Any]:
    """Numbers around the ends of a dtype of less than eight bits."""
    return sorted(
        {
            0,
            1,
            -1,
            *(
                sign * (2**bits + more)
                for bits in range(9)
                for more in (-1, 0, 1)
                for sign in (1, -1)
            ),
        }
    )


@pytest.mark.parametrize("dtype", EXTENSIONS, ids=str)
def test_a_number_is_stored_where_it_is_the_same_or_near_it(
    dtype: np.dtype, tmp_path: Path
) -> None:
    """Integers neither wrap around nor saturate; floats are as near as the dtype has them."""
    integer = dtype.name.removeprefix("u").startswith("int")
    with door("observer", dtype, (), tmp_path) as into:
        for number in limits(dtype):
            before = into.size()
            try:
                found = complex(into.put(number))
            except StepMismatchError as error:
                assert f"the value {number}" in str(error)  # noqa: PT017
                assert into.size() == before
                continue
            if integer:
                assert found == number
            else:
                assert abs(found - number) <= abs(number) / 2
        for number in (float("nan"), float("inf"), -float("inf"), 1e300, -1e300):
            with contextlib.suppress(StepMismatchError):
                found = complex(into.put(number))
                assert not integer
                assert found.real == number or (np.isnan(number) and np.isnan(found.real))


def near(found: np.ndarray, given: np.ndarray) -> bool:
    """Whether numbers are the same but for digits that their dtype does not have."""
    if kind_of(found.dtype) in "biu":
        return found.astype(object).tolist() == given.astype(object).tolist()
    width = found.dtype.itemsize // (2 if kind_of(found.dtype) == "c" else 1)
    least = {1: 0.25, 2: 1e-7}.get(width, 1e-45)  # smaller ones may become 0
    was, now = (array.astype(np.complex128).view(np.float64) for array in (given, found))
    same = (was == now) | (np.isnan(was) & np.isnan(now))
    with np.errstate(invalid="ignore"):
        close = np.isfinite(was) & (np.abs(was - now) <= np.maximum(np.abs(was) / 2, least))
    return bool((same | close).all())


@pytest.mark.parametrize("given", DTYPES, ids=str)
def test_whatever_is_cast_means_the_same(given: np.dtype) -> None:
    """Into any dtype; NumPy casts some of ml_dtypes' into each other as nonsense."""
    for wanted, seed in itertools.product(DTYPES, range(4)):
        values = values_of(given, (3,), seed)
        try:
            found = convert(values, Column("x", ArraySpec((3,), wanted)))
        except StepMismatchError as error:
            assert "leaf 'x': found" in str(error)  # noqa: PT017
        else:
            assert found.dtype == wanted
            assert near(found, values), f"{values} became {wanted}: {found}"


# The checks notice what they are for. ---------------------------------------------------


class Faulty:
    """A door that does `change` to what is put in, before it stores it."""

    keeps_dtype = True
    is_batched = False

    def __init__(self, into: Door, change: Any) -> None:
        self._into = into
        self._change = change

    def put(self, value: Any) -> np.ndarray:
        return self._into.put(self._change(value))

    def size(self) -> int:
        return self._into.size()


def bytes_of_an_address(value: Any) -> Any:
    """What was stored once for scalars of user-defined dtypes."""
    if isinstance(value, np.generic) and value.dtype.num >= 256:
        raw = np.frombuffer(id(value).to_bytes(8, "little"), np.uint8)
        return raw[: value.dtype.itemsize].view(value.dtype).reshape(())
    return value


@pytest.mark.skipif(not EXTENSIONS, reason="needs ml_dtypes")
def test_an_address_in_place_of_a_value_is_noticed(tmp_path: Path) -> None:
    for dtype in EXTENSIONS:
        if dtype.itemsize * 8 < 16:
            continue  # a byte may be right by chance
        with door("observer", dtype, (), tmp_path / dtype.name) as into:
            faulty = Faulty(into, bytes_of_an_address)
            one = np.ones((), dtype)
            check(faulty, one, one)
            with pytest.raises(AssertionError, match="wanted"):
                check(faulty, dtype.type(1), one)


def test_bytes_in_the_wrong_order_are_noticed(tmp_path: Path) -> None:
    def as_they_lie(value: Any) -> Any:
        return value.view(value.dtype.newbyteorder("="))

    with door("observer", np.dtype(np.int32), (), tmp_path) as into:
        with pytest.raises(AssertionError, match="wanted"):
            check(Faulty(into, as_they_lie), np.array(1, ">i4"), np.array(1, "i4"))


def test_a_refusal_that_stores_is_noticed(tmp_path: Path) -> None:
    with door("observer", np.dtype(np.int32), (), tmp_path) as into:

        def store_and_refuse(value: Any) -> Any:
            into.put(0)
            return value

        with pytest.raises(AssertionError, match="something was stored"):
            check(Faulty(into, store_and_refuse), 1.5, np.array(1, "i4"))
