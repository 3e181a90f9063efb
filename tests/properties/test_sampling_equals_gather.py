"""A sampled row is a piece of the item with its key, wherever the chunks' seams lie."""

from __future__ import annotations

from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import optree
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie import ReplayBufferManager, _core
from reverie.testing import strategies as rst
from reverie.testing.model import Checker, ModelTable, expect_same_nest

SPEC = {
    "count": rst.ArraySpec((), np.dtype(np.int64)),
    "flag": rst.ArraySpec((), np.dtype(np.bool_)),
    "nothing": rst.ArraySpec((0, 2), np.dtype(np.float64)),
    "image": rst.ArraySpec((3, 1, 2), np.dtype(np.uint16)),
}
NBYTES = 8 + 1 + 12
LENGTHS = [1, 2, 3, 4, 6, 12]


def filled(length: int, chunk_nbytes: int, **arguments: Any) -> Any:
    """A manager and a model with the same 40 items or so, of two episodes and a half."""
    small = partial(_core.Store, chunk_nbytes=chunk_nbytes)
    with mock.patch.object(_core, "Store", small):
        manager = ReplayBufferManager(SPEC, 40, "never made", length, seed=3, **arguments)
        _, observer = manager.create_replay_buffer()
    model = ModelTable(SPEC, 40, length, **arguments)
    for number in range(60):
        step, last = rst.numbered_step(SPEC, number), number in (20, 42)
        observer(step, last=last)
        model.add(step, last)
    return manager, model


def divisors(length: int) -> list[int]:
    return [n for n in range(1, length + 1) if length % n == 0]


@pytest.mark.parametrize("chunk_steps", [1, 2, 5, 7, 1000])
@pytest.mark.parametrize("length", LENGTHS)
def test_each_row_is_a_piece_of_the_item_with_its_key(length: int, chunk_steps: int) -> None:
    manager, model = filled(length, chunk_steps * NBYTES, stride_length=2)
    with manager:
        buffer, _ = manager.get_replay_buffer_and_observer()
        checker = Checker()
        checker.check_contents(model, buffer)
        for num_steps in divisors(length):
            data, info = manager.sample(100, num_steps)
            assert data["image"].shape == (100, num_steps, 3, 1, 2)
            checker.check_batch(model, data, info, num_steps)
        checker.check_contents(model, buffer)


@pytest.mark.parametrize("length", [2, 12])
def test_every_piece_of_every_item_is_sampled_in_the_end(length: int) -> None:
    manager, _ = filled(length, 5 * NBYTES)
    with manager:
        whole = manager.gather_all()["count"]
        for num_steps in divisors(length):
            pieces = {piece.tobytes() for piece in whole.reshape(-1, num_steps)}
            # Of at most 480 pieces one is left out with a chance of 480 * exp(-20000 / 480),
            # which is below 1e-15.
            data, _ = manager.sample(20000, num_steps)
            assert {row.tobytes() for row in data["count"]} == pieces


@pytest.mark.parametrize("chunk_steps", [1, 7, 1000])
@pytest.mark.parametrize("length", LENGTHS)
def test_out_is_filled_with_what_a_fresh_batch_would_hold(
    length: int, chunk_steps: int
) -> None:
    fresh, _ = filled(length, chunk_steps * NBYTES)
    given_out, _ = filled(length, chunk_steps * NBYTES)
    with fresh, given_out:
        for num_steps in divisors(length):
            expected, wanted = fresh.sample(33, num_steps)
            out = optree.tree_map(lambda leaf: np.full_like(leaf, 1), expected)
            data, info = given_out.sample(33, num_steps, out)
            for name, leaf in out.items():
                assert data[name] is leaf
            expect_same_nest("out", data, expected)
            expect_same_nest("info", info, wanted)


@given(
    chunk_nbytes=st.integers(1, 10 * NBYTES),
    length=st.integers(1, 9),
    episodes=st.lists(st.integers(1, 30), min_size=1, max_size=5),
)
def test_windows_over_any_seams_equal_slices_in_numpy(
    chunk_nbytes: int, length: int, episodes: list[int]
) -> None:
    layout = _core.RecordLayout([(leaf.dtype, leaf.shape) for leaf in optree.tree_leaves(SPEC)])
    assert layout.record_nbytes == NBYTES
    store = _core.Store(chunk_nbytes=chunk_nbytes)
    table = store.create_table(
        max_size=1000,
        sampler=_core.UNIFORM,
        remover=_core.FIFO,
        min_size_to_sample=1,
        samples_per_insert=1.0,
        min_diff=-np.inf,
        max_diff=np.inf,
        seed=1,
    )
    writer = store.create_writer(
        layout,
        [table],
        sequence_length=length,
        stride_length=1,
        priority=1.0,
        pad_end=False,
        tile_end=False,
        pad_record=bytes(NBYTES),
        boundary_column=-1,
        boundary_value=0,
    )
    windows: list[list[np.ndarray]] = []  # per item, its columns
    for episode, count in enumerate(episodes):
        steps = [rst.numbered_step(SPEC, 100 * episode + n) for n in range(count)]
        for number, step in enumerate(steps):
            assert writer.append(optree.tree_leaves(step), number == count - 1) == -1
        columns = [
            np.stack(leaves) for leaves in zip(*map(optree.tree_leaves, steps), strict=True)
        ]
        for start in range(count - length + 1):
            windows.append([column[start : start + length] for column in columns])
    found, keys = table.gather(layout, None, length)
    assert len(keys) == len(windows)
    for index, column in enumerate(found):
        expected = [window[index].tobytes() for window in windows]
        assert [row.tobytes() for row in column] == expected
    if windows:
        batch, info = table.sample(layout, 20, length, length, False, None)
        row_of = {key: row for row, key in enumerate(keys.tolist())}
        for index, column in enumerate(batch):
            expected = [windows[row_of[key]][index].tobytes() for key in info[0].tolist()]
            assert [row.tobytes() for row in column] == expected


def test_the_check_sees_a_piece_that_starts_in_the_wrong_place() -> None:
    manager, model = filled(4, 5 * NBYTES)
    with manager:
        buffer, _ = manager.get_replay_buffer_and_observer()
        checker = Checker()
        checker.check_contents(model, buffer)
        whole, info = manager.sample(50)
        middle = optree.tree_map(lambda leaf: leaf[:, 1:3], whole)
        with pytest.raises(AssertionError, match="no piece"):
            checker.check_batch(model, middle, info, num_steps=2)


def test_the_check_sees_columns_that_come_from_different_items() -> None:
    manager, model = filled(2, 5 * NBYTES)
    with manager:
        buffer, _ = manager.get_replay_buffer_and_observer()
        checker = Checker()
        checker.check_contents(model, buffer)
        data, info = manager.sample(50)
        data["image"] = np.roll(data["image"], 1, axis=0)
        with pytest.raises(AssertionError, match="no piece"):
            checker.check_batch(model, data, info, num_steps=2)
