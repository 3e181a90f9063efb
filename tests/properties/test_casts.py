"""What the core casts is what `nests.casts.convert` makes of it; what it does not, goes there.

The two are compared for every pair of dtypes, every spelling and the values around which
casts go wrong; the core may leave a value to Python, but neither store another one nor take
what Python refuses.
"""

from __future__ import annotations

import array
import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from tests.dtype_support import EXTENSIONS, OWN_DTYPES, Foreign, Sub

from reverie import ArraySpec, ReplayBufferManager, _core
from reverie.errors import StepMismatchError
from reverie.nests.casts import convert
from reverie.nests.specs import Column, kind_of
from reverie.observers import ParallelObserver

NUMBERS = [np.dtype(code) for code in "?bBhHiIlLefdFD"]  # no two of the same bytes
SHAPES = [(), (2,), (2, 1)]


class Way(Protocol):
    """A way into a store for one leaf; `column` says what it is to be."""

    column: Column

    def take(self, leaf: Any) -> np.ndarray | None:
        """What the core stored, None where it leaves that to Python."""
        ...

    def put(self, leaf: Any) -> np.ndarray:
        """What was stored by an observer; or its error."""
        ...

    def items(self) -> list[int]:
        """The keys of what is stored."""
        ...


class Into:
    """An observer's, of one environment or of two, into a buffer for the last step alone."""

    def __init__(
        self, folder: Path, dtype: np.dtype, shape: tuple[int, ...], batched: bool = False
    ) -> None:
        self._manager = ReplayBufferManager({"x": ArraySpec(shape, dtype)}, 4, folder, 1)
        self._buffer, self._observer = self._manager.create_replay_buffer()
        self._batched = batched
        if batched:
            self._observer = ParallelObserver(
                self._buffer.py_client, "uniform_table", 1, num_envs=2
            )
            shape = (2, *shape)
        self.column = Column("x", ArraySpec(shape, dtype))
        self.put(np.zeros(shape, dtype))
        self._writer = self._observer._writer

    def take(self, leaf: Any) -> np.ndarray | None:
        if self._batched:
            result = self._writer.append_batch([leaf], 2, None, np.zeros(2, np.uint8), None)
        else:
            result = self._writer.append([leaf], 0)
        assert result in (_core.STORED, 0)
        return self._last() if result == _core.STORED else None

    def put(self, leaf: Any) -> np.ndarray:
        self._observer({"x": leaf}, last=[False, False] if self._batched else False)
        return self._last()

    def items(self) -> list[int]:
        return self._buffer.item_info()["key"].tolist()

    def close(self) -> None:
        self._manager.close()

    def _last(self) -> np.ndarray:
        found = self._manager.gather_all()["x"]
        return found[-2:, 0] if self._batched else found[-1, 0]


@contextlib.contextmanager
def into(*args: Any, **settings: Any) -> Iterator[Into]:
    with contextlib.closing(Into(*args, **settings)) as made:
        yield made


def check(way: Way, leaf: Any) -> str:
    """Whose a leaf is: "core", "Python" or "refused"; AssertionError where they differ."""
    wanted: np.ndarray | str
    try:
        wanted = convert(leaf, way.column)
    except StepMismatchError as error:
        wanted = str(error)
    what = f"{type(leaf).__name__} {leaf!r:.200} into {way.column}"
    before = way.items()
    found = way.take(leaf)
    if found is not None:
        assert not isinstance(wanted, str), f"{what}: stored as {found}, but {wanted}"
        assert found.dtype == wanted.dtype, what
        assert found.tobytes() == wanted.tobytes(), f"{what}: {found}, wanted {wanted}"
        return "core"
    assert way.items() == before, f"{what}: left to Python, but something was stored"
    if isinstance(wanted, str):
        with pytest.raises(StepMismatchError) as raised:
            way.put(leaf)
        assert str(raised.value) == wanted
        assert way.items() == before, f"{what}: refused, but something was stored"
        return "refused"
    assert way.put(leaf).tobytes() == wanted.tobytes(), what
    return "Python"


