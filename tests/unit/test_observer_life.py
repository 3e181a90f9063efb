"""Observers on tables of a server: waits for the limiter, ends, forks."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from tests.observer_support import EVERY, SINGLE, Served, tell, trajectory

from reverie import reverb
from reverie.errors import ClosedError, EndlessWaitError, WaitTimeoutError
from reverie.observers import (
    EpisodeObserver,
    ParallelObserver,
    TrajectoryObserver,
)
from reverie.reverb.errors import UnreachableServerError

# Limiters -------------------------------------------------------------------------


def limited() -> Served:
    """A table that takes one item, then one for each sample."""
    return Served(limiter=reverb.rate_limiters.Queue(1))


@pytest.mark.parametrize("make", EVERY)
def test_items_wait_for_the_limiter_and_go_in_by_themselves(make: Any) -> None:
    served = limited()
    observer = make(served.client, "queue")
    step, threads = 0, []
    while observer._writer is None or observer._writer.pending < 2:
        last = isinstance(observer, EpisodeObserver)
        if last and step:  # two of three calls wait, so from another thread
            thread = threading.Thread(target=tell, args=(observer, step, True))
            thread.start()
            threads.append(thread)
            time.sleep(0.05)
        else:
            tell(observer, step, last)
        step += 1
    with pytest.raises(
        WaitTimeoutError, match=r"2 items that may not be inserted yet.*'queue'"
    ):
        observer.flush(timeout=0.01)
    assert len(served.items()) == 1
    assert len(served.items()) == 1
    observer.flush()
    assert len(served.items()) == 1
    for thread in threads:
        thread.join(5)


@pytest.mark.parametrize("how", ["boundary", "reset", "flush"])
@pytest.mark.parametrize("parallel", [False, True])
def test_the_end_of_an_episode_waits_for_its_items(how: str, parallel: bool) -> None:
    served = limited()
    observer: Any = TrajectoryObserver(served.client, "queue", 1)
    if parallel:
        observer = ParallelObserver(served.client, "queue", 1, num_envs=1)
    tell(observer, 0)
    tell(observer, 1)
    done = threading.Event()

    def end() -> None:
        if how == "boundary":
            tell(observer, 2, last=True)
        else:
            getattr(observer, how)()
        done.set()

    thread = threading.Thread(target=end)
    thread.start()
    assert not done.wait(0.2)
    waited = [served.numbers()[0][0]]
    if how == "boundary":
        assert not done.wait(0.2)
        waited.append(served.numbers()[0][0])
    thread.join(5)
    assert done.is_set()
    assert waited == [0, 1][: len(waited)]


@pytest.mark.parametrize("make", [SINGLE[0], SINGLE[2], EVERY[3]])
def test_a_wait_that_nobody_can_end_is_refused_and_loses_nothing(make: Any) -> None:
    served = limited()
    observer = make(served.client, "queue")
    for n in range(2):
        tell(observer, n, last=n == 1)
    tell(observer, 2)
    with pytest.raises(EndlessWaitError, match="go in by themselves as soon as samples"):
        tell(observer, 3, last=True)
    assert served.numbers() == [[0, 1]]
    assert served.numbers() == [[2, 3]]
    tell(observer, 4)


def test_closing_does_not_wait_and_loses_no_item() -> None:
    served = limited()
    observer = TrajectoryObserver(served.client, "queue", 1)
    observer(trajectory(0))
    observer(trajectory(1))
    observer.close()
    del observer
    gc.collect()
    assert served.numbers() + served.numbers() == [[0], [1]]


def test_a_server_that_stops_ends_the_wait() -> None:
    served = limited()
    observer = TrajectoryObserver(served.client, "queue", 1)
    observer(trajectory(0))
    observer(trajectory(1))
    errors: list[Exception] = []

    def wait() -> None:
        try:
            observer.flush()
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.05)
    served.server.stop()
    thread.join(5)
    assert [type(error) for error in errors] == [UnreachableServerError]


def test_threads_that_bring_the_first_step_at_once_share_one_stream() -> None:
    for _ in range(20):
        served = Served()
        observer = TrajectoryObserver(served.client, "queue", 1)
        barrier = threading.Barrier(4)

        def bring(n: int, observer: Any = observer, barrier: Any = barrier) -> None:
            barrier.wait()
            observer(trajectory(n))

        threads = [threading.Thread(target=bring, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert observer._cached_steps == 4
        assert sorted(served.numbers()) == [[0], [1], [2], [3]]


# Open and closed ------------------------------------------------------------------


@pytest.mark.parametrize("make", EVERY)
def test_a_closed_observer_says_so_and_works_again_after_open_or_reset(make: Any) -> None:
    served = Served()
    observer = make(served.client, "queue")
    for reopen in (observer.open, observer.reset):
        tell(observer, 0)
        observer.close()
        observer.close()
        assert "closed" in repr(observer)
        for call in (lambda: tell(observer, 1), observer.flush):
            with pytest.raises(ClosedError, match=r"could not obtain a writer.*open\(\)"):
                call()
        reopen()
        tell(observer, 1)
        tell(observer, 2, last=True)
        assert served.numbers() == [[1, 2]]
        observer.reset(False)


@pytest.mark.parametrize("make", EVERY)
def test_once_its_server_has_stopped_an_observer_says_so(make: Any) -> None:
    served = Served()
    observer = make(served.client, "queue")
    tell(observer, 0)
    served.server.stop()
    for call in (lambda: tell(observer, 1), observer.flush, observer.reset):
        with pytest.raises(UnreachableServerError, match="was stopped"):
            call()
    observer.close()
    with pytest.raises(UnreachableServerError):
        observer.open()
    with pytest.raises(UnreachableServerError, match="No server of this process"):
        make(served.client, "queue")


FORKED = """
import os, sys
import numpy as np
import reverie
from reverie import reverb
from reverie.errors import ForkedProcessError

server = reverb.Server([reverb.Table.queue("queue", 9)])
client = reverb.Client(f"localhost:{server.port}")
observer = reverie.observers.TrajectoryObserver(client, "queue", 1)
observer({"n": np.int64(1)})
child = os.fork()
if child == 0:
    try:
        observer({"n": np.int64(2)})
    except ForkedProcessError:
        observer.close()
        del observer
        os._exit(0)
    os._exit(1)
_, status = os.waitpid(child, 0)
observer({"n": np.int64(2)})
assert server.localhost_client().server_info()["queue"].current_size == 2
sys.exit(status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_is_refused_and_leaves_the_parent_alone() -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED]
    assert subprocess.run(command, timeout=60).returncode == 0
