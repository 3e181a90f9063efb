"""Wrong use on purpose: wrong types, NaN, copies, forks. Named, refused, never stuck."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.unit.reverb.support import Serve, fifo_table

from reverie.errors import EndlessWaitError, InvalidArgumentError
from reverie.reverb import rate_limiters, reverb_types
from reverie.reverb.client import Client
from reverie.reverb.engine.writing.item_writer import TrajectoryWriter as Engine
from reverie.reverb.errors import UnknownTableError, UnreachableServerError
from reverie.reverb.server import Server, Table
from reverie.reverb.trajectory_writer import TrajectoryWriter

NAN = float("nan")


def full_queue(client: Client) -> TrajectoryWriter:
    """A writer of one item more than the queue "q" takes."""
    writer = client.trajectory_writer(1)
    for value in range(3):
        writer.append(value)
        writer.create_item("q", 1.0, writer.history[-1:])
    return writer


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, pickle.dumps])
@pytest.mark.parametrize("what", ["table", "server", "trajectory_writer", "writer"])
def test_what_stands_for_one_thing_cannot_be_copied(
    how: Callable[[Any], Any], what: str
) -> None:
    table = fifo_table()
    server = Server([table])
    client = server.localhost_client()
    with client.writer(1) as writer, client.trajectory_writer(1) as other:
        things = {
            "table": table,
            "server": server,
            "trajectory_writer": other,
            "writer": writer,
        }
        with pytest.raises(
            TypeError, match="cannot be copied or pickled: it stands for memory"
        ):
            how(things[what])
    client.insert(1, {"t": 1.0})  # no copy's end was the server's
    server.stop()


@pytest.mark.parametrize("timeout", [NAN, np.float32("nan")])
def test_no_wait_lasts_nan_seconds(serve: Serve, timeout: float) -> None:
    client = serve(Table.queue("q", 2))
    with pytest.raises(ValueError, match="timeout_ms is NaN"):
        full_queue(client).flush(timeout_ms=timeout)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="timeout is NaN"):
        client.server_info(timeout)  # type: ignore[arg-type]


def test_an_infinite_timeout_is_none(serve: Serve) -> None:
    code_waits = full_queue(serve(Table.queue("q", 2)))
    with pytest.raises(EndlessWaitError):
        code_waits.flush(timeout_ms=float("inf"))  # type: ignore[arg-type]


@pytest.mark.parametrize("arguments", [(0, "1"), ("0", None), (0.5, None)])
def test_a_flush_that_need_not_wait_refuses_the_same_arguments(
    serve: Serve, arguments: tuple[Any, Any]
) -> None:
    writer = serve().trajectory_writer(1)
    with pytest.raises(TypeError):
        writer.flush(*arguments)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: fifo_table(rate_limiter=None), "rate_limiter of table 't'"),
        (lambda: fifo_table(rate_limiter=rate_limiters.MinSize), "rate_limiter of table 't'"),
        (lambda: Server([3]), "tables: found 3"),  # type: ignore[list-item]
        (lambda: Server(fifo_table()), "found one Table"),  # type: ignore[arg-type]
        (lambda: Server([fifo_table()], checkpointer="folder"), "checkpointer: found"),  # type: ignore[arg-type]
        (lambda: rate_limiters.MinSize(None), "min_size_to_sample: found None"),  # type: ignore[arg-type]
    ],
)
def test_arguments_of_a_wrong_type_are_type_errors_that_name_them(
    call: Callable[[], Any], name: str
) -> None:
    with pytest.raises(TypeError, match=name):
        call()


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda client: client.writer("3"), "max_sequence_length: found '3'"),
        (lambda client: client.writer(3, chunk_length="1"), "chunk_length: found '1'"),
        (lambda client: client.writer(3, max_in_flight_items=1.5), "max_in_flight_items"),
        (lambda client: client.trajectory_writer(None), "num_keep_alive_refs: found None"),
        (lambda client: next(client.sample("t", "3")), "max_samples: found '3'"),
        (lambda client: client.insert(1, {"t": 10**400}), "priority: found 1000"),
        (lambda client: client.insert(1, {"t": np.ones(2)}), "priority: found array"),
        (
            lambda client: client.trajectory_writer(1).configure(
                "ab", num_keep_alive_refs=1, max_chunk_length=None
            ),
            "path: found 'ab', wanted a tuple",
        ),
    ],
)
def test_a_client_s_arguments_of_a_wrong_type_are_named(
    serve: Serve, call: Callable[[Client], Any], name: str
) -> None:
    with pytest.raises(TypeError, match=name):
        call(serve())


def test_a_table_s_name_that_is_no_text_is_an_unknown_one(serve: Serve) -> None:
    with pytest.raises(UnknownTableError, match=r"\['t'\] was not found"):
        next(serve().sample(["t"]))  # type: ignore[arg-type]


def test_an_insert_that_cannot_end_leaves_no_open_writer_behind(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    client = serve(Table.queue("q", 1))
    client.insert(1, {"q": 1.0})
    with pytest.raises(EndlessWaitError):
        client.insert(2, {"q": 1.0})
    assert "without calling .close" not in caplog.text


def test_a_server_that_was_not_kept_says_what_became_of_it() -> None:
    client = Server([fifo_table()]).localhost_client()
    with pytest.raises(UnreachableServerError, match="stops with the last reference to it"):
        client.insert(1, {"t": 1.0})


@pytest.mark.xdist_group("alone")
def test_a_column_with_a_value_in_every_other_step_costs_no_more_for_a_long_history(
    serve: Serve,
) -> None:
    def seconds(keep: int) -> float:
        writer = serve().trajectory_writer(keep)
        best = float("inf")
        for _ in range(5):
            start = time.perf_counter()
            for i in range(4 * 2000):
                writer.append({"a": i, "b": i} if i % 2 else {"a": i})
            best = min(best, time.perf_counter() - start)
        return best

    assert seconds(4000) < 3 * seconds(2)


def test_ctrl_c_in_append_shifts_no_later_item(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve()
    writer = client.trajectory_writer(10)
    for i in range(3):
        writer.append(i)
    store = Engine.append_whole

    def interrupted(engine: Engine, leaves: list[Any]) -> bool:
        store(engine, leaves)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "append_whole", interrupted)
        with pytest.raises(KeyboardInterrupt):
            writer.append(3)
    writer.append(4)
    writer.append(5)
    writer.create_item("t", 1.0, writer.history[-2:])
    (sample,) = client.sample("t", 1, emit_timesteps=False)
    assert sample.data[0].tolist() == [4, 5]


FORKS = """
import gc, os, signal, sys, threading, time
import numpy as np
from reverie import reverb
from reverie.runtime import leaving

