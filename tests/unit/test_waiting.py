"""Waiting for data: timeouts, wake-ups, Ctrl-C, words in the log, and no wait in vain."""

from __future__ import annotations

import itertools
import logging
import math
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import manager_support

from reverie import ReplayBufferManager, limiters
from reverie.errors import (
    ClosedError,
    EndlessWaitError,
    InvalidArgumentError,
    ReverieError,
    WaitTimeoutError,
)
from reverie.runtime import leaving, waiting
from reverie.runtime.checks import check_timeout

pytestmark = pytest.mark.xdist_group("alone")

WORDS = "for tea: it holds 0 cups"


def never(slice_s: float) -> bool:
    time.sleep(min(slice_s, 0.005))
    return False


def words() -> str:
    return WORDS


@contextmanager
def company() -> Iterator[None]:
    """Another thread that lives for so long."""
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ReplayBufferManager]:
    with ReplayBufferManager({"n": np.zeros((), np.int64)}, 10, tmp_path) as manager:
        manager.create_replay_buffer()
        yield manager


def add(manager: ReplayBufferManager, count: int) -> None:
    _, observer = manager.get_replay_buffer_and_observer()
    for n in range(count):
        observer({"n": n})


# The loop ---------------------------------------------------------------------------


def test_what_is_ready_is_not_waited_for() -> None:
    slices: list[float] = []
    waiting.wait_until(lambda s: not slices.append(s), timeout=None, what=words)
    assert slices == [pytest.approx(waiting._SLICE_S)]


def test_timeout_zero_asks_once_and_does_not_wait() -> None:
    slices: list[float] = []
    with pytest.raises(WaitTimeoutError, match=WORDS):
        waiting.wait_until(lambda s: bool(slices.append(s)), timeout=0, what=words)
    assert slices == [0.0]


def test_a_timeout_ends_the_wait_in_time() -> None:
    start = time.monotonic()
    with pytest.raises(WaitTimeoutError, match=f"Waited .* s {WORDS}"):
        waiting.wait_until(never, timeout=0.05, what=words)
    assert 0.05 <= time.monotonic() - start < 0.5
    assert issubclass(WaitTimeoutError, TimeoutError)


def test_slices_never_outlast_the_timeout() -> None:
    slices: list[float] = []

    def ready(slice_s: float) -> bool:
        slices.append(slice_s)
        return never(slice_s)

    with pytest.raises(WaitTimeoutError):
        waiting.wait_until(ready, timeout=0.03, what=words)
    assert max(slices) <= 0.03
    assert min(slices) >= 0


def test_the_only_thread_does_not_wait_for_ever() -> None:
    if len(sys._current_frames()) > 1:
        pytest.skip("another thread of this process lives")
    with pytest.raises(EndlessWaitError, match=f"{WORDS}: this is the only thread"):
        waiting.wait_until(never, timeout=None, what=words)


def test_what_a_thread_did_before_it_ended_is_not_missed() -> None:
    threads: list[threading.Thread] = []

    def ready(slice_s: float) -> bool:
        if threads:
            return True
        threads.append(threading.Thread(target=lambda: None))  # comes and goes after the look
        threads[0].start()
        threads[0].join()
        return False

    waiting.wait_until(ready, timeout=None, what=words)


def test_a_thread_in_company_waits_on() -> None:
    start = time.monotonic()
    with company():
        waiting.wait_until(lambda s: time.monotonic() - start > 0.05, timeout=None, what=words)


def test_left_alone_in_the_middle_of_a_wait_it_ends() -> None:
    if len(sys._current_frames()) > 1:
        pytest.skip("another thread of this process lives")
    timer = threading.Timer(0.05, lambda: None)
    timer.start()
    with pytest.raises(EndlessWaitError):
        waiting.wait_until(never, timeout=None, what=words)
    timer.join()


def test_the_wait_is_logged_and_then_each_time_it_has_doubled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(waiting, "_FIRST_REPORT_S", 0.01)
    with pytest.raises(WaitTimeoutError), caplog.at_level(logging.WARNING, "reverie"):
        waiting.wait_until(never, timeout=0.1, what=words)
    assert 2 <= len(caplog.records) <= 4
    assert all(WORDS in record.getMessage() for record in caplog.records)


def test_a_short_wait_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(WaitTimeoutError):
        waiting.wait_until(never, timeout=0.05, what=words)
    assert caplog.records == []
    assert waiting._FIRST_REPORT_S == 5


