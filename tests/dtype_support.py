"""Every dtype that a cell may have, every way to spell its values, every door for them."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from reverie import ArraySpec, ReplayBufferManager, reverb
from reverie.errors import ReverieError
from reverie.nests.codec import TensorSpec
from reverie.nests.specs import EXTENSION_DTYPES, kind_of
from reverie.observers import EpisodeObserver, ParallelObserver

OWN_DTYPES = [np.dtype(code) for code in "?bBhHiIlLqQefdFD"]
SHAPES = [(), (3,), (2, 1)]
Spelling = Callable[[np.ndarray], Any]
INEXACT = ("Python", "wider")  # spellings that have another dtype


def extension_types() -> dict[str, type]:
    """The scalar types of the ml_dtypes that is installed, by name; none without it."""
    try:
        import ml_dtypes
    except ImportError:
        return {}
    found = {name: getattr(ml_dtypes, name) for name in dir(ml_dtypes)}
    return {
        name: kind
        for name, kind in found.items()
        if isinstance(kind, type) and issubclass(kind, np.generic)
    }


EXTENSIONS = [
    np.dtype(kind) for name, kind in extension_types().items() if name in EXTENSION_DTYPES
]
DTYPES = OWN_DTYPES + EXTENSIONS


def values_of(dtype: np.dtype, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Values of any bits that the dtype may have, NaN and infinities among them."""
    rng = np.random.default_rng([seed, dtype.num, *shape])
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(np.bool_)
    count = int(np.prod(shape, dtype=int))
    bits = rng.integers(0, 256, count * dtype.itemsize, dtype=np.uint8)
    narrow = re.search(r"[1-7](?=_|$)", dtype.name)  # ml_dtypes' of less than eight bits
    if narrow:
        bits %= 2 ** int(narrow.group())
    values = bits.view(dtype).reshape(shape)
    if narrow and kind_of(dtype) in "iu":
        return values.astype(np.int64).astype(dtype)  # NumPy fills the byte with the sign
    return values


class Sub(np.ndarray):
    """An array of another class, which means nothing more."""


class Foreign:
    """Anything that says how it becomes an array."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self._values if dtype is None else self._values.astype(dtype)


def _read_only(values: np.ndarray) -> np.ndarray:
    array = np.array(values)
    array.flags.writeable = False
    return array


def _unaligned(values: np.ndarray) -> np.ndarray:
    raw = np.frombuffer(b"x" + values.tobytes(), np.uint8)[1:]
    return raw.view(values.dtype).reshape(values.shape)


def _wider(values: np.ndarray) -> np.ndarray:
    """As numbers of the widest dtype of the same kind."""
    wide = {"c": np.complex128, "f": np.float64, "u": np.uint64, "i": np.int64, "b": np.bool_}
    with np.errstate(invalid="ignore"):
        return values.astype(wide[kind_of(values.dtype)])


SPELLINGS: dict[str, Spelling] = {
    "array": np.array,
    "item of an array": lambda values: np.stack([values, values])[1],
    "Python": lambda values: values.tolist(),
    "scalars in lists": lambda values: list(values) if values.ndim else values[()],
    "arrays in lists": lambda values: list(map(np.array, values)) if values.ndim else values,
    "read-only": _read_only,
    "strided": lambda values: np.stack([values, values], -1)[..., 0],
    "Fortran": lambda values: np.array(values, order="F"),
    "swapped": lambda values: values.astype(values.dtype.newbyteorder()),
    "unaligned": _unaligned,
    "subclass": lambda values: np.array(values).view(Sub),
    "foreign": Foreign,
    "wider": _wider,
    "nothing masked": np.ma.masked_array,
}


class Door(Protocol):
    """A way in: `put` stores a value of the leaf "x" and returns what is found in there.

    Attributes:
        keeps_dtype: whether the column has the dtype it was made for; else it has the
            value's, and lists are nests of columns.
        is_batched: whether it takes two values at once, and returns the second.
    """

    keeps_dtype: bool
    is_batched: bool

    def put(self, value: Any) -> np.ndarray: ...

    def size(self) -> int: ...


class ByManager:
    """An observer of a manager's; or one of two environments."""

    keeps_dtype = True

    def __init__(
        self, folder: Path, dtype: np.dtype, shape: tuple[int, ...], *, parallel: bool
    ) -> None:
        self._manager = ReplayBufferManager(
            {"x": ArraySpec(shape, dtype)}, 200, folder, sequence_length=1
        )
        buffer, self._observer = self._manager.create_replay_buffer()
        self.is_batched = parallel
        if parallel:
            self._observer = ParallelObserver(buffer.py_client, "uniform_table", 1, num_envs=2)

    def put(self, value: Any) -> np.ndarray:
        self._observer({"x": value}, last=[False, False] if self.is_batched else False)
        return self._manager.gather_all()["x"][-1, 0]

    def size(self) -> int:
        return self._manager.num_frames()

    def close(self) -> None:
        self._manager.close()


