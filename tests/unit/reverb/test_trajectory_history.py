"""A TrajectoryWriter's history, the references in it, and doubles of the engine's writer."""

from __future__ import annotations

import collections
import random
from typing import Any
from unittest import mock

import numpy as np
import pytest
from tests.unit.reverb.support import Serve, only_item, steps

from reverie.reverb import pybind
from reverie.reverb.engine.writing.stand_in import StandIn
from reverie.reverb.server import Table
from reverie.reverb.trajectory_writer import TrajectoryColumn, TrajectoryWriter


def test_fields_may_come_later_and_be_left_out(serve: Serve) -> None:
    writer = serve().trajectory_writer(9)
    for step in [
        {"x": 1},
        {"x": 2, "y": 10},
        {"y": 20},
        {"x": 3, "y": None},
        {"x": 4, "y": 30},
    ]:
        writer.append(step)

    def seen(column: Any) -> list[Any]:
        return [None if ref is None else int(ref.numpy()) for ref in column]

    assert {k: seen(v) for k, v in writer.history.items()} == {
        "x": [1, 2, None, 3, 4],
        "y": [None, 10, 20, None, 30],
    }
    assert writer.history["x"][[0, 1, 4]].numpy().tolist() == [1, 2, 4]
    for key in (2, slice(1, 3), [0, 2], slice(None)):
        with pytest.raises(ValueError, match=r"cannot contain any None .* step 2 has no value"):
            writer.history["x"][key]


@pytest.mark.parametrize("step", [5, [1], {"a": {"q": 1}, "b": 1}])
def test_a_leaf_does_not_become_a_node(serve: Serve, step: Any) -> None:
    writer = serve().trajectory_writer(2)
    steps(writer, 1)
    with pytest.raises(ValueError, match="structure of a step at"):
        writer.append(step)
    steps(writer, 1)
    assert writer.episode_steps == 2


def test_every_nest_of_dm_tree_can_be_a_step(serve: Serve) -> None:
    step = collections.OrderedDict(z=(1, [2.0]), a=collections.namedtuple("P", "q r")("t", 3))
    writer = serve().trajectory_writer(2)
    writer.append(step)
    writer.append(step)
    history = writer.history
    assert list(history) == ["z", "a"]
    assert history["a"].r[:].numpy().tolist() == [3, 3]
    assert history["z"][1][0][-1].numpy() == 2.0


def test_history_counts_from_the_episode_s_first_step_and_says_what_was_evicted(
    serve: Serve,
) -> None:
    writer = serve().trajectory_writer(3)
    with pytest.raises(RuntimeError, match="before `append` is called"):
        _ = writer.history
    steps(writer, 5)
    column = writer.history["b"]
    assert len(column) == 5
    assert column[4].numpy() == column[-1].numpy() == 4
    assert column[2:].numpy().tolist() == [2, 3, 4]
    assert len(column[5:]) == 0
    for key, why in [
        (1, "step 1 was evicted"),
        (slice(-9, None), "only 5 steps"),
        (-9, "only 5"),
    ]:
        with pytest.raises(ValueError, match=why):
            column[key]
    with pytest.raises(IndexError, match="5 steps, found index 5"):
        column[5]
    with pytest.raises(TypeError, match="must be integers"):
        column["x"]


def test_references_expire_with_the_history_they_name(serve: Serve) -> None:
    writer = serve().trajectory_writer(2)
    steps(writer, 2)
    column = writer.history["b"][:]
    first, second = column
    assert not first.expired
    assert (first.numpy(), list(first.shape), first.dtype) == (0, [], np.int32)
    steps(writer, 1)
    assert (first.expired, second.expired) == (True, False)
    with pytest.raises(RuntimeError, match="expired WeakCellRef: cell 0 of column 1"):
        first.numpy()
    with pytest.raises(RuntimeError, match="expired data references"):
        column.numpy()
    with pytest.raises(
        ValueError, match=r"Error in column 1: .*expired CellRef.* cells 0 to 1"
    ):
        writer.create_item("t", 1.0, {"x": writer.history["a"][-1], "y": column})
    writer.end_episode()
    assert second.expired


def test_items_take_references_one_by_one_and_of_several_columns(serve: Serve) -> None:
    client = serve()
    writer = client.trajectory_writer(4)
    for i in range(3):
        writer.append({"x": i, "y": 10 + i, "z": 0.5})
    x, y = (list(writer.history[k][:]) for k in "xy")
    writer.create_item("t", 1.0, [TrajectoryColumn([x[0], x[1], y[2]])])
    assert only_item(client)[1][0].tolist() == [0, 1, 12]
    mixed = TrajectoryColumn([x[0], *writer.history["z"][-1:]])
    with pytest.raises(ValueError, match=r"different dtypes: int64 \(index 0\) != double"):
        writer.create_item("t", 1.0, [mixed])


