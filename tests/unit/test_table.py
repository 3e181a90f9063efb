"""One table: arguments of its calls, caller-owned outputs, keys and priorities, counters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reverie import ArraySpec, ReplayBufferManager
from reverie.errors import InvalidArgumentError, ReverieError, UnstackableError
from reverie.nests.nest import Nest
from reverie.observers import EpisodeObserver
from reverie.runtime.checks import as_keys, as_priorities, check_int
from reverie.samplers import Prioritized

SPEC = {"n": ArraySpec((), np.int64), "x": ArraySpec((2,), np.float32)}


@pytest.fixture
def manager(tmp_path: Path) -> Any:
    with ReplayBufferManager(SPEC, 10, tmp_path, 4, seed=1, sampler=Prioritized()) as manager:
        _, observer = manager.create_replay_buffer()
        for n in range(12):
            observer({"n": n, "x": np.zeros(2)})
        yield manager


# Integers -----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1, 10, np.int8(5), np.uint64(7), np.array(3)])
def test_every_kind_of_integer_is_one(value: Any) -> None:
    found = check_int("size", value, 1, 10)
    assert (type(found), found) == (int, int(value))


@pytest.mark.parametrize("value", [0, 11, -1, 10**30, np.int64(-5)])
def test_out_of_range_says_what_was_found_and_wanted(value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=f"size: found {value}, wanted 1 to 10"):
        check_int("size", value, 1, 10)


@pytest.mark.parametrize("value", [1.0, True, np.True_, "1", None, [1], np.float32(1), 1j])
def test_what_is_no_integer_is_refused_with_its_type(value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=f"of type {type(value).__name__}, wanted"):
        check_int("size", value, 1, 10)


BAD_SIZES = [0, -1, 1.0, True, "2", None, 2**40]


@pytest.mark.parametrize("size", BAD_SIZES)
def test_a_bad_batch_size_is_refused(size: Any, manager: ReplayBufferManager) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^batch_size: found"):
        manager.sample(size)
    assert manager.info().samples == 0


@pytest.mark.parametrize(
    "steps", [*(size for size in BAD_SIZES if size not in (None, True)), 3, 5, 8, True]
)
def test_a_bad_number_of_steps_is_refused(steps: Any, manager: ReplayBufferManager) -> None:
    with pytest.raises(InvalidArgumentError, match="num_steps"):
        manager.sample(2, steps)
    assert manager.info().samples == 0


def test_numpy_integers_are_sizes(manager: ReplayBufferManager) -> None:
    data, info = manager.sample(np.int64(3), np.uint8(2))
    assert (data["n"].shape, info.key.shape) == ((3, 2), (3,))


@pytest.mark.parametrize("steps", [1, 2, 4, None])
def test_pieces_are_disjoint_parts_of_their_item(
    steps: int | None, manager: ReplayBufferManager
) -> None:
    whole = {key: item["n"].tolist() for key, item in manager.iter_items()}
    data, info = manager.sample(200, steps)
    length = steps or 4
    starts = set()
    for row, key in zip(data["n"].tolist(), info.key.tolist(), strict=True):
        start = whole[key].index(row[0])
        assert (start % length, row) == (0, whole[key][start : start + length])
        starts.add(start)
    assert starts == set(range(0, 4, length))


def test_info_describes_the_items_that_were_chosen(manager: ReplayBufferManager) -> None:
    _, info = manager.sample(50)
    dtypes = [field.dtype.name for field in info]
    assert dtypes == ["uint64", "float64", "int64", "float64", "int32"]
    assert set(info.key.tolist()) <= {key for key, _ in manager.iter_items()}
    assert set(info.table_size.tolist()) == {9}
    assert np.allclose(info.probability, 1 / 9)
    assert info.times_sampled.max() <= 50
    buffer, _ = manager.get_replay_buffer_and_observer()
    assert buffer.item_info()["times_sampled"].sum() == 50 == manager.info().samples


# Caller-owned outputs -------------------------------------------------------------------


def outputs(batch: int = 3) -> dict[str, Any]:
    return {"n": np.empty((batch, 4), np.int64), "x": np.empty((batch, 4, 2), np.float32)}


def test_outputs_are_filled_and_returned(manager: ReplayBufferManager) -> None:
    out = outputs()
    data, info = manager.sample(3, out=out)
    assert data["n"] is out["n"]
    assert data["x"] is out["x"]
    whole = {key: item["n"].tolist() for key, item in manager.iter_items()}
    assert out["n"].tolist() == [whole[key] for key in info.key.tolist()]


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


BAD_OUTPUTS: dict[str, Any] = {
    "missing": ({"n": np.empty((3, 4), np.int64)}, "in its columns: missing ['x']"),
    "batch": (outputs(4), "'n': found int64 array of shape (4, 4)"),
    "dtype": ({**outputs(), "n": np.empty((3, 4), np.int32)}, "'n': found int32"),
    "order": ({**outputs(), "n": np.empty((3, 4), np.dtype(np.int64).newbyteorder())}, "'n'"),
    "layout": ({**outputs(), "n": np.empty((4, 3), np.int64).T}, "C-contiguous"),
    "read-only": ({**outputs(), "n": read_only(np.empty((3, 4), np.int64))}, "writeable"),
    "list": ({**outputs(), "x": [1.0]}, "'x': found list"),
}


@pytest.mark.parametrize("what", BAD_OUTPUTS)
def test_outputs_that_do_not_fit_are_refused_before_anything_is_sampled(
    what: str, manager: ReplayBufferManager
) -> None:
    out, words = BAD_OUTPUTS[what]
    with pytest.raises(InvalidArgumentError, match=r"^out ") as caught:
        manager.sample(3, out=out)
    assert words in str(caught.value)
    assert "stored" not in str(caught.value)
    assert manager.info().samples == 0


# Keys and priorities --------------------------------------------------------------------


def priorities(manager: ReplayBufferManager) -> list[float]:
    return manager.get_replay_buffer_and_observer()[0].item_info()["priority"].tolist()


def keys(manager: ReplayBufferManager) -> list[int]:
    return [key for key, _ in manager.iter_items()]


@pytest.mark.parametrize(
    ("shape", "values"),
    [
        ("list", [2, 3]),
        ("vector", np.float32([2, 3])),
        ("matrix", np.array([[2.0] * 4, [3.0] * 4])),
        ("int64", np.array([2, 3])),
    ],
)
def test_priorities_are_set_from_every_form_that_samples_come_in(
    shape: str, values: Any, manager: ReplayBufferManager
) -> None:
    chosen: Any = keys(manager)[1:3]
    if shape == "matrix":
        chosen = np.repeat(np.array(chosen, np.uint64)[:, None], 4, axis=1)
    elif shape == "int64":
        chosen = np.array(chosen, np.int64)
    assert manager.update_priorities(chosen, values) == 0
    assert priorities(manager) == [1, 2, 3, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("one", [0.5, np.float64(0.5), np.array(0.5), np.float16(0.5)])
def test_one_number_is_the_priority_of_all(one: Any, manager: ReplayBufferManager) -> None:
    assert manager.update_priorities(keys(manager), one) == 0
    assert priorities(manager) == [0.5] * 9


def test_stale_keys_are_counted_and_ignored(manager: ReplayBufferManager) -> None:
    _, info = manager.sample(5)
    alive = keys(manager)[0]
    assert manager.update_priorities([0, alive, 2**63 - 1], [7, 7, 7]) == 2
    assert priorities(manager)[0] == 7
    manager.clear()
    assert manager.update_priorities(info.key, 1.0) == 5


def test_no_keys_is_no_update(manager: ReplayBufferManager) -> None:
    assert manager.update_priorities([], []) == 0
    assert manager.update_priorities([], 1.0) == 0
    assert manager.update_priorities(np.zeros((0, 4), np.uint64), np.zeros((0, 4))) == 0


@pytest.mark.parametrize(
    "bad",
    [[-1, 1], [1, np.nan], [np.inf, 1], [1], [1, 2, 3], [], "ab", ["a", "b"], None, [None, 1],
     [1j, 1], [[1, 2], [3]], np.ones((1, 1, 1))],
    ids=repr,
)  # fmt: skip
def test_bad_priorities_change_nothing(bad: Any, manager: ReplayBufferManager) -> None:
    with pytest.raises(InvalidArgumentError, match="priorities"):
        manager.update_priorities(keys(manager)[:2], bad)
    assert priorities(manager) == [1] * 9


@pytest.mark.parametrize(
    "bad",
    [5, None, "ab", [-1], [1.5], [True], ["a"], [2**64], [[1], [1, 2]], np.zeros((1, 1, 1))],
    ids=repr,
)  # fmt: skip
def test_bad_keys_are_refused(bad: Any, manager: ReplayBufferManager) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^keys: found"):
        manager.update_priorities(bad, 1.0)


def test_keys_and_priorities_come_out_contiguous_in_the_cores_types() -> None:
    strided = np.arange(12, dtype=np.int64).reshape(3, 4)
    for found, dtype in ((as_keys(strided), np.uint64), (as_priorities(strided), np.float64)):
        assert found.flags.c_contiguous
        assert (found.dtype, found.tolist()) == (dtype, [0, 4, 8])


# Contents and counters --------------------------------------------------------------------


def test_gathering_from_nothing_gives_no_rows_of_the_right_shape(tmp_path: Path) -> None:
    with ReplayBufferManager(SPEC, 10, tmp_path, 4) as manager:
        manager.create_replay_buffer()
        found = manager.gather_all()
        assert (found["n"].shape, found["x"].shape) == ((0, 4), (0, 4, 2))
        assert list(manager.iter_items()) == []


def test_gathering_by_key_keeps_the_order_asked_for_and_refuses_stale_keys(
    tmp_path: Path,
) -> None:
    with ReplayBufferManager(SPEC["n"], 5, tmp_path, 1) as manager:
        buffer, observer = manager.create_replay_buffer()
        for n in range(3):
            observer(np.int64(n))
        found = [key for key, _ in buffer.iter_items()]
        columns, got = buffer.gather_columns([found[2], found[0], found[2]])
        assert (columns[0][:, 0].tolist(), got.tolist()) == (
            [2, 0, 2],
            [found[2], found[0], found[2]],
        )
        assert buffer.gather_columns([])[0][0].shape == (0, 1)
        with pytest.raises(KeyError):
            buffer.gather_columns([found[0], 1])


def discrepancies(manager: ReplayBufferManager, *, steps: int, inserts: int) -> list[str]:
    """What in `info()` does not add up."""
    info = manager.info()
    items = len(list(manager.iter_items()))
    rules = {
        "items": info.items == items == manager.num_frames(),
        "inserts": info.inserts == inserts,
        "deletes": info.inserts - info.deletes == info.items,
        "steps": info.steps == steps,
        "nbytes": info.nbytes == info.steps * info.record_nbytes,
        "allocated": info.allocated_nbytes >= info.nbytes,
        "record": info.record_nbytes == Nest(SPEC).record_dtype.itemsize,
        "rates": info.inserts_per_second > 0 and info.samples_per_second >= 0,
        "settings": (info.name, info.capacity, info.sequence_length, info.min_size_to_sample)
        == ("uniform_table", 10, 4, 1),
    }
    return [name for name, holds in rules.items() if not holds]


def test_the_numbers_of_info_add_up(manager: ReplayBufferManager) -> None:
    assert discrepancies(manager, steps=12, inserts=9) == []


def test_the_check_of_info_sees_numbers_that_do_not_add_up(
    manager: ReplayBufferManager,
) -> None:
    assert discrepancies(manager, steps=13, inserts=8) == ["inserts", "steps"]


def test_clear_starts_the_counters_anew(manager: ReplayBufferManager) -> None:
    manager.sample(5)
    manager.clear()
    info = manager.info()
    assert (info.items, info.inserts, info.samples, info.deletes) == (0, 0, 0, 0)


def test_the_oldest_item_makes_room(manager: ReplayBufferManager) -> None:
    _, observer = manager.get_replay_buffer_and_observer()
    for n in range(12, 20):
        observer({"n": n, "x": np.zeros(2)})
    assert manager.num_frames() == 10
    assert manager.gather_all()["n"][:, 0].tolist() == list(range(7, 17))
    assert manager.info().deletes == 7


def test_items_evicted_while_they_are_read_are_left_out(manager: ReplayBufferManager) -> None:
    _, observer = manager.get_replay_buffer_and_observer()
    found = []
    for _, item in manager.iter_items():
        found.append(int(item["n"][0]))
        for _ in range(3):
            observer({"n": 100, "x": np.zeros(2)})
    assert found == [0, 2, 5, 8]


@pytest.mark.parametrize("seed", [0, 2**64 - 1, np.int64(3)])
def test_the_same_seed_gives_the_same_batches(seed: Any, tmp_path: Path) -> None:
    def draw(seed: Any) -> list[list[int]]:
        with ReplayBufferManager(SPEC, 50, tmp_path, 2, seed=seed) as manager:
            _, observer = manager.create_replay_buffer()
            for n in range(30):
                observer({"n": n, "x": np.zeros(2)})
            return [manager.sample(20)[0]["n"][:, 0].tolist() for _ in range(3)]

    assert draw(seed) == draw(seed) != draw(12345)


def test_unequal_items_cannot_be_stacked_but_read(tmp_path: Path) -> None:
    with ReplayBufferManager(SPEC, 50, tmp_path, 3) as manager:
        buffer, observer = manager.create_replay_buffer()
        episodes = EpisodeObserver(buffer.py_client, buffer.table_name, 9)
        for n in (20, 21):
            episodes({"n": n, "x": np.zeros(2)}, last=n == 21)
        for n in range(30, 34):
            observer({"n": n, "x": np.zeros(2)})
        with pytest.raises(UnstackableError, match=r"has 3 steps, wanted 2.*iter_items"):
            manager.gather_all()
        with pytest.raises(UnstackableError, match=r"has 2 steps, wanted 3"):
            manager.sample(100)
        found = [item["n"].tolist() for _, item in manager.iter_items()]
        assert found == [[20, 21], [30, 31, 32], [31, 32, 33]]
        assert manager.save() is not None
    assert issubclass(UnstackableError, ReverieError)
