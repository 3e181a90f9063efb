"""The legacy writer: items over the latest whole steps."""

from __future__ import annotations

import gc
import logging
import threading
from typing import Any

import numpy as np
import pytest
from tests.unit.reverb.support import Serve, fifo_table, only_item

from reverie import ArraySpec
from reverie.errors import EndlessWaitError
from reverie.reverb import errors
from reverie.reverb.server import Table


def test_an_item_holds_the_latest_steps(serve: Serve) -> None:
    client = serve()
    with client.writer(3) as writer:
        for i in range(5):
            writer.append({"x": i, "y": np.full(2, i, np.float32)})
        writer.create_item("t", 3, 1.5)
    info, (x, y) = only_item(client)
    assert (info.priority, x.tolist(), y.tolist()) == (1.5, [2, 3, 4], [[2, 2], [3, 3], [4, 4]])


def test_a_sequence_is_its_steps(serve: Serve) -> None:
    client = serve()
    with client.writer(4) as writer:
        writer.append([-1, b"z"])
        writer.append_sequence([np.arange(3), np.array([b"a", b"b", b"c"])])
        writer.create_item("t", 4, 1.0)
    assert [c.tolist() for c in only_item(client)[1]] == [
        [-1, 0, 1, 2],
        [b"z", b"a", b"b", b"c"],
    ]


@pytest.mark.parametrize(
    ("sequence", "message"),
    [
        ([], "empty data"),
        ([np.int64(3), np.arange(3)], "scalar tensor at index 0"),
        ([np.arange(3), np.zeros((4, 2))], r"non equal batch dimension: \[3\], \[4,2\]"),
    ],
)
def test_bad_sequences_are_refused_whole(serve: Serve, sequence: Any, message: str) -> None:
    writer = serve().writer(4)
    with pytest.raises(ValueError, match=message):
        writer.append_sequence(sequence)
    with pytest.raises(ValueError, match="only the latest 0"):
        writer.create_item("t", 1, 1.0)
    writer.close()


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ([1], "Previously it was 2, but is now 1"),
        ([1.0, 2.0], "different data types. Got int64 and double in leaf 0"),
        ([1, [2.0, 3.0]], "Previously it was 2, but is now 3"),
        ([1, np.ones(2)], r"index 1 due to mismatched shapes. .*\[\], this one \[2\]"),
    ],
)
def test_within_a_chunk_steps_have_one_layout(serve: Serve, step: Any, message: str) -> None:
    client = serve()
    with client.writer(2) as writer:
        writer.append([1, 2.0])
        with pytest.raises(ValueError, match=f"{message}.*Nothing was stored"):
            writer.append(step)
        writer.append([3, 4.0])
        writer.create_item("t", 2, 1.0)
    assert [c.tolist() for c in only_item(client)[1]] == [[1, 3], [2.0, 4.0]]


def test_the_layout_may_change_between_chunks_but_not_within_an_item(serve: Serve) -> None:
    client = serve(Table.queue("t", 10))
    with client.writer(2, chunk_length=1) as writer:
        for value in (1, "text", np.zeros(3), "texts"):
            writer.append([value])
            with pytest.raises(ValueError, match="only the latest 1 can be"):
                writer.create_item("t", 2, 1.0)
            writer.create_item("t", 1, 1.0)
    found = [steps[0].data[0].tolist() for steps in client.sample("t", 4)]
    assert found == [1, b"text", [0, 0, 0], b"texts"]


def test_a_flush_completes_the_chunk(serve: Serve) -> None:
    with serve().writer(5) as writer:
        writer.append([1])
        writer.create_item("t", 1, 1.0)
        writer.flush()
        writer.append(["another layout"])


def test_leaves_that_cannot_be_stored_are_type_errors(serve: Serve) -> None:
    with serve().writer(2) as writer:
        with pytest.raises(TypeError, match=r"no leaf for column \(1,\): it is None"):
            writer.append([1, None])
        with pytest.raises(TypeError, match=r"incompatible leaf for column \(0,\)\. .*object"):
            writer.append([object(), 1])


