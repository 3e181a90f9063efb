"""Turns at the interpreter are short while a save or load goes on, and then as they were."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import reverie
from reverie.runtime.turns import ShortTurns

USUAL_S = 0.004


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(USUAL_S)
    yield
    sys.setswitchinterval(before)


def interval_us() -> int:
    return round(sys.getswitchinterval() * 1e6)


def test_turns_are_short_until_the_last_who_wants_them_is_done() -> None:
    turns, seen = ShortTurns(), []
    with turns.wanted():
        seen.append(interval_us())
        with turns.wanted():
            seen.append(interval_us())
        seen.append(interval_us())
    assert [*seen, interval_us()] == [5, 5, 5, 4000]


def test_an_error_ends_them_too() -> None:
    turns = ShortTurns()
    with pytest.raises(KeyError), turns.wanted():
        raise KeyError
    assert interval_us() == 4000


def test_what_someone_else_sets_meanwhile_stays() -> None:
    turns = ShortTurns()
    with turns.wanted():
        sys.setswitchinterval(0.001)
    assert interval_us() == 1000


def test_shorter_ones_stay_as_they_are() -> None:
    sys.setswitchinterval(2e-6)
    turns = ShortTurns()
    with turns.wanted():
        assert interval_us() == 2
    assert interval_us() == 2


@pytest.mark.skipif(sys.platform != "linux", reason="Linux rounds the waits of threads up")
def test_waits_of_the_thread_that_works_end_in_time() -> None:
    def slack_ns() -> str:
        return Path(f"/proc/{threading.get_native_id()}/timerslack_ns").read_text()

    def look() -> None:
        turns, before = ShortTurns(), slack_ns()
        with turns.wanted():
            with turns.wanted():
                seen.append(slack_ns())
            seen.append(slack_ns())
        seen.append(slack_ns() == before)

    seen: list[object] = []
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == ["1\n", "1\n", True]


def test_many_threads_leave_them_as_they_were() -> None:
    turns = ShortTurns()

    def use() -> None:
        for _ in range(300):
            with turns.wanted():
                assert interval_us() == 5

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert interval_us() == 4000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_its_usual_turns() -> None:
    from reverie.runtime.turns import short_turns

    with short_turns.wanted():
        child = os.fork()
        if child == 0:
            with short_turns.wanted():
                inner = interval_us()
            os._exit(0 if (inner, interval_us()) == (5, 4000) else 1)
        assert interval_us() == 5
    assert os.waitpid(child, 0)[1] == 0
    assert interval_us() == 4000


@pytest.mark.parametrize("wait", [True, False])
def test_a_save_and_a_load_have_short_turns(tmp_path: Path, wait: bool) -> None:
    manager = reverie.ReplayBufferManager(
        {"x": reverie.ArraySpec((), np.float32)}, 100, tmp_path, 1
    )
    _, observer = manager.create_replay_buffer()
    observer({"x": np.float32(1)})
    seen = []
    manager.save(wait=wait, progress=lambda *_: seen.append(interval_us()))
    manager.save()
    assert set(seen) == {5}
    seen.clear()
    manager.load_replay_buffer(progress=lambda *_: seen.append(interval_us()))
    assert set(seen) == {5}
    deadline = time.monotonic() + 10
    while interval_us() != 4000 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert interval_us() == 4000
    manager.close()
