"""The core's tables: new items of the largest priority, and the least chance of any item."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from tests.selector_support import CoreTable

from reverie import _core


def writer(core: CoreTable, tables: list[_core.Table], priority: float | None) -> _core.Writer:
    return core.store.create_writer(
        core.layout,
        tables,
        sequence_length=1,
        stride_length=1,
        priority=priority,
        pad_end=False,
        tile_end=False,
        pad_record=bytes(8),
        boundary_column=-1,
        boundary_value=0,
    )


def priorities(core: CoreTable) -> list[float]:
    return core.item_info()["priority"].tolist()


def test_none_is_the_largest_priority_in_the_table_when_the_item_goes_in() -> None:
    core = CoreTable(10, sampler="prioritized")
    one = writer(core, [core.table], None)
    found = []
    for n, changed in enumerate([3.0, 0.5, 2.0]):
        one.append([np.int64(n)], 0)
        found.append(priorities(core)[-1])
        core.update(core.item_info()["key"], [changed] * (n + 1))
    assert found == [1.0, 3.0, 0.5]
    core.delete(core.item_info()["key"][1:])
    one.append([np.int64(9)], 0)
    assert priorities(core) == [2.0, 2.0]


def test_it_is_1_where_nothing_goes_by_weight() -> None:
    for sampler in ("uniform", "max_heap"):
        core = CoreTable(10, sampler=sampler)
        core.insert(7.0)
        core.insert(None)
        assert priorities(core) == [7.0, 1.0]


def test_cells_of_a_trajectory_may_have_it_too() -> None:
    core = CoreTable(10, remover="prioritized")
    core.insert(7.0)
    item_writer = core.store.create_trajectory_writer()
    item_writer.add_column(core.layout, 5)
    item_writer.append([np.int64(1)])
    arguments: list[Any] = [
        np.array([0], np.uint32),
        np.array([0], np.uint64),
        np.array([1], np.uint32),
        np.array([1], np.uint32),
        np.array([0], np.uint8),
    ]
    assert item_writer.create_item(core.table, None, *arguments)
    assert priorities(core) == [7.0, 7.0]
    with pytest.raises(ValueError, match="a priority is NaN"):
        item_writer.create_item(core.table, math.nan, *arguments)
    assert core.table.size == 2


def test_nan_is_no_way_to_ask_for_it() -> None:
    core = CoreTable(10, sampler="prioritized")
    with pytest.raises(ValueError, match="a priority is NaN"):
        writer(core, [core.table], math.nan)
    one = writer(core, [core.table], 2.0)
    with pytest.raises(ValueError, match="a priority is NaN"):
        one.set_priority(math.nan)
    one.append([np.int64(1)], 0)
    assert priorities(core) == [2.0]


def test_a_snapshot_holds_the_number() -> None:
    core = CoreTable(10, sampler="prioritized")
    for priority in (5.0, None):
        core.insert(priority)
    assert core.store.snapshot().tables[0].items["priority"].tolist() == [5.0, 5.0]
    restored = core.restored()
    restored.insert(None)
    assert priorities(restored) == [5.0, 5.0, 5.0]


@pytest.mark.parametrize(
    ("sampler", "least"),
    [("prioritized", 0.1), ("uniform", 0.2), ("fifo", 1.0), ("lifo", 1.0), ("max_heap", 1.0)],
)
def test_the_least_probability_is_of_the_items_that_can_be_sampled(
    sampler: str, least: float
) -> None:
    core = CoreTable(10, sampler=sampler)
    assert core.table.min_probability() == 0
    for priority in (1.0, 2.0, 3.0, 4.0, 0.0):
        core.insert(priority)
    assert core.table.min_probability() == least
    found = core.sample(300)
    assert found is not None
    assert found[1].probability.min() == least
    core.table.clear()
    assert core.table.min_probability() == 0
