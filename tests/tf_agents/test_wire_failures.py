"""What goes wrong between processes, and that the server goes on."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from typing import Any

import numpy as np
import pytest

pytest.importorskip("reverb")
pytest.importorskip("grpc")
pytest.importorskip("cramjam")

import grpc
import reverb as rv
from tests.tf_agents.wire_support import (
    PATIENCE_S,
    SERVICE,
    ServerProcess,
    within,
)

from reverie.reverb.wire.messages import parsed, serialized


def calls(address: str, method: str, *requests: bytes) -> list[bytes]:
    """The responses of a stream of these requests; raises how it ended."""
    with grpc.insecure_channel(address) as channel:
        call = channel.stream_stream(SERVICE + method)
        return list(call(iter(requests), timeout=PATIENCE_S))


def ends_with(code: Any, words: str, address: str, method: str, *requests: bytes) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        calls(address, method, *requests)
    assert caught.value.code() == code
    assert words in caught.value.details()


# The rate limiter.


def test_a_sampler_waits_for_an_item(client: Any, server: ServerProcess) -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.extend(client.sample("t", 1)), daemon=True)
    thread.start()
    time.sleep(0.5)
    assert not found
    client.insert([np.int64(3)], {"t": 1.0})
    thread.join(PATIENCE_S)
    assert len(found) == 1


def test_a_timeout_ends_a_dataset(server: ServerProcess) -> None:
    dataset = rv.TrajectoryDataset(
        server_address=server.address,
        table="t",
        dtypes=[np.int64],
        shapes=[None],
        max_in_flight_samples_per_worker=2,
        rate_limiter_timeout_ms=200,
    )
    assert within(PATIENCE_S, lambda: list(dataset)) == []


def test_a_timeout_has_dm_reverbs_words(server: ServerProcess) -> None:
    timeout = {"milliseconds": 100}
    ends_with(
        grpc.StatusCode.DEADLINE_EXCEEDED,
        "Rate Limiter: Timeout exceeded before the right to insert was acquired.",
        server.address,
        "SampleStream",
        serialized(
            "SampleStreamRequest", table="t", num_samples=1, rate_limiter_timeout=timeout
        ),
    )


def test_what_there_was_before_a_timeout_is_sent(client: Any, server: ServerProcess) -> None:
    client.insert([np.int64(3)], {"q": 1.0})
    request = serialized(
        "SampleStreamRequest",
        table="q",
        num_samples=5,
        rate_limiter_timeout={"milliseconds": 300},
    )
    with grpc.insecure_channel(server.address) as channel:
        call = channel.stream_stream(SERVICE + "SampleStream")(iter([request]))
        first = parsed("SampleStreamResponse", next(call))
        assert [entry.end_of_sequence for entry in first.entries] == [True]
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_a_full_queue_holds_its_writer_up(client: Any, server: ServerProcess) -> None:
    with client.trajectory_writer(num_keep_alive_refs=1) as writer:
        for i in range(6):
            writer.append([np.int64(i)])
            writer.create_item("q", 1.0, [writer.history[0][-1:]])
        with pytest.raises(rv.DeadlineExceededError):
            writer.flush(timeout_ms=500)
        assert server.size("q") == 3
        got = [
            int(s[0].data[0]) for s in within(PATIENCE_S, lambda: list(client.sample("q", 6)))
        ]
        assert got == list(range(6))
        within(PATIENCE_S, writer.flush)


def test_nothing_is_sampled_that_nobody_asked_for(client: Any, server: ServerProcess) -> None:
    for i in range(3):
        client.insert([np.int64(i)], {"q": 1.0})
    list(client.sample("q", 1))
    assert server.size("q") == 2


def test_two_hundred_streams_wait_at_once(client: Any, server: ServerProcess) -> None:
    request = serialized("SampleStreamRequest", table="q", num_samples=1)
    threads_before = int(server.ask("__import__('threading').active_count()"))
    with grpc.insecure_channel(server.address) as channel:
        method = channel.stream_stream(SERVICE + "SampleStream")
        streams = [method(iter([request])) for _ in range(200)]
        time.sleep(1.0)
        threads = int(server.ask("__import__('threading').active_count()"))
        assert threads - threads_before < 10
        with client.trajectory_writer(num_keep_alive_refs=1) as writer:
            for i in range(200):
                writer.append([np.int64(i)])
                writer.create_item("q", 1.0, [writer.history[0][-1:]])
            within(PATIENCE_S, writer.flush)
        for stream in streams:
            assert (
                len(parsed("SampleStreamResponse", within(PATIENCE_S, stream.next)).entries)
                == 1
            )


# Bad input.


@pytest.mark.parametrize("bad", [b"GET / HTTP/1.0\r\n\r\n", b"\0" * 100, os.urandom(5000), b""])
def test_garbage_on_the_port_harms_nobody(server: ServerProcess, bad: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(bad)


@pytest.mark.parametrize("method", ["InsertStream", "SampleStream"])
def test_garbage_in_a_stream_ends_it(server: ServerProcess, method: str) -> None:
    ends_with(
        grpc.StatusCode.INVALID_ARGUMENT,
        "bytes of a request",
        server.address,
        method,
        b"\xff\xff",
    )


@pytest.mark.parametrize("method", ["MutatePriorities", "Reset", "Checkpoint", "ServerInfo"])
def test_garbage_in_a_call_ends_it(server: ServerProcess, method: str) -> None:
    with grpc.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(SERVICE + method)(b"\xff\xff", timeout=PATIENCE_S)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_an_unknown_method_is_none(server: ServerProcess) -> None:
    with grpc.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(SERVICE + "Nothing")(b"", timeout=PATIENCE_S)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_no_address_of_memory_is_ever_told(server: ServerProcess) -> None:
    pid = int(server.ask("__import__('os').getpid()"))
    for claimed in (pid, os.getpid()):
        request = serialized("InitializeConnectionRequest", pid=claimed, table_name="t")
        [answer] = calls(server.address, "InitializeConnection", request)
        assert parsed("InitializeConnectionResponse", answer).address == 0


def test_unknown_tables_are_not_found(client: Any) -> None:
    for call in (
        lambda: list(client.sample("no", 1)),
        lambda: client.mutate_priorities("no", updates={1: 1.0}),
        lambda: client.reset("no"),
    ):
        with pytest.raises(RuntimeError, match="Priority table no was not found"):
            within(PATIENCE_S, call)


def test_no_samples_at_all_are_refused(server: ServerProcess) -> None:
    ends_with(
        grpc.StatusCode.INVALID_ARGUMENT,
        "`num_samples` must be > 0 (got0).",
        server.address,
        "SampleStream",
        serialized("SampleStreamRequest", table="t"),
    )


def test_what_a_signature_does_not_describe_its_client_refuses(client: Any) -> None:
    with client.trajectory_writer(num_keep_alive_refs=1) as writer:
        writer.append({"a": np.zeros(3, np.float32)})
        with pytest.raises(ValueError, match="inconsistent with the table signature"):
            writer.create_item("s", 1.0, {"a": writer.history["a"][:]})


def test_a_message_above_the_limit_is_refused(server: ServerProcess) -> None:
    huge = bytes((512 << 20) + 1)
    ends_with(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "larger than max",
        server.address,
        "InsertStream",
        huge,
    )


def test_a_client_that_does_not_read_holds_up_its_own_stream_alone(
    client: Any, server: ServerProcess
) -> None:
    noise = np.random.default_rng(1).integers(0, 256, 1 << 20).astype(np.uint8)
    client.insert([noise], {"u": 1.0})
    request = serialized("SampleStreamRequest", table="u", num_samples=100_000)
    with grpc.insecure_channel(server.address) as channel:
        stalled = channel.stream_stream(SERVICE + "SampleStream")(iter([request]))
        time.sleep(2.0)
        chosen = int(server.ask("tables['u'].core.info()['samples']"))
        assert 0 < chosen < 100
        samples = within(PATIENCE_S, lambda: list(client.sample("u", 5)))
        assert len(samples) == 5
        stalled.cancel()


def mutated(payload: bytes, rng: random.Random) -> bytes:
    """With some bytes changed, cut out, doubled or put in."""
    found = bytearray(payload)
    for _ in range(rng.randint(1, 6)):
        at, end = rng.randrange(len(found) + 1), rng.randrange(len(found) + 1)
        what = rng.randrange(4)
        if what == 0 and at < len(found):
            found[at] = rng.randrange(256)
        elif what == 1:
            del found[at : at + rng.randint(1, 8)]
        elif what == 2:
            found[at:at] = found[min(at, end) : min(at, end) + rng.randint(1, 64)]
        else:
            found[at:at] = rng.randbytes(rng.randint(1, 8))
    return bytes(found)


def test_requests_with_wrong_bytes_harm_nobody(server: ServerProcess) -> None:
    seed = int(os.environ.get("REVERIE_FUZZ_SEED", "1"))
    rounds = int(os.environ.get("REVERIE_FUZZ_ROUNDS", "400"))
    rng = random.Random(seed)
    print("seed", seed)
    request = parsed("InsertStreamRequest", b"")
    chunk = request.chunks.add(chunk_key=5, data_tensors_len=2)
    for number, content in ((1, b"\x0c\x2c" + bytes(12)), (7, b"\x01\x00\x02abc")):
        tensor = chunk.data.tensors.add(dtype=number, tensor_content=content)
        tensor.tensor_shape.dim.add(size=3)
    item = request.items.add(key=9, table="t", priority=1.0)
    for index in range(2):
        column = item.flat_trajectory.columns.add()
        column.chunk_slices.add(chunk_key=5, offset=0, length=3, index=index)
    good = {
        "InsertStream": request.SerializeToString(),
        "SampleStream": serialized(
            "SampleStreamRequest",
            table="t",
            num_samples=2,
            rate_limiter_timeout={"milliseconds": 1},
        ),
    }
    calls(server.address, "InsertStream", good["InsertStream"])
    assert server.size("t") == 1
    before = int(server.ask("__import__('resource').getrusage(0).ru_maxrss"))
    codes, internal = set(), set()
    with grpc.insecure_channel(server.address) as channel:
        for _ in range(rounds):
            method = rng.choice(list(good))
            call = channel.stream_stream(SERVICE + method)
            try:
                responses = call(iter([mutated(good[method], rng)]), timeout=20)
                for _ in zip(range(4), responses, strict=False):
                    pass
                responses.cancel()
            except grpc.RpcError as error:
                codes.add(error.code())
                if error.code() == grpc.StatusCode.INTERNAL:
                    internal.add(error.details())
    assert [words for words in internal if "Could not find sequence chunk" not in words] == []
    assert {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND} <= codes
    assert not codes & {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN}, codes
    after = int(server.ask("__import__('resource').getrusage(0).ru_maxrss"))
    assert after - before < 300_000  # kilobytes


def test_every_item_is_confirmed_once_also_where_an_error_follows(
    server: ServerProcess,
) -> None:
    requests = []
    for key in range(1, 201):
        request = parsed("InsertStreamRequest", b"")
        tensor = request.chunks.add(chunk_key=key).data.tensors.add(
            dtype=7, tensor_content=b"\x01x"
        )
        tensor.tensor_shape.dim.add(size=1)
        item = request.items.add(key=key, table="t", priority=1.0)
        column = item.flat_trajectory.columns.add()
        column.chunk_slices.add(chunk_key=key, length=1)
        requests.append(request.SerializeToString())
    keys: list[int] = []
    with grpc.insecure_channel(server.address) as channel:
        call = channel.stream_stream(SERVICE + "InsertStream")
        for response in call(iter(requests), timeout=PATIENCE_S):
            keys += parsed("InsertStreamResponse", response).keys
        assert keys == list(range(1, 201))
        responses = call(iter([*requests, b"\xff"]), timeout=PATIENCE_S)
        with pytest.raises(grpc.RpcError, match="bytes of a request"):
            keys += [
                key
                for response in responses
                for key in parsed("InsertStreamResponse", response).keys
            ]
    assert server.size("t") == 400
