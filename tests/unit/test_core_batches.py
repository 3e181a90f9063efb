"""Batches, items and their descriptions, straight from the native core."""

from typing import Any

import numpy as np
import pytest

from reverie import _core

_I8, _F4 = np.dtype(np.int64), np.dtype(np.float32)
_COLUMNS = [(_I8, ()), (_F4, (2,))]
_LAYOUT = _core.RecordLayout(_COLUMNS)


def _store(**settings: Any) -> tuple[_core.Store, _core.Table]:
    store = _core.Store(chunk_nbytes=3 * _LAYOUT.record_nbytes)
    return store, store.create_table(
        **{
            "max_size": 100,
            "sampler": _core.UNIFORM,
            "remover": _core.FIFO,
            "min_size_to_sample": 1,
            "samples_per_insert": 1.0,
            "min_diff": -1e18,
            "max_diff": 1e18,
            "seed": 1,
            **settings,
        }
    )


def _leaves(number: int) -> list[Any]:
    return [np.int64(number), np.array([number, -number], np.float32)]


def _writer(
    store: _core.Store, table: _core.Table, layout: _core.RecordLayout = _LAYOUT
) -> Any:
    return store.create_writer(
        layout,
        [table],
        sequence_length=2,
        stride_length=2,
        priority=1.0,
        pad_end=False,
        tile_end=False,
        pad_record=bytes(layout.record_nbytes),
        boundary_column=-1,
        boundary_value=0,
    )


def _runs(store: _core.Store, table: _core.Table, first: int, items: int = 1) -> None:
    writer = _writer(store, table)
    for number in range(first, first + 2 * items):
        assert writer.append(_leaves(number), 0) == _core.STORED


def _trajectory(
    store: _core.Store, table: _core.Table, first: int, lengths: tuple[int, ...] = (2, 2)
) -> None:
    """Columns from step `first` on; -1: squeezed."""
    writer = store.create_trajectory_writer()
    for column in _COLUMNS:
        writer.add_column(_core.RecordLayout([column]), 9)
    for number in range(first, first + 5):
        assert writer.append(_leaves(number)) == -1
    n = len(lengths)
    assert writer.create_item(
        table,
        1.0,
        np.arange(n, dtype=np.uint32),
        np.zeros(n, np.uint64),
        np.abs(np.array(lengths)).astype(np.uint32),
        np.ones(n, np.uint32),
        (np.array(lengths) < 0).astype(np.uint8),
    )


def _steps(first: int, n: int) -> tuple[list[int], list[list[float]]]:
    numbers = range(first, first + n)
    return list(numbers), [[float(i), float(-i)] for i in numbers]


def test_equal_layouts_are_one() -> None:
    same = _core.RecordLayout([(np.dtype("i8"), ()), (np.dtype("f4"), (2,))])
    assert same == _LAYOUT
    assert hash(same) == hash(_LAYOUT)
    for other in ([_COLUMNS[0]], _COLUMNS[::-1], [(_I8, ()), (_F4, (1, 2))], []):
        assert _core.RecordLayout(other) != _LAYOUT
    assert _LAYOUT != 3
    assert _LAYOUT is not None


def test_writers_of_equal_layouts_share_a_batch() -> None:
    store, table = _store()
    writers = [_writer(store, table, _core.RecordLayout(list(_COLUMNS))) for _ in range(2)]
    for number in (0, 1):
        for k, writer in enumerate(writers):
            assert writer.append(_leaves(10 * k + number), 0) == _core.STORED
    (numbers, _), keys = table.gather(_core.RecordLayout(_COLUMNS), None, 0)
    assert numbers.tolist() == [[0, 1], [10, 11]]
    assert len(keys) == 2


@pytest.mark.parametrize("times", [0, 4])
@pytest.mark.parametrize("kind", ["UNIFORM", "FIFO", "LIFO", "PRIORITIZED", "MIN_HEAP"])
def test_a_batch_mixes_runs_and_trajectories(kind: str, times: int) -> None:
    store, table = _store(sampler=getattr(_core, kind), max_times_sampled=times)
    for first in range(0, 80, 10):
        (_runs if first % 20 else _trajectory)(store, table, first)
    (everything, _), every_key = table.gather(_LAYOUT, None, 2)
    assert everything[:, 0].tolist() == list(range(0, 80, 10))
    assert everything.tolist() == [[i, i + 1] for i in range(0, 80, 10)]
    first_of = dict(zip(every_key.tolist(), everything[:, 0].tolist(), strict=True))
    out = [np.zeros((6, 2), np.int64), np.zeros((6, 2, 2), np.float32)]
    batch = table.sample(_LAYOUT, 6, 2, 2, True, out)
    assert batch is not None
    assert batch[0][0] is out[0]
    assert batch[1][0].shape == (6, 2)
    for numbers, floats, keys in zip(*out, batch[1][0], strict=True):
        first = first_of[int(keys[0])]
        assert (numbers.tolist(), floats.tolist()) == _steps(first, 2)
    pieces = table.sample(_LAYOUT, 6, 2, 1, False, None)
    assert pieces is not None
    for (number,), key in zip(pieces[0][0].tolist(), pieces[1][0].tolist(), strict=True):
        assert number - first_of[key] in (0, 1)


