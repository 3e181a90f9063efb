"""Small stand-ins for the core and the file system, shared by the checkpoint tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reverie import ArraySpec
from reverie.checkpoint import find_newest, open_source
from reverie.checkpoint.disk.files import FileSystem
from reverie.checkpoint.format.reader import read_manifest
from reverie.checkpoint.save import write_checkpoint
from reverie.nests.nest import Nest
from reverie.tables.limiters import Limiter
from reverie.tables.selectors import PrioritizedSelector
from reverie.tables.settings import TableSettings

STEP = {
    "observation": {"position": ArraySpec((3,), np.float32)},
    "done": ArraySpec((), np.bool_),
    "step": ArraySpec((), np.int64),
}
NEST = Nest(STEP)
RECORD = NEST.record_dtype  # done, observation/position, step: 21 bytes
DONE = 0  # where the bool stands in a record
LAYOUTS = [
    [(column.spec.dtype, column.spec.shape) for column in NEST.columns],
    [(np.dtype("?"), ())],
    None,
]
_RECORDS, _FLAGS, _TEXTS = range(len(LAYOUTS))


class Chunk:
    """One chunk of a snapshot: what the core would tell of it."""

    def __init__(
        self,
        chunk_id: int,
        raw: np.ndarray,
        *,
        layout: int = _RECORDS,
        after: int = 0,
        sealed: bool = True,
        ends: Sequence[tuple[int, int]] = (),
    ) -> None:
        self.chunk_id, self.raw, self.layout = chunk_id, raw, layout
        self.after, self.sealed, self.ends = after, sealed, list(ends)


def records(chunk_id: int, count: int, seed: int = 0, **more: Any) -> Chunk:
    """A chunk of records that only its id, length and seed decide."""
    made = np.zeros(count, RECORD)
    rng = np.random.default_rng([seed, chunk_id])
    made["observation/position"] = rng.normal(size=(count, 3))
    made["done"] = rng.integers(0, 2, count)
    made["step"] = np.arange(count) + 1000 * (chunk_id % 1000)
    return Chunk(chunk_id, made.view(np.uint8).reshape(count, RECORD.itemsize), **more)


def flags(chunk_id: int, values: Sequence[int]) -> Chunk:
    """A chunk of bools, cells of one column."""
    return Chunk(chunk_id, np.array(values, np.uint8).reshape(-1, 1), layout=_FLAGS)


def text(chunk_id: int, cell: bytes) -> Chunk:
    """A chunk of one cell of any size."""
    return Chunk(chunk_id, np.frombuffer(cell, np.uint8).reshape(1, -1), layout=_TEXTS)


class TableSnapshot:
    """One table: items as rows, trajectories as (item, episode, columns) below them.

    A column is (field, squeeze, pieces), a piece (chunk, offset, length). `holes` are
    places of the order of insertion.
    """

    def __init__(
        self,
        items: list[tuple],
        free: Sequence[int] = (),
        trajectories: Sequence[tuple] = (),
        touched: Sequence[int] = (),
        holes: Sequence[int] = (),
    ) -> None:
        self.items = _columns(
            items,
            {"key": "u8", "chunk": "u8", "offset": "u4", "length": "u4", "priority": "f8"}
            | {"times_sampled": "i4"},
        )
        columns = [(item, *column) for item, _, own in trajectories for column in own]
        self.items |= _columns(
            [(item, episode) for item, episode, _ in trajectories],
            {"traj_item": "u8", "traj_episode": "u8"},
        )
        self.items |= _columns(
            [(item, field, squeeze, len(own)) for item, field, squeeze, own in columns],
            {"column_item": "u8", "column_field": "u4", "column_squeeze": "u1"}
            | {"column_pieces": "u4"},
        )
        self.items |= _columns(
            [piece for *_, own in columns for piece in own],
            {"piece_chunk": "u8", "piece_offset": "u4", "piece_length": "u4"},
        )
        self.items["touched"] = np.array(touched, "u8")
        self.items["holes"] = packed(len(items) + len(holes), holes) if holes else packed(0, ())
        self.free_keys = np.array(free, "u8")
        self.counters = {
            "inserts": len(items) + len(free),
            "samples": 7,
            "deletes": len(free),
            "num_unique_samples": 3,
            "num_deleted_episodes": 2,
            "first_generation": 0,
            "next_slot": len(items) + len(free),
        }
        self.rng_state = np.array([1, 2**63, 3, 2**64 - 1], np.uint64)


def packed(places: int, holes: Sequence[int]) -> np.ndarray:
    """A bit for each of so many places of an order, set for those that are holes."""
    bits = np.zeros(places, np.uint8)
    bits[list(holes)] = 1
    return np.packbits(bits, bitorder="little")


def _columns(rows: Sequence[tuple], dtypes: dict[str, str]) -> dict[str, np.ndarray]:
    columns = list(zip(*rows, strict=True)) or [()] * len(dtypes)
    pairs = zip(dtypes.items(), columns, strict=True)
    return {name: np.array(column, dtype) for (name, dtype), column in pairs}


class Snapshot:
    """As the core's: arrays over all chunks, by id."""

    def __init__(self, chunks: Sequence[Chunk], tables: list[TableSnapshot]) -> None:
        self.all = sorted(chunks, key=lambda chunk: chunk.chunk_id)
        self.tables = tables
        used = sorted({chunk.layout for chunk in chunks})
        self.layouts = [LAYOUTS[layout] for layout in used]
        rows = [
            (c.chunk_id, c.after, len(c.raw), c.raw.nbytes, c.sealed, used.index(c.layout))
            for c in self.all
        ]
        self.chunks = _columns(
            rows,
            {"id": "u8", "next": "u8", "count": "u4", "nbytes": "u8", "sealed": "u1"}
            | {"layout": "u4"},
        )
        ends = [(c.chunk_id, *end) for c in self.all for end in c.ends]
        self.ends = _columns(ends, {"chunk": "u8", "step": "u4", "how": "u1"})

    def data(self, row: int) -> np.ndarray:
        return self.all[row].raw

    def chunk(self, chunk_id: int) -> Chunk:
        return next(chunk for chunk in self.all if chunk.chunk_id == chunk_id)