server = reverb.Server([reverb.Table.queue("q", 10**6)])
client = server.localhost_client()
with client.trajectory_writer(1) as writer:
    for _ in range(20_000):
        writer.append(1)
        writer.create_item("q", 1.0, writer.history[-1:])
core = client._client.server.tables["q"].core
keys = np.arange(1, 4_000_001, dtype=np.uint64)  # of no item
mine = client.trajectory_writer(1)
if sys.argv[1]:  # as if nothing watched over writers
    leaving._live.clear()

def work():
    while not done:
        core.delete(keys)  # holds the store's mutex nearly all the time, mostly without the GIL

done = False
thread = threading.Thread(target=work)
thread.start()
stuck, end = 0, time.monotonic() + 10
for _ in range(20):
    pid = os.fork()
    if pid == 0:
        signal.alarm(1 if sys.argv[1] else 5)
        del mine
        gc.collect()  # writers are parts of cycles
        os._exit(0)
    stuck += os.waitpid(pid, 0)[1] != 0
    if stuck or time.monotonic() > end:
        break
done = True
thread.join()
print("stuck:", stuck)
"""


@pytest.mark.xdist_group("alone")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize(("how", "stuck"), [("", 0), ("unwatched", 1)])
def test_a_forked_child_may_drop_its_writers(how: str, stuck: int) -> None:
    command = [sys.executable, "-W", "ignore", "-c", FORKS, how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout == f"stuck: {stuck}\n", done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_takes_the_core_of_every_living_writer_out_of_the_child_s_reach(
    serve: Serve,
) -> None:
    writer = serve().trajectory_writer(1)
    engine = writer._writer
    kept = engine._store.abandon()
    assert kept[-1] == [engine.abandon()]


def test_nan_is_refused_by_the_engine_s_sampler(serve: Serve) -> None:
    from reverie.reverb.engine.sampler import ItemStream

    client = serve()
    with pytest.raises(InvalidArgumentError, match="timeout_ms is NaN"):
        ItemStream(client._client.server, "t", timeout_ms=NAN)  # type: ignore[arg-type]


def test_a_signature_without_tensorflow_may_leave_extents_open(serve: Serve) -> None:
    spec = reverb_types.TensorSpec((None, 2), np.dtype(np.float32))
    client = serve(fifo_table(signature={"a": spec}))
    for steps in (1, 3):
        with client.trajectory_writer(3) as writer:
            for _ in range(steps):
                writer.append(np.zeros(2, np.float32))
            writer.create_item("t", 1.0, {"a": writer.history[:]})
    items = client.sample("t", 2, emit_timesteps=False, unpack_as_table_signature=True)
    assert next(items).data["a"].shape == (1, 2)
    writer = client.trajectory_writer(1)
    writer.append(np.zeros(3, np.float32))
    with pytest.raises(ValueError, match=r"expects column 0 to be a float \[\?,2\] tensor"):
        writer.create_item("t", 1.0, writer.history[:])


def test_a_text_that_utf_8_cannot_express_is_a_type_error_that_says_so(serve: Serve) -> None:
    writer = serve().trajectory_writer(1)
    for _ in range(2):  # the first value of a column, and a later one
        with pytest.raises(TypeError, match="UTF-8 cannot express"):
            writer.append({"a": "\ud800"})
        writer.append({"a": "fine"})