class ByServer:
    """A writer of `reverie.reverb`, or an observer of its tables."""

    keeps_dtype = False
    is_batched = False

    def __init__(self, make: Callable[[reverb.Client], Callable[[Any], None]], **table: Any):
        queue = reverb.Table.queue("t", 1000, **table)
        self._server = reverb.Server([queue])
        self._client = reverb.Client(f"localhost:{self._server.port}")
        self._put = make(self._client)

    def put(self, value: Any) -> np.ndarray:
        self._put(value)
        samples = list(self._client.sample("t", self.size(), emit_timesteps=False))
        return samples[-1].data[0][0]

    def size(self) -> int:
        return self._client.server_info()["t"].current_size

    def close(self) -> None:
        self._server.stop()


def _by_trajectory_writer(client: reverb.Client) -> Callable[[Any], None]:
    def put(value: Any) -> None:
        with client.trajectory_writer(1) as writer:
            writer.append({"x": value})
            writer.create_item("t", 1.0, {"x": writer.history["x"][-1:]})

    return put


def _by_a_kept_trajectory_writer(client: reverb.Client) -> Callable[[Any], None]:
    """One that knows its column, and takes the fast way where it can."""
    writer = client.trajectory_writer(1)

    def put(value: Any) -> None:
        writer.append({"x": value})
        writer.create_item("t", 1.0, {"x": writer.history["x"][-1:]})
        writer.flush()

    return put


def _by_legacy_writer(client: reverb.Client) -> Callable[[Any], None]:
    def put(value: Any) -> None:
        with client.writer(1) as writer:
            writer.append({"x": value})
            writer.create_item("t", 1, 1.0)

    return put


def _by_insert(client: reverb.Client) -> Callable[[Any], None]:
    return lambda value: client.insert({"x": value}, {"t": 1.0})


def _by_structured_writer(client: reverb.Client) -> Callable[[Any], None]:
    from reverie.reverb import structured_writer as structured

    pattern = structured.pattern_from_transform({"x": None}, lambda ref: {"x": ref["x"][-1:]})
    config = structured.create_config(pattern, "t")

    def put(value: Any) -> None:
        writer = client.structured_writer([config])
        writer.append({"x": value})
        writer.end_episode()

    return put


def _by_episode_observer(client: reverb.Client) -> Callable[[Any], None]:
    observer = EpisodeObserver(client, "t", 3)
    return lambda value: observer({"x": value}, last=True)


_WRITERS = {
    "trajectory writer": _by_trajectory_writer,
    "kept trajectory writer": _by_a_kept_trajectory_writer,
    "legacy writer": _by_legacy_writer,
    "insert": _by_insert,
    "structured writer": _by_structured_writer,
}
DOORS = ["observer", "parallel observer", "episode observer", *_WRITERS]


@contextlib.contextmanager
def door(name: str, dtype: np.dtype, shape: tuple[int, ...], folder: Path) -> Iterator[Door]:
    """A new one of this name, for values of this dtype and shape."""
    made: ByManager | ByServer
    if name in ("observer", "parallel observer"):
        made = ByManager(folder, dtype, shape, parallel=name != "observer")
    elif name == "episode observer":
        signature = {"x": TensorSpec((None, *shape), dtype)}
        made = ByServer(_by_episode_observer, signature=signature)
        made.keeps_dtype = True
    else:
        made = ByServer(_WRITERS[name])
    with contextlib.closing(made):
        yield made


def spelled(door: Door, spell: Spelling, values: np.ndarray) -> Any:
    """What to put in; with an axis for the environments where there are two."""
    return spell(np.stack([values, values]) if door.is_batched else values)


def wanted_of(door: Door, values: np.ndarray, spelling: str, value: Any) -> np.ndarray:
    """As what `value`, a spelling of `values`, is to come back from a door."""
    if spelling not in INEXACT or (door.keeps_dtype and kind_of(values.dtype) in "biu"):
        return values
    array = np.asarray(value)[-1] if door.is_batched else np.asarray(value)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(array, values.dtype if door.keeps_dtype else array.dtype)


def check(door: Door, value: Any, wanted: np.ndarray) -> str:
    """Puts a value in; AssertionError unless it comes back bit for bit or is refused well.

    Args:
        door: the way in.
        value: in some spelling.
        wanted: as what it is to come back.

    Returns:
        "stored" or "refused".
    """
    before = door.size()
    try:
        found = np.asarray(door.put(value))
    except (ReverieError, TypeError) as error:
        assert re.search(r"\bx\b", str(error)), error  # noqa: PT017
        assert door.size() == before, "refused, but something was stored"
        return "refused"
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    assert found.tobytes() == wanted.tobytes(), f"found {found}, wanted {wanted}"
    return "stored"


def stored_by_all_doors(spell: Spelling, folder: Path, doors: Iterable[str]) -> set[str]:
    """Tries a framework's values; AssertionError unless what NumPy sees in them comes back.

    Args:
        spell: makes one of an array; None where the framework has no such dtype.
        folder: for checkpoints.
        doors: names of the ways in.

    Returns:
        The dtypes that every door stored.
    """
    stored = set()
    for dtype in DTYPES:
        if any(spell(np.ones(shape, dtype)) is None for shape in SHAPES):
            continue
        fates = set()
        for name, shape in itertools.product(doors, SHAPES):
            values = values_of(dtype, shape, seed=7)
            with door(name, dtype, shape, folder) as into:
                fates.add(check(into, spelled(into, spell, values), values))
        if fates == {"stored"}:
            stored.add(dtype.name)
    return stored
