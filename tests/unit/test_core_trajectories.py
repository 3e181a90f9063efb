"""The native core's trajectories, where Python could bring it down."""

import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest

from reverie import _core

_FLOAT = _core.RecordLayout([(np.dtype(np.float32), ())])


def _table(store: _core.Store, **settings: Any) -> _core.Table:
    defaults: dict[str, Any] = {
        "max_size": 10,
        "sampler": _core.FIFO,
        "remover": _core.FIFO,
        "min_size_to_sample": 1,
        "samples_per_insert": 1.0,
        "min_diff": 0.0,
        "max_diff": 3.0,
        "seed": 1,
        "max_times_sampled": 1,
    }
    return store.create_table(**(defaults | settings))


def _item(
    writer: _core.TrajectoryWriter, table: _core.Table, *, start: int, length: int = 1
) -> bool:
    return writer.create_item(
        table,
        1.0,
        np.array([0], np.uint32),
        np.array([start], np.uint64),
        np.array([length], np.uint32),
        np.array([1], np.uint32),
        np.array([1], np.uint8),
    )


def _filled(**settings: Any) -> tuple[_core.Store, _core.Table, _core.TrajectoryWriter]:
    store = _core.Store()
    table, writer = _table(store, **settings), store.create_trajectory_writer()
    writer.add_column(_FLOAT, 5)
    writer.append([np.float32(7)])
    return store, table, writer


@pytest.mark.parametrize("count", [2**30, 2**40, 2**63, 2**64 - 1])
def test_any_number_of_items_may_be_asked_for(count: int) -> None:
    _, table, writer = _filled()
    _item(writer, table, start=0)
    assert [item[-1] for item in table.sample_items(count) or []] == [[np.float32(7)]]
    assert table.sample_items(count) is None


@pytest.mark.parametrize("start", [1, 2**63, 2**64 - 1])
@pytest.mark.parametrize("length", [1, 2**32 - 1])
def test_unknown_cells_are_refused_however_large_their_numbers(start: int, length: int) -> None:
    _, table, writer = _filled()
    with pytest.raises(ValueError, match="expired or unknown"):
        _item(writer, table, start=start, length=length)
    with pytest.raises(KeyError):
        writer.read(0, start)


@pytest.mark.parametrize("keep", [0, 2**64 - 1])
def test_any_number_of_cells_may_be_kept(keep: int) -> None:
    writer = _core.Store().create_trajectory_writer()
    writer.add_column(_FLOAT, keep)
    for _ in range(3):
        writer.append([np.float32(1)])
    assert writer.first_kept(0) == (0 if keep else 3)


def test_who_flushes_while_the_store_closes_is_told_that_items_were_dropped() -> None:
    store, table, writer = _filled(max_diff=1.0)
    assert [_item(writer, table, start=0) for _ in range(3)] == [True, False, False]
    closer = threading.Timer(0.05, store.close)
    closer.start()
    with pytest.raises(_core.Closed):
        writer.wait_pending(0, 10.0)
    closer.join()


@pytest.mark.parametrize("dtype", ["S4", "U2", "V8", "M8[s]", "m8[ms]", "i4,f4"])
def test_types_whose_values_are_not_all_alike_are_no_cells(dtype: str) -> None:
    with pytest.raises(ValueError, match="numeric"):
        _core.RecordLayout([(np.dtype(dtype), ())])


def test_a_limiter_is_not_fooled_by_a_huge_number() -> None:
    _, table, writer = _filled()
    _item(writer, table, start=0)
    assert not table.can_insert(2**63 - 1)
    assert not table.can_sample(2**63 - 1)


def _state(**changes: Any) -> dict[str, Any]:
    """One item of one step, of chunk 1."""
    state: dict[str, Any] = {
        "key": None,
        "chunk": np.ones(1, np.uint64),
        "offset": np.zeros(1, np.uint32),
        "length": np.ones(1, np.uint32),
        "priority": np.ones(1),
        "times_sampled": np.zeros(1, np.int32),
        "free_keys": np.zeros(0, np.uint64),
        "rng_state": np.ones(4, np.uint64),
        "counters": {"inserts": 1, "samples": 0, "deletes": 0},
    }
    return state | changes


def test_a_run_of_steps_over_a_cell_of_any_size_is_refused() -> None:
    store = _core.Store()
    table = _table(store)
    store.restore_chunk(None, 1, 1, nbytes=3)[:] = 1
    with pytest.raises(ValueError, match="any size"):
        table.restore(_state())
    assert table.size == 0


def test_a_table_that_refused_its_state_is_empty_and_usable() -> None:
    store = _core.Store()
    table = _table(store)
    store.restore_chunk(_FLOAT, 1, 1).view(np.float32)[:] = 7
    with pytest.raises(ValueError, match="RNG"):
        table.restore(_state(rng_state=np.zeros(4, np.uint64)))
    assert table.size == 0
    assert table.sample_items(1) is None
    table.restore(_state())
    store.seal_restore()
    (item,) = table.sample_items(1) or []
    np.testing.assert_array_equal(item[-1][0], np.array([7], np.float32))
    assert store.info()["num_chunks"] == 0


def test_a_chunk_of_more_bytes_than_there_are_is_refused() -> None:
    huge = _core.RecordLayout([(np.dtype(np.uint8), (2**33,))])
    with pytest.raises(MemoryError):
        _core.Store().restore_chunk(huge, 1, 2**31)


