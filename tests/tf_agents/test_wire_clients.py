"""dm-reverb's clients against a server of Reverie in another process."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

pytest.importorskip("reverb")
pytest.importorskip("tensorflow")
pytest.importorskip("grpc")
pytest.importorskip("cramjam")

import grpc
import reverb as rv
import tensorflow as tf
from tests.tf_agents.wire_support import (
    PATIENCE_S,
    ROOT,
    ServerProcess,
    environment,
    within,
)

DTYPES = [
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
]


def sampled(client: Any, table: str, n: int = 1) -> list[Any]:
    return within(PATIENCE_S, lambda: list(client.sample(table, n, emit_timesteps=False)))


def same(got: Any, wanted: Any) -> None:
    got = np.asarray(got)
    wanted = np.asarray(wanted)
    assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
    np.testing.assert_array_equal(got, wanted)


def values(dtype: Any, shape: tuple[int, ...]) -> Any:
    return (np.arange(np.prod(shape)) * 3).reshape(shape).astype(dtype)


@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3, 4)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_makes_the_round_trip(client: Any, dtype: Any, shape: Any) -> None:
    steps = values(dtype, (7, *shape))
    with client.trajectory_writer(num_keep_alive_refs=7) as writer:
        for step in steps:
            writer.append({"x": np.asarray(step, steps.dtype)})
        writer.create_item("t", 1.0, {"x": writer.history["x"][1:6]})
        writer.create_item("t", 1.0, {"x": writer.history["x"][3]})
        writer.flush()
    whole, one = sampled(client, "t")[0], None
    same(whole.data[0], steps[1:6])
    client.mutate_priorities("t", deletes=[whole.info.key])
    [one] = sampled(client, "t")
    same(one.data[0], steps[3])


def test_texts_make_the_round_trip(client: Any) -> None:
    with client.trajectory_writer(num_keep_alive_refs=3) as writer:
        for text in ("a", "", "long" * 1000):
            writer.append({"one": text, "two": np.array([b"x", text.encode()], object)})
        writer.create_item(
            "t", 1.0, {"one": writer.history["one"][:], "two": writer.history["two"][:]}
        )
        writer.flush()
    [sample] = sampled(client, "t")
    assert sample.data[0].tolist() == [b"a", b"", b"long" * 1000]
    assert sample.data[1].tolist() == [[b"x", b"a"], [b"x", b""], [b"x", b"long" * 1000]]


def test_a_client_inserts_and_samples_with_its_facts(client: Any) -> None:
    client.insert([np.float32(1), np.arange(3)], {"p": 2.5, "t": 1.0})
    client.insert([np.float32(2), np.arange(3)], {"p": 7.5})
    infos = {sample.info.key: sample for sample in sampled(client, "p", 50)}
    assert sorted(s.info.priority for s in infos.values()) == [2.5, 7.5]
    assert sorted(s.info.probability for s in infos.values()) == [0.25, 0.75]
    assert {s.info.table_size for s in infos.values()} == {2}
    [sample] = sampled(client, "t")
    assert (sample.info.times_sampled, sample.info.priority) == (1, 1.0)


@pytest.mark.parametrize("delta", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3, 10])
def test_the_legacy_writers_chunks_make_the_round_trip(
    client: Any, delta: bool, length: int
) -> None:
    steps = np.random.default_rng(1).integers(-100, 100, (10, 4, 2)).astype(np.int32)
    with client.writer(max_sequence_length=10, delta_encoded=delta, chunk_length=length) as w:
        for i, step in enumerate(steps):
            w.append([step, np.int64(i)])
            if i >= 2:
                w.create_item("t", num_timesteps=3, priority=1.0)
    for i in range(2, 10):
        [sample] = sampled(client, "t")
        same(sample.data[0], steps[i - 2 : i + 1])
        same(sample.data[1], np.arange(i - 2, i + 1))
        client.mutate_priorities("t", deletes=[sample.info.key])


def test_chunks_shared_by_overlapping_items_make_the_round_trip(client: Any) -> None:
    wanted = []
    with client.trajectory_writer(num_keep_alive_refs=20) as writer:
        writer.configure(("b",), num_keep_alive_refs=20, max_chunk_length=7)
        for i in range(60):
            writer.append({"a": np.full(5, i, np.uint8), "b": np.float64(i)})
            if i >= 19:
                writer.create_item(
                    "t",
                    1.0,
                    {"a": writer.history["a"][-20:-3], "b": writer.history["b"][-5:]},
                )
                wanted.append((i - 19, i - 2, i - 4, i + 1))
    for first, end, start, stop in wanted:
        [sample] = sampled(client, "t")
        assert sample.data[0][:, 0].tolist() == list(range(first, end))
        assert sample.data[1].tolist() == list(range(start, stop))
        client.mutate_priorities("t", deletes=[sample.info.key])


def test_a_structured_writer_makes_its_items(client: Any) -> None:
    from reverb import structured_writer as sw

    config = sw.create_config(
        pattern=sw.pattern_from_transform(
            {"x": None, "y": None}, lambda step: {"now": step["x"][-1], "ago": step["y"][-3:]}
        ),
        table="t",
        conditions=[],
    )
    writer = client.structured_writer([config])
    for i in range(5):
        writer.append({"x": np.int32(i), "y": np.float32(i)})
    writer.flush()
    found = sampled(client, "t")[0]
    data = [column.tolist() for column in found.data]
    assert data == [[0.0, 1.0, 2.0], 2]


def test_a_large_item_makes_the_round_trip(client: Any) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (3, 5_000_000)).astype(np.uint8)
    client.insert([noise[0], noise[1], noise[2]], {"t": 1.0})
    [sample] = sampled(client, "t")
    for got, wanted in zip(sample.data, noise, strict=True):
        same(got[0], wanted)


def test_priorities_are_changed_and_items_deleted(client: Any, server: ServerProcess) -> None:
    for i in range(3):
        client.insert([np.int64(i)], {"t": float(i)})
    keys = {}
    [sample] = sampled(client, "t")
    keys["first"] = sample.info.key
    client.mutate_priorities("t", updates={keys["first"]: 9.5, 12345: 1.0})
    assert sampled(client, "t")[0].info.priority == 9.5
    client.mutate_priorities("t", deletes=[keys["first"], 12345])
    assert server.size("t") == 2
    assert int(sampled(client, "t")[0].data[0]) == 1


def test_a_table_is_reset(client: Any, server: ServerProcess) -> None:
    client.insert([np.int64(1)], {"t": 1.0})
    client.reset("t")
    assert server.size("t") == 0


def test_the_info_is_what_the_server_says(client: Any) -> None:
    info = client.server_info(timeout=30)
    assert sorted(info) == ["log", "p", "q", "s", "t", "u"]
    assert info["q"].max_size == 3
    assert info["q"].max_times_sampled == 1
    assert info["s"].signature["a"].dtype == tf.float32
    assert info["s"].signature["a"].shape.as_list() == [None, 2]


def fill(client: Any, n: int, table: str = "u", length: int = 4) -> None:
    with client.trajectory_writer(num_keep_alive_refs=length) as writer:
        for i in range(n + length - 1):
            writer.append({"a": np.full(2, i, np.float32), "n": np.int64(i)})
            if i >= length - 1:
                writer.create_item(
                    table,
                    1.0,
                    {name: column[-length:] for name, column in writer.history.items()},
                )


@pytest.mark.parametrize("workers", [1, 4])
def test_a_trajectory_dataset_streams_what_was_inserted(
    client: Any, server: ServerProcess, workers: int
) -> None:
    fill(client, 50)
    dataset = rv.TrajectoryDataset(
        server_address=server.address,
        table="u",
        dtypes={"a": tf.float32, "n": tf.int64},
        shapes={"a": tf.TensorShape([None, 2]), "n": tf.TensorShape([None])},
        max_in_flight_samples_per_worker=20,
        num_workers_per_iterator=workers,
    ).batch(16)
    for sample in dataset.take(5):
        first = sample.data["n"].numpy()[:, 0]
        same(sample.data["n"].numpy(), first[:, None] + np.arange(4))
        pairs = np.stack([sample.data["n"].numpy()] * 2, 2)
        same(sample.data["a"].numpy(), pairs.astype(np.float32))
        assert set(sample.info.table_size.numpy()) == {50}


def test_a_timestep_dataset_streams_steps(client: Any, server: ServerProcess) -> None:
    fill(client, 5, "t")
    dataset = rv.TimestepDataset(
        server_address=server.address,
        table="t",
        dtypes={"a": tf.float32, "n": tf.int64},
        shapes={"a": tf.TensorShape([2]), "n": tf.TensorShape([])},
        max_in_flight_samples_per_worker=2,
    )
    steps = [int(sample.data["n"]) for sample in dataset.take(8)]
    assert steps == [0, 1, 2, 3, 0, 1, 2, 3]


def test_a_tf_client_inserts_samples_and_updates(server: ServerProcess) -> None:
    client = rv.TFClient(server.address)
    client.insert([tf.constant([1.0, 2.0])], tf.constant(["t"]), tf.constant([3.0], tf.float64))
    sample = client.sample("t", [tf.float32])
    assert sample.data[0].numpy().tolist() == [1.0, 2.0]
    client.update_priorities("t", sample.info.key[None], tf.constant([8.0], tf.float64))
    assert float(client.sample("t", [tf.float32]).info.priority) == 8.0


def test_a_checkpoint_is_written_and_served_again(tmp_path: Any) -> None:
    with ServerProcess("--folder", str(tmp_path)) as first:
        client = rv.Client(first.address)
        fill(client, 20, "t")
        path = within(PATIENCE_S, client.checkpoint)
        assert path.startswith(str(tmp_path))
        [before] = sampled(client, "t")
    with ServerProcess("--folder", str(tmp_path)) as second:
        client = rv.Client(second.address)
        assert second.size("t") == 20
        [after] = sampled(client, "t")
        assert after.info.key == before.info.key
        for got, wanted in zip(after.data, before.data, strict=True):
            same(got, wanted)
        client.mutate_priorities("t", updates={before.info.key: 4.0})
        assert sampled(client, "t")[0].info.priority == 4.0


def test_a_second_server_tells_the_state_of_another(server: ServerProcess) -> None:
    from reverie.reverb.wire.messages import parsed

    def state(address: str) -> Any:
        with grpc.insecure_channel(address) as channel:
            call = channel.unary_unary("/deepmind.reverb.ReverbService/ServerInfo")
            found = parsed("ServerInfoResponse", call(b"", timeout=60)).tables_state_id
            return found.high, found.low

    with ServerProcess() as other:
        assert state(server.address) == state(server.address) != state(other.address)


def test_the_figures_of_the_wire_are_all_there(tmp_path: Any) -> None:
    run = [sys.executable, "-m", "benchmarks.wire", "--rounds", "1", "--steps", "60"]
    run += ["--json", str(tmp_path / "found")]
    subprocess.run(run, capture_output=True, check=True, cwd=ROOT, env=environment())
    found = json.loads((tmp_path / "found").read_text())
    assert len(found) == 3
    for figures in found.values():
        assert min(row["best"] for row in figures.values()) > 0
        assert list(figures) == ["reverie", "dm-reverb"]
