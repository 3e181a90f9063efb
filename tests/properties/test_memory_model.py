"""Whatever a program does, items keep their steps, and checkpoints hold no others.

Random programs of all kinds of writers, two tables with any remover, deletions, reopenings
and reloads run beside the model of what can be reached. The contents of all items are
compared after each operation; the sizes of a checkpoint's files with what could be reached.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.memory.bounds import check_small_checkpoint
from tests.memory.programs import (
    ALL_REMOVERS,
    KINDS,
    Program,
    TableOf,
    World,
    contents_of,
    marked,
    matching,
    steps_of,
)
from tests.memory.reachable import Item


def operations() -> st.SearchStrategy[tuple[Any, ...]]:
    small, coin = st.integers(0, 5), st.booleans()
    opens = st.tuples(st.just("open"), st.sampled_from(KINDS), coin, st.integers(1, 5))
    few = st.tuples(st.just("append"), small, st.integers(1, 8), coin)
    many = st.tuples(st.just("append"), small, st.integers(20, 80), st.just(False))
    into, priority = st.integers(0, 1), st.integers(0, 1)
    items = st.tuples(st.just("item"), small, into, small, small, coin, priority)
    every = st.tuples(st.just("prioritize"), into, small, st.integers(1, 4), priority)
    rest = [
        st.tuples(st.just("end"), small),
        st.tuples(st.just("shut"), small, coin),
        st.tuples(st.just("delete"), into, small, st.integers(1, 4)),
        st.just(("save_and_load",)),
    ]
    # Several times what makes the likelier programs.
    return st.one_of(opens, few, few, many, items, items, every, *rest)


def programs(remover: str | None = None) -> st.SearchStrategy[Program]:
    """Programs; `remover`: of the first table, which is then small enough to be full."""
    any_table = st.builds(TableOf, st.sampled_from(ALL_REMOVERS), st.integers(1, 30))
    first_table = any_table
    if remover is not None:
        first_table = st.builds(TableOf, st.just(remover), st.integers(2, 6))
    opening = st.tuples(st.just("open"), st.sampled_from(KINDS), st.booleans(), st.just(2))
    several = st.lists(operations(), min_size=15, max_size=45)
    return st.builds(
        lambda tables, filling, first, others: Program(tables, filling, (first, *others)),
        st.tuples(first_table, any_table),
        st.sampled_from([0, 5, 80, 3000]),
        opening,
        several,
    )


@contextmanager
def world(program: Program) -> Iterator[World]:
    with tempfile.TemporaryDirectory() as folder:
        one = World(program, Path(folder))
        try:
            yield one
        finally:
            one.close()


@pytest.mark.parametrize("remover", ALL_REMOVERS)
@given(data=st.data())
def test_items_keep_their_steps_also_in_a_checkpoint(remover: str, data: st.DataObject) -> None:
    with world(data.draw(programs(remover))) as one:
        one.run()
        one.check_samples()
        one.save_and_load()
        one.check()
        one.check_samples()


@given(programs())
def test_a_checkpoint_holds_what_can_be_reached(program: Program) -> None:
    with world(program) as one:
        one.run()
        check_small_checkpoint(one.save(), one.reach(), one.most_items)
        one.load()
        one.check()
        check_small_checkpoint(one.save(), one.reach(), one.most_items)


# The checks see what is planted.

PLAIN = Program(
    (TableOf("fifo", 9), TableOf("uniform", 4)),
    5,
    (("open", "windows", True, 2), ("append", 0, 8, False)),
)


@pytest.fixture
def sound() -> Iterator[World]:
    with world(PLAIN) as one:
        one.run()
        yield one


def test_a_torn_step_is_seen(sound: World, monkeypatch: pytest.MonkeyPatch) -> None:
    class Torn:
        def __init__(self, core: Any) -> None:
            self.items, self._item = core.items, core.item

        def item(self, key: int) -> Any:
            columns = self._item(key)
            columns[1][1, -1] ^= 1
            return columns

    monkeypatch.setattr(
        World, "core", lambda self, name, core=World.core: Torn(core(self, name))
    )
    with pytest.raises(AssertionError, match="is torn"):
        sound.check()


@pytest.mark.parametrize("stream", [1, 2])
def test_a_step_of_another_place_is_seen(
    sound: World, stream: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = [np.array([[stream, 7], [stream, 8]])], [marked(stream, n, 5) for n in (7, 8)]
    columns = [wrong[0][0], np.stack(wrong[1])]

    class Elsewhere:
        def __init__(self, core: Any) -> None:
            self.items = core.items

        def item(self, key: int) -> Any:
            return columns

    monkeypatch.setattr(
        World, "core", lambda self, name, core=World.core: Elsewhere(core(self, name))
    )
    with pytest.raises(AssertionError, match="found, wanted"):
        sound.check()


@pytest.mark.parametrize("name", ["first", "second"])
def test_a_lost_item_is_seen(sound: World, name: str) -> None:
    keys = sound.core(name).items()["key"][:1].copy()
    assert sound.core(name).delete(keys) == 0
    with pytest.raises((AssertionError, ValueError)):
        sound.check()


def test_an_item_in_the_wrong_order_is_seen() -> None:
    items = [Item(n, ((1, 0, n, 1),), True, 1.0, n) for n in range(3)]
    held = [contents_of([np.array([[1, n]])]) for n in range(3)]
    assert matching([held[0], held[2]], items) == [items[0], items[2]]
    for wrong in ([held[2], held[0]], [held[0], held[0]]):
        with pytest.raises(AssertionError, match="is no item's in this order"):
            matching(wrong, items)


def test_a_marked_step_says_what_it_is() -> None:
    assert steps_of(np.stack([marked(3, 4, 9), marked(2, 300, 9)])) == [(3, 4), (2, 300)]


@pytest.mark.parametrize("kind", ["segment", "other"])
def test_a_byte_too_many_in_a_checkpoint_is_seen(kind: str, tmp_path: Path) -> None:
    reach = replace(World(PLAIN, tmp_path).reach(), nbytes=1000, columns=1, rows=10)
    bounds = {"segment": 1100 + 128, "other": 11 * 40 + 64 + 64 + 8 * 20}
    for more in (0, 1):
        for name, size in bounds.items():
            data = np.zeros(size + (more if name == kind else 0), np.uint8)
            np.save(tmp_path / {"segment": "segment-1.npy", "other": "items-0.npy"}[name], data)
        if more:
            with pytest.raises(AssertionError, match="data"):
                check_small_checkpoint(tmp_path, reach, most_items=20)
        else:
            check_small_checkpoint(tmp_path, reach, most_items=20)