def test_columns_may_be_declared_while_another_thread_appends() -> None:
    writer = _core.Store(chunk_nbytes=1024).create_trajectory_writer()
    cell = np.zeros(20_000, np.uint8)  # enough for the GIL to be dropped
    writer.add_column(_core.RecordLayout([(cell.dtype, cell.shape)]), 1)
    columns = threading.Semaphore(1)  # the appender's guess never is too high

    def declare() -> None:
        for _ in range(300):
            writer.add_column(None, 1)
            columns.release()

    thread = threading.Thread(target=declare)
    thread.start()
    cells: list[Any] = []
    appended = 0
    while thread.is_alive() or appended == 0:
        while columns.acquire(blocking=False):
            cells.append(None if cells else cell)
        try:
            writer.append(cells)
            appended += 1
        except ValueError:  # there are more by now
            continue
    thread.join()
    assert writer.next_number(0) == appended
    assert all(writer.next_number(column) == 0 for column in range(1, 301))


_LEAVES_WAITERS_BEHIND = """
import threading, time
from reverie import _core
store = _core.Store()
table = store.create_table(max_size=1, sampler=0, remover=1, min_size_to_sample=1,
    samples_per_insert=1.0, min_diff=0.0, max_diff=1.0, seed=0)
def wait():
    while True:
        table.wait(1, 0.001)
for _ in range(8):
    threading.Thread(target=wait, daemon=True).start()
time.sleep(0.05)
"""


def test_a_process_whose_daemon_threads_wait_ends_well() -> None:
    done = subprocess.run([sys.executable, "-c", _LEAVES_WAITERS_BEHIND], timeout=60)
    assert done.returncode == 0


@pytest.mark.parametrize("tables", ["foreign", "none"])
def test_a_writer_takes_tables_of_its_own_store_alone(tables: str) -> None:
    store, other = _core.Store(), _core.Store()
    chosen: Any = [_table(other)] if tables == "foreign" else [None]
    with pytest.raises((ValueError, TypeError)):
        store.create_writer(
            _FLOAT,
            chosen,
            sequence_length=1,
            stride_length=1,
            priority=1.0,
            pad_end=False,
            tile_end=False,
            pad_record=bytes(4),
            boundary_column=-1,
            boundary_value=0,
        )


@pytest.mark.parametrize(
    ("dtype", "taken", "left"),
    [
        (np.float64, [1.5, np.float64(1.5)], [1, np.float32(1), True, [1.5], "1"]),
        (np.int64, [-3, 2**63 - 1], [2**63, 1.0, np.int32(1), True, [1]]),
        (np.uint64, [2**63, 2**64 - 1], [1, -1, 2**64]),
        (np.bool_, [True, False], [1, 0.0, None.__class__]),
        (np.float32, [np.float32(1)], [1.5, np.float64(1.5), 1]),
    ],
)
def test_a_column_takes_numbers_of_its_own_dtype_alone(
    dtype: type, taken: list[Any], left: list[Any]
) -> None:
    """A Python number's is NumPy's for it; lists are nests here."""
    writer = _core.Store().create_trajectory_writer()
    column = writer.add_column(_core.RecordLayout([(np.dtype(dtype), ())]), 99)
    for value in taken:
        assert writer.append([value]) == -1
        found = writer.read(column, writer.next_number(column) - 1)
        assert (found.dtype, found[()]) == (np.dtype(dtype), value)
    for value in left:
        assert writer.append([value]) == 0
    assert writer.next_number(column) == len(taken)


def test_many_cells_of_a_column_come_in_one_call() -> None:
    writer = _core.Store().create_trajectory_writer()
    pairs = writer.add_column(_core.RecordLayout([(np.dtype(np.int16), (2,))]), 2**63)
    texts = writer.add_column(None, 2**63)
    cells = np.arange(600, dtype=np.int16).reshape(300, 2)
    assert writer.append_cells(pairs, cells[:1]) == 0
    assert writer.append_cells(pairs, cells[1:]) == 1
    assert writer.append_cells(texts, [b"", b"long" * 99]) == 0
    read = [writer.read(pairs, number) for number in range(300)]
    np.testing.assert_array_equal(read, cells)
    assert [writer.read(texts, number) for number in range(2)] == [b"", b"long" * 99]
    writer.drop_before(pairs, 299)
    assert (writer.first_kept(pairs), writer.next_number(pairs)) == (299, 300)


@pytest.mark.parametrize(
    "cells",
    [np.zeros((2, 3), np.int16), np.zeros((2, 2), np.int32), np.zeros(2, np.int16), [[1, 2]]],
)
def test_what_is_no_array_of_a_columns_cells_is_refused(cells: Any) -> None:
    writer = _core.Store().create_trajectory_writer()
    pairs = writer.add_column(_core.RecordLayout([(np.dtype(np.int16), (2,))]), 5)
    texts = writer.add_column(None, 5)
    with pytest.raises(ValueError, match="no array"):
        writer.append_cells(pairs, cells)
    with pytest.raises(ValueError, match="bytes"):
        writer.append_cells(texts, ["text"])  # type: ignore[list-item]
    assert (writer.next_number(pairs), writer.next_number(texts)) == (0, 0)
