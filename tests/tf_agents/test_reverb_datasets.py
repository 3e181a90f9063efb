"""TrajectoryDataset and TimestepDataset: Reverb's elements, and errors in what is declared."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow", reason="needs TensorFlow")
pytest.importorskip("tf_agents", reason="needs TF-Agents")

from tests.tf_agents.reverb_support import (  # noqa: E402
    INVALID,
    fill,
    numbers,
    queue,
    read,
    serve,
    timesteps,
    trajectories,
)

from reverie import reverb  # noqa: E402

ANY = tf.TensorShape(None)


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
