"""A manager's calls beside a thread that creates and loads its buffer."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reverie import ReplayBufferManager
from reverie.errors import ClosedError
from reverie.samplers import Prioritized

pytestmark = pytest.mark.xdist_group("alone")

CALLS: dict[str, Callable[[ReplayBufferManager], Any]] = {
    "sample": lambda m: m.sample(4),
    "sample, timeout": lambda m: m.sample(4, timeout=10),
    "gather_all": lambda m: m.gather_all(),
    "iter_items": lambda m: list(m.iter_items()),
    "update_priorities": lambda m: m.update_priorities([1], [1.0]),
    "num_frames": lambda m: m.num_frames(),
    "info": lambda m: m.info(),
    "new_observer": lambda m: m.new_observer(),
    "repr": repr,
}


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ReplayBufferManager]:
    spec, sampler = {"n": np.zeros((), np.int64)}, Prioritized()
    with ReplayBufferManager(spec, 100, tmp_path, 1, sampler=sampler) as manager:
        _, observer = manager.create_replay_buffer()
        for n in range(50):
            observer({"n": n})
        manager.save()
        yield manager


@pytest.mark.parametrize("call", CALLS)
def test_calls_beside_loads_never_meet_a_closed_buffer(
    call: str, manager: ReplayBufferManager
) -> None:
    errors: list[Exception] = []
    done = threading.Event()

    def use() -> None:
        while not done.is_set():
            try:
                CALLS[call](manager)
            except Exception as error:
                errors.append(error)
                return

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(40):
        manager.load_replay_buffer()
    done.set()
    for thread in threads:
        thread.join()
    assert errors == []


def test_a_wait_goes_on_at_the_new_buffer_within_its_timeout(
    manager: ReplayBufferManager,
) -> None:
    manager.clear()

    def renew() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            manager.create_replay_buffer()

    timers = [threading.Timer(0.1 * n, renew) for n in (1, 2)]
    for timer in timers:
        timer.start()
    start = time.monotonic()
    with pytest.raises(TimeoutError):
        manager.sample(1, timeout=0.5)
    assert 0.45 <= time.monotonic() - start < 2
    timer = threading.Timer(0.1, manager.load_replay_buffer)
    timer.start()
    assert manager.sample(1, timeout=30)[0]["n"].shape == (1, 1)
    timer.join()


def test_items_of_a_buffer_that_is_replaced_are_left_out(manager: ReplayBufferManager) -> None:
    items = manager.iter_items()
    next(items)
    manager.load_replay_buffer()
    assert list(items) == []
    assert len(list(manager.iter_items())) == 50


def test_a_manager_that_was_closed_says_so(manager: ReplayBufferManager) -> None:
    items = manager.iter_items()
    next(items)
    manager.close()
    with pytest.raises(ClosedError):
        list(items)
    with pytest.raises(ClosedError):
        manager.sample(1)