def numbers_of(dtype: np.dtype) -> np.ndarray:
    """Those of a dtype where casts change their mind, and one in between."""
    kind = kind_of(dtype)
    if kind == "b":
        return np.array([False, True])
    near = {sign * (2**bits + more) for bits in (0, 7, 8, 15, 16, 24, 31, 32, 53, 63, 64)
            for more in (-1, 0, 1) for sign in (1, -1)}  # fmt: skip
    if kind in "iu":
        limits = np.iinfo(dtype)
        return np.array([n for n in sorted(near) if limits.min <= n <= limits.max], dtype)
    ends = [2**-149, 2**-150, 2**-24, 2**-25, 2**-14, 65504, 65519, 65520, 1e-5, 0.1, 1e300]
    single = float(np.finfo(np.float32).max)
    ends += [single, single + 2.0**102, single + 2.0**103, np.finfo(np.float64).max, np.inf]
    floats = np.array([*near, *ends, *(-end for end in ends), 0.0, -0.0], np.float64)
    nans = np.array([0x7FF8 << 48, 0xFFF8 << 48, 0x7FF0 << 48 | 1, 0x7FFC00000000ABCD], "u8")
    with np.errstate(over="ignore", invalid="ignore"):
        if kind == "c":
            parts = np.concatenate([floats, nans.view("f8")]).astype(f"f{dtype.itemsize // 2}")
            return np.concatenate([parts, parts[::-1]]).view(dtype)
        return np.concatenate([floats, nans.view("f8")]).astype(dtype)


def mask(values: np.ndarray) -> np.ma.MaskedArray:
    return np.ma.masked_array(values, np.ones(values.shape, bool))


def unaligned(values: np.ndarray) -> np.ndarray:
    raw = np.frombuffer(b"x" + values.tobytes(), np.uint8)[1:]
    return raw.view(values.dtype).reshape(values.shape)


def buffer(values: np.ndarray) -> Any:
    try:
        return memoryview(np.ascontiguousarray(values).reshape(values.shape))
    except (ValueError, TypeError):
        return values


# Spellings of arrays that the core knows, and such as it leaves to Python.
PLAIN: dict[str, Callable[[np.ndarray], Any]] = {
    "array": np.array,
    "scalar": lambda values: values[()],
    "Python": lambda values: values.tolist(),
    "scalars in lists": lambda values: list(values) if values.ndim else values[()],
    "scalars in tuples": lambda values: tuple(values) if values.ndim else values[()],
    "strided": lambda values: np.stack([values, values], -1)[..., 0],
    "backwards": lambda values: values[::-1].copy()[::-1] if values.ndim else values,
    "Fortran": lambda values: np.array(values, order="F"),
    "repeated": lambda values: np.broadcast_to(values.flat[0], values.shape),
    "unaligned": unaligned,
    "foreign": Foreign,
    "buffer": buffer,
}
LEFT: dict[str, Callable[[np.ndarray], Any]] = {
    "swapped": lambda values: values.astype(values.dtype.newbyteorder()),
    "subclass": lambda values: np.array(values).view(Sub),
    "masked": mask,
    "nothing masked": np.ma.masked_array,
    "masked in lists": lambda values: [mask(one) for one in values] if values.ndim else values,
    "objects": lambda values: values.astype(object),
    "a long double": lambda values: values.astype(np.clongdouble),
    "texts": lambda values: np.full(values.shape, "1"),
}
SPELLINGS = PLAIN | LEFT


@pytest.mark.parametrize("wanted", NUMBERS, ids=str)
def test_each_number_alone(wanted: np.dtype, tmp_path: Path) -> None:
    with into(tmp_path, wanted, ()) as way:
        for given in OWN_DTYPES:
            for value in numbers_of(given):
                for spelling in ("array", "scalar", "Python", "foreign"):
                    check(way, SPELLINGS[spelling](np.asarray(value)))