def test_lengths_are_asked_for_column_by_column() -> None:
    store, table = _store()
    for first in (0, 10):
        _trajectory(store, table, first, (-1, 3))
    (numbers, floats), keys = table.gather(_LAYOUT, None, 1, lengths=[-1, 3])
    assert numbers.tolist() == [0, 10]
    assert floats.tolist() == [_steps(0, 3)[1], _steps(10, 3)[1]]
    out = [np.zeros(4, np.int64), np.zeros((4, 3, 2), np.float32)]
    batch = table.sample(_LAYOUT, 4, 1, 1, False, out, [-1, 3])
    assert batch is not None
    first_of = dict(zip(keys.tolist(), numbers.tolist(), strict=True))
    assert out[0].tolist() == [first_of[key] for key in batch[1][0].tolist()]
    # Equal lengths are steps, which runs may have as well.
    store, table = _store()
    _runs(store, table, 0)
    _trajectory(store, table, 10)
    batch = table.sample(_LAYOUT, 4, 1, 1, True, None, [2, 2])
    assert batch is not None
    assert (batch[0][1].shape, batch[1][0].shape) == ((4, 2, 2), (4, 1))


@pytest.mark.parametrize("lengths", [[], [2], [2, 2, 2], [2, 0], [2, -2], [2, 2**32]])
def test_lengths_that_no_batch_has_are_refused(lengths: list[int]) -> None:
    store, table = _store()
    _runs(store, table, 0)
    with pytest.raises(ValueError, match="length"):
        table.sample(_LAYOUT, 1, 2, 2, False, None, lengths)
    with pytest.raises(ValueError, match="length"):
        table.gather(_LAYOUT, None, 2, lengths)
    with pytest.raises(ValueError, match="divisor"):
        table.sample(_LAYOUT, 1, 2, 1, False, None, [2, 2])


def _refused(table: _core.Table, layout: _core.RecordLayout, *args: Any) -> tuple[Any, ...]:
    """Whatever the error, nothing was counted or drawn; returns its class and arguments."""
    before = table.info()
    with pytest.raises((_core.LengthMismatch, _core.LayoutMismatch)) as caught:
        table.sample(layout, 1, 1, 1, False, None, *args)
    assert table.info() == before
    with pytest.raises(caught.type) as again:
        table.gather(layout, None, 1, *args)
    assert again.value.args == caught.value.args
    (key,) = table.items()["key"].tolist()
    assert caught.value.args[0] == key
    return caught.type, *caught.value.args[1:]


def test_an_item_that_does_not_fit_is_named_with_its_column() -> None:
    other = _core.RecordLayout([_COLUMNS[0], (_F4, (3,))])
    fewer = _core.RecordLayout([_COLUMNS[0]])
    length, layout = _core.LengthMismatch, _core.LayoutMismatch
    assert issubclass(layout, ValueError)
    for add, column in ((_runs, -1), (_trajectory, 0)):
        store, table = _store()
        add(store, table, 0)
        assert _refused(table, _LAYOUT) == (length, column, 2, 1)
        assert _refused(table, _LAYOUT, [2, 1]) == (length, 1, 2, 1)
        assert _refused(table, _LAYOUT, [2, -1]) == (length, 1, 2, -1)
        assert _refused(table, other) == (layout, 1)
        assert _refused(table, fewer) == (layout, -1)
    store, table = _store()
    _trajectory(store, table, 0, (1, -1))
    assert _refused(table, _LAYOUT) == (length, 1, -1, 1)


def test_an_item_of_any_make_is_read_and_described() -> None:
    store, table = _store()
    assert table.describe() is None
    _runs(store, table, 0)
    _trajectory(store, table, 10, (-1, 3))
    texts = store.create_trajectory_writer()
    texts.add_column(None, 9)
    for text in (b"one", b""):
        texts.append([text])
    runs = [np.array(column) for column in ([0, 0], [0, 1], [2, 1])]
    texts.create_item(
        table,
        1.0,
        runs[0].astype(np.uint32),
        runs[1].astype(np.uint64),
        np.array([2, 1], np.uint32),
        np.array([1, 1], np.uint32),
        np.array([0, 1], np.uint8),
    )
    run, trajectory, text = table.items()["key"].tolist()
    numbers, floats = table.item(run)
    assert (numbers.tolist(), floats.tolist()) == _steps(0, 2)
    number, floats = table.item(trajectory)
    assert (number.shape, int(number), floats.tolist()) == ((), 10, _steps(10, 3)[1])
    assert table.item(text) == [[b"one", b""], b""]
    assert table.describe() == table.describe(run) == [(_I8, (), 2), (_F4, (2,), 2)]
    assert table.describe(trajectory) == [(_I8, (), -1), (_F4, (2,), 3)]
    assert table.describe(text) == [(None, (), 2), (None, (), -1)]
    assert table.info()["samples"] == 0
    table.delete(np.array([run], np.uint64))
    for look in (table.item, table.describe):
        with pytest.raises(KeyError) as caught:
            look(run)
        assert caught.value.args == (run,)


def test_an_item_that_is_large_is_read_whole() -> None:
    store = _core.Store()
    _, table = _store()
    columns = [(np.dtype(np.uint8), (50_000,)), (_I8, ())]
    layout = _core.RecordLayout(columns)
    table = store.create_table(
        max_size=3,
        sampler=_core.FIFO,
        remover=_core.FIFO,
        min_size_to_sample=1,
        samples_per_insert=1.0,
        min_diff=-1e18,
        max_diff=1e18,
        seed=1,
    )
    writer = _writer(store, table, layout)
    steps = np.random.default_rng(1).integers(0, 256, (2, 50_000), np.uint8)
    for number, step in enumerate(steps):
        assert writer.append([step, np.int64(number)], 0) == _core.STORED
    large, small = table.item(int(table.items()["key"][0]))
    assert np.array_equal(large, steps)
    assert small.tolist() == [0, 1]
