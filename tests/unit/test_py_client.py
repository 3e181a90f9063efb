"""The client of a replay buffer: Reverb's whole client, on the manager's own table."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.manager_support import add, contents, make

import reverie
from reverie import ReplayBufferManager, reverb
from reverie.errors import ClosedError, EndlessWaitError, UnstackableError
from reverie.observers import TrajectoryObserver
from reverie.reverb.engine import registry
from reverie.reverb.errors import UnreachableServerError

TABLE = "uniform_table"


@pytest.fixture
def manager(tmp_path: Path) -> ReplayBufferManager:
    manager = make(tmp_path)
    add(manager, 0, 1, 2, 3)
    return manager


def step(n: int) -> dict[str, Any]:
    return {"n": np.int64(n), "x": np.full(2, n, np.float32)}


def write_window(client: Any) -> None:
    with client.trajectory_writer(2) as writer:
        for n in (10, 11):
            writer.append(step(n))
        window = {name: column[-2:] for name, column in writer.history.items()}
        writer.create_item(TABLE, 1.0, window)


def write_legacy(client: Any) -> None:
    with client.writer(2) as writer:
        for n in (10, 11):
            writer.append(step(n))
        writer.create_item(TABLE, 2, 1.0)


def write_by_pattern(client: Any) -> None:
    pytest.importorskip("google.protobuf")
    pattern = reverb.structured_writer.pattern_from_transform(
        step(0), lambda ref: {"n": ref["n"][-2:], "x": ref["x"][-2:]}
    )
    config = reverb.structured_writer.create_config(pattern, TABLE)
    writer = client.structured_writer([config])
    for n in (10, 11):
        writer.append(step(n))
    writer.flush()


# Every method of Reverb's client, and what shows that it did its work.
CALLS: dict[str, Callable[[Any], Any]] = {
    "checkpoint": lambda client: client.checkpoint(),
    "insert": lambda client: client.insert(step(9), {TABLE: 1.0}),
    "mutate_priorities": lambda client: client.mutate_priorities(TABLE, {1: 1.0}),
    "reset": lambda client: client.reset(TABLE),
    "sample": lambda client: list(client.sample(TABLE)),
    "server_info": lambda client: client.server_info(),
    "structured_writer": write_by_pattern,
    "trajectory_writer": write_window,
    "writer": write_legacy,
}


def test_it_is_reverbs_client_and_every_call_of_that_is_tried_here(
    manager: ReplayBufferManager,
) -> None:
    assert isinstance(manager.replay_buffer.py_client, reverb.Client)
    public = {name for name in dir(reverb.Client) if not name.startswith("_")}
    assert public == {*CALLS, "server_address"}


@pytest.mark.parametrize("write", [write_window, write_legacy, write_by_pattern])
def test_what_its_writers_write_is_an_item_of_the_manager(
    write: Callable[[Any], None], manager: ReplayBufferManager, tmp_path: Path
) -> None:
    write(manager.replay_buffer.py_client)
    wanted = [[0, 1], [1, 2], [2, 3], [10, 11]]
    assert [numbers for _, numbers in contents(manager)] == wanted
    assert manager.gather_all()["n"].tolist() == wanted
    seen = {tuple(row) for row in manager.sample(200)[0]["n"].tolist()}
    assert seen == set(map(tuple, wanted))
    manager.save_checkpoint()
    manager.load_checkpoint()
    assert [numbers for _, numbers in contents(manager)] == wanted
    assert reverie.open(tmp_path).gather_all()["n"].tolist() == wanted


def test_an_item_of_another_length_is_an_item_but_not_of_a_batch(
    manager: ReplayBufferManager,
) -> None:
    manager.replay_buffer.py_client.insert(step(9), {TABLE: 1.0})
    assert contents(manager)[-1][1] == [9]
    with pytest.raises(UnstackableError, match=r"has 1 steps .*wanted 2 steps"):
        manager.sample(500)


def test_an_item_has_one_key_whoever_tells_it(manager: ReplayBufferManager) -> None:
    client = manager.replay_buffer.py_client
    keys = [key for key, _ in contents(manager)]
    told = {sample.info.key for _ in range(50) for (sample, _) in client.sample(TABLE)}
    assert told == set(keys) == {int(key) for key in manager.sample(100)[1].key}
    elsewhere = reverb.Client(client.server_address)
    assert client.mutate_priorities(TABLE, {keys[0]: 5.0}) == 0
    assert elsewhere.mutate_priorities(TABLE, deletes=[keys[1]]) == 0
    left = manager.replay_buffer.item_info()
    assert (left["key"].tolist(), left["priority"].tolist()) == ([keys[0], keys[2]], [5.0, 1.0])


def test_a_reset_is_the_managers_clear(manager: ReplayBufferManager) -> None:
    manager.replay_buffer.py_client.reset(TABLE)
    add(manager, 4, 5)
    assert [numbers for _, numbers in contents(manager)] == [[4, 5]]
    info = manager.info()
    assert (info.inserts, info.inserts_per_second > 0) == (1, True)


def test_rates_count_from_the_load_until_the_buffer_is_cleared(
    manager: ReplayBufferManager,
) -> None:
    manager.save()
    manager.load_replay_buffer()
    assert (manager.info().inserts, manager.info().inserts_per_second) == (3, 0.0)
    manager.clear()
    add(manager, 0, 1)
    assert manager.info().inserts_per_second > 0


def test_other_clients_find_the_buffer_under_its_address(manager: ReplayBufferManager) -> None:
    before = registry.served_ports()
    client = manager.replay_buffer.py_client
    assert client.server_info(timeout=1)[TABLE].current_size == 3  # by itself it needs no port
    assert registry.served_ports() == before
    address = client.server_address
    assert address == f"localhost:{manager.server.port}" == client.server_address
    assert registry.served_ports() == sorted([*before, manager.server.port])
    for other in (reverb.Client(address), manager.server.localhost_client()):
        assert other.server_info()[TABLE].current_size == 3
        TrajectoryObserver(other, TABLE, 2)
    manager.close()
    assert registry.served_ports() == before
    with pytest.raises(UnreachableServerError):
        reverb.Client(address).server_info()


@pytest.mark.parametrize("end", ["close", "create_replay_buffer"])
@pytest.mark.parametrize("call", CALLS)
def test_after_the_buffers_end_every_call_says_so(
    call: str, end: str, manager: ReplayBufferManager
) -> None:
    client = manager.replay_buffer.py_client
    getattr(manager, end)()
    with pytest.raises(ClosedError, match=r"Table 'uniform_table' is closed\. Create or load"):
        CALLS[call](client)


def test_a_writer_that_was_made_before_the_end_says_so(manager: ReplayBufferManager) -> None:
    writer = manager.replay_buffer.py_client.trajectory_writer(2)
    writer.append(step(0))
    manager.close()
    with pytest.raises(ClosedError, match="Table 'uniform_table' is closed"):
        writer.append(step(1))


def test_stopping_the_server_closes_the_buffer_and_the_manager_goes_on(
    manager: ReplayBufferManager,
) -> None:
    server = manager.server
    server.stop()
    server.stop()
    server.wait()
    with pytest.raises(ClosedError):
        manager.sample(1)
    manager.create_replay_buffer()
    add(manager, 0, 1)
    assert manager.num_frames() == 1
    assert manager.server is not server
    with pytest.raises(EndlessWaitError, match="for this replay buffer to be stopped"):
        manager.server.wait()


def test_a_client_keeps_its_buffer_and_nothing_keeps_the_client(tmp_path: Path) -> None:
    manager = make(tmp_path)
    add(manager, 0, 1, 2, 3)
    client = manager.replay_buffer.py_client
    address = client.server_address
    del manager
    assert client.server_info()[TABLE].current_size == 3
    assert reverb.Client(address).server_info()[TABLE].current_size == 3
    store = weakref.ref(client._client.server.store)
    gc.disable()  # by references alone: it may be gigabytes
    try:
        del client
        assert store() is None
    finally:
        gc.enable()
    with pytest.raises(UnreachableServerError):
        reverb.Client(address).server_info()


def test_a_buffer_that_was_opened_has_the_client_too(
    manager: ReplayBufferManager, tmp_path: Path
) -> None:
    manager.save()
    manager.close()
    with_client = reverie.open(tmp_path)
    write_window(with_client.py_client)
    assert with_client.gather_all()["n"].tolist() == [[0, 1], [1, 2], [2, 3], [10, 11]]
    with pytest.raises(reverie.ReverieError, match="the tables of this replay buffer: 'uni"):
        list(with_client.py_client.sample("other"))
