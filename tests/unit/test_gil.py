"""Short calls keep the GIL: beside a busy thread, getting it back costs 5 ms a time.

Nothing is timed. The busy thread counts, and is asked to hand the GIL over once in two
seconds only; so a call during which it counted has let the GIL go.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import reverie
from reverie import _core, reverb
from reverie.observers import ParallelObserver
from reverie.tables.settings import TableSettings
from reverie.tables.store import core_table

ROWS = 300
STEP = {"o": np.zeros(17, np.float32), "a": np.zeros(6, np.float32), "r": np.float32(1)}


class Busy:
    """A thread that only counts, and wants the GIL all the time."""

    count = 0
    _stop = False

    def __enter__(self) -> Busy:
        self._before = sys.getswitchinterval()
        sys.setswitchinterval(2.0)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        end = time.perf_counter() + 0.05
        while time.perf_counter() < end:
            pass  # with the GIL in hand, until the thread wants it
        return self

    def __exit__(self, *error: object) -> None:
        self._stop = True
        sys.setswitchinterval(self._before)
        self._thread.join()

    def _run(self) -> None:
        time.sleep(0.01)  # what it waits for from here on, it waits for two seconds
        while not self._stop:
            self.count += 1


def lets_go(call: Callable[[], Any]) -> bool:
    """Whether the call drops the GIL."""
    call()  # what a first call does is not meant
    with Busy() as busy:
        before = busy.count
        call()
        return busy.count != before


def keeps(call: Callable[[], Any]) -> bool:
    """Whether the call keeps it, but where the store's own thread is in the way just then."""
    return not all(lets_go(call) for _ in range(3))


@pytest.fixture
def calls(tmp_path: Any) -> Iterator[dict[str, Callable[[], Any]]]:
    spec = {
        "o": reverie.ArraySpec((17,), np.float32),
        "a": reverie.ArraySpec((6,), np.float32),
        "r": reverie.ArraySpec((), np.float32),
    }
    manager = reverie.ReplayBufferManager(spec, 1000, tmp_path, 2)
    _, observer = manager.create_replay_buffer()
    for _ in range(ROWS):
        observer(STEP, last=False)
    table = reverb.Table(
        "t",
        reverb.selectors.Prioritized(1.0),
        reverb.selectors.Fifo(),
        1000,
        reverb.rate_limiters.MinSize(1),
    )
    server = reverb.Server([table], port=None)
    client = server.localhost_client()
    writer = client.trajectory_writer(4)

    def create_item() -> None:
        writer.append(STEP)
        writer.create_item("t", 1.0, {"o": writer.history["o"][-1:]})

    for _ in range(ROWS):
        create_item()
    writer.flush()
    keys = {
        int(sample.info.key): 2.0 for sample in client.sample("t", 64, emit_timesteps=False)
    }

    def reset() -> None:
        observer(STEP, last=False)
        observer.reset(write_cached_steps=False)

    yield {
        "sample": lambda: manager.sample(256),
        "sample one": lambda: manager.sample(1),
        "append": lambda: observer(STEP, last=False),
        "reset": reset,
        "num_frames": manager.num_frames,
        "info": manager.info,
        "iter_items": lambda: next(iter(manager.iter_items())),
        "gather_all": manager.gather_all,
        "mutate_priorities": lambda: client.mutate_priorities("t", keys),
        "create_item": create_item,
        "end_episode": lambda: writer.end_episode(clear_buffers=False),
        "Client.sample": lambda: list(client.sample("t", 64, emit_timesteps=False)),
    }
    manager.close()
    server.stop()


def test_short_calls_keep_the_gil(calls: dict[str, Callable[[], Any]]) -> None:
    assert [name for name, call in calls.items() if not keeps(call)] == []


def test_a_large_batch_of_environments_keeps_it(tmp_path: Any) -> None:
    """24 KB a call, which is copied in some 20 us."""
    manager = reverie.ReplayBufferManager(
        {"o": reverie.ArraySpec((24,), np.float32)}, 1000, tmp_path, 2
    )
    buffer, _ = manager.create_replay_buffer()
    observer = ParallelObserver(buffer.py_client, "uniform_table", 2, num_envs=256)
    step = {"o": np.zeros((256, 24), np.float32)}
    assert keeps(lambda: observer(step, last=np.zeros(256, np.bool_)))
    manager.close()


def test_what_drops_the_gil_is_noticed() -> None:
    assert not keeps(lambda: time.sleep(0.05))


def test_a_long_batch_lets_it_go(tmp_path: Any) -> None:
    """64 MB take longer than anybody should wait for the GIL."""
    manager = reverie.ReplayBufferManager(
        {"o": reverie.ArraySpec((1 << 18,), np.float32)}, 10, tmp_path, 1
    )
    _, observer = manager.create_replay_buffer()
    observer({"o": np.zeros(1 << 18, np.float32)}, last=True)
    # The busy thread may need a while to be awake, longer than one batch takes.
    assert any(lets_go(lambda: manager.sample(64)) for _ in range(50))
    manager.close()


def test_what_is_read_of_a_large_table_lets_it_go() -> None:
    """16 MB of new memory, for a table that is then refused and never filled."""
    store = _core.Store()
    table = core_table(store, TableSettings(name="t", max_size=10), 1)
    names = ("key", "chunk", "free_keys", "rng_state")
    state: dict[str, Any] = dict.fromkeys(names, np.zeros(1 << 21, np.uint64))
    state |= dict.fromkeys(("offset", "length"), np.zeros(0, np.uint32))
    state |= {"priority": np.zeros(0), "times_sampled": np.zeros(0, np.int32)}

    def refused() -> None:
        with pytest.raises(ValueError, match="differ in length"):
            table.restore(state)

    assert any(lets_go(refused) for _ in range(50))
