"""What nobody holds any more is freed by counting references alone."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.manager_support import add, make

import reverie
from reverie import reverb
from reverie.errors import InvalidArgumentError
from reverie.observers import TrajectoryObserver
from reverie.samplers import Prioritized
from reverie.tables.store import Store


def managed(folder: Path) -> Store:
    manager = make(folder, sampler=Prioritized())
    add(manager, 1, 2, 3)
    manager.save()
    with pytest.raises(InvalidArgumentError):
        manager.sample(1, 7)
    manager.update_priorities(manager.sample(2)[1].key, 2.0)
    return manager.create_replay_buffer()[0].table.store


def opened(folder: Path) -> Store:
    with make(folder) as manager:
        add(manager, 1, 2, 3)
        manager.save()
    buffer = reverie.open(folder)
    TrajectoryObserver(buffer.py_client, buffer.table_name, 2)({"n": 4, "x": np.zeros(2)})
    buffer.sample(2)
    assert len(list(buffer.iter_items())) == 2
    return buffer.table.store


def served(folder: Path) -> Store:
    server = reverb.Server([reverb.Table.queue("queue", 3)])
    client = server.localhost_client()
    client.insert([np.zeros(2)], {"queue": 1.0})
    TrajectoryObserver(client, "queue", 1)({"n": 4})
    assert len(list(client.sample("queue", 1))) == 1
    (table,) = server._server.tables.values()
    return table.store


@pytest.mark.parametrize("make_one", [managed, opened, served])
@pytest.mark.filterwarnings("ignore:.*holds checkpoints")
def test_what_nobody_holds_is_freed_at_once(
    make_one: Callable[[Path], Store], tmp_path: Path
) -> None:
    gc.disable()  # a cycle would keep gigabytes until the collector comes by
    try:
        store = weakref.ref(make_one(tmp_path))
        assert store() is None
    finally:
        gc.enable()


def test_the_check_sees_a_planted_cycle() -> None:
    gc.disable()
    try:
        store = Store("The planted store")
        store.settings.append(store)  # type: ignore[arg-type]
        alive = weakref.ref(store)
        del store
        assert alive() is not None
        alive().settings.clear()  # type: ignore[union-attr]
        assert alive() is None
    finally:
        gc.enable()
