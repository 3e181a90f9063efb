"""Threads: nothing torn, nothing lost, nothing stuck; who waits is woken.

REVERIE_STRESS_SECONDS says how long the hammering lasts (3 unless told).
"""

from __future__ import annotations

import faulthandler
import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from reverie import ArraySpec, ReplayBufferManager, _core, samplers
from reverie.errors import ClosedError
from reverie.observers import TrajectoryObserver
from reverie.testing.model import expect_same_nest

pytestmark = pytest.mark.xdist_group("alone")

SECONDS = float(os.environ.get("REVERIE_STRESS_SECONDS") or 3)
STUCK = 60.0  # seconds after which a thread counts as stuck
LENGTH, STRIDE, EPISODE, CAPACITY = 6, 2, 25, 500
ITEMS_PER_EPISODE = (EPISODE - LENGTH) // STRIDE + 1
INT, WORD = np.dtype(np.int64), np.dtype(np.uint64)
SPEC = {
    "writer": ArraySpec((), INT),
    "count": ArraySpec((), INT),
    "hash": {"a": ArraySpec((7,), WORD), "b": ArraySpec((2, 3), WORD)},
    "low": ArraySpec((), np.uint8),
}


def words(writer: Any, count: Any, number: int) -> np.ndarray:
    """`number` words that look random and follow from the step's writer and count."""
    word = np.arange(number, dtype=WORD) + np.asarray(count, WORD)[..., None] * WORD.type(13)
    word = word + np.asarray(writer, WORD)[..., None] * WORD.type(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        word = (word ^ (word >> WORD.type(shift))) * WORD.type(factor)
    return word ^ (word >> WORD.type(31))


def steps(writer: int, start: int, number: int) -> list[dict[str, Any]]:
    """Consecutive steps, each with check values in all of its columns."""
    count = np.arange(start, start + number)
    word = words(np.full(number, writer), count, 14)
    return [
        {
            "writer": INT.type(writer),
            "count": count[i],
            "hash": {"a": word[i, :7], "b": word[i, 7:13].reshape(2, 3)},
            "low": word[i, 13].astype(np.uint8),
        }
        for i in range(number)
    ]


def problems(data: dict[str, Any], *, one_writer: bool = True) -> list[str]:
    """What is wrong with windows `[B, T, ...]`: torn steps, gaps, a crossed boundary.

    Args:
        data: what was sampled or gathered.
        one_writer: whether the steps of an episode came from one thread.
    """
    writer, count = data["writer"], data["count"]
    word = words(writer, count, 14)
    right = [
        np.all(data["hash"]["a"] == word[..., :7], axis=-1),
        np.all(data["hash"]["b"] == word[..., 7:13].reshape(*count.shape, 2, 3), axis=(-1, -2)),
        data["low"] == word[..., 13].astype(np.uint8),
    ]
    found = [] if np.all(right) else [f"torn steps: {count[~np.all(right, axis=0)][:5]}"]
    if one_writer:
        if np.any(writer != writer[:, :1]):
            found.append("a window of two writers")
        elif np.any(np.diff(count, axis=1) != 1):
            found.append("a window with a gap")
        elif np.any(count[:, 0] // EPISODE != count[:, -1] // EPISODE):
            found.append("a window over the end of an episode")
    return found


class Threads:
    """Threads that start together, stop at a signal, and whose errors reach the test."""

    def __init__(self) -> None:
        self.stop = threading.Event()
        self.errors: list[BaseException] = []
        self._threads: list[threading.Thread] = []

    def start(self, work: Callable[[], None], *, repeat: bool = True) -> None:
        def run() -> None:
            try:
                work()
                while repeat and not self.stop.is_set():
                    work()
            except BaseException as error:
                self.errors.append(error)
                self.stop.set()

        self._threads.append(threading.Thread(target=run, daemon=True))
        self._threads[-1].start()

    def join(self) -> None:
        """Raises the first error of a thread; fails where one does not come back."""
        self.stop.set()
        for thread in self._threads:
            thread.join(STUCK)
            if thread.is_alive():
                faulthandler.dump_traceback()
                pytest.fail("a thread is stuck; see the stacks")
        if self.errors:
            raise self.errors[0]


@pytest.fixture(autouse=True)
def _stacks_of_a_deadlock() -> Iterator[None]:
    """A thread stuck with the GIL would stop pytest, too: then end with all stacks."""
    faulthandler.dump_traceback_later(SECONDS + 3 * STUCK, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def small_chunks() -> Any:
    """Chunks of 40 steps or so: windows over seams, chunks freed all the time."""
    return mock.patch.object(_core, "Store", partial(_core.Store, chunk_nbytes=5000))


def new_manager(folder: Path) -> ReplayBufferManager:
    more = {"stride_length": STRIDE, "seed": 1, "sampler": samplers.Prioritized()}
    return ReplayBufferManager(SPEC, CAPACITY, folder, LENGTH, **more)


class Adder:
    """Adds one whole episode after the other; after 200 the first one again.

    They are made beforehand: NumPy keeps letting go of the GIL and taking it back, and
    threads that wait for it would get it once in 200 ms instead of 5.
    """

    def __init__(self, writer: int, observer: Any) -> None:
        self.observer, self.count = observer, 0
        self.episodes = [steps(writer, EPISODE * i, EPISODE) for i in range(200)]

    def __call__(self) -> None:
        for step in self.episodes[self.count // EPISODE % len(self.episodes)]:
            self.count += 1
            self.observer(step, last=self.count % EPISODE == 0)


class Drawer:
    """Samples: fresh, into `out`, in pieces; and looks at each step."""

    def __init__(self, manager: ReplayBufferManager, one_writer: bool) -> None:
        self.manager, self.one_writer, self.drawn = manager, one_writer, 0

    def __call__(self) -> None:
        batch, info = self.manager.sample(64, timeout=STUCK)
        self.look(batch)
        self.look(self.manager.sample(64, out=batch, timeout=0)[0])
        self.look(self.manager.sample(64, 3, timeout=0)[0])
        self.manager.update_priorities(info.key, np.ones(64))

    def look(self, batch: Any) -> None:
        self.drawn += 64
        assert problems(batch, one_writer=self.one_writer) == []


@pytest.mark.parametrize("one_writer", [True, False], ids=["own observers", "shared observer"])
def test_adding_sampling_and_saving_at_once_tears_and_loses_nothing(
    tmp_path: Path, one_writer: bool
) -> None:
    with small_chunks(), new_manager(tmp_path) as manager:
        buffer, observer = manager.create_replay_buffer()
        observers = [observer, observer]
        if one_writer:
            observers[1] = TrajectoryObserver(
                buffer.py_client,
                buffer.table_name,
                buffer.sequence_length,
                stride_length=STRIDE,
            )
        adders = [Adder(i, o) for i, o in enumerate(observers)]
        drawers = [Drawer(manager, one_writer) for _ in range(2)]
        threads = Threads()
        for work in (*adders, *drawers):
            threads.start(work)
        end = time.monotonic() + SECONDS / 2
        while time.monotonic() < end and not threads.stop.wait(SECONDS / 15):
            manager.save(wait=False)
            if buffer.num_frames():
                assert problems(manager.gather_all(), one_writer=one_writer) == []
        threads.join()
        info = manager.info()
        assert 0 < info.items == buffer.num_frames() <= CAPACITY
        assert info.inserts - info.deletes == info.items
        assert info.samples == sum(drawer.drawn for drawer in drawers)
        if one_writer:
            episodes = sum(adder.count for adder in adders) // EPISODE
            assert info.inserts == episodes * ITEMS_PER_EPISODE
        assert len(set(buffer.item_info()["key"].tolist())) == info.items
        manager.save()
        with new_manager(tmp_path) as loaded:
            loaded.load_replay_buffer()
            assert problems(loaded.gather_all(), one_writer=one_writer) == []
            expect_same_nest("loaded", loaded.gather_all(), manager.gather_all())
            assert loaded.info().inserts == info.inserts


def test_a_checkpoint_taken_in_full_swing_holds_whole_windows(tmp_path: Path) -> None:
    with small_chunks(), new_manager(tmp_path) as manager:
        _, observer = manager.create_replay_buffer()
        adder, threads = Adder(0, observer), Threads()
        adder()
        threads.start(adder)
        for _ in range(5):
            manager.save()
            with new_manager(tmp_path) as loaded:
                loaded.load_replay_buffer()
                assert problems(loaded.gather_all()) == []
        threads.join()


def test_clearing_meanwhile_leaves_whole_windows(tmp_path: Path) -> None:
    with small_chunks(), new_manager(tmp_path) as manager:
        buffer, observer = manager.create_replay_buffer()
        adder, threads = Adder(0, observer), Threads()
        threads.start(adder)
        end = time.monotonic() + SECONDS / 6
        while time.monotonic() < end and not threads.errors:
            time.sleep(0.003)
            assert problems(buffer.gather_all()) == []
            manager.clear()
        threads.join()
        info = manager.info()
        assert info.inserts - info.deletes == info.items


def good_windows() -> dict[str, Any]:
    """Three windows as they should be."""
    rows = [steps(1, start, LENGTH) for start in (0, 4, 50)]

    def column(*path: str) -> np.ndarray:
        def leaf(step: Any) -> Any:
            for name in path:
                step = step[name]
            return step

        return np.array([[leaf(step) for step in row] for row in rows])

    hashes = {"a": column("hash", "a"), "b": column("hash", "b")}
    return {
        "writer": column("writer"),
        "count": column("count"),
        "hash": hashes,
        "low": column("low"),
    }


def test_the_check_accepts_whole_windows_and_sees_each_kind_of_damage() -> None:
    assert problems(good_windows()) == []
    for torn in ("writer", "count", "low"):
        data = good_windows()
        data[torn][1, 2] += 1  # as if one column came from another step
        assert "torn" in problems(data, one_writer=False)[0]
    for torn in ("a", "b"):
        data = good_windows()
        data["hash"][torn][1, 2] = data["hash"][torn][1, 3]
        assert "torn" in problems(data)[0]
    gap = {**good_windows()}
    for row, start in enumerate((0, 1)):
        window = [steps(1, start + 2 * i, 1)[0] for i in range(LENGTH)]
        for name in ("count", "low"):
            gap[name][row] = [step[name] for step in window]
        for name in ("a", "b"):
            gap["hash"][name][row] = [step["hash"][name] for step in window]
    assert problems(gap) == ["a window with a gap"]


def test_a_thread_that_fails_or_hangs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = Threads()
    threads.start(lambda: np.zeros(1)[2])
    with pytest.raises(IndexError):
        threads.join()
    release, hanging = threading.Event(), Threads()
    hanging.start(release.wait, repeat=False)
    monkeypatch.setitem(globals(), "STUCK", 0.05)
    with pytest.raises(pytest.fail.Exception, match="stuck"):
        hanging.join()
    release.set()


def test_a_waiting_sampler_is_woken_by_a_step_from_another_thread(tmp_path: Path) -> None:
    with new_manager(tmp_path) as manager:
        _, observer = manager.create_replay_buffer()
        threads, woken = Threads(), []

        def sample() -> None:
            manager.sample(3)  # without a timeout: there is another thread to wait for
            woken.append(time.monotonic())

        threads.start(sample, repeat=False)
        time.sleep(0.25)
        assert not woken
        for step in steps(0, 0, LENGTH):
            observer(step)
        added = time.monotonic()
        threads.join()
        assert woken[0] - added < 1


def test_closing_wakes_a_waiting_sampler_with_an_error(tmp_path: Path) -> None:
    manager = new_manager(tmp_path)
    manager.create_replay_buffer()
    threads = Threads()
    threads.start(lambda: manager.sample(3), repeat=False)
    time.sleep(0.25)
    manager.close()
    closed = time.monotonic()
    with pytest.raises(ClosedError):
        threads.join()
    assert time.monotonic() - closed < 1
