"""Priorities: which selectors read them, and that an update which nobody reads is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from tests.manager_support import SPEC, add, contents, make

import reverie
from reverie import ReplayBufferManager, _core, removers, reverb, samplers
from reverie.errors import ClosedError, InvalidArgumentError, NotInitializedError
from reverie.tables.selectors import ItemSelector, SelectorKind

EVERY: dict[str, ItemSelector] = {
    "uniform": samplers.Uniform(),
    "fifo": samplers.Fifo(),
    "lifo": samplers.Lifo(),
    "prioritized": samplers.Prioritized(0.6),
    "min_heap": samplers.MinHeap(),
    "max_heap": samplers.MaxHeap(),
    "reservoir": removers.Reservoir(),
}
SAMPLERS = [kind for kind, selector in EVERY.items() if not selector.removes_alone]
IN_ROLES = [*((kind, "sampler") for kind in SAMPLERS), *((kind, "remover") for kind in EVERY)]
READ = r"found the sampler \w+ and the remover \w+, wanted one of the two to read priorities"
SOME_KEYS = [[], [5], [5, 5], "ab", [-1], None]  # keys, right and wrong


def core_of(manager: ReplayBufferManager) -> _core.Table:
    return manager.get_replay_buffer_and_observer()[0].table.core


def keys_of(manager: ReplayBufferManager) -> list[int]:
    return [key for key, _ in contents(manager)]


def chosen(folder: Path, priorities: list[float], **settings: Any) -> Any:
    """What is drawn of five items of these priorities, and what makes room for a sixth."""
    with make(folder, seed=1, sequence_length=1, capacity=5, **settings) as manager:
        add(manager, *range(5))
        core_of(manager).update_priorities(
            np.array(keys_of(manager), np.uint64), np.array(priorities)
        )
        drawn = manager.sample(50)[0]["n"].tolist()
        add(manager, 5)
        return drawn, contents(manager)


def test_every_kind_of_selector_is_tried_here() -> None:
    assert set(EVERY) == set(get_args(SelectorKind))
    assert all(selector.kind == kind for kind, selector in EVERY.items())


@pytest.mark.parametrize(("kind", "role"), IN_ROLES)
def test_a_selector_reads_priorities_that_change_its_choice(
    kind: str, role: str, tmp_path: Path
) -> None:
    settings = {role: EVERY[kind]}
    orders = ([9.0, 2.0, 5.0, 0.5, 1.0], [0.5, 9.0, 1.0, 5.0, 2.0], [1.0, 0.5, 2.0, 2.0, 9.0])
    found = [chosen(tmp_path, order, **settings) for order in orders]
    assert (found[0] != found[1] or found[0] != found[2]) == EVERY[kind].reads_priorities


def test_a_prioritized_selector_reads_them_at_every_exponent(tmp_path: Path) -> None:
    for alpha in (0.0, 1e-9, -1.0, 5.0):
        with make(tmp_path, sampler=samplers.Prioritized(alpha)) as manager:
            add(manager, 1, 2, 3)
            assert manager.update_priorities(keys_of(manager), 2.0) == 0


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("remover", EVERY)
def test_an_update_is_refused_where_neither_selector_reads_priorities(
    sampler: str, remover: str, tmp_path: Path
) -> None:
    pair: dict[str, Any] = {"sampler": EVERY[sampler], "remover": EVERY[remover]}
    reads = {sampler, remover} & {"prioritized", "min_heap", "max_heap"}
    with make(tmp_path, **pair) as manager:
        add(manager, 1, 2, 3)
        buffer, _ = manager.get_replay_buffer_and_observer()
        keys = keys_of(manager)
        for update in (manager.update_priorities, buffer.update_priorities):
            if reads:
                assert update([*keys, 7], 2.0) == 1
                assert update([], []) == 0
            else:
                with pytest.raises(InvalidArgumentError, match=READ):
                    update(keys, 2.0)
        wanted = [2.0, 2.0] if reads else [1.0, 1.0]
        assert buffer.item_info()["priority"].tolist() == wanted


@pytest.mark.parametrize("keys", SOME_KEYS, ids=repr)
def test_it_is_refused_whatever_the_data(keys: Any, tmp_path: Path) -> None:
    with make(tmp_path) as manager:
        buffer, _ = manager.create_replay_buffer()
        for update in (manager.update_priorities, buffer.update_priorities):
            with pytest.raises(InvalidArgumentError, match=READ):
                update(keys, 1.0)


def test_the_message_names_the_table_its_selectors_and_the_way_out(tmp_path: Path) -> None:
    with make(tmp_path, table_name="mine", remover=samplers.Lifo()) as manager:
        manager.create_replay_buffer()
        with pytest.raises(InvalidArgumentError) as caught:
            manager.update_priorities([1], [1.0])
    words = str(caught.value)
    for word in ("'mine'", "UniformSelector", "LifoSelector", "sampler=reverie.samplers."):
        assert word in words
    for name in re.findall(r"(\w+)\(\)", words):
        assert hasattr(samplers, name) or hasattr(reverie.ReplayBuffer, name)


def test_where_there_is_no_buffer_that_is_said_first(tmp_path: Path) -> None:
    manager = make(tmp_path)
    with pytest.raises(NotInitializedError):
        manager.update_priorities([1], [1.0])
    buffer, _ = manager.create_replay_buffer()
    manager.close()
    for update in (manager.update_priorities, buffer.update_priorities):
        with pytest.raises(ClosedError):
            update([1], [1.0])


def test_an_opened_buffer_has_the_selectors_of_its_checkpoint(tmp_path: Path) -> None:
    for kind, role in IN_ROLES:
        folder, selector = tmp_path / f"{role} {kind}", EVERY[kind]
        settings: dict[str, Any] = {role: selector}
        with make(folder, **settings) as manager:
            add(manager, 1, 2, 3)
            manager.save()
        opened = reverie.open(folder)
        keys = [key for key, _ in opened.iter_items()]
        if selector.reads_priorities:
            assert opened.update_priorities(keys, 2.0) == 0
        else:
            with pytest.raises(InvalidArgumentError, match=READ):
                opened.update_priorities(keys, 2.0)


def test_a_loaded_buffer_has_the_selectors_of_its_manager(tmp_path: Path) -> None:
    with make(tmp_path) as manager:
        add(manager, 1, 2, 3)
        manager.save()
    with make(tmp_path, sampler=samplers.Prioritized()) as manager:  # as the message says
        buffer, _ = manager.load_replay_buffer()
        assert buffer.update_priorities(keys_of(manager), 2.0) == 0
        manager.save()
    with make(tmp_path) as manager:
        manager.load_replay_buffer()
        with pytest.raises(InvalidArgumentError, match=READ):
            manager.update_priorities(keys_of(manager), 2.0)


def test_a_servers_checkpoint_is_no_other(tmp_path: Path) -> None:
    signature = {name: reverie.ArraySpec((2, *s.shape), s.dtype) for name, s in SPEC.items()}
    tables = [
        reverb.Table(
            name,
            samplers.Fifo(),
            remover,
            10,
            reverb.rate_limiters.MinSize(1),
            signature=signature,
        )
        for name, remover in (("read", samplers.MinHeap()), ("unread", samplers.Uniform()))
    ]
    checkpointer = reverb.checkpointers.DefaultCheckpointer(str(tmp_path))
    server = reverb.Server(tables, port=None, checkpointer=checkpointer)
    server.localhost_client().checkpoint()
    server.stop()
    assert reverie.open(tmp_path, table="read").update_priorities([], []) == 0
    with pytest.raises(InvalidArgumentError, match=READ):
        reverie.open(tmp_path, table="unread").update_priorities([], [])


def test_reverbs_client_takes_them_as_reverb_does() -> None:
    table = reverb.Table(
        "t", samplers.Uniform(), samplers.Fifo(), 10, reverb.rate_limiters.MinSize(1)
    )
    server = reverb.Server([table], port=None)
    client = server.localhost_client()
    client.insert(np.zeros(2), {"t": 1.0})
    key = next(iter(client.sample("t")))[0].info.key
    assert client.mutate_priorities("t", updates={key: 2.0}) == 0
    assert next(iter(client.sample("t")))[0].info.priority == 2.0
    server.stop()
