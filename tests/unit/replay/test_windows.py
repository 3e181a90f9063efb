"""Windows of just so many steps, episodes one after the other, and another capacity."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import reverie
from reverie import ArraySpec, ReplayBuffer
from reverie.errors import ClosedError, InvalidArgumentError, WaitTimeoutError
from reverie.views import Episodes, Sequences, Transitions, Windows

SPEC = {
    "observation": {"x": ArraySpec((2,), np.float32)},
    "action": ArraySpec((), np.int64),
    "reward": ArraySpec((), np.float32),
}


def filled(
    view: Any, lengths: tuple[int, ...] = (2, 5, 3), capacity: int = 100
) -> ReplayBuffer:
    buffer = ReplayBuffer(SPEC, capacity, view=view, seed=0)
    step = 0
    for length in lengths:
        for t in range(length):
            now, after = ({"x": np.full(2, step + k, np.float32)} for k in (0, 1))
            buffer.add(now, step, step / 2, after, t == length - 1, False)
            step += 1
        step += 1
    return buffer


def test_windows_have_no_mask() -> None:
    batch = filled(Windows(3)).steps()
    assert batch.action.tolist() == [[3, 4, 5], [4, 5, 6], [5, 6, 7], [9, 10, 11]]
    assert batch.next_observation["x"][:, 0].tolist() == [6, 7, 8, 12]
    assert batch.terminated[:, -1].tolist() == [False, False, True, True]
    assert not {"mask", "length"} & batch.data.keys()
    assert filled(Windows(3, stride=2)).steps().action.tolist() == [
        [3, 4, 5],
        [5, 6, 7],
        [9, 10, 11],
    ]


def test_windows_that_not_every_item_fills_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"not every item .* Take Sequences\(3\)"):
        filled(Transitions()).sample(2, view=Windows(3))
    with pytest.raises(InvalidArgumentError, match="has 4 steps"):
        filled(Windows(3)).sample(2, view=Windows(4))
    assert filled(Windows(3)).sample(9, view=Windows(2)).action.shape == (9, 2)
    assert filled(Windows(3)).sample(9, view=Sequences(7)).mask.shape == (9, 7)
    for wrong in ({"length": 0}, {"length": 3, "stride": 4}):
        with pytest.raises(InvalidArgumentError):
            Windows(**wrong)


def test_ragged_episodes_are_the_padded_ones_without_padding() -> None:
    buffer = filled(Episodes())
    padded, ragged = buffer.steps(), buffer.steps(Episodes(ragged=True))
    offsets = ragged.data["offsets"]
    assert offsets.tolist() == [0, 2, 7, 10]
    assert ragged.data.keys() == padded.data.keys() - {"mask", "burn_in_mask"} | {"offsets"}
    mask = padded.mask
    for name in ("action", "reward", "terminated", "truncated"):
        np.testing.assert_array_equal(ragged.data[name], padded.data[name][mask])
    np.testing.assert_array_equal(ragged.observation["x"], padded.observation["x"][mask])
    np.testing.assert_array_equal(ragged.next_observation["x"], padded.next_observation["x"])
    assert np.add.reduceat(ragged.reward, offsets[:-1]).tolist() == [
        float(row[keep].sum()) for row, keep in zip(padded.reward, mask, strict=True)
    ]
    some = buffer.sample(7, view=Episodes(max_length=2, ragged=True))
    assert some.action.shape == (14,)


def test_a_key_that_ragged_episodes_need_is_refused() -> None:
    spec = {**SPEC, "offsets": ArraySpec((), np.int64)}
    with pytest.raises(InvalidArgumentError, match="offsets"):
        ReplayBuffer(spec, 10, view=Episodes(ragged=True))
    ReplayBuffer(spec, 10, view=Episodes())


def test_resize(tmp_path: Any) -> None:
    buffer = filled(Transitions(), (50,))
    buffer.resize(10)
    assert (len(buffer), buffer.capacity) == (10, 10)
    assert buffer.steps().action.tolist() == list(range(40, 50))
    assert "10 of 10" in repr(buffer)
    buffer.resize(20)
    for k in range(30):
        now, after = ({"x": np.full(2, 100 + k + i, np.float32)} for i in (0, 1))
        buffer.add(now, 100 + k, 0.0, after, k == 29, False)
    assert buffer.steps().action.tolist() == list(range(110, 130))
    buffer.save(path=tmp_path)
    again = reverie.open(tmp_path)
    assert again.capacity == 20
    assert again.steps().action.tolist() == list(range(110, 130))
    for wrong in (0, -1, 2**32, 1.5, "9"):
        with pytest.raises((InvalidArgumentError, TypeError), match="capacity"):
            buffer.resize(wrong)  # type: ignore[arg-type]
    buffer.close()
    with pytest.raises(ClosedError):
        buffer.resize(5)


@pytest.mark.parametrize("sampler", [None, reverie.samplers.Prioritized(0.6)])
def test_resizing_beside_who_adds_and_samples(sampler: Any) -> None:
    buffer = filled(Transitions(), (5000,), capacity=6000)
    if sampler is not None:
        buffer = ReplayBuffer(SPEC, 6000, sampler=sampler, seed=0)
    stop, errors = threading.Event(), []

    def add() -> None:
        try:
            step = 10_000
            while not stop.is_set():
                now, after = ({"x": np.full(2, step + k, np.float32)} for k in (0, 1))
                buffer.add(now, step, 0.0, after, False, False)
                step += 1
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=add)
    thread.start()
    for capacity in (4000, 50, 3000, 7, 2500, 1, 900) * 3:
        buffer.resize(capacity)
        assert len(buffer) <= capacity
        batch = buffer.sample(64, timeout=5)
        assert (batch.observation["x"][:, 0] == batch.action).all()
        assert (batch.next_observation["x"][:, 0] == batch.action + 1).all()
    stop.set()
    thread.join()
    assert not errors


def test_a_checkpoint_beside_resizing_fits_its_own_capacity(tmp_path: Any) -> None:
    buffer = filled(Transitions(), (1500,), capacity=2000)
    stop = threading.Event()

    def resize() -> None:
        while not stop.is_set():
            for capacity in (2000, 700, 1200):
                buffer.resize(capacity)

    def add() -> None:
        step = 10_000
        while not stop.is_set():
            now, after = ({"x": np.full(2, step + k, np.float32)} for k in (0, 1))
            buffer.add(now, step, 0.0, after, False, False)
            step += 1

    threads = [threading.Thread(target=each) for each in (resize, add)]
    for thread in threads:
        thread.start()
    for k in range(15):
        buffer.save(path=tmp_path / str(k))
    stop.set()
    for thread in threads:
        thread.join()
    for k in range(15):
        again = reverie.open(tmp_path / str(k))
        assert 0 < len(again) <= again.capacity
        assert again.capacity in (2000, 700, 1200)


def test_a_managers_buffer_is_not_resized(tmp_path: Any) -> None:
    manager = reverie.ReplayBufferManager({"x": ArraySpec((), np.float32)}, 10, tmp_path, 2)
    buffer, _ = manager.create_replay_buffer()
    with pytest.raises(InvalidArgumentError, match=r"resize\(\)"):
        buffer.resize(5)
    manager.close()


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (Windows(9), r"is empty.*once an episode has 9 steps"),
        (Episodes(), r"is empty.*once an episode has ended"),
        (Sequences(6), r"is empty.*with each 6 steps of an episode, and at its end"),
        (Transitions(), r"is empty: add steps.*with each step"),
    ],
)
def test_a_buffer_without_an_item_says_when_one_comes(view: Any, words: str) -> None:
    buffer = ReplayBuffer(SPEC, 100, view=view)
    for k in range(0 if isinstance(view, Transitions) else 5):
        now, after = ({"x": np.full(2, k + i, np.float32)} for i in (0, 1))
        ends = k == 2 and isinstance(view, Windows)
        buffer.add(now, k, 0.0, after, ends, False)
    with pytest.raises(WaitTimeoutError, match=words):
        buffer.sample(4)


@pytest.mark.parametrize("view", [Windows(2), Episodes()])
def test_a_refusal_names_the_view_that_was_asked_for(view: Any) -> None:
    spec = {**SPEC, "length": SPEC["action"]}
    with pytest.raises(InvalidArgumentError) as raised:
        ReplayBuffer(spec, 10, view=view)
    assert str(raised.value).startswith(repr(view))
