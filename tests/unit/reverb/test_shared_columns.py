"""Writers of the same steps share what they know of them, and nothing else."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
from tests.unit.reverb.support import Serve, fifo_table

from reverie import ArraySpec
from reverie.nests import structure
from reverie.reverb.engine.writing import known_columns, step_nests


def fed(client: Any, step: Any, **options: Any) -> Any:
    writer = client.trajectory_writer(2, **options)
    writer.append(step)
    return writer


def test_writers_of_the_same_steps_share_what_they_know_of_them(serve: Serve) -> None:
    client = serve()
    one, other = (fed(client, {"a": 1, "b": np.zeros(3)}) for _ in range(2))
    assert one._nest is other._nest
    assert one._writer._columns is other._writer._columns
    item = {"b": one.history["b"][-1:]}
    one.create_item("t", 1.0, item)
    other.create_item("t", 1.0, {"b": other.history["b"][-1:]})
    assert len(one._writer._columns.plans) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({1: 1}, {True: 1}),
        ([1, 2], (1, 2)),
        ({"a": {"b": 1}}, {"a": {"c": 1}}),
    ],
)
def test_the_history_is_of_the_writers_own_nest(serve: Serve, one: Any, other: Any) -> None:
    client = serve()
    for step in (one, other, one):
        history = fed(client, step).history
        assert repr(structure.map_structure(lambda _: None, history)) == repr(
            structure.map_structure(lambda _: None, step)
        )


def test_a_writer_whose_nest_grows_leaves_the_others_alone(serve: Serve) -> None:
    client = serve()
    one, other = (fed(client, {"a": 1}) for _ in range(2))
    one.append({"a": 2, "b": 3})
    assert set(one.history) == {"a", "b"}
    assert set(other.history) == {"a"}
    other.append({"a": 2, "c": 3})
    assert set(other.history) == {"a", "c"}


def test_columns_of_other_dtypes_are_others(serve: Serve) -> None:
    client = serve()
    fed(client, {"a": np.float32(1)})
    writer = fed(client, {"a": np.float64(1)})
    writer.append({"a": np.float64(2)})
    with pytest.raises(ValueError, match="Got float but expected double"):
        writer.append({"a": np.float32(1)})


def test_items_are_checked_whatever_others_made(serve: Serve) -> None:
    """What one writer need not look at, another one has to."""
    client = serve(fifo_table(signature={"a": ArraySpec((1,), np.float32)}))
    step = {"a": np.int64(1)}
    free, strict = (fed(client, step, validate_items=validate) for validate in (False, True))
    free.create_item("t", 1.0, {"a": free.history["a"][-1:]})
    with pytest.raises(ValueError, match="int64"):
        strict.create_item("t", 1.0, {"a": strict.history["a"][-1:]})


def test_the_steps_of_a_writer_are_checked_whatever_others_made(serve: Serve) -> None:
    client = serve(fifo_table(signature={"a": ArraySpec((), np.float32)}))
    free = fed(client, [np.int64(1)], validate_items=False)
    free.create_item("t", 1.0, free.history[0][-1:])
    with client.writer(2) as writer:
        writer.append([np.int64(1)])
        with pytest.raises(ValueError, match="int64"):
            writer.create_item("t", 1, 1.0)


def test_what_no_writer_has_is_forgotten(serve: Serve) -> None:
    client = serve()
    writer = fed(client, {"gone": np.zeros(5)})
    shared = [weakref.ref(of) for of in (writer._nest, writer._writer._columns)]
    del writer
    for n in range(2 * known_columns.NUM_LATEST + step_nests.NUM_LATEST):
        fed(client, {f"another {n}": np.zeros(6 + n)})
    gc.collect()
    assert [one() for one in shared] == [None, None]
