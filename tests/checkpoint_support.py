"""Small stand-ins for the core and the file system, shared by the checkpoint tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from reverie.checkpoint import (
    TableSettings,
    find_newest,
    read_manifest,
    restore,
    write_checkpoint,
)
from reverie.checkpoint.disk.files import FileSystem

RECORD = np.dtype([("observation/position", "<f4", (3,)), ("done", "?"), ("step", "<i8")])
SPEC = {"observation": {"position": "float32[3]"}, "done": "bool", "step": "int64"}


class Chunk:
    def __init__(
        self, chunk_id: int, count: int, next_id: int, sealed: bool, seed: int
    ) -> None:
        self.chunk_id, self.count, self.next_id, self.sealed = chunk_id, count, next_id, sealed
        records = np.zeros(count, RECORD)
        rng = np.random.default_rng([seed, chunk_id])
        records["observation/position"] = rng.normal(size=(count, 3))
        records["done"] = rng.integers(0, 2, count)
        records["step"] = np.arange(count) + 1000 * (chunk_id % 1000)
        self.records = records

    def data(self) -> np.ndarray:
        return self.records.view(np.uint8).reshape(self.count, RECORD.itemsize)


class TableSnapshot:
    def __init__(
        self, items: list[tuple], spans: list[tuple] = (), free: list[int] = ()
    ) -> None:
        names = ("key", "chunk", "offset", "length", "priority", "times_sampled")
        dtypes = ("u8", "u8", "u4", "u4", "f8", "i4")
        columns = list(zip(*items, strict=True)) or [()] * 6
        self.items = {n: np.array(c, d) for n, c, d in zip(names, columns, dtypes, strict=True)}
        columns = list(zip(*spans, strict=True)) or [()] * 4
        for name, column, dtype in zip(
            ("item", "column", "start", "length"),
            columns,
            ("u8", "u4", "u4", "u4"),
            strict=True,
        ):
            self.items[f"span_{name}"] = np.array(column, dtype)
        self.free_keys = np.array(free, "u8")
        self.counters = {"inserts": len(items) + len(free), "samples": 7, "deletes": len(free)}
        self.rng_state = np.array([1, 2**63, 3, 2**64 - 1], np.uint64)


class Snapshot:
    def __init__(self, chunks: list[Chunk], tables: list[TableSnapshot]) -> None:
        self.chunks, self.tables = chunks, tables


def key(slot: int, generation: int = 1) -> int:
    return generation << 32 | slot


def snapshot(seed: int = 0) -> Snapshot:
    """Two tables over a stream of three chunks (the last still open) and a lone chunk."""
    chunks = [
        Chunk(3, 4, 5, True, seed),
        Chunk(5, 4, 9, True, seed),
        Chunk(7, 3, 0, True, seed),
        Chunk(9, 2, 0, False, seed),
    ]
    windows = [
        (key(0, 3), 3, 0, 2, 1.0, 5),
        (key(2), 3, 3, 2, 0.5, 0),
        (key(1), 5, 2, 4, 2.0, 1),
        (key(4), 7, 0, 3, 0.0, 2**31 - 1),
    ]
    episode = [(key(0), 3, 0, 10, 1.0 + seed, 0)]
    tables = [
        TableSnapshot(windows, free=[key(3, 5)]),
        TableSnapshot(episode, spans=[(0, 0, 1, 9), (0, 2, 0, 3)]),
    ]
    return Snapshot(chunks, tables)


def settings(name: str, **changes: Any) -> TableSettings:
    values = {
        "name": name,
        "max_size": 100,
        "sampler": "uniform",
        "remover": "fifo",
        "min_size_to_sample": 1,
        "samples_per_insert": 1.5,
        "min_diff": float("-inf"),
        "max_diff": float("inf"),
        "max_times_sampled": 0,
    }
    return TableSettings(**{**values, **changes})


SETTINGS = (settings("windows"), settings("whole/épisodes", sampler="prioritized:0.8"))


class QuickFileSystem(FileSystem):
    """Does not wait for the medium: a test looks at calls, not at power cuts."""

    def fsync(self, fd: int) -> None:
        os.fstat(fd)

    def fsync_dir(self, path: Path) -> None:
        os.stat(path)


def save(root: Path, what: Snapshot | None = None, **changes: Any) -> Path:
    arguments = {
        "record_dtype": RECORD,
        "spec_json": SPEC,
        "tables": SETTINGS,
        "saved_at": "2026-11-23T21:45:00Z",
        "max_to_keep": 2,
        "fs": QuickFileSystem(),
    }
    return write_checkpoint(root, what or snapshot(), **{**arguments, **changes})


class Store:
    """Takes what a restore gives it, and can be compared."""

    def __init__(self) -> None:
        self.chunks: dict[int, np.ndarray] = {}
        self.links: dict[int, int] = {}
        self.sealed = False

    def restore_chunk(self, layout: object, chunk_id: int, count: int) -> np.ndarray:
        self.chunks[chunk_id] = np.zeros((count, RECORD.itemsize), np.uint8)
        return self.chunks[chunk_id]

    def link_chunk(self, chunk_id: int, next_id: int) -> None:
        self.links[chunk_id] = next_id

    def seal_restore(self) -> None:
        self.sealed = True


class Table:
    max_size = 100

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    def restore(self, state: dict[str, Any]) -> None:
        self.state = state


def load(folder: Path, **changes: Any) -> dict[str, Any]:
    """Everything that a checkpoint restores, as plain comparable values."""
    manifest = read_manifest(folder, **{k: v for k, v in changes.items() if k == "fs"})
    store = Store()
    tables = {t.settings.name: Table() for t in manifest.tables}
    restore(folder, manifest, store, tables, layout=None, record_dtype=RECORD, **changes)
    assert store.sealed
    return {
        "chunks": {i: chunk.tobytes() for i, chunk in store.chunks.items()},
        "links": store.links,
        "spec": manifest.spec,
        "tables": {t.settings: _plain(tables[t.settings.name].state) for t in manifest.tables},
    }


def contents(what: Snapshot) -> dict[str, Any]:
    """What `load` gives for a checkpoint of this snapshot."""
    return {
        "chunks": {c.chunk_id: c.data().tobytes() for c in what.chunks},
        "links": {c.chunk_id: c.next_id for c in what.chunks if c.next_id},
        "spec": SPEC,
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


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    return {
        name: (value.dtype.str, value.tolist())
        if isinstance(value, np.ndarray)
        else dict(value)
        for name, value in state.items()
    }


def newest_contents(root: Path) -> dict[str, Any] | None:
    path = find_newest(root)
    return None if path is None else load(path)


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