def key(slot: int, generation: int = 1) -> int:
    return generation << 32 | slot


def snapshot(seed: int = 0) -> Snapshot:
    """Two tables over a stream of three chunks, the last one open, a lone one, flags, texts.

    The first holds runs, in an order with holes, the second a run and two trajectories,
    whose pieces are texts, flags, and cells of one column of records.
    """
    chunks = [
        records(3, 4, seed, after=5, ends=[(1, 2), (3, 1)]),
        records(5, 4, seed, after=9),
        records(7, 3, seed),
        records(9, 2, seed, sealed=False, ends=[(0, 4)]),
        flags(11, [1, 0, seed % 2]),
        text(12, b"text %d" % seed),
        text(13, b""),
    ]
    windows = [
        (key(0, 3), 3, 0, 2, 1.0, 5),
        (key(2), 3, 3, 2, 0.5, 0),
        (key(1), 5, 2, 4, 2.0, 1),
        (key(4), 7, 0, 3, 0.0, 2**31 - 1),
    ]
    mixed = [
        (key(0), 3, 0, 10, 1.0 + seed, 0),
        (key(1), 0, 0, 0, 2.0, 1),
        (key(2), 0, 0, 0, 0.0, 0),
    ]
    trajectories = [
        (1, 4, [(0, 0, [(11, 0, 2), (11, 2, 1)]), (0, 1, [(12, 0, 1)])]),
        (2, 5, [(1, 0, [(3, 1, 3), (9, 0, 2)]), (0, 0, [(13, 0, 1), (12, 0, 1)])]),
    ]
    return Snapshot(
        chunks,
        [
            TableSnapshot(windows, free=[key(3, 5)], holes=[1, 4]),
            TableSnapshot(mixed, trajectories=trajectories, touched=[2, 0, 1]),
        ],
    )


NO_LIMIT = Limiter(1.5, 1, float("-inf"), float("inf"))


def settings(name: str, **changes: Any) -> TableSettings:
    return TableSettings(**{"name": name, "max_size": 100, "limiter": NO_LIMIT, **changes})


SETTINGS = (
    settings("windows"),
    settings("mixed/épisodes", sampler=PrioritizedSelector(0.8)),
)


class QuickFileSystem(FileSystem):
    """Does not wait for the medium: a test looks at calls, not at power cuts."""

    def fsync(self, fd: int) -> None:
        os.fstat(fd)

    def fsync_dir(self, path: Path) -> None:
        os.stat(path)


def save(root: Path, what: Any = None, **changes: Any) -> Path:
    arguments = {
        "settings": SETTINGS,
        "nests": [NEST],
        "saved_at": "2026-11-23T21:45:00Z",
        "max_to_keep": 2,
        "fs": QuickFileSystem(),
    }
    return write_checkpoint(root, what or snapshot(), **{**arguments, **changes})


class Store:
    """Takes what a source gives it, and can be compared."""

    def __init__(self) -> None:
        self.chunks: dict[int, np.ndarray] = {}
        self.layouts: dict[int, Any] = {}
        self.links: dict[int, int] = {}
        self.ends: dict[int, list[tuple[int, int]]] = {}

    def restore_chunk(
        self, layout: Any, chunk_id: int, count: int, nbytes: int = 0
    ) -> np.ndarray:
        width = nbytes if layout is None else layout.record_nbytes
        self.chunks[chunk_id] = np.zeros((count, width), np.uint8)
        self.layouts[chunk_id] = layout and [(d.str, tuple(s)) for d, s in layout.columns]
        return self.chunks[chunk_id]

    def link_chunks(self, ids: np.ndarray, next_ids: np.ndarray) -> None:
        self.links |= dict(zip(ids.tolist(), next_ids.tolist(), strict=True))

    def restore_ends(self, chunk: np.ndarray, step: np.ndarray, how: np.ndarray) -> None:
        assert (chunk.dtype, step.dtype, how.dtype) == ("u8", "u4", "u1")
        before = 0
        for number, *end in zip(chunk.tolist(), step.tolist(), how.tolist(), strict=True):
            assert number == before or number not in self.ends, "a chunk's ends are apart"
            self.ends.setdefault(number, []).append(tuple(end))
            before = number


