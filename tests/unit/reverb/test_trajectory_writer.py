"""TrajectoryWriter: steps in, items over any of their cells out."""

from __future__ import annotations

import collections
import gc
import threading
import time
from typing import Any
from unittest import mock

import numpy as np
import pytest
from tests.unit.reverb.support import Serve, fifo_table, only_item

from reverie import ArraySpec
from reverie.errors import EndlessWaitError, ReverieError
from reverie.reverb import errors, item_selectors, pybind, rate_limiters
from reverie.reverb.client import Client
from reverie.reverb.server import Table
from reverie.reverb.trajectory_writer import TrajectoryColumn, TrajectoryWriter

F32 = np.float32


def steps(writer: TrajectoryWriter, n: int, start: int = 0) -> None:
    for i in range(start, start + n):
        writer.append({"a": np.full(2, i, F32), "b": np.int32(i)})


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


@pytest.mark.parametrize("clear", [True, False])
def test_end_episode_begins_another(serve: Serve, clear: bool) -> None:
    client = serve()
    writer = client.trajectory_writer(4)
    steps(writer, 2)
    writer.create_item("t", 1.0, writer.history["b"][:])
    writer.end_episode(clear_buffers=clear)
    assert (writer.episode_steps, len(writer.history["b"])) == (0, 0 if clear else 2)
    steps(writer, 2, start=2)
    writer.create_item("t", 1.0, writer.history["b"][:])
    writer.end_episode()
    items = [sample.data[0].tolist() for sample in client.sample("t", 2, emit_timesteps=False)]
    assert items == [[0, 1], [0, 1]]  # a FIFO table's first item, again and again
    client.mutate_priorities("t", deletes=[next(client.sample("t"))[0].info.key])
    assert only_item(client)[1][0].tolist() == ([2, 3] if clear else [0, 1, 2, 3])
    assert client.server_info()["t"].num_episodes == 1


def queue(size: int) -> Table:
    return Table.queue("t", size)


def test_flush_waits_until_enough_items_are_in(serve: Serve) -> None:
    client = serve(queue(1))
    writer = client.trajectory_writer(1)
    writer.append([1])
    for _ in range(3):
        writer.create_item("t", 1.0, writer.history[0][:])  # never waits
    writer.flush(block_until_num_items=2)
    with pytest.raises(
        errors.DeadlineExceededError, match=r"0:00:00.02.* with 2 items waiting"
    ):
        writer.flush(timeout_ms=20)
    with pytest.raises(errors.DeadlineExceededError, match="End episode call did not"):
        writer.end_episode(timeout_ms=20)
    assert writer.episode_steps == 1
    with pytest.raises(ValueError, match="must be >= 0, got -1"):
        writer.flush(-1)
    thread = threading.Thread(target=lambda: list(client.sample("t", 2)))
    thread.start()
    writer.flush()
    thread.join()
    assert client.server_info()["t"].current_size == 1


def test_a_flush_that_nobody_can_end_says_so(serve: Serve) -> None:
    writer = serve(queue(1)).trajectory_writer(1)
    writer.append([1])
    for _ in range(2):
        writer.create_item("t", 1.0, writer.history[0][-1:])
    with pytest.raises(
        EndlessWaitError, match=r"for 1 items of a writer .* Sample from another"
    ):
        writer.flush()


def test_stopping_the_server_ends_a_flush_and_all_use(serve: Serve) -> None:
    client = serve(queue(1))
    writer = client.trajectory_writer(1)
    writer.append([1])
    for _ in range(2):
        writer.create_item("t", 1.0, writer.history[0][-1:])

    def stop() -> None:
        time.sleep(0.05)
        client._client.server.Stop()

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(errors.UnreachableServerError, match="was stopped"):
        writer.flush()
    thread.join()
    for use in (
        lambda: writer.append([1]),
        lambda: writer.create_item("t", 1.0, writer.history[0][:]),
        writer.end_episode,
    ):
        with pytest.raises(RuntimeError, match="was stopped"):
            use()
    writer.close()


def test_a_closed_writer_refuses_all_use(serve: Serve) -> None:
    writer = serve().trajectory_writer(2)
    steps(writer, 1)
    column = writer.history["b"][:]
    writer.close()
    writer.close()
    for use in (
        lambda: steps(writer, 1),
        lambda: writer.create_item("t", 1.0, column),
        writer.flush,
        writer.end_episode,
    ):
        with pytest.raises(errors.ClosedWriterError, match="Close has been called"):
            use()


def test_items_that_wait_go_in_after_their_writer_is_gone(serve: Serve) -> None:
    client = serve(queue(1))
    writer = client.trajectory_writer(1)
    for i in range(2):
        writer.append([i])
        writer.create_item("t", 1.0, writer.history[0][-1:])
    del writer
    gc.collect()
    found = [s[0].data[0].item() for s in client.sample("t", 2)]
    assert found == [0, 1]


def test_leaving_the_block_flushes_but_not_after_a_reverb_error(serve: Serve) -> None:
    writer = serve().trajectory_writer(1)
    for error, calls in ((None, 1), (ValueError, 1), (errors.DeadlineExceededError, 0)):
        with mock.patch.object(writer, "flush") as flush:
            try:
                with writer:
                    if error is not None:
                        raise error("x")
            except (ValueError, errors.ReverbError):
                pass
        assert flush.call_count == calls


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


def test_appending_is_atomic_when_another_thread_samples(serve: Serve) -> None:
    client = serve(fifo_table(sampler=item_selectors.Uniform(), max_size=50))
    wrong: list[Any] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            for sample in client.sample("t", 20, emit_timesteps=False):
                x, y = sample.data
                if not (np.diff(x) == 1).all() or (x + 0.5 != y).any():
                    wrong.append(sample)

    with client.trajectory_writer(4) as writer:
        for i in range(4):
            writer.append({"x": i, "y": i + 0.5})
        writer.create_item("t", 1.0, [writer.history["x"][-4:], writer.history["y"][-4:]])
        thread = threading.Thread(target=look)
        thread.start()
        for i in range(4, 2000):
            writer.append({"x": i, "y": i + 0.5})
            writer.create_item("t", 1.0, [writer.history["x"][-4:], writer.history["y"][-4:]])
        stop.set()
        thread.join()
    assert not wrong


def test_rate_limits_do_not_stop_create_item(serve: Serve) -> None:
    table = fifo_table(rate_limiter=rate_limiters.SampleToInsertRatio(1.0, 2, (0.0, 4.0)))
    client = serve(table)
    writer = client.trajectory_writer(1)
    for i in range(20):
        writer.append([i])
        writer.create_item("t", 1.0, writer.history[0][-1:])
    assert 0 < client.server_info()["t"].current_size < 20