def test_a_wait_in_pieces_is_logged_like_one(caplog: pytest.LogCaptureFixture) -> None:
    lasted = [0.0, 4.9, 5.0, 9.9, 10.1, 30.0, 39.0, 41.0]
    for before, now in itertools.pairwise(lasted):
        waiting.report(before, now, words, "Somebody has waited")
    assert caplog.messages == [
        f"Somebody has waited for {n} s so far {WORDS}." for n in (5, 10, 30, 41)
    ]


def test_no_call_from_outside_begins_once_the_interpreter_exits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader = threading.Event()
    leaving.enter_from_outside(reader)
    monkeypatch.setattr(leaving, "_exiting", True)
    with pytest.raises(StopIteration, match="interpreter exits"):
        leaving.enter_from_outside(reader)


def test_what_ready_raises_comes_through() -> None:
    def broken(slice_s: float) -> bool:
        raise ClosedError("gone")

    with pytest.raises(ClosedError, match="gone"):
        waiting.wait_until(broken, timeout=None, what=words)


# Timeouts as arguments ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeout", "seconds"), [(0, 0.0), (1.5, 1.5), (np.float32(0.5), 0.5), (math.inf, None)]
)
def test_any_real_number_of_seconds_is_a_timeout(timeout: Any, seconds: float | None) -> None:
    assert check_timeout(timeout) == seconds


@pytest.mark.parametrize("timeout", [-1, -0.001, math.nan, "1", True, [1], 1j, np.array([1.0])])
def test_what_is_no_timeout_is_refused_even_where_nothing_would_wait(
    timeout: Any, manager: ReplayBufferManager
) -> None:
    add(manager, 3)
    with pytest.raises(InvalidArgumentError, match=r"timeout: found .*wanted seconds >= 0"):
        manager.sample(1, timeout=timeout)


# Sampling -----------------------------------------------------------------------------


def test_sampling_from_nothing_says_with_numbers_what_is_missing(
    manager: ReplayBufferManager,
) -> None:
    add(manager, 1)
    with pytest.raises(WaitTimeoutError) as caught:
        manager.sample(7, timeout=0)
    message = str(caught.value)
    assert isinstance(caught.value, ReverieError)
    assert "sample 7 from table 'uniform_table': it holds 0 items" in message
    assert "2 consecutive steps" in message


def test_a_limiter_that_holds_samples_back_says_so(tmp_path: Path) -> None:
    limiter = limiters.SampleToInsertRatio(1.0, 1, 2.0)
    with manager_support.make(tmp_path, limiter=limiter) as manager:
        manager_support.add(manager, 0, 1)
        manager.sample(2)
        with pytest.raises(WaitTimeoutError, match=r"1 inserts and 2 samples.*does not let"):
            manager.sample(1, timeout=0)


def test_a_sampler_wakes_up_when_the_first_window_is_there(
    manager: ReplayBufferManager,
) -> None:
    timer = threading.Timer(0.05, add, (manager, 2))
    timer.start()
    start = time.monotonic()
    data, _ = manager.sample(3, timeout=10)
    assert time.monotonic() - start < 5
    assert data["n"].tolist() == [[0, 1]] * 3
    timer.join()


def test_a_sampler_wakes_up_when_the_buffer_goes(manager: ReplayBufferManager) -> None:
    timer = threading.Timer(0.05, manager.close)
    timer.start()
    with pytest.raises(ClosedError, match="uniform_table"):
        manager.sample(3, timeout=10)
    timer.join()


def test_clear_makes_samplers_wait_again(manager: ReplayBufferManager) -> None:
    add(manager, 5)
    manager.sample(1, timeout=0)
    manager.clear()
    with pytest.raises(WaitTimeoutError):
        manager.sample(1, timeout=0)


INTERRUPTED = """
import sys, threading, time
import numpy as np, reverie
manager = reverie.ReplayBufferManager({"n": np.zeros(2)}, 10, sys.argv[1])
manager.create_replay_buffer()
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print("waiting", flush=True)
try:
    manager.sample(1)
except KeyboardInterrupt:
    print("interrupted", manager.num_frames(), flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for one child process there")
def test_ctrl_c_ends_a_wait(tmp_path: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        assert process.stdout.readline() == "interrupted 0\n"
        assert time.monotonic() - start < 2
        process.kill()