@pytest.mark.parametrize(
    ("table", "count", "priority", "message"),
    [
        ("t", 0, 1.0, r"num_timesteps \(0\)"),
        ("t", 4, 1.0, "Found 4, but only the latest 3"),
        ("nope", 1, 1.0, "Unable to find signatures for table 'nope'"),
        ("t", 1, float("nan"), "must not be nan"),
    ],
)
def test_bad_items_are_refused(
    serve: Serve, table: str, count: int, priority: float, message: str
) -> None:
    client = serve()
    with client.writer(3) as writer:
        for i in range(5):
            writer.append([i])
        with pytest.raises(ValueError, match=message):
            writer.create_item(table, count, priority)
    assert client.server_info()["t"].current_size == 0


@pytest.mark.parametrize(
    ("signature", "step", "fits"),
    [
        ((), 1, [True, True, True]),
        ((2,), 1, [False, True, False]),  # as an item of two steps
        ((None,), 1, [True, True, True]),
        ((2,), [1, 1], [True, True, True]),  # as a step
        ((None, 2), [1, 1], [True, True, True]),
        ((3, 2), [1, 1], [False, False, True]),
        ((3,), [1, 1], [False, False, False]),
    ],
)
def test_a_signature_may_be_of_a_step_or_of_an_item(
    serve: Serve, signature: Any, step: Any, fits: list[bool]
) -> None:
    client = serve(fifo_table(signature={"x": Shape(signature)}))
    for length, fit in zip((1, 2, 3), fits, strict=True):
        with client.writer(3) as writer:
            for _ in range(3):
                writer.append(np.array(step))
            if fit:
                writer.create_item("t", length, 1.0)
            else:
                with pytest.raises(ValueError, match=r"flattened index 0, saw .* \('x',\)"):
                    writer.create_item("t", length, 1.0)


class Shape:
    """A spec whose extents may be unknown."""

    def __init__(self, shape: Any) -> None:
        self.shape = shape
        self.dtype = np.dtype(np.int64)


def test_a_signature_of_other_columns_is_told(serve: Serve) -> None:
    spec = ArraySpec((), np.int64)
    with serve(fifo_table(signature=[spec, spec])).writer(1) as writer:
        writer.append([1])
        with pytest.raises(ValueError, match="called with 1 tensors, but table requires 2"):
            writer.create_item("t", 1, 1.0)


def test_a_closed_writer_refuses_all_use(serve: Serve) -> None:
    writer = serve().writer(1)
    assert repr(writer) == (
        "Writer(chunk_length=1, max_timesteps=1, delta_encoded=0, max_in_flight_items=25, "
        "index_within_episode=0, closed=0), closed: False"
    )
    writer.close()
    with pytest.raises(ValueError, match="already been called"):
        writer.close()
    with pytest.raises(ValueError, match="Cannot reuse"):
        writer.__enter__()
    for use, name in [
        (lambda: writer.append([1]), "Append"),
        (lambda: writer.create_item("t", 1, 1.0), "CreateItem"),
        (writer.flush, "Flush"),
    ]:
        with pytest.raises(errors.ClosedWriterError, match=f"method {name} after Close"):
            use()


def test_deleting_an_open_writer_warns_and_loses_no_item(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    client = serve()
    writer = client.writer(1)
    writer.append([1])
    writer.create_item("t", 1, 1.0)
    with caplog.at_level(logging.WARNING, "reverie"):
        del writer
        gc.collect()
    assert "deleted without calling .close" in caplog.text
    only_item(client)


def test_items_in_flight_are_limited(serve: Serve) -> None:
    client = serve(Table.queue("t", 1))
    writer = client.writer(1, max_in_flight_items=2)
    writer.append([1])
    for _ in range(3):
        writer.create_item("t", 1, 1.0)
    with pytest.raises(EndlessWaitError, match=r"for 3 items of a writer .* which 2 may wait"):
        writer.create_item("t", 1, 1.0)
    thread = threading.Thread(target=lambda: list(client.sample("t", 3)))
    thread.start()
    writer.close()
    thread.join()
    assert client.server_info()["t"].current_size == 1


def test_a_stopped_server_is_an_error_unless_retries_are_off(serve: Serve) -> None:
    client = serve(Table.queue("t", 1))
    writers = [client.writer(1) for _ in range(2)]
    for writer in writers:
        writer.append([1])
        writer.create_item("t", 1, 1.0)
    client._client.server.Stop()
    with pytest.raises(RuntimeError, match="was stopped"):
        writers[0].append([1])
    writers[0].close(retry_on_unavailable=False)
    with pytest.raises(RuntimeError, match="was stopped"):
        writers[1].close()
