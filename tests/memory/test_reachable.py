"""The model of what can be reached, by examples that one can count on one's fingers."""

from __future__ import annotations

import pytest
from tests.memory.reachable import REMOVERS, Reach, Reachable, union


def one_stream(steps: int, keep: int = 1) -> Reachable:
    model = Reachable()
    model.table("a", 2)
    model.table("b", 9)
    model.stream("s", keep)
    for _ in range(steps):
        model.append("s", 100)
    return model


def test_a_step_of_several_items_counts_once() -> None:
    model = one_stream(5, keep=0)
    model.insert("a", [("s", 0, 0, 2)])
    model.insert("b", [("s", 0, 1, 2)])
    model.insert("b", [("s", 0, 0, 2)])
    assert model.reach() == Reach(300, 1, 0, rows=3, indexed_rows=0, trajectories=0)


def test_steps_between_two_items_do_not_count() -> None:
    model = one_stream(9, keep=0)
    model.insert("a", [("s", 0, 0, 1)])
    model.insert("a", [("s", 0, 8, 1)])
    assert model.reach().nbytes == 200


def test_the_steps_that_the_next_items_may_take_count_until_the_episode_ends() -> None:
    model = one_stream(5, keep=3)
    assert model.reach().nbytes == 300
    model.end_episode("s")
    assert model.reach().nbytes == 0
    model.append("s", 100)
    assert model.reach().nbytes == 100
    model.close("s")
    assert model.reach() == Reach(0, 0, 0, 0, 0, 0)


def test_a_closed_stream_counts_while_an_item_has_a_step_of_it() -> None:
    model = one_stream(2)
    serial = model.insert("a", [("s", 0, 0, 2)])
    model.close("s")
    assert (model.reach().open_streams, model.reach().closed_streams) == (0, 1)
    model.delete("a", [serial])
    assert model.reach().closed_streams == 0


def test_columns_are_counted_apart() -> None:
    model = Reachable()
    model.table("t", 9)
    model.stream("s", keep=1, columns=2)
    for size in (1, 2, 4, 8):
        model.append("s", size, 100 * size)
    model.insert("t", [("s", 0, 0, 2), ("s", 1, 1, 1)], is_trajectory=True)
    model.close("s")
    assert model.reach().nbytes == (1 + 2) + 200
    assert model.reach().trajectories == 1


def test_ends_count_at_steps_that_can_be_reached() -> None:
    model = one_stream(2)
    model.end_episode("s")
    model.end_episode("s")  # of nothing
    for _ in range(3):
        model.append("s", 100)
    model.end_episode("s")
    assert model.reach().ends == 0
    model.insert("a", [("s", 0, 1, 1)])
    assert model.reach().ends == 1
    model.insert("a", [("s", 0, 0, 5)])
    assert model.reach().ends == 2


@pytest.mark.parametrize(
    ("remover", "left"),
    [("fifo", [3, 4]), ("lifo", [0, 1]), ("min_heap", [1, 3]), ("max_heap", [0, 2])],
)
def test_removers(remover: str, left: list[int]) -> None:
    assert remover in REMOVERS
    model = Reachable()
    model.table("t", 2, remover)
    model.stream("s", keep=0)
    for step, priority in enumerate([1.0, 5.0, 1.0, 7.0, 2.0]):
        model.append("s", 1)
        model.insert("t", [("s", 0, step, 1)], priority)
    assert [item.runs[0][2] for item in model.items("t")] == left


def test_a_heap_takes_the_one_touched_longest_ago_of_equals() -> None:
    model = Reachable()
    model.table("t", 2, "min_heap")
    model.stream("s", keep=0)
    model.append("s", 1)
    first = model.insert("t", [("s", 0, 0, 1)])
    second = model.insert("t", [("s", 0, 0, 1)])
    model.set_priority("t", first, 1.0)
    third = model.insert("t", [("s", 0, 0, 1)])
    assert [item.serial for item in model.items("t")] == [first, third]
    assert second not in (first, third)


def test_what_chance_removes_is_told() -> None:
    model = Reachable()
    model.table("t", 1, None)
    model.stream("s", keep=0)
    for step in range(3):
        model.append("s", 1 << step)
        model.insert("t", [("s", 0, step, 1)])
    assert model.reach().nbytes == 7
    model.keep_only("t", [model.items("t")[1].serial])
    assert model.reach().nbytes == 2


def test_a_forgotten_item_makes_the_bound_smaller() -> None:
    model = one_stream(5)
    serials = [model.insert("b", [("s", 0, step, 1)]) for step in range(5)]
    before = model.reach().nbytes
    model.delete("b", serials[:1])
    assert model.reach().nbytes < before


def test_union() -> None:
    assert union([(5, 6), (0, 2), (1, 3), (3, 4)]) == [(0, 4), (5, 6)]