def test_another_writer_s_history_is_refused(serve: Serve) -> None:
    client = serve()
    mine, other = client.trajectory_writer(2), client.trajectory_writer(2)
    steps(mine, 1)
    steps(other, 1)
    for column in (other.history["a"][:], TrajectoryColumn(list(other.history["a"][:]))):
        with pytest.raises(ValueError, match=r"Error in column 0: .*another writer's history"):
            mine.create_item("t", 1.0, [column])


def test_a_writer_with_reverb_s_methods_can_stand_in_for_ours() -> None:
    fake = mock.Mock()
    fake.Append.side_effect = lambda row: [None if x is None else Ref(x) for x in row]
    fake.max_num_keep_alive_refs = 2
    writer = TrajectoryWriter(fake)
    for i in range(3):
        writer.append({"x": i, "y": "t"})
    writer.create_item("t", 1.0, {"x": writer.history["x"][-2:], "y": writer.history["y"][-1]})
    (_, _, columns, squeezed), _ = fake.CreateItem.call_args
    assert [[ref.data for ref in column] for column in columns] == [[1, 2], ["t"]]
    assert squeezed == [False, True]
    with pytest.raises(ValueError, match="step 0 was evicted"):
        writer.history["x"][0]


class Ref:
    def __init__(self, data: Any) -> None:
        self.data = data


def test_a_mock_with_a_spec_is_no_writer_of_ours() -> None:
    fake = mock.create_autospec(pybind.TrajectoryWriter, instance=True)
    fake.Append.side_effect = lambda row: list(map(Ref, row))
    fake.max_num_keep_alive_refs = 2
    writer = TrajectoryWriter(fake)
    writer.append([1])
    fake.Append.assert_called_once_with([1])
    assert [ref.data for ref in writer.history[0]] == [1]


class OnlyReverbs:
    """A writer of ours of which only Reverb's own methods are to be seen."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def __getattr__(self, name: str) -> Any:
        if not (name[0].isupper() or name in ("episode_steps", "max_num_keep_alive_refs")):
            raise AttributeError(name)
        return getattr(self._writer, name)


def told(writer: TrajectoryWriter, table: str, seed: int) -> list[Any]:
    """What a random program sees of a writer."""
    rng = random.Random(seed)
    seen: list[Any] = []
    for number in range(80):
        likely = rng.choice([0.2, 1.0, 1.0])
        names = [name for name in "xyz" if rng.random() < likely]
        key = rng.choice([-1, slice(-2, None), slice(None), slice(-3, None, 2), [-1, -2], 2])
        try:
            if rng.random() < 0.08:
                writer.end_episode(clear_buffers=rng.random() < 0.5)
            elif number > 9 and rng.random() < 0.05:
                writer.append({"x": "a text", "y": 1})
            writer.append({name: number for name in names}, partial_step=rng.random() < 0.1)
            seen.append(
                {
                    name: [ref and (ref.expired or int(ref.numpy())) for ref in column]
                    for name, column in writer.history.items()
                }
            )
            names = [name for name in writer.history if rng.random() < 0.5] or ["x"]
            writer.create_item(table, 1.0, [writer.history[name][key] for name in names])
        except (ValueError, LookupError, RuntimeError) as error:
            seen.append((type(error), str(error)))
    writer.flush()
    return seen


@pytest.mark.parametrize("seed", range(12))
def test_a_writer_seen_through_reverb_s_methods_alone_does_the_same(
    serve: Serve, seed: int
) -> None:
    client = serve(Table.queue("t", 99), Table.queue("other", 99))
    engine = client._client.NewTrajectoryWriter(pybind.AutoTunedChunkerOptions(4, 1.0), True)
    seen = told(client.trajectory_writer(4), "t", seed)
    through = TrajectoryWriter(OnlyReverbs(engine))
    assert [str(e) for e in told(through, "other", seed)] == [str(e) for e in seen]
    size = client.server_info()["t"].current_size
    assert 5 < size == client.server_info()["other"].current_size
    for mine, other in zip(
        *(client.sample(name, size, emit_timesteps=False) for name in ("t", "other")),
        strict=True,
    ):
        assert [c.tolist() for c in mine.data] == [c.tolist() for c in other.data]


def test_the_comparison_sees_a_stand_in_that_numbers_wrongly(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = StandIn.ref
    monkeypatch.setattr(StandIn, "ref", lambda self, column, n: right(self, column, max(n, 1)))
    with pytest.raises(AssertionError):
        test_a_writer_seen_through_reverb_s_methods_alone_does_the_same(serve, 0)


def test_columns_of_references_check_themselves() -> None:
    with pytest.raises(ValueError, match="exactly one data reference"):
        TrajectoryColumn([], squeeze=True)
    with pytest.raises(ValueError, match="cannot contain any None"):
        TrajectoryColumn([Ref(1), None])
    column = TrajectoryColumn([Ref(i) for i in range(4)])
    assert [ref.data for ref in column[1:3]] == [1, 2]
    assert [ref.data for ref in column[[3, 0]]] == [3, 0]
    assert column[2].is_squeezed
    with pytest.raises(TypeError, match="integers, slices or lists"):
        column["x"]
