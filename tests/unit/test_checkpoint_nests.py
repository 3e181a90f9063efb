"""What a checkpoint says of its steps, and which tables could never be saved."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.checkpoint_support import (
    NEST,
    STEP,
    Snapshot,
    TableSnapshot,
    contents,
    key,
    load,
    records,
    save,
    settings,
    snapshot,
)

from reverie import ArraySpec, Trajectory
from reverie.checkpoint import check_savable, open_source, verify
from reverie.checkpoint.format.reader import read_manifest
from reverie.errors import InvalidArgumentError
from reverie.nests.codec import TensorSpec
from reverie.nests.nest import Nest
from reverie.tables.limiters import Limiter

WINDOW = (key(0), 3, 0, 2, 1.0, 0)


def other_names(**changes: Any) -> Nest:
    """A nest of the same columns under other names."""
    spec = {"a": STEP["done"], "b": STEP["observation"]["position"], "c": STEP["step"]}
    return Nest({**spec, **changes})


def test_the_spec_of_a_table_comes_back_without_the_code_that_wrote_it(
    tmp_path: Path,
) -> None:
    source = open_source(save(tmp_path))
    assert source.nest("windows").spec == STEP
    assert source.nest("windows").columns == NEST.columns


def test_an_empty_table_has_the_spec_too(tmp_path: Path) -> None:
    empty = Snapshot([], [TableSnapshot([]), TableSnapshot([])])
    assert open_source(save(tmp_path, empty)).nest("windows").spec == STEP


def test_without_a_nest_columns_have_numbers(tmp_path: Path) -> None:
    folder = save(tmp_path, nests=[])
    layout = read_manifest(folder).layouts[0]
    assert [column.path for column in layout.columns] == ["0", "1", "2"]
    assert open_source(folder).nest("windows") is None
    assert load(folder) == contents(snapshot())
    verify(folder)


def test_two_names_for_the_same_columns_are_none(tmp_path: Path) -> None:
    folder = save(tmp_path, nests=[NEST, other_names(), NEST])
    assert [layout.nest for layout in read_manifest(folder).layouts] == [None] * 3
    assert load(folder) == contents(snapshot())


def test_the_same_nest_twice_is_one(tmp_path: Path) -> None:
    folder = save(tmp_path, nests=[NEST, Nest(STEP)])
    assert open_source(folder).nest("windows").spec == STEP


def test_of_several_nests_each_table_has_its_own(tmp_path: Path) -> None:
    more = other_names(d=ArraySpec((2,), np.int16))
    what = Snapshot([records(3, 4)], [TableSnapshot([WINDOW]), TableSnapshot([])])
    source = open_source(save(tmp_path, what, nests=[more, NEST]))
    assert source.nest("windows").spec == STEP
    assert source.nest("mixed/épisodes") is None  # nobody knows which one it would have


def test_a_table_of_trajectories_has_none(tmp_path: Path) -> None:
    item = (key(0), 0, 0, 0, 1.0, 0)
    only = TableSnapshot([item], trajectories=[(0, 1, [(0, 0, [(3, 0, 2)])])])
    what = Snapshot([records(3, 4)], [only, TableSnapshot([])])
    assert open_source(save(tmp_path, what)).nest("windows") is None


def test_a_nest_that_json_cannot_express_is_left_out_and_its_columns_are_named(
    tmp_path: Path,
) -> None:
    odd: Any = namedtuple("Ü", ["done", "observation", "step"])
    nest = Nest(odd(STEP["done"], STEP["observation"], STEP["step"]))
    check_savable(settings("t"), nest)
    folder = save(tmp_path, nests=[nest])
    layout = read_manifest(folder).layouts[0]
    assert [c.path for c in layout.columns] == ["done", "observation/position", "step"]
    assert layout.nest is None
    verify(folder)


def test_a_trajectory_comes_back_as_ours(tmp_path: Path) -> None:
    leaf = ArraySpec((), np.int32)
    spec = Trajectory(*(leaf for _ in Trajectory._fields))
    empty = Snapshot([], [TableSnapshot([]), TableSnapshot([])])
    assert open_source(save(tmp_path, empty, nests=[Nest(spec)])).nest("windows").spec == spec


def deep(levels: int) -> Any:
    nest: Any = TensorSpec((), np.dtype("f4"))
    for _ in range(levels):
        nest = [nest]
    return nest


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "x" * 1001},
        {"name": "\ud800"},
        {"max_size": 2**60, "limiter": Limiter(1.0, 2**53, 0.0, 1.0)},
        {"max_times_sampled": 2**53},
        {"signature": deep(30)},
        {"signature": {"\udfff": TensorSpec((), np.dtype("f4"))}},
        {"signature": {1.5: TensorSpec((), np.dtype("f4"))}},
        {"signature": {10**25: TensorSpec((), np.dtype("f4"))}},
        {"signature": TensorSpec((), np.dtype("f4"), "x" * 1001)},
        {"signature": namedtuple("Ü", ["x"])(TensorSpec((), np.dtype("f4")))},
        {"signature": TensorSpec((2**70,), np.dtype("f4"))},
    ],
    ids=str,
)
def test_settings_that_could_not_be_loaded_are_refused_at_construction(changes: dict) -> None:
    with pytest.raises(InvalidArgumentError, match="could be filled, but cannot be saved"):
        check_savable(settings(**{"name": "t", **changes}))


@pytest.mark.parametrize(
    "spec",
    [
        {"x" * 10_001: STEP["done"]},
        {"\ud800": STEP["done"]},
        {"x" * 9000 + f"{i:04d}": STEP["done"] for i in range(500)},
    ],
    ids=["long path", "surrogate", "long header"],
)
def test_columns_that_could_not_be_saved_are_refused_at_construction(spec: dict) -> None:
    with pytest.raises(InvalidArgumentError, match="cannot be saved"):
        check_savable(settings("t"), Nest(spec))


@pytest.mark.parametrize("nest", [None, NEST, other_names()])
@pytest.mark.parametrize(
    "changes",
    [
        {"max_size": 2**60},
        {"max_times_sampled": -1},
        {"signature": deep(24)},
        {"signature": deep(20), "name": "any/näme\n"},
    ],
    ids=str,
)
def test_what_can_be_saved_can_be_loaded(
    tmp_path: Path, nest: Nest | None, changes: dict
) -> None:
    wanted = settings(**{"name": "windows", **changes})
    check_savable(wanted, nest)
    found = open_source(save(tmp_path, settings=[wanted, settings("b")])).settings
    assert repr(found[wanted.name].signature) == repr(wanted.signature)
    assert found[wanted.name].max_size == min(wanted.max_size, 2**53 - 1)
    verify(tmp_path / "ckpt-00000001")
