"""The tables of a stopped server, served by another one with their items, as notebooks do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reverie import reverb
from reverie.errors import EndlessWaitError, InvalidArgumentError
from reverie.observers import TrajectoryObserver
from reverie.reverb.errors import UnreachableServerError


def table(name: str = "t", limiter: Any = None, max_size: int = 100) -> reverb.Table:
    return reverb.Table(
        name,
        reverb.selectors.Fifo(),
        reverb.selectors.Fifo(),
        max_size,
        limiter or reverb.rate_limiters.MinSize(1),
    )


def insert(server: reverb.Server, numbers: Any, *names: str) -> None:
    for n in numbers:
        server.localhost_client().insert(
            {"x": np.int64(n)}, dict.fromkeys(names or ("t",), 1.0)
        )


def contents(server: reverb.Server, name: str = "t") -> list[int]:
    internal = server._server.table(name)
    keys = internal.core.items()["key"].tolist()
    return [int(np.ravel(internal.core.item(key)[0])[0]) for key in keys]


@pytest.fixture
def own() -> reverb.Table:
    return table()


@pytest.fixture
def first(own: reverb.Table) -> Iterator[reverb.Server]:
    server = reverb.Server([own])
    insert(server, range(5))
    yield server
    server.stop()


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("same_port", [True, False])
def test_it_comes_with_its_items_and_counters_and_takes_more(
    times: int, same_port: bool, own: reverb.Table, first: reverb.Server
) -> None:
    server = first
    for n in range(times):
        port = server.port if same_port else None
        server.stop()
        server = reverb.Server([own], port=port)
        insert(server, [10 + n])
    assert contents(server) == [*range(5), *range(10, 10 + times)]
    info = server.localhost_client().server_info()["t"]
    assert info.current_size == 5 + times
    assert info.rate_limiter_info.insert_stats.completed == 5 + times
    (sample,) = server.localhost_client().sample("t", emit_timesteps=False)
    assert int(sample.data[0][0]) == 0
    server.stop()


def test_nothing_of_the_stopped_server_goes_on_in_the_new_one(
    own: reverb.Table, first: reverb.Server
) -> None:
    client = first.localhost_client()
    writer = client.trajectory_writer(2)
    writer.append({"x": np.int64(7)})
    legacy = client.writer(2)
    legacy.append({"x": np.int64(7)})
    observer = TrajectoryObserver(client, "t", 1)
    observer({"x": np.int64(8)})
    stream = client.sample("t", 100)
    next(stream)
    first.stop()
    second = reverb.Server([own])
    words = f"The server on port {first.port} was stopped"
    calls = [
        lambda: writer.append({"x": np.int64(7)}),
        lambda: writer.create_item("t", 1.0, {"x": writer.history["x"][-1:]}),
        lambda: legacy.append({"x": np.int64(7)}),
        lambda: observer({"x": np.int64(8)}),
        lambda: observer.flush(),
        lambda: next(stream),
    ]
    for call in calls:
        with pytest.raises(UnreachableServerError, match=words):
            call()
    assert contents(second) == [*range(5), 8]
    second.stop()


def test_what_waited_at_the_stopped_server_was_dropped_there() -> None:
    queue = reverb.Table.queue("q", 2)
    first = reverb.Server([queue])
    insert(first, [0, 1], "q")
    writer = first.localhost_client().trajectory_writer(1)
    writer.append({"x": np.int64(2)})
    writer.create_item("q", 1.0, {"x": writer.history["x"][-1:]})
    first.stop()
    second = reverb.Server([queue])
    assert len(list(second.localhost_client().sample("q", 2))) == 2
    assert contents(second, "q") == []
    with pytest.raises(UnreachableServerError, match="was stopped"):
        writer.flush()
    with pytest.raises(EndlessWaitError):
        list(second.localhost_client().sample("q", 1))
    second.stop()


def test_other_tables_may_come_beside_them(own: reverb.Table, first: reverb.Server) -> None:
    first.stop()
    second = reverb.Server([table("new"), own])
    insert(second, [5], "t", "new")
    assert (contents(second), contents(second, "new")) == ([*range(5), 5], [5])
    second.stop()


def test_tables_that_share_steps_are_served_together() -> None:
    pair = [table("a"), table("b")]
    first = reverb.Server(pair)
    insert(first, range(3), "a", "b")
    first.stop()
    for some in ([pair[0]], [pair[0], pair[1].replace()]):
        with pytest.raises(InvalidArgumentError, match=r"\['a'\].*\['b'\] as well.*replace"):
            reverb.Server(some)
    second = reverb.Server(pair[::-1])
    assert (contents(second, "a"), contents(second, "b")) == ([0, 1, 2], [0, 1, 2])
    second.stop()


def test_tables_of_two_stopped_servers_are_not_joined(
    own: reverb.Table, first: reverb.Server
) -> None:
    other = table("other")
    reverb.Server([other]).stop()
    first.stop()
    for tables in ([own, other], [other, own]):
        with pytest.raises(InvalidArgumentError, match=r"had it, and was stopped.*replace"):
            reverb.Server(tables)
    second = reverb.Server([own])
    assert contents(second) == [*range(5)]
    second.stop()


def test_a_server_that_could_not_be_made_leaves_them_as_they_were(
    own: reverb.Table, first: reverb.Server
) -> None:
    first.stop()
    running = reverb.Server([table("x")])
    with pytest.raises(InvalidArgumentError, match="is on it already"):
        reverb.Server([own, table("beside")], port=running.port)
    assert "closed" in own.internal_table.describe()
    second = reverb.Server([own])
    insert(second, [5])
    assert contents(second) == [*range(6)]
    second.stop()
    running.stop()


def test_a_checkpoint_does_not_take_the_place_of_their_items(tmp_path: Path) -> None:
    checkpointer = reverb.checkpointers.DefaultCheckpointer(str(tmp_path))
    own = table()
    first = reverb.Server([own], checkpointer=checkpointer)
    insert(first, range(3))
    first.stop()
    second = reverb.Server([own], checkpointer=checkpointer)  # which holds none yet
    insert(second, [3])
    second.localhost_client().checkpoint()
    insert(second, [4])
    second.stop()
    with pytest.raises(InvalidArgumentError, match=r"holds a checkpoint.*replace"):
        reverb.Server([own], checkpointer=checkpointer)
    third = reverb.Server([own])
    assert contents(third) == [*range(5)]
    third.stop()
    loaded = reverb.Server([own.replace()], checkpointer=checkpointer)
    assert contents(loaded) == [*range(4)]
    loaded.stop()


def test_of_several_threads_one_serves_them(own: reverb.Table, first: reverb.Server) -> None:
    first.stop()
    made: list[reverb.Server] = []
    refused: list[Exception] = []
    barrier = threading.Barrier(4)

    def serve() -> None:
        barrier.wait()
        try:
            made.append(reverb.Server([own]))
        except InvalidArgumentError as error:
            refused.append(error)

    threads = [threading.Thread(target=serve) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(made), len(refused)) == (1, 3)
    insert(made[0], [5])
    assert contents(made[0]) == [*range(6)]
    made[0].stop()
