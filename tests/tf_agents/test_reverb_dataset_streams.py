"""TrajectoryDataset and TimestepDataset as streams: order, waits, ends and where they run."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

tf = pytest.importorskip("tensorflow", reason="needs TensorFlow")
pytest.importorskip("tf_agents", reason="needs TF-Agents")

from tests.tf_agents.reverb_support import (  # noqa: E402
    LENGTHS,
    fill,
    items,
    numbers,
    queue,
    read,
    serve,
    size,
    timesteps,
    trajectories,
    uniform,
)

from reverie.reverb.tf import datasets, streams  # noqa: E402
from reverie.runtime import leaving, waiting  # noqa: E402

pytestmark = pytest.mark.xdist_group("alone")


def read_all(in_flight: int) -> tuple[list[Any], list[Any]]:
    """All items of a queue and of another one their steps."""
    _first, client, address = serve(queue())
    fill(client, LENGTHS)
    whole = numbers(trajectories(address, in_flight, rate_limiter_timeout_ms=0))
    _second, client, address = serve(queue())
    fill(client, LENGTHS)
    return whole, numbers(timesteps(address, in_flight, rate_limiter_timeout_ms=0))


@pytest.mark.parametrize("in_flight", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("nbytes", [1, 100, 1 << 20])
def test_every_item_comes_once_in_the_tables_order(
    monkeypatch: pytest.MonkeyPatch, in_flight: int, nbytes: int
) -> None:
    monkeypatch.setattr(streams, "_MAX_NBYTES_PER_REQUEST", nbytes)
    wanted = items(LENGTHS), list(range(sum(LENGTHS)))
    assert read_all(in_flight) == wanted


def test_a_chunk_that_drops_the_rest_of_its_request_would_be_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    take = streams.Stream._take

    def forgetful(self: Any) -> list[Any]:
        chunk = take(self)
        self._pending.clear()
        return chunk

    monkeypatch.setattr(streams.Stream, "_take", forgetful)
    assert read_all(7) != (items(LENGTHS), list(range(sum(LENGTHS))))


@pytest.mark.parametrize("make", [trajectories, timesteps])
@pytest.mark.parametrize("in_flight", [1, 3])
def test_no_more_items_than_allowed_are_ahead_of_the_reader(
    served: Any, make: Any, in_flight: int
) -> None:
    _, client, address = served
    fill(client, LENGTHS)
    iterator = iter(make(address, in_flight))
    assert size(client) == len(LENGTHS)  # an iterator alone takes nothing
    for count in range(1, 5):
        next(iterator)
        time.sleep(0.02)
        # Four elements are of the first two items, or are the first four.
        taken = 1 + (count - 1) // 3 if make is timesteps else count
        assert len(LENGTHS) - size(client) == -(-taken // in_flight) * in_flight


@pytest.mark.parametrize(("make", "count"), [(trajectories, 4), (timesteps, 9)])
@pytest.mark.parametrize("in_flight", [1, 3, 100])
def test_max_samples_are_taken_and_not_one_more(
    served: Any, make: Any, count: int, in_flight: int
) -> None:
    _, client, address = served
    fill(client, LENGTHS)
    assert len(list(make(address, in_flight, max_samples=4))) == count
    assert size(client) == len(LENGTHS) - 4


def test_the_first_timeout_is_the_end(served: Any) -> None:
    _, client, address = served
    start = time.monotonic()
    assert list(trajectories(address, rate_limiter_timeout_ms=0)) == []
    assert list(timesteps(address, rate_limiter_timeout_ms=300)) == []
    assert 0.3 <= time.monotonic() - start < 5.0
    iterator = iter(trajectories(address, rate_limiter_timeout_ms=100))
    fill(client, [1])
    next(iterator)
    with pytest.raises(StopIteration):
        next(iterator)
    fill(client, [1])
    with pytest.raises(StopIteration):
        next(iterator)


def test_a_waiting_reader_gets_what_is_added(served: Any) -> None:
    _, client, address = served
    timer = threading.Timer(0.4, fill, (client, [2]))
    timer.start()
    assert numbers(trajectories(address).take(1)) == [[0, 1]]
    timer.join()


def test_a_long_wait_is_logged_each_time_it_has_doubled(
    served: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, address = served
    monkeypatch.setattr(waiting, "_FIRST_REPORT_S", 0.25)
    with caplog.at_level(logging.WARNING, "reverie"):
        assert list(trajectories(address, rate_limiter_timeout_ms=900)) == []
    messages = [message for message in caplog.messages if "has waited" in message]
    assert len(messages) == 2
    assert "holds 0 items" in messages[0]


def test_waiting_ends_when_the_server_stops(served: Any) -> None:
    server, _, address = served
    timer = threading.Timer(0.5, server.stop)
    timer.start()
    start = time.monotonic()
    with pytest.raises(tf.errors.NotFoundError, match="on port"):
        read(trajectories(address))
    assert time.monotonic() - start < 5.0
    timer.join()


def test_it_works_inside_interleave_and_tf_function() -> None:
    _server, client, address = serve(uniform())
    fill(client, [2] * 9)

    def made(_: Any) -> Any:
        return trajectories(tf.constant(address), 4, table=tf.constant("t"))

    interleaved = tf.data.Dataset.range(3).interleave(made, 3, num_parallel_calls=3)

    @tf.function
    def over(dataset_or_none: Any) -> Any:
        total = tf.constant(0, tf.int64)
        for sample in (made(0) if dataset_or_none is None else dataset_or_none).take(10):
            total += sample.data["n"][1] - sample.data["n"][0]
        return total

    assert over(interleaved) == 10
    assert over(None) == 10
    assert over(None) == 10


def test_it_works_under_a_distribution_strategy() -> None:
    _server, client, address = serve(uniform())
    fill(client, [2] * 9)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    shapes = {"a": tf.TensorShape([2, 2]), "n": tf.TensorShape([2])}
    dataset = trajectories(address, shapes=shapes).batch(6)
    whole = iter(strategy.experimental_distribute_dataset(dataset))
    parts = iter(strategy.distribute_datasets_from_function(lambda _: dataset))
    for iterator, rows in ((whole, 3), (parts, 6)):
        values = strategy.experimental_local_results(next(iterator).data["n"])
        assert [value.shape for value in values] == [(rows, 2)] * 2


def test_a_session_reads_it_and_starts_it_again(served: Any) -> None:
    _, client, address = served
    fill(client, LENGTHS)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        dataset = trajectories(tf.constant(address), 1, table=tf.constant("t"))
        iterator = dataset.make_initializable_iterator()
        element = iterator.get_next()
        for expected in items(LENGTHS)[:2]:
            session.run(iterator.initializer)
            assert session.run(element).data["n"].tolist() == expected
        dataset = trajectories(address, 1, max_samples=1)
        element = dataset.make_one_shot_iterator().get_next()
        assert session.run(element).data["n"].tolist() == items(LENGTHS)[2]
        with pytest.raises(tf.errors.OutOfRangeError):
            session.run(element)
    assert size(client) == len(LENGTHS) - 3


def streams_left(monkeypatch: pytest.MonkeyPatch) -> int:
    """Streams that are there after all iterators have gone."""
    made: list[Any] = []
    init = streams.Streams.__init__

    def remembering(self: Any, *arguments: Any) -> None:
        init(self, *arguments)
        made.append(self)

    monkeypatch.setattr(streams.Streams, "__init__", remembering)
    datasets._stream_functions.cached.cache_clear()
    _server, client, address = serve(uniform())
    fill(client, [2] * 9)
    unread, read_once = iter(trajectories(address)), iter(trajectories(address))
    next(read_once)
    interleaved = iter(tf.data.Dataset.range(3).interleave(lambda _: trajectories(address)))
    next(interleaved)
    list(trajectories(address, max_samples=3))
    assert sum(map(len, made)) >= 2
    del unread, read_once, interleaved
    gc.collect()
    return sum(map(len, made))


def test_a_stream_goes_with_its_iterator(monkeypatch: pytest.MonkeyPatch) -> None:
    assert streams_left(monkeypatch) == 0


SCRIPT = """
import sys, threading, time
from tests.tf_agents.reverb_support import fill, queue, serve, trajectories, uniform
table = uniform() if sys.argv[1] == "full" else queue()
server, client, address = serve(table)
if sys.argv[1] == "full":
    fill(client, [2] * 9)
iterator = iter(trajectories(address, 1))
def read():
    while True:
        next(iterator)
threading.Thread(target=read, daemon=True).start()
time.sleep(1.5)
print("done", flush=True)
"""


@pytest.mark.parametrize("table", ["empty", "full"])
def test_the_interpreter_ends_while_a_thread_reads(table: str) -> None:
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, table],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "done" in result.stdout, result.stderr
    assert result.returncode == 0


def test_no_fetch_begins_once_the_interpreter_exits(
    served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, client, address = served
    fill(client, [2, 2])
    iterator = iter(trajectories(address, 1))
    next(iterator)
    monkeypatch.setattr(leaving, "_exiting", True)
    with pytest.raises(StopIteration):
        next(iterator)
    assert size(client) == 1