@pytest.mark.parametrize("batched", [False, True], ids=["step", "batch"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("wanted", NUMBERS, ids=str)
def test_each_spelling(
    wanted: np.dtype, shape: tuple[int, ...], batched: bool, tmp_path: Path
) -> None:
    with into(tmp_path, wanted, shape, batched) as way:
        whole = way.column.spec.shape
        count = int(np.prod(whole, dtype=int))
        for given, spelling in itertools.product(NUMBERS + EXTENSIONS, SPELLINGS):
            own = given if given in OWN_DTYPES else np.dtype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):
                values = numbers_of(own).astype(given)
            often = given in NUMBERS and spelling in PLAIN
            for first in range(0, len(values), 15 if often else 30):
                some = np.resize(np.roll(values, -first), count).reshape(whole)
                with np.errstate(all="ignore"):
                    leaf = SPELLINGS[spelling](some)
                check(way, leaf)


@pytest.mark.parametrize("wanted", NUMBERS, ids=str)
def test_what_is_plain_takes_no_second_crossing(wanted: np.dtype, tmp_path: Path) -> None:
    """Else the comparisons would show little: the core might leave all to Python."""
    kinds = "buifc"
    for shape in SHAPES:
        with into(tmp_path / str(len(shape)), wanted, shape) as way:
            for given, (spelling, spell) in itertools.product(NUMBERS, PLAIN.items()):
                if spelling == "buffer" and (given.char in "eFD" or not shape):
                    continue  # has no buffer; or is a scalar, below
                leaf = spell(np.ones(shape, given))
                seen = kind_of(np.asarray(leaf).dtype)
                from_lists = isinstance(leaf, list | tuple | int) and seen in "iu"
                is_plain = kinds.index(seen) <= kinds.index(kind_of(wanted))
                is_plain |= from_lists and kind_of(wanted) in "iu"
                assert (check(way, leaf) == "core") is is_plain, (spelling, given)


def test_every_half(tmp_path: Path) -> None:
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    halves = halves[~np.isnan(halves)]
    for wanted in (np.float32, np.float64, np.complex64, np.complex128, np.float16):
        folder = tmp_path / np.dtype(wanted).name
        with into(folder, np.dtype(wanted), halves.shape) as way:
            assert check(way, halves) == "core"
            assert check(way, np.stack([halves, halves])[:, ::-1][1][::-1]) == "core"


def test_every_number_between_two_halves(tmp_path: Path) -> None:
    halves = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)
    middles = (halves[1:] + halves[:-1]) / 2
    for given in (np.float32, np.float64):
        near = [np.nextafter(middles.astype(given), given(end)) for end in (0, 1e9)]
        values = np.concatenate([middles.astype(given), *near, [given(65519.99)]])
        with into(tmp_path / given.__name__, np.dtype(np.float16), values.shape) as way:
            assert check(way, values) == "core"
            assert check(way, -values) == "core"


PYTHONS = st.one_of(
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-300, 300),
    st.floats(width=64),
    st.floats(-300, 300),
    st.complex_numbers(),
    st.sampled_from([np.float32(0.1), np.float64(0.1), np.int64(-3), np.int8(5), np.uint64(7)]),
    st.sampled_from([np.bool_(True), np.float16(1), np.array(3), np.array(2.5), 10**400]),
    st.sampled_from([None, "1", b"1", 1.5j, np.ma.masked, np.longdouble(1), Sub(())]),
)
NESTED = st.one_of(
    PYTHONS,
    st.lists(PYTHONS, min_size=3, max_size=3),
    st.lists(PYTHONS, max_size=4).map(tuple),
    st.lists(st.lists(PYTHONS, min_size=1, max_size=2), min_size=2, max_size=2),
    st.lists(st.floats(allow_nan=False), min_size=3, max_size=3),
    st.lists(st.one_of(st.integers(0, 9), st.booleans()), min_size=3, max_size=3),
    st.sampled_from(
        [
            [np.zeros(1), np.ones(1)],
            [np.zeros(1, "f4"), [1.0]],
            [np.ones(1, "i4"), np.ones(1, "i8")],
            (np.float32([1]), np.array([2.0])),
            [np.zeros(1), np.zeros(2)],
            [[], []],
            [],
            range(3),
            array.array("d", [1, 2, 3]),
            bytearray(b"abc"),
            b"abc",
        ]
    ),
)


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Into]]:
    """Into every dtype of numbers, in a few shapes."""
    folder = tmp_path_factory.mktemp("ways")
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(into(folder / f"{shape}-{dtype}", dtype, shape))
            for dtype, shape in itertools.product(NUMBERS, [(), (3,), (2, 1)])
        ]


@hypothesis.given(leaf=NESTED)
def test_whatever_python_has(ways: list[Into], leaf: Any) -> None:
    for way in ways:
        check(way, leaf)


# Steps of several leaves, and leaves that do things. --------------------------------------


class Acting:
    """A leaf that does something while it becomes an array."""

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        self._act()
        return np.ones(())


SPEC = {"a": ArraySpec((40,), np.float32), "b": ArraySpec((), np.int8)}
SPEC["c"] = ArraySpec((), np.float32)


