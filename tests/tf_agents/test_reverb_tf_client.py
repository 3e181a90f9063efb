"""TFClient: the same calls in eager code, in tf.function and in a session."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="needs TensorFlow")
pytest.importorskip("tf_agents", reason="needs TF-Agents")

from tests.tf_agents.reverb_support import fill, queue, serve, size, uniform  # noqa: E402

from reverie import errors, reverb  # noqa: E402

INVALID = tf.errors.InvalidArgumentError
NOT_FOUND = tf.errors.NotFoundError


def eager(call: Callable[[], Any]) -> Any:
    return tf.nest.map_structure(_numpy, call())


def function(call: Callable[[], Any]) -> Any:
    outputs: list[Any] = []

    @tf.function
    def run() -> Any:
        result = call()
        outputs.append(result)
        return None if isinstance(result, tf.Operation) else result

    result = run()
    return tf.nest.map_structure(_numpy, result)


def session(call: Callable[[], Any]) -> Any:
    with tf.Graph().as_default(), tf.compat.v1.Session() as running:
        return running.run(call())


def _numpy(value: Any) -> Any:
    return value.numpy() if tf.is_tensor(value) else value


@pytest.fixture(params=[eager, function, session])
def run(request: pytest.FixtureRequest) -> Any:
    """Runs a call of TFClient in one of the three ways."""
    return request.param


def insert(client: Any, value: float, *tables: str) -> Any:
    return client.insert(
        [tf.constant([value, value], tf.float32), tf.constant(7, tf.int64)],
        tf.constant(tables),
        tf.constant([1.0] * len(tables), tf.float64),
    )


def test_what_is_inserted_is_sampled(run: Any) -> None:
    _server, client, address = serve(queue())
    tf_client = reverb.TFClient(address, "shared", "mine")
    assert tf_client.server_address == address
    assert run(lambda: insert(tf_client, 2.0, "t", "t")) is None
    assert size(client) == 2
    sample = run(lambda: tf_client.sample("t", {"b": tf.int64, "a": [tf.float32]}))
    assert isinstance(sample, reverb.ReplaySample)
    # Columns come in the order of dictionary keys, as the nest is flattened.
    assert sample.data["a"][0].tolist() == [2.0, 2.0]
    assert sample.data["b"] == 7
    assert tuple(sample.info[1:]) == (1.0, 2, 1.0, 1)
    assert [np.asarray(f).dtype for f in sample.info] == ["u8", "f8", "i8", "f8", "i4"]
    assert size(client) == 1


def test_a_longer_item_gives_its_first_step(run: Any) -> None:
    _server, client, address = serve(queue())
    fill(client, [3])
    sample = run(lambda: reverb.TFClient(address).sample("t", [tf.float32, tf.int64]))
    assert sample.data[0].tolist() == [0.0, 0.0]
    assert sample.data[1] == 0


def test_priorities_are_updated_and_unknown_keys_ignored(run: Any) -> None:
    _server, client, address = serve(uniform())
    client.insert([np.float32(0)], {"t": 1.0})
    tf_client = reverb.TFClient(address)
    key = int(run(lambda: tf_client.sample("t", [tf.float32])).info.key)

    def update() -> Any:
        keys = tf.constant(np.array([key, 12345], np.uint64))
        return tf_client.update_priorities(tf.constant("t"), keys, [5.0, 1.0])

    assert run(update) is None
    assert run(lambda: tf_client.sample("t", [tf.float32])).info.priority == 5.0


def test_errors_are_tensorflows(run: Any) -> None:
    _server, client, address = serve(uniform())
    client.insert([np.float32(0)], {"t": 1.0})
    tf_client = reverb.TFClient(address)
    with pytest.raises(NOT_FOUND, match="'u' was not found"):
        run(lambda: tf_client.sample("u", [tf.float32]))
    with pytest.raises(NOT_FOUND, match="'u' was not found"):
        run(lambda: tf_client.update_priorities("u", [1], [1.0]))
    gone, _, nowhere = serve(uniform())  # a port on which nothing was yet is waited for
    gone.stop()
    with pytest.raises(NOT_FOUND, match=f"on port {gone.port}"):
        run(lambda: reverb.TFClient(nowhere).sample("t", [tf.float32]))
    with pytest.raises(INVALID, match="has 1 columns, but data_dtypes has 2"):
        run(lambda: tf_client.sample("t", [tf.float32, tf.float32]))
    with pytest.raises(INVALID, match=r"do not match in shape \(\[1\] vs. \[2\]\)"):
        run(lambda: tf_client.update_priorities("t", tf.constant([1], tf.uint64), [1.0, 2.0]))
    with pytest.raises(INVALID, match="rank 1"):
        run(lambda: tf_client.update_priorities("t", tf.constant(1, tf.uint64), 1.0))
    with pytest.raises(INVALID, match="u"):
        run(lambda: insert(tf_client, 1.0, "u"))
    with pytest.raises(INVALID, match=r"nan|NaN"):
        run(
            lambda: tf_client.insert(
                [tf.constant(1.0)],
                tf.constant(["t"]),
                tf.constant([float("nan")], tf.float64),
            )
        )


def test_another_dtype_is_an_error_that_names_the_column(run: Any) -> None:
    _server, client, address = serve(uniform())
    client.insert([np.float32(0)], {"t": 1.0})
    # As in Reverb: one class in eager code, another in graphs.
    wanted = INVALID if run is eager else tf.errors.InternalError
    with pytest.raises(wanted, match=r"actual float vs. expect double.*'x'"):
        run(lambda: reverb.TFClient(address).sample("t", {"x": tf.float64}))


@pytest.mark.parametrize(
    ("tables", "priorities"),
    [
        (tf.constant(1), tf.constant([1.0], tf.float64)),
        (tf.constant("t"), tf.constant([1.0], tf.float64)),
        (tf.constant(["t"]), tf.constant([1.0])),
        (tf.constant(["t"]), tf.constant(1.0, tf.float64)),
        (tf.constant(["t", "t"]), tf.constant([1.0], tf.float64)),
    ],
)
def test_insert_refuses_wrong_dtypes_and_ranks(tables: Any, priorities: Any) -> None:
    with pytest.raises(ValueError, match="must"):
        reverb.TFClient("localhost:1").insert([tf.constant(1)], tables, priorities)


def test_keys_of_another_dtype_are_refused() -> None:
    with pytest.raises(ValueError, match="uint64"):
        reverb.TFClient("localhost:1").update_priorities("t", tf.constant([1]), [1.0])


def test_strings_go_in_and_come_out(run: Any) -> None:
    _server, _, address = serve(queue())
    tf_client = reverb.TFClient(address)
    run(
        lambda: tf_client.insert(
            [tf.constant(b"\x00text"), tf.constant(["a", ""])],
            tf.constant(["t"]),
            tf.constant([1.0], tf.float64),
        )
    )
    sample = run(lambda: tf_client.sample("t", [tf.string, tf.string]))
    assert sample.data[0] == b"\x00text"
    assert list(sample.data[1]) == [b"a", b""]


def test_sample_waits_for_an_item(run: Any) -> None:
    _server, client, address = serve(queue())
    timer = threading.Timer(0.4, client.insert, ([np.float32(3)], {"t": 1.0}))
    timer.start()
    assert run(lambda: reverb.TFClient(address).sample("t", [tf.float32])).data[0] == 3.0
    timer.join()


def test_a_wait_ends_when_the_server_stops(run: Any) -> None:
    server, _, address = serve(queue())
    timer = threading.Timer(0.4, server.stop)
    timer.start()
    start = time.monotonic()
    with pytest.raises(NOT_FOUND, match="on port"):
        run(lambda: reverb.TFClient(address).sample("t", [tf.float32]))
    assert time.monotonic() - start < 5.0
    timer.join()


def test_a_wait_that_nothing_can_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _server, _, address = serve(queue())
    monkeypatch.setattr("sys._current_frames", lambda: {threading.get_ident(): None})
    with pytest.raises(errors.EndlessWaitError, match="only thread"):
        reverb.TFClient(address).sample("t", [tf.float32])