def load(folder: Path, **changes: Any) -> dict[str, Any]:
    """Everything that a checkpoint holds, as plain comparable values."""
    source = open_source(folder, **changes)
    store = Store()
    states = source.read(store)
    assert list(states) == list(source.settings)
    return {
        "chunks": {i: (store.layouts[i], c.tobytes()) for i, c in store.chunks.items()},
        "links": store.links,
        "ends": store.ends,
        "tables": {s: _plain(states[name]) for name, s in source.settings.items()},
    }


def contents(what: Snapshot) -> dict[str, Any]:
    """What `load` gives for a checkpoint of this snapshot."""
    layouts = [own and [(d.str, s) for d, s in own] for own in LAYOUTS]
    return {
        "chunks": {c.chunk_id: (layouts[c.layout], c.raw.tobytes()) for c in what.all},
        "links": {c.chunk_id: c.after for c in what.all if c.after},
        "ends": _by_chunk(what.ends),
        "tables": {
            s: _plain(
                {
                    **t.items,
                    "free_keys": t.free_keys,
                    "counters": t.counters,
                    "rng_state": t.rng_state,
                }
            )
            for s, t in zip(SETTINGS, what.tables, strict=True)
        },
    }


def _by_chunk(ends: dict[str, np.ndarray]) -> dict[int, list[tuple[int, int]]]:
    """(step, how) of the ends of each chunk that has some."""
    found: dict[int, list[tuple[int, int]]] = {}
    for chunk, *end in zip(*(column.tolist() for column in ends.values()), strict=True):
        found.setdefault(chunk, []).append(tuple(end))
    return found


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """The state, arrays as lists; without those that are empty and may be left out."""
    optional = ("touched", "holes", "traj_", "column_", "piece_")
    return {
        name: (value.dtype.str, value.tolist())
        if isinstance(value, np.ndarray)
        else dict(value)
        for name, value in state.items()
        if len(value) or not name.startswith(optional)
    }


def newest_contents(root: Path) -> dict[str, Any] | None:
    path = find_newest(root)
    return None if path is None else load(path)


def segments_of(folder: Path) -> dict[str, np.ndarray]:
    """The segments by name, as NumPy loads them."""
    return {s.file: np.load(folder / s.file) for s in read_manifest(folder).segments}


CALLS = sorted(
    name
    for name, value in vars(FileSystem).items()
    if callable(value) and not name.startswith("_")
)


class WatchedFileSystem(QuickFileSystem):
    """Remembers every call as (name, path); `fault` may raise or act before the k-th.

    Descriptors are shown as the path that they were opened by. `fault(index,
    name, act)` returns what the call returns; `act()` does the real thing.
    """

    def __init__(
        self, fault: Callable[[int, str, Callable[[], Any]], Any] | None = None
    ) -> None:
        self.calls: list[tuple[str, Path, Path | None]] = []
        self.written: dict[int, bytes] = {}  # by index into calls
        self.fault = fault
        self._paths: dict[int, Path] = {}

    def _call(self, name: str, args: tuple[Any, ...]) -> Any:
        def act() -> Any:
            return getattr(QuickFileSystem, name)(self, *args)

        index = len(self.calls)
        first = args[0]
        path = (
            self._paths.get(first) if isinstance(first, int) else getattr(first, "path", first)
        )
        second = args[1] if len(args) > 1 and isinstance(args[1], Path) else None
        if len(args) > 1 and isinstance(args[1], str):
            path = path / args[1]
        self.calls.append((name, path, second))
        result = act() if self.fault is None else self.fault(index, name, act)
        if name in {"open_new", "open_lock", "open_in"}:
            self._paths[result] = path
        if name == "write":
            self.written[index] = bytes(args[1][:result])
        return result


def _forward(name: str) -> Callable[..., Any]:
    return lambda self, *args: self._call(name, args)


for _name in CALLS:
    setattr(WatchedFileSystem, _name, _forward(_name))


def failing(k: int, number: int, *, for_ever: bool = False) -> WatchedFileSystem:
    """Fails the k-th call (and all later ones) with an errno; a close still closes."""

    def fault(index: int, name: str, act: Callable[[], Any]) -> Any:
        if index == k or (for_ever and index > k):
            if name in {"close", "close_folder"}:
                act()
            raise OSError(number, os.strerror(number))
        return act()

    return WatchedFileSystem(fault)


def num_calls(root: Path, **changes: Any) -> int:
    """How many file-system calls this save takes."""
    fs = WatchedFileSystem()
    save(root, fs=fs, **changes)
    return len(fs.calls)
