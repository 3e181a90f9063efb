"""TrajectoryWriter: ends of episodes, waits for tables, and the end of its use."""

from __future__ import annotations

import gc
import threading
import time
from typing import Any
from unittest import mock

import numpy as np
import pytest
from tests.unit.reverb.support import Serve, fifo_table, only_item, steps

from reverie.errors import EndlessWaitError
from reverie.reverb import errors, item_selectors, rate_limiters
from reverie.reverb.server import Table


def queue(size: int) -> Table:
    return Table.queue("t", size)


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
