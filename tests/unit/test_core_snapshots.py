"""What a snapshot of the native core says, and how a store is made of it again."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from reverie import _core

_COLUMNS = [
    (np.dtype(np.int64), ()),
    (np.dtype(np.int32), ()),
    (np.dtype(np.float32), ()),
]
_LAYOUT = _core.RecordLayout(_COLUMNS)
_NBYTES = _LAYOUT.record_nbytes


def _store(capacity: int = 4) -> tuple[_core.Store, _core.Table]:
    store = _core.Store(chunk_nbytes=capacity * _NBYTES)
    return store, store.create_table(
        max_size=100,
        sampler=_core.UNIFORM,
        remover=_core.FIFO,
        min_size_to_sample=1,
        samples_per_insert=1.0,
        min_diff=-1e18,
        max_diff=1e18,
        seed=1,
    )


def _writer(store: _core.Store, table: _core.Table, **settings: Any) -> _core.Writer:
    defaults: dict[str, Any] = {
        "sequence_length": 1,
        "stride_length": 1,
        "priority": 1.0,
        "pad_end": False,
        "tile_end": False,
        "pad_record": bytes(_NBYTES),
        "boundary_column": 1,
        "boundary_value": 2,
        "discount_column": 2,
    }
    return store.create_writer(_LAYOUT, [table], **(defaults | settings))


def _leaves(number: int, kind: int = 1, discount: float = 1.0) -> list[Any]:
    return [np.int64(number), np.int32(kind), np.float32(discount)]


def _ends(snapshot: _core.Snapshot) -> list[tuple[int, int]]:
    """(number of the step, how) of each end."""
    rows = {int(chunk): row for row, chunk in enumerate(snapshot.chunks["id"])}
    found = []
    for chunk, step, how in zip(*snapshot.ends.values(), strict=True):
        record = snapshot.data(rows[int(chunk)])[int(step)]
        found.append((int(record[:8].view(np.int64)[0]), int(how)))
    return found


def test_chunks_are_arrays_by_age() -> None:
    store, table = _store()
    writer = _writer(store, table)
    for number in range(10):
        writer.append(_leaves(number), 0)
    snapshot = store.snapshot()
    chunks = snapshot.chunks
    assert {name: column.dtype.name for name, column in chunks.items()} == {
        "id": "uint64",
        "next": "uint64",
        "count": "uint32",
        "nbytes": "uint64",
        "sealed": "uint8",
        "layout": "uint32",
    }
    ids = chunks["id"].tolist()
    assert ids == sorted(ids)
    assert chunks["next"].tolist() == [*ids[1:], 0]
    assert chunks["count"].tolist() == [4, 4, 2]
    assert chunks["nbytes"].tolist() == [4 * _NBYTES, 4 * _NBYTES, 2 * _NBYTES]
    assert chunks["sealed"].tolist() == [1, 1, 0]
    assert chunks["layout"].tolist() == [0, 0, 0]
    assert snapshot.layouts == [_COLUMNS]
    data = snapshot.data(2)
    assert (data.shape, data.flags.writeable) == ((2, _NBYTES), False)
    with pytest.raises(IndexError):
        snapshot.data(3)
    for number in range(100):  # what comes later does not show
        writer.append(_leaves(1000 + number), 0)
    assert data[:, :8].view(np.int64).ravel().tolist() == [8, 9]


def test_cells_have_layouts_of_their_own_and_those_of_any_size_none() -> None:
    store, table = _store()
    _writer(store, table).append(_leaves(0), 0)
    cells = store.create_trajectory_writer()
    cells.add_column(_core.RecordLayout([_COLUMNS[0]]), 9)
    cells.add_column(None, 9)
    cells.append([np.int64(5), b"text"])
    cells.append([None, b""])
    cells.create_item(
        table,
        1.0,
        np.array([0, 1], np.uint32),
        np.array([0, 0], np.uint64),
        np.array([1, 2], np.uint32),
        np.array([1, 1], np.uint32),
        np.array([1, 0], np.uint8),
    )
    snapshot = store.snapshot()
    named = [snapshot.layouts[row] for row in snapshot.chunks["layout"]]
    assert named == [_COLUMNS, [_COLUMNS[0]], None, None]
    assert snapshot.chunks["nbytes"].tolist() == [_NBYTES, 8, 4, 0]
    assert snapshot.data(2).tobytes() == b"text"
    (state,) = snapshot.tables
    assert state.items["column_field"].tolist() == [0, 0]
    assert state.items["column_field"].dtype == np.uint32
    assert not any(name.startswith("span") for name in state.items)


@pytest.mark.parametrize("batch", [False, True])
def test_a_writer_says_how_its_episodes_ended(batch: bool) -> None:
    store, table = _store()
    writer = _writer(store, table)

    def append(number: int, last: int) -> None:
        if batch:
            leaves = [np.array([leaf]) for leaf in _leaves(number)]
            writer.append_batch(leaves, 1, None, np.array([last], np.uint8), None)
        else:
            writer.append(_leaves(number), last)

    codes = [_core.ENDED, _core.TERMINATED, _core.TRUNCATED, _core.CUT]
    assert codes == [1, 2, 3, 4]
    for number, last in enumerate([0, 1, 0, 2, 3, 0, 4, 0]):
        append(number, last)
    wanted = [(1, 1), (3, 2), (4, 3), (6, 4)]
    assert _ends(store.snapshot()) == wanted
    writer.reset(False)
    assert _ends(store.snapshot()) == [*wanted, (7, _core.CUT)]
    with pytest.raises(ValueError, match="last"):
        append(8, 5)
    if not batch:
        with pytest.raises(ValueError, match="last"):
            append(8, -2)
    assert table.size == 8


def test_the_discount_before_the_boundary_tells_how() -> None:
    store, table = _store()
    writer = _writer(store, table)
    steps = [(1, 0.0), (2, 1.0), (1, 1.0), (2, 0.0), (2, 0.0)]
    for number, (kind, discount) in enumerate(steps):
        writer.append(_leaves(number, kind, discount), -1)
    wanted = [(1, _core.TERMINATED), (3, _core.TRUNCATED), (4, _core.ENDED)]
    assert _ends(store.snapshot()) == wanted


@pytest.mark.parametrize("column", [0, 3])
def test_a_discount_that_cannot_be_one_is_refused(column: int) -> None:
    store, table = _store()
    with pytest.raises(ValueError, match="out of range"):
        _writer(store, table, discount_column=column)


def _restore(snapshot: _core.Snapshot) -> tuple[_core.Store, _core.Table]:
    store, table = _store()
    chunks = snapshot.chunks
    for row, (chunk, count) in enumerate(zip(chunks["id"], chunks["count"], strict=True)):
        store.restore_chunk(_LAYOUT, int(chunk), int(count))[:] = snapshot.data(row)
    linked = chunks["next"] != 0
    store.link_chunks(chunks["id"][linked], chunks["next"][linked])
    store.restore_ends(**snapshot.ends)
    (state,) = snapshot.tables
    table.restore(
        {
            **state.items,
            "free_keys": state.free_keys,
            "rng_state": state.rng_state,
            "counters": state.counters,
        }
    )
    store.seal_restore()
    return store, table


def test_a_store_is_made_again_of_its_snapshot() -> None:
    store, table = _store()
    writer = _writer(store, table, sequence_length=3)
    for number in range(30):
        writer.append(_leaves(number), int(number % 7 == 6))
    snapshot = store.snapshot()
    other, copy = _restore(snapshot)
    again = other.snapshot()
    for name, column in snapshot.chunks.items():
        if name != "sealed":  # nobody writes on
            assert np.array_equal(column, again.chunks[name]), name
    assert _ends(again) == _ends(snapshot) != []
    for one, two in zip(
        table.gather(_LAYOUT, None, 3)[0], copy.gather(_LAYOUT, None, 3)[0], strict=True
    ):
        assert np.array_equal(one, two)


def _u(dtype: str, values: Sequence[int]) -> Any:
    return np.array(values, dtype)


@pytest.mark.parametrize(
    ("ends", "index"),
    [
        (([7], [0], [1]), 0),
        (([5, 5], [0, 3], [1, 1]), 1),
        (([5, 5, 5], [0, 1, 1], [1, 1, 1]), 2),
        (([5], [0], [0]), 0),
        (([5], [0], [5]), 0),
    ],
    ids=["unknown chunk", "past its chunk", "twice", "no end", "unknown end"],
)
def test_ends_that_do_not_fit_are_refused(ends: Any, index: int) -> None:
    store, _ = _store()
    store.restore_chunk(_LAYOUT, 5, 3)
    with pytest.raises(ValueError, match=rf"\(index {index}\)"):
        store.restore_ends(_u("u8", ends[0]), _u("u4", ends[1]), _u("u1", ends[2]))
    with pytest.raises(ValueError, match="length"):
        store.restore_ends(_u("u8", [5]), _u("u4", []), _u("u1", [1]))


def test_links_that_do_not_fit_are_refused() -> None:
    store, _ = _store()
    for chunk in (5, 9):
        store.restore_chunk(_LAYOUT, chunk, 3)
    for ids, following in (([9], [5]), ([5], [7]), ([5], [5])):
        with pytest.raises(ValueError, match=r"\(index 0\)"):
            store.link_chunks(_u("u8", ids), _u("u8", following))
    with pytest.raises(ValueError, match=r"\(index 1\)"):
        store.link_chunks(_u("u8", [5, 5]), _u("u8", [9, 9]))
    with pytest.raises(ValueError, match="next_id"):
        store.link_chunks(_u("u8", [5]), _u("u8", []))


def _trajectory_state(field: Any) -> dict[str, Any]:
    """One item over step 1 of chunk 5: a column of each of the fields."""
    n = len(field)
    return {
        "key": None,
        "chunk": _u("u8", [0]),
        "offset": _u("u4", [0]),
        "length": _u("u4", [0]),
        "priority": np.ones(1),
        "times_sampled": np.zeros(1, np.int32),
        "traj_item": _u("u8", [0]),
        "traj_episode": _u("u8", [1]),
        "column_item": _u("u8", [0] * n),
        "column_field": _u("u4", field),
        "column_squeeze": _u("u1", [0] * n),
        "column_pieces": _u("u4", [1] * n),
        "piece_chunk": _u("u8", [5] * n),
        "piece_offset": _u("u4", [1] * n),
        "piece_length": _u("u4", [1] * n),
        "free_keys": _u("u8", []),
        "rng_state": np.ones(4, np.uint64),
        "counters": {"inserts": 1, "samples": 0, "deletes": 0},
    }


def test_a_trajectory_may_take_any_field_of_records() -> None:
    store, table = _store()
    records = store.restore_chunk(_LAYOUT, 5, 2)
    records[:] = np.arange(2 * _NBYTES, dtype=np.uint8).reshape(2, _NBYTES)
    table.restore(_trajectory_state([2, 0]))
    (key,) = table.items()["key"].tolist()
    assert table.describe(key) == [(*_COLUMNS[2], 1), (*_COLUMNS[0], 1)]
    floats, numbers = table.item(key)
    assert floats.tobytes() == records[1, 12:].tobytes()
    assert numbers.tobytes() == records[1, :8].tobytes()
    layout = _core.RecordLayout([_COLUMNS[2], _COLUMNS[0]])
    (batched, _), _ = table.gather(layout, None, 1)
    assert np.array_equal(batched[0], floats)


@pytest.mark.parametrize("field", [3, 2**32 - 1])
def test_a_field_that_no_layout_has_is_refused(field: int) -> None:
    store, table = _store()
    store.restore_chunk(_LAYOUT, 5, 2)
    with pytest.raises(ValueError, match="field"):
        table.restore(_trajectory_state([0, field]))
    state = _trajectory_state([0])
    del state["column_field"]
    with pytest.raises(KeyError):
        table.restore(state)
    assert table.size == 0


def _with_holes() -> tuple[_core.Store, _core.Table]:
    store, table = _store()
    writer = _writer(store, table)
    for number in range(40):
        writer.append(_leaves(number), 0)
    keys = table.items()["key"]
    assert table.delete(keys[1::3].copy()) == 0
    return store, table


def test_the_order_keeps_its_holes() -> None:
    store, table = _with_holes()
    snapshot = store.snapshot()
    bits = np.unpackbits(snapshot.tables[0].items["holes"], bitorder="little")
    assert np.flatnonzero(bits).tolist() == list(range(1, 38, 3))
    other, copy = _restore(snapshot)
    for _ in range(20):
        drawn = [one.sample(_LAYOUT, 4, 1, 1, False, None) for one in (table, copy)]
        for ours, theirs in zip(drawn[0][1], drawn[1][1], strict=True):
            assert np.array_equal(ours, theirs)
    again = other.snapshot().tables[0].items["holes"]
    assert np.array_equal(again, snapshot.tables[0].items["holes"])


@pytest.mark.parametrize(
    "holes", [[0], [1, 60], list(range(1, 200))], ids=["first", "behind the last", "too many"]
)
def test_an_order_with_impossible_holes_is_refused(holes: list[int]) -> None:
    store, _ = _with_holes()
    snapshot = store.snapshot()
    bits = np.zeros(256, np.uint8)
    bits[holes] = 1
    snapshot.tables[0].items["holes"] = np.packbits(bits, bitorder="little")
    with pytest.raises(ValueError, match="hole"):
        _restore(snapshot)
