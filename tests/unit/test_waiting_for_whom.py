"""Who could end a wait: threads that have called, for ever; others, for the patience."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reverie
from reverie import ReplayBufferManager, reverb
from reverie.errors import ClosedError, EndlessWaitError, InvalidArgumentError
from reverie.reverb.engine import registry
from reverie.reverb.errors import UnreachableServerError
from reverie.runtime import company, waiting

pytestmark = pytest.mark.xdist_group("alone")

PATIENCE_S = 0.3


@pytest.fixture(autouse=True)
def impatient() -> Iterator[None]:
    reverie.set_patience(PATIENCE_S)
    yield
    reverie.set_patience(60)


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[ReplayBufferManager]:
    with ReplayBufferManager({"n": np.zeros((), np.int64)}, 10, tmp_path, 1) as manager:
        manager.create_replay_buffer()
        yield manager


@pytest.fixture
def start() -> Iterator[Callable[..., threading.Event]]:
    """Starts a thread; returns what ends those that wait for it."""
    done = threading.Event()
    threads: list[threading.Thread] = []

    def begin(work: Callable[[threading.Event], Any], name: str = "actor") -> threading.Event:
        threads.append(threading.Thread(target=work, args=(done,), name=name, daemon=True))
        threads[-1].start()
        return done

    yield begin
    done.set()
    for thread in threads:
        thread.join()


def test_a_thread_that_never_called_is_waited_for_patiently_then_named(
    manager: ReplayBufferManager, start: Any
) -> None:
    start(lambda done: done.wait(), "tqdm_monitor")
    begin = time.monotonic()
    with pytest.raises(EndlessWaitError, match=r"0\.3 s nothing has moved.*'tqdm_monitor'"):
        manager.sample(1)
    assert PATIENCE_S <= time.monotonic() - begin < PATIENCE_S + 2


@pytest.mark.parametrize("call", ["observer", "new_observer", "sample", "info"])
def test_a_thread_that_has_called_is_waited_for_without_limit(
    manager: ReplayBufferManager, start: Any, call: str
) -> None:
    _, observer = manager.get_replay_buffer_and_observer()

    def act(done: threading.Event) -> None:
        if call == "observer":
            observer({"n": 0})
            manager.clear()
        elif call == "new_observer":
            manager.new_observer()
        elif call == "sample":
            with pytest.raises(TimeoutError):
                manager.sample(1, timeout=0)
        else:
            manager.info()
        called.set()
        done.wait(PATIENCE_S * 4)
        observer({"n": 7})

    called = threading.Event()
    start(act)
    called.wait()
    assert manager.sample(1)[0]["n"].tolist() == [[7]]


def test_a_thread_that_has_ended_is_not_waited_for_though_its_number_is_used_again(
    manager: ReplayBufferManager, start: Any
) -> None:
    thread = threading.Thread(target=manager.info)
    thread.start()
    thread.join()
    start(lambda done: done.wait(), "logger")  # often with the same ident
    with pytest.raises(EndlessWaitError, match="'logger'"):
        manager.sample(1)


def test_threads_that_wait_for_each_other_end(tmp_path: Path, start: Any) -> None:
    managers = []
    for name in "ab":
        managers.append(ReplayBufferManager({"n": np.zeros(())}, 10, tmp_path / name, 1))
        managers[-1].create_replay_buffer()
    ended = threading.Event()

    def wait(done: threading.Event) -> None:
        with pytest.raises((EndlessWaitError, ClosedError)):
            managers[1].sample(1)
        ended.set()

    start(wait)
    # Who is first told so may act, and is waited for again, until it waits once more.
    for _ in range(20):
        with pytest.raises(EndlessWaitError):
            managers[0].sample(1)
        if found := ended.wait(PATIENCE_S / 3):
            break
    for manager in managers:
        manager.close()
    assert found


def test_the_patience_begins_anew_when_something_moves(start: Any) -> None:
    start(lambda done: done.wait())
    begin, moves = time.monotonic(), [0]

    def ready(slice_s: float) -> bool:
        time.sleep(0.01)
        return time.monotonic() - begin > PATIENCE_S * 4

    def progress() -> int:
        moves[0] += 1
        return moves[0]

    waiting.wait_until(ready, timeout=None, what=lambda: "", progress=progress)
    begin = time.monotonic()
    with pytest.raises(EndlessWaitError):
        waiting.wait_until(ready, timeout=None, what=lambda: "")


def test_while_a_dataset_is_read_its_readers_are_waited_for(start: Any) -> None:
    reader = threading.Event()  # anything that lives as long as it is read
    company.read_from_outside(reader)
    begin = time.monotonic()
    waiting.wait_until(
        lambda s: not time.sleep(0.01) and time.monotonic() - begin > PATIENCE_S * 2,
        timeout=None,
        what=lambda: "",
    )
    del reader
    with pytest.raises(EndlessWaitError, match="only thread"):
        waiting.wait_until(lambda s: False, timeout=None, what=lambda: "for tea")


def test_a_full_queue_waits_for_who_has_sampled(start: Any) -> None:
    server = reverb.Server([reverb.Table.queue("q", 1)])
    client = server.localhost_client()
    client.insert(1.0, {"q": 1.0})

    def learn(done: threading.Event) -> None:
        list(client.sample("q", 1))
        ready.set()
        done.wait(PATIENCE_S * 3)
        list(client.sample("q", 1))

    ready = threading.Event()
    start(learn)
    ready.wait()
    client.insert(2.0, {"q": 1.0})
    client.insert(3.0, {"q": 1.0})
    server.stop()


@pytest.mark.parametrize("seconds", [-1, math.nan, "1", True, None])
def test_what_is_no_patience_is_refused(seconds: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="patience"):
        reverie.set_patience(seconds)


# Clients before servers ----------------------------------------------------------------

CALLS: dict[str, Callable[[reverb.Client], Any]] = {
    "server_info": lambda client: client.server_info(),
    "server_info with 0": lambda client: client.server_info(0),
    "insert": lambda client: client.insert(1.0, {"t": 1.0}),
    "trajectory_writer": lambda client: client.trajectory_writer(1),
    "writer": lambda client: client.writer(1).close(),
    "mutate_priorities": lambda client: client.mutate_priorities("t", {}),
    "reset": lambda client: client.reset("t"),
    "sample": lambda client: next(client.sample("t", 1)),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_client_waits_for_the_server_that_another_thread_makes(call: str, start: Any) -> None:
    port, kept = registry.unused_port(), []
    reverie.set_patience(60)  # on a loaded machine the other thread may be late

    def serve(done: threading.Event) -> None:
        done.wait(0.15)
        kept.append(reverb.Server([reverb.Table.queue("t", 5)], port))
        kept[0].localhost_client().insert(1.0, {"t": 1.0})

    start(serve)
    CALLS[call](reverb.Client(f"localhost:{port}"))
    kept[0].stop()


def test_a_client_that_nobody_could_serve_is_refused(start: Any) -> None:
    client = reverb.Client(f"localhost:{registry.unused_port()}")
    begin = time.monotonic()
    with pytest.raises(UnreachableServerError, match="only thread"):
        client.server_info()
    assert time.monotonic() - begin < PATIENCE_S
    start(lambda done: done.wait(), "logger")
    with pytest.raises(UnreachableServerError, match="'logger'"):
        client.server_info()


def test_a_server_that_was_stopped_is_not_waited_for(start: Any) -> None:
    server = reverb.Server([reverb.Table.queue("t", 5)])
    client = server.localhost_client()
    server.stop()
    start(lambda done: (client, registry.served_ports(), company.met(), done.wait()))
    begin = time.monotonic()
    with pytest.raises(UnreachableServerError):
        client.server_info()
    assert time.monotonic() - begin < PATIENCE_S


def test_a_number_that_is_handed_out_anew_counts_as_new(
    monkeypatch: pytest.MonkeyPatch, start: Any
) -> None:
    """As a process of many servers meets it: the system gives old numbers again."""
    server = reverb.Server([reverb.Table.queue("t", 5)])
    port = server.port
    server.stop()
    assert not registry.may_come(port)
    monkeypatch.setattr(registry, "_candidates", lambda: iter([port]))
    test_a_client_waits_for_the_server_that_another_thread_makes("reset", start)
