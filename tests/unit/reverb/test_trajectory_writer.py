"""TrajectoryWriter: steps in, items over any of their cells out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.unit.reverb.support import Serve, fifo_table, only_item, steps

from reverie import ArraySpec
from reverie.errors import ReverieError
from reverie.reverb import errors, item_selectors, pybind
from reverie.reverb.client import Client

F32 = np.float32


def test_an_item_holds_the_slices_it_was_made_of(serve: Serve) -> None:
    client = serve()
    with client.trajectory_writer(5) as writer:
        steps(writer, 7)
        history = writer.history
        writer.create_item(
            "t",
            2.5,
            {
                "all": history["b"][-5:],
                "inner": history["b"][2:4],
                "last": history["a"][-1],
                "odd": history["b"][-5::2],
                "picked": history["b"][[6, 2]],
                "reverse": history["b"][-1:-4:-1],
            },
        )
    info, data = only_item(client)
    assert (info.priority, info.times_sampled, info.table_size) == (2.5, 1, 1)
    expected = [[2, 3, 4, 5, 6], [2, 3], [6, 6], [2, 4, 6], [6, 2], [6, 5, 4]]
    assert [column.tolist() for column in data] == expected
    assert [column.dtype for column in data] == [np.int32] * 2 + [F32] + [np.int32] * 3


@pytest.mark.parametrize(
    ("value", "dtype", "stored"),
    [
        (3, np.int64, 3),
        (2**63, np.uint64, 2**63),
        (1.5, np.float64, 1.5),
        (True, np.bool_, True),
        (1j, np.complex128, 1j),
        ("é\0", object, "é\0".encode()),
        (b"\0x\0", object, b"\0x\0"),
        (np.float16(2), np.float16, 2),
        (np.array(["a", "bc"]), object, [b"a", b"bc"]),
        (np.array([[b"x"], ["yy"]], object), object, [[b"x"], [b"yy"]]),
        (np.zeros((0, 3)), np.float64, []),
        (np.arange(12).reshape(3, 4)[:, ::2], np.int64, [[0, 2], [4, 6], [8, 10]]),
        (np.arange(3, dtype=">i4"), np.int32, [0, 1, 2]),
        (np.zeros((2, 0, 1), F32)[::-1], F32, [[], []]),
    ],
)
def test_values_come_back_as_reverb_has_them(
    serve: Serve, value: Any, dtype: Any, stored: Any
) -> None:
    client = serve()
    with client.trajectory_writer(2) as writer:
        writer.append({"x": value})
        writer.append({"x": value})
        column = writer.history["x"][:]
        writer.create_item("t", 1.0, {"stacked": column, "one": writer.history["x"][0]})
        shape = np.shape(value)
        assert (column.shape, column.dtype) == ((2, *shape), dtype)
    _, (one, stacked) = only_item(client)
    for found, wanted in ((one, stored), (stacked, [stored, stored])):
        assert (found.dtype, found.tolist()) == (dtype, wanted)
    assert (one.shape, stacked.shape) == (shape, (2, *shape))
    assert (column.shape, column[0].shape) == ((2, *shape), shape)


def test_bfloat16_is_stored_bit_by_bit(serve: Serve) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    client = serve()
    value = np.array([1.5, -2], ml_dtypes.bfloat16)
    client.insert(value, {"t": 1.0})
    _, (found,) = only_item(client)
    assert found.dtype == value.dtype
    assert found.tobytes() == value.tobytes()


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, np.longdouble(1), np.array("2020", "M8[D]"), 2**64, np.array([1, None])],
)
def test_what_cannot_be_stored_is_a_type_error_that_names_the_path(
    serve: Serve, value: Any
) -> None:
    writer = serve().trajectory_writer(2)
    with pytest.raises(TypeError, match=r"column \('n', 'x'\)\. .*found .*Nothing was stored"):
        writer.append({"n": {"x": value}, "y": 1})
    writer.append({"n": {"x": 1}, "y": 1.0})  # the failed step fixed nothing
    assert len(writer.history["y"]) == writer.episode_steps == 1


def test_a_step_of_another_dtype_or_shape_names_the_path_and_stores_nothing(
    serve: Serve,
) -> None:
    client = serve()
    writer = client.trajectory_writer(5)
    steps(writer, 2)
    for bad, message in [
        ({"a": np.zeros(2), "b": np.int32(0)}, r"wrong dtype .* \('a',\). Got double but exp"),
        (
            {"a": np.zeros(2, F32), "b": 0},
            r"wrong dtype .* \('b',\). Got int64 but expected int32",
        ),
        (
            {"a": np.zeros((1, 2), F32), "b": np.int32(0)},
            r"shape .* \('a',\). Got \[1,2\] which",
        ),
        ({"a": "text", "b": np.int32(0)}, r"wrong dtype .* Got string but expected float"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            writer.append(bad)
        assert isinstance(caught.value, ReverieError)
    assert [len(column) for column in writer.history.values()] == [2, 2]
    writer.create_item("t", 1.0, writer.history["b"][:])
    assert only_item(client)[1][0].tolist() == [0, 1]


def test_a_partial_step_is_one_step_in_all_columns(serve: Serve) -> None:
    client = serve()
    writer = client.trajectory_writer(4)
    for i in range(3):
        writer.append({"x": i}, partial_step=True)
        assert (writer.episode_steps, len(writer.history["x"])) == (i, i + 1)
        with pytest.raises(ValueError, match=r"Field \('x',\) has already been set .* got: 7"):
            writer.append({"x": 7, "y": 7})
        writer.append({"y": i + 10})
    writer.create_item("t", 1.0, [writer.history["x"][:], writer.history["y"][:]])
    writer.flush()
    assert [c.tolist() for c in only_item(client)[1]] == [[0, 1, 2], [10, 11, 12]]
    with pytest.raises(RuntimeError, match="present in previous AppendPartial call"):
        engine_twice(client)


def engine_twice(client: Client) -> None:
    writer = client._client.NewTrajectoryWriter(pybind.AutoTunedChunkerOptions(2, 1.0), True)
    writer.AppendPartial([1])
    writer.Append([2])


def test_bad_items_are_refused(serve: Serve) -> None:
    writer = serve().trajectory_writer(3)
    steps(writer, 3)
    b = writer.history["b"]
    with pytest.raises(ValueError, match="must not be empty"):
        writer.create_item("t", 1.0, {})
    with pytest.raises(ValueError, match="Error in column 0: it is empty"):
        writer.create_item("t", 1.0, [b[3:]])
    with pytest.raises(ValueError, match="Error in column 1: it is empty"):
        writer.create_item("t", 1.0, [b[:], b[3:]])
    with pytest.raises(TypeError, match="must be `TrajectoryColumn` but got"):
        writer.create_item("t", 1.0, [b[:], b[:].numpy()])
    with pytest.raises(ValueError, match="`priority` must not be nan"):
        writer.create_item("t", float("nan"), b[:])
    with pytest.raises(TypeError, match="priority: found 'x'"):
        writer.create_item("t", "x", b[:])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="table 'nope' since the table could not be found"):
        writer.create_item("nope", 1.0, b[:])


def test_without_validation_an_unknown_table_is_a_runtime_error(serve: Serve) -> None:
    writer = serve().trajectory_writer(3, validate_items=False)
    steps(writer, 1)
    with pytest.raises(errors.UnknownTableError, match="nope"):
        writer.create_item("nope", 1.0, writer.history["b"][:])


def test_negative_priorities_are_for_tables_that_do_not_draw_by_them(serve: Serve) -> None:
    client = serve(
        fifo_table("heap", sampler=item_selectors.MinHeap()),
        fifo_table("drawn", sampler=item_selectors.Prioritized(1.0)),
        fifo_table("removed", remover=item_selectors.Prioritized(1.0)),
    )
    writer = client.trajectory_writer(3)
    steps(writer, 1)
    column = writer.history["b"][:]
    writer.create_item("heap", -1.0, column)
    assert only_item(client, "heap")[0].priority == -1.0
    for table in ("drawn", "removed"):
        for priority in (-1.0, float("inf")):
            with pytest.raises(ValueError, match="finite and not negative but got"):
                writer.create_item(table, priority, column)


SIGNATURE = {"a": ArraySpec((3, 2), F32), "b": ArraySpec((), np.int32)}


def test_items_are_held_against_their_table_s_signature(serve: Serve) -> None:
    client = serve(fifo_table(signature=SIGNATURE))
    writer = client.trajectory_writer(4)
    steps(writer, 4)
    a, b = writer.history["a"], writer.history["b"]
    for item, message in [
        ([a[-3:]], "trajectory has 1 columns but the table signature has 2 columns"),
        (
            [a[-2:], b[-1]],
            r"expects column 0 to be a float \[3,2\] .* got a float \[2,2\] tensor",
        ),
        ([a[-3:], b[-1:]], r"expects column 1 to be a int32 \[\] .* \[1\].*leaf \('b',\)"),
        ([b[-3:], b[-1]], r"expects column 0 .* a int32 \[3\] tensor"),
    ]:
        with pytest.raises(ValueError, match=message):
            writer.create_item("t", 1.0, item)
    writer.create_item("t", 1.0, {"x": a[-3:], "y": b[-1]})
    unchecked = client.trajectory_writer(4, validate_items=False)
    steps(unchecked, 1)
    unchecked.create_item("t", 1.0, [unchecked.history["b"][:]])
    assert client.server_info()["t"].current_size == 2


def test_one_copy_of_the_steps_serves_several_tables(serve: Serve) -> None:
    client = serve(fifo_table("one"), fifo_table("two"))
    with client.trajectory_writer(2) as writer:
        steps(writer, 2)
        for name in ("one", "two"):
            writer.create_item(name, 1.0, writer.history["b"][:])
    assert [only_item(client, n)[1][0].tolist() for n in ("one", "two")] == [[0, 1], [0, 1]]


def test_configure_sets_what_one_column_keeps(serve: Serve) -> None:
    client = serve()
    writer = client.trajectory_writer(2)
    writer.configure(("b",), num_keep_alive_refs=4, max_chunk_length=None)
    steps(writer, 5)
    writer.configure(("a",), num_keep_alive_refs=1, max_chunk_length=1)
    steps(writer, 1, start=5)
    assert writer.history["b"][-4:].numpy().tolist() == [2, 3, 4, 5]
    with pytest.raises(ValueError, match="the latest 1 of an episode"):
        writer.create_item("t", 1.0, [writer.history["a"][-2:]])
    for keep, chunk in [(0, None), (2, 0), (2, 3)]:
        with pytest.raises(ValueError, match=r"must be .*positive integer"):
            writer.configure(("a",), num_keep_alive_refs=keep, max_chunk_length=chunk)