def test_a_refusal_behind_casts_stores_nothing(tmp_path: Path) -> None:
    with ReplayBufferManager(SPEC, 9, tmp_path, 1) as manager:
        _, observer = manager.create_replay_buffer()
        for number in (128, -129, 2**70, 1.0):
            with pytest.raises(StepMismatchError, match=r"leaf 'b'.*Nothing was stored"):
                observer({"a": [0.5] * 40, "b": number, "c": 1})
            assert manager.num_frames() == 0
        observer({"a": [0.5] * 40, "b": -128, "c": 1})
        assert manager.gather_all()["b"].tolist() == [[-128]]


def test_a_leaf_may_store_a_step_itself(tmp_path: Path) -> None:
    """Numbers that are cast already are where the other step does not write."""
    with ReplayBufferManager(SPEC, 9, tmp_path, 1) as manager:
        _, observer = manager.create_replay_buffer()
        inner = {"a": np.arange(40.0), "b": 2, "c": 2.0}
        observer(
            {"a": np.arange(40.0) + 7, "b": 1, "c": Acting(lambda: observer(inner))},
        )
        found = manager.gather_all()
        assert found["b"].tolist() == [[2], [1]]
        assert found["a"][:, 0].tolist() == [list(range(40)), list(range(7, 47))]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_is_no_error_goes_through(error: type, tmp_path: Path) -> None:
    def stop() -> None:
        raise error

    with into(tmp_path, np.dtype(np.float32), ()) as way:
        before = way.items()
        with pytest.raises(error):
            way.put(Acting(stop))
        assert way.items() == before


def test_an_array_that_is_bfloat16_is_taken_whole_and_nothing_else_is(tmp_path: Path) -> None:
    for dtype in EXTENSIONS:
        with into(tmp_path / dtype.name, dtype, (2,)) as way:
            ones = np.ones(2, dtype)
            fates = Counter(check(way, spell(ones)) for spell in (np.array, Foreign))
            assert fates == {"core": 2}
            for leaf in (np.ones(2), [1, 1], list(ones), np.stack([ones, ones], -1)[:, 0]):
                assert check(way, leaf) != "core"


# The comparison notices what it is for. ---------------------------------------------------


class Faulty:
    """A way whose core does `cast` with all that is an array."""

    def __init__(self, way: Into, cast: Callable[[np.ndarray, np.dtype], np.ndarray]) -> None:
        self.column = way.column
        self._way = way
        self._cast = cast

    def take(self, leaf: Any) -> np.ndarray | None:
        with np.errstate(all="ignore"):
            return self._way.put(self._cast(np.asarray(leaf), self.column.spec.dtype))

    def put(self, leaf: Any) -> np.ndarray:
        return self._way.put(leaf)

    def items(self) -> list[int]:
        return self._way.items()


@pytest.mark.parametrize(
    ("dtype", "leaf"),
    [("i1", 128), ("u1", -1), ("u4", 2**32), ("f4", 1e300), ("f2", 65520.0), ("i4", 1.5)],
)
def test_a_cast_that_wraps_or_saturates_is_noticed(
    dtype: str, leaf: Any, tmp_path: Path
) -> None:
    with into(tmp_path, np.dtype(dtype), ()) as way:
        assert check(way, leaf) == "refused"
        with pytest.raises(AssertionError, match="stored as"):
            check(Faulty(way, lambda found, to: found.astype(to)), leaf)


def test_a_cast_that_rounds_twice_is_noticed(tmp_path: Path) -> None:
    def by_way_of_double(found: np.ndarray, to: np.dtype) -> np.ndarray:
        return found.astype(np.float64).astype(to)

    with into(tmp_path, np.dtype(np.float32), ()) as way:
        leaf = np.int64(2**53 + 2**29 + 1)  # a double's and then a float's middle
        assert check(way, leaf) == "core"
        with pytest.raises(AssertionError, match="wanted"):
            check(Faulty(way, by_way_of_double), leaf)


def test_a_refusal_that_stores_is_noticed(tmp_path: Path) -> None:
    class Storing(Faulty):
        def take(self, leaf: Any) -> None:
            self._way.put(0)

    with into(tmp_path, np.dtype(np.int8), ()) as way:
        with pytest.raises(AssertionError, match="something was stored"):
            check(Storing(way, lambda found, to: found), 1.5)
