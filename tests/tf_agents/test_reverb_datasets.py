"""TrajectoryDataset and TimestepDataset: Reverb's elements, errors and ends."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="needs TensorFlow")
pytest.importorskip("tf_agents", reason="needs TF-Agents")

from tests.tf_agents.reverb_support import (  # noqa: E402
    DTYPES,
    SHAPES,
    STEP_SHAPES,
    fill,
    items,
    queue,
    serve,
    size,
    uniform,
)

from reverie import reverb  # noqa: E402
from reverie.reverb.tf import streams  # noqa: E402
from reverie.runtime import leaving, waiting  # noqa: E402

ANY = tf.TensorShape(None)
LENGTHS = [3, 3, 1, 2, 2, 2, 5, 1, 1, 4]
INVALID = tf.errors.InvalidArgumentError


@pytest.fixture
def served() -> Iterator[tuple[reverb.Server, reverb.Client, str]]:
    server, client, address = serve(queue())
    yield server, client, address
    server.stop()


def trajectories(address: Any, in_flight: int = 10, **settings: Any) -> Any:
    settings = {"table": "t", "dtypes": DTYPES, "shapes": SHAPES, **settings}
    return reverb.TrajectoryDataset(
        address, max_in_flight_samples_per_worker=in_flight, **settings
    )


def timesteps(address: Any, in_flight: int = 10, **settings: Any) -> Any:
    settings = {"table": "t", "dtypes": DTYPES, "shapes": STEP_SHAPES, **settings}
    return reverb.TimestepDataset(
        address, max_in_flight_samples_per_worker=in_flight, **settings
    )


def numbers(dataset: Any) -> list[Any]:
    """The column `n` of each element."""
    return [np.asarray(sample.data["n"]).tolist() for sample in dataset]


def read(dataset: Any) -> Any:
    return next(iter(dataset))


def test_an_element_is_a_replay_sample_with_an_items_data_and_info(served: Any) -> None:
    _, client, address = served
    fill(client, [3])
    dataset = trajectories(address)
    assert isinstance(dataset, tf.data.Dataset)
    sample = read(dataset)
    assert isinstance(sample, reverb.ReplaySample)
    np.testing.assert_array_equal(sample.data["a"], [[0, 0], [1, 1], [2, 2]])
    np.testing.assert_array_equal(sample.data["n"], [0, 1, 2])
    assert [field.dtype for field in sample.info] == list(reverb.SampleInfo.tf_dtypes())
    assert {field.shape.rank for field in sample.info} == {0}
    assert [float(field) for field in sample.info[1:]] == [1.0, 1.0, 1.0, 1.0]
    assert dataset.element_spec == reverb.ReplaySample(
        info=reverb.SampleInfo(*(tf.TensorSpec((), d) for d in reverb.SampleInfo.tf_dtypes())),
        data={
            "a": tf.TensorSpec((None, 2), tf.float32),
            "n": tf.TensorSpec((None,), tf.int64),
        },
    )


def test_timesteps_come_one_by_one_with_their_items_info(served: Any) -> None:
    _, client, address = served
    fill(client, [3, 2])
    samples = list(timesteps(address, rate_limiter_timeout_ms=0))
    assert [int(s.data["n"]) for s in samples] == [0, 1, 2, 3, 4]
    assert [s.data["a"].shape for s in samples] == [(2,)] * 5
    keys = [int(s.info.key) for s in samples]
    assert keys[0] == keys[1] == keys[2] != keys[3] == keys[4]


def test_lists_become_tuples(served: Any) -> None:
    _, client, address = served
    client.insert([np.int32(1), {"x": [np.float64(2)]}], {"t": 1.0})
    dataset = timesteps(
        address, dtypes=[tf.int32, {"x": [tf.float64]}], shapes=[ANY, {"x": [ANY]}]
    )
    assert dataset.element_spec.data == (
        tf.TensorSpec(None, tf.int32),
        {"x": (tf.TensorSpec(None, tf.float64),)},
    )
    first, second = read(dataset).data
    assert (int(first), float(second["x"][0])) == (1, 2.0)


@pytest.mark.parametrize("make", [trajectories, timesteps])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"in_flight": 0}, "max_in_flight_samples_per_worker"),
        ({"num_workers_per_iterator": 0}, "num_workers_per_iterator"),
        ({"num_workers_per_iterator": -2}, "num_workers_per_iterator"),
        ({"max_samples_per_stream": 0}, "max_samples_per_stream"),
        ({"rate_limiter_timeout_ms": -2}, "must be an integer >= -1"),
        ({"max_samples": 0}, "max_samples"),
        ({"shapes": {"a": ANY}}, "structure"),
        ({"shapes": {"a": [2], "n": []}}, "structure"),
    ],
)
def test_arguments_out_of_range_are_refused(
    make: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make("localhost:1", **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtypes": {"a": tf.float64, "n": tf.int64}}, r"\(double, \[\?,2\]\).*'a'"),
        ({"shapes": {"a": tf.TensorShape([4, 2]), "n": ANY}}, r"\(float, \[4,2\]\).*'a'"),
        ({"shapes": {"a": ANY, "n": tf.TensorShape([])}}, r"\(int64, \[\]\).*'n'"),
        ({"dtypes": [tf.float32], "shapes": [ANY]}, "1 tensors, but data .* shows 2"),
    ],
)
def test_items_that_differ_from_the_declaration_are_an_error_that_names_the_column(
    served: Any, settings: dict[str, Any], message: str
) -> None:
    _, client, address = served
    fill(client, [3])
    with pytest.raises(INVALID, match=message):
        read(trajectories(address, **settings))


def test_timesteps_are_checked_as_timesteps(served: Any) -> None:
    _, client, address = served
    fill(client, [3])
    shapes = {"a": tf.TensorShape([3, 2]), "n": ANY}
    with pytest.raises(INVALID, match=r"\(float, \[3,2\]\).*\(float, \[2\]\)"):
        read(timesteps(address, shapes=shapes))


@pytest.mark.parametrize("squeezed", [True, False])
def test_an_item_without_steps_cannot_be_cut(served: Any, squeezed: bool) -> None:
    _, client, address = served
    with client.trajectory_writer(3) as writer:
        for step in range(3):
            writer.append({"a": np.full(2, step, np.float32), "n": np.int64(step)})
        history = writer.history
        last = history["n"][-1] if squeezed else history["n"][-1:]
        writer.create_item("t", 1.0, {"a": history["a"][:], "n": last})
    shapes = {"a": ANY, "n": ANY}
    with pytest.raises(INVALID, match="cannot be decomposed into timesteps"):
        read(timesteps(address, shapes=shapes))


SIGNATURE = {"a": tf.TensorSpec([None, 2], tf.float32), "n": tf.TensorSpec([None], tf.int64)}


def test_from_table_signature_knows_dtypes_and_shapes() -> None:
    _server, client, address = serve(queue(signature=SIGNATURE))
    fill(client, [3])
    dataset = reverb.TrajectoryDataset.from_table_signature(address, "t", 1)
    assert isinstance(dataset, reverb.TrajectoryDataset)
    assert dataset.element_spec.data == {
        "a": tf.TensorSpec((None, 2), tf.float32),
        "n": tf.TensorSpec((None,), tf.int64),
    }
    assert numbers(dataset.take(1)) == [[0, 1, 2]]
    with pytest.raises(ValueError, match=r"does not contain any table named u.*Found: t"):
        reverb.TrajectoryDataset.from_table_signature(address, "u", 1)
    _other, _, address = serve(queue())
    with pytest.raises(ValueError, match="does not have a signature"):
        reverb.TimestepDataset.from_table_signature(address, "t", 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtypes": [tf.float32], "shapes": [ANY]}, "Requested 1 tensors.*shows 2"),
        ({"dtypes": {"a": tf.int32, "n": tf.int64}}, r"index 0 .*\(int32, .*'a'"),
        ({"shapes": {"a": ANY, "n": tf.TensorShape([])}}, r"index 1 .*\(int64, \[\]\).*'n'"),
    ],
)
def test_a_declaration_that_the_signature_excludes_is_an_error_at_once(
    settings: dict[str, Any], message: str
) -> None:
    _server, _, address = serve(queue(signature=SIGNATURE))  # empty: nothing is waited for
    with pytest.raises(INVALID, match=message):
        read(trajectories(address, **settings))


def test_unknown_tables_and_addresses_are_not_found(served: Any) -> None:
    server, _, address = served
    with pytest.raises(tf.errors.NotFoundError, match="'u' was not found"):
        read(trajectories(address, table="u"))
    server.stop()
    with pytest.raises(tf.errors.NotFoundError, match=f"on port {server.port}"):
        read(trajectories(address))


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


@pytest.mark.parametrize("shape", [ANY, tf.TensorShape([None, None]), tf.TensorShape([1, 0])])
def test_rows_without_elements_come_whole(shape: Any) -> None:
    _server, client, address = serve(queue())
    with client.trajectory_writer(1) as writer:
        for _ in range(5):
            writer.append([np.zeros(0, np.int16)])
            writer.create_item("t", 1.0, [writer.history[0][-1:]])
    dataset = trajectories(
        address, dtypes=[tf.int16], shapes=[shape], rate_limiter_timeout_ms=0
    )
    assert [sample.data[0].shape for sample in dataset] == [(1, 0)] * 5


def test_strings_arrive_as_bytes(served: Any) -> None:
    _, client, address = served
    with client.trajectory_writer(2) as writer:
        for text in (b"one", b""):
            writer.append([np.array(text, object)])
        writer.create_item("t", 1.0, {"s": writer.history[0][:], "u": writer.history[0][-2]})
    dataset = trajectories(
        address, dtypes={"s": tf.string, "u": tf.string}, shapes={"s": ANY, "u": ANY}
    )
    data = read(dataset).data
    assert (data["s"].numpy().tolist(), data["u"].numpy()) == ([b"one", b""], b"one")


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
from tests.tf_agents.reverb_support import fill, queue, serve, uniform
from tests.tf_agents.test_reverb_datasets import trajectories
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
    with pytest.raises(INVALID, match="interpreter exits"):
        next(iterator)
    assert size(client) == 1
