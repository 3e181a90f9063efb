"""A store that was saved and loaded does, on random programs, what the first one does."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.core_support import CoreStore, loaded, settings, steps
from tests.server_support import KINDS, comparable

from reverie import _core
from reverie.checkpoint.format.items import TableArrays
from reverie.tables.cells import column_of
from reverie.tables.limiters import Limiter

NAMES = ("a", "b")
LAYOUTS: list[Any] = [
    (np.dtype("<f4"), (2,)),
    None,
    (np.dtype("?"), ()),
    (np.dtype("<i2"), (0,)),
]
STEPS = st.lists(st.sampled_from(range(len(LAYOUTS))), min_size=1, unique=True)
RUNS = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 3)), min_size=1, max_size=3)
ITEM = st.tuples(
    st.sampled_from(NAMES),
    st.sampled_from([0.5, 1.0, 1.0, 3.0]),
    st.lists(st.tuples(st.sampled_from(range(len(LAYOUTS))), RUNS), min_size=1, max_size=4),
)
OPERATION = st.one_of(
    st.tuples(st.just("item"), ITEM),
    st.tuples(st.just("item"), ITEM),
    st.tuples(st.just("sample"), st.sampled_from(NAMES), st.integers(1, 4)),
    st.tuples(st.just("update"), st.sampled_from(NAMES), st.integers(0, 9)),
    st.tuples(st.just("delete"), st.sampled_from(NAMES), st.integers(0, 9)),
    st.tuples(st.just("episode")),
    st.tuples(st.just("steps"), st.integers(1, 5)),
)
PROGRAM = st.lists(OPERATION, max_size=25)
TABLE = st.tuples(
    *(st.sampled_from(KINDS), st.sampled_from(KINDS), st.integers(2, 12), st.integers(0, 3))
)


class Run:
    """One store, driven by programs; what it answers is comparable."""

    def __init__(self, served: CoreStore) -> None:
        self.served = served
        self.step = 0
        self.writer: Any = None
        self.windows: Any = None

    def new_writer(self) -> None:
        """Writers of windows and of trajectories, the latter's columns with some steps."""
        self.windows = self.served.writer()
        self.writer = self.served.core.create_trajectory_writer()
        for layout in LAYOUTS:
            self.writer.add_column(layout and _core.RecordLayout([layout]), 8)
        for _ in range(8):
            n, self.step = self.step, self.step + 1
            cells = [np.array([n, n]).astype("f4"), b"x" * (n % 5), np.bool_(n % 2)]
            assert self.writer.append([*cells, np.zeros(0, "i2")]) == -1

    def item(self, name: str, priority: float, columns: list[Any]) -> bool:
        """An item of the latest cells."""
        runs = [(column, *run) for column, runs in columns for run in runs]
        column, start, length = (np.array(part) for part in zip(*runs, strict=True))
        sizes = np.array([len(runs) for _, runs in columns], np.uint32)
        squeeze = [len(runs) == 1 and runs[0][1] == 1 for _, runs in columns]
        return bool(
            self.writer.create_item(
                self.served.table(name).core,
                priority,
                column.astype(np.uint32),
                start.astype(np.uint64),
                length.astype(np.uint32),
                sizes,
                np.array(squeeze, np.uint8),
            )
        )

    def do(self, operation: tuple[Any, ...]) -> Any:
        """Runs one operation; returns its answer."""
        kind, *arguments = operation
        if kind == "item":
            return self.item(*arguments[0])
        if kind == "episode":
            return self.writer.end_episode(False)
        if kind == "steps":
            return steps(self.windows, self.step, arguments[0], 4)
        core = self.served.table(arguments[0]).core
        if kind == "sample":
            found = core.sample_items(arguments[1]) or ()
            return [
                (*told, [comparable(column_of(column)) for column in columns])
                for *told, columns in found
            ]
        # The newer one first, so that heaps see another order than that of insertion.
        keys = core.items()["key"][arguments[1] : arguments[1] + 2][::-1].copy()
        if kind == "update":
            return core.update_priorities(keys, np.full(len(keys), 2.0))
        return core.delete(keys)


def differences(root: Path, tables: list[Any], before: Any, after: Any) -> list[Any]:
    """Where a store saved after `before` and its copy part in `after`."""
    more = {"limiter": Limiter(1.0, 1, -4.0, 1e9)}
    first = Run(
        CoreStore(
            [
                settings(name, sampler, remover, max_size=size, max_times_sampled=n, **more)
                for name, (sampler, remover, size, n) in zip(NAMES, tables, strict=True)
            ],
            chunk_nbytes=50,
        )
    )
    first.new_writer()
    for operation in before:
        first.do(operation)
    runs = first, Run(loaded(first.served.save(root)))
    for run in runs:
        run.step = 100
        run.new_writer()
    found: list[Any] = []
    for operation in after:
        answers = [run.do(operation) for run in runs]
        found += [] if answers[0] == answers[1] else [(operation, *answers)]
    states = [[run.served.table(name).core.info() for name in NAMES] for run in runs]
    return found + ([] if states[0] == states[1] else [states])


@given(st.tuples(TABLE, TABLE), PROGRAM, PROGRAM)
def test_a_loaded_store_goes_on_as_the_saved_one(tables: Any, before: Any, after: Any) -> None:
    with tempfile.TemporaryDirectory() as root:
        assert differences(Path(root), tables, before, after) == []


def test_a_load_that_forgets_the_order_of_updates_is_seen() -> None:
    read = TableArrays.read

    def forgetful(*arguments: Any) -> TableArrays:
        arrays = read(*arguments)
        arrays.touched[:] = 0
        return arrays

    item = ("item", ("a", 1.0, [(0, [(0, 1)])]))
    before, after = [item, item, ("update", "a", 0)], [("sample", "a", 1)]
    tables = [("max_heap", "fifo", 9, 0), ("fifo", "fifo", 9, 0)]
    with tempfile.TemporaryDirectory() as root:
        assert differences(Path(root), tables, before, after) == []
    with (
        tempfile.TemporaryDirectory() as root,
        mock.patch.object(TableArrays, "read", staticmethod(forgetful)),
    ):
        assert differences(Path(root), tables, before, after) != []
