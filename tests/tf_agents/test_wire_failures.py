"""What goes wrong between processes, and that the server goes on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
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
    ROOT,
    ServerProcess,
    environment,
    within,
)

from reverie.reverb.wire.messages import parsed, serialized

SERVICE = "/deepmind.reverb.ReverbService/"


@pytest.fixture(scope="module")
def process() -> Iterator[ServerProcess]:
    with ServerProcess() as server:
        yield server


@pytest.fixture
def server(process: ServerProcess) -> Iterator[ServerProcess]:
    process.reset()
    yield process
    # Whatever was done to it, it serves.
    client = rv.Client(process.address)
    process.reset()
    within(PATIENCE_S, lambda: client.insert([np.int64(7)], {"t": 1.0}))
    [sample] = within(PATIENCE_S, lambda: list(client.sample("t", 1)))
    assert int(sample[0].data[0]) == 7


@pytest.fixture
def client(server: ServerProcess) -> Any:
    return rv.Client(server.address)


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


def test_what_a_signature_does_not_describe_is_refused(server: ServerProcess) -> None:
    client = rv.Client(server.address)
    writer = client.trajectory_writer(num_keep_alive_refs=1, validate_items=False)
    writer.append({"a": np.zeros(3, np.float32)})
    writer.create_item("s", 1.0, {"a": writer.history["a"][:]})
    with pytest.raises(ValueError, match="inconsistent with the table signature"):
        writer.flush(timeout_ms=int(PATIENCE_S * 1000))


def test_a_message_above_the_limit_is_refused(server: ServerProcess) -> None:
    huge = bytes((512 << 20) + 1)
    ends_with(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "larger than max",
        server.address,
        "InsertStream",
        huge,
    )


# Processes that go.

WRITER = """
import sys, numpy as np, reverb
client = reverb.Client(sys.argv[1])
with client.trajectory_writer(num_keep_alive_refs=1) as writer:
    for i in range(10**9):
        writer.append([np.int64(i)])
        writer.create_item("log", 1.0, [writer.history[0][-1:]])
        if i % 50 == 49:
            writer.flush()
            print(i, flush=True)
"""


def run(program: str, *arguments: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(**more),
    )


@pytest.mark.parametrize("flushes", [1, 7, 20])
def test_a_killed_client_loses_at_most_what_was_not_confirmed(
    server: ServerProcess, flushes: int
) -> None:
    child = run(WRITER, server.address)
    assert child.stdout is not None
    lines = [int(child.stdout.readline()) for _ in range(flushes)]
    child.send_signal(signal.SIGKILL)
    rest, _ = child.communicate()
    confirmed = max(lines + [int(line) for line in rest.split()]) + 1
    size = server.size("log")
    assert confirmed <= size
    samples = within(PATIENCE_S, lambda: list(rv.Client(server.address).sample("log", size)))
    assert [int(sample[0].data[0]) for sample in samples] == list(range(size))


def test_a_client_killed_while_it_waits_holds_nothing_up(server: ServerProcess) -> None:
    program = """
import sys, reverb
print("waits", flush=True)
list(reverb.Client(sys.argv[1]).sample("q", 1))
"""
    child = run(program, server.address)
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(0.5)
    child.kill()
    child.communicate()
    client = rv.Client(server.address)
    client.insert([np.int64(3)], {"q": 1.0})
    [sample] = within(PATIENCE_S, lambda: list(client.sample("q", 1)))
    assert int(sample[0].data[0]) == 3


def test_a_stopped_server_ends_its_streams_and_its_process() -> None:
    request = serialized("SampleStreamRequest", table="t", num_samples=1)
    with ServerProcess() as server, grpc.insecure_channel(server.address) as channel:
        waiting = channel.stream_stream(SERVICE + "SampleStream")(iter([request]))
        idle = channel.stream_stream(SERVICE + "InsertStream")(iter(lambda: time.sleep(60), 0))
        time.sleep(0.5)
        assert server.end() == (0, "")
        with pytest.raises(grpc.RpcError) as caught:
            within(PATIENCE_S, waiting.next)
        assert caught.value.code() == grpc.StatusCode.CANCELLED
        assert caught.value.details() == "RateLimiter has been cancelled"
        with pytest.raises(grpc.RpcError):
            within(PATIENCE_S, idle.next)


def test_a_port_is_given_back_at_once() -> None:
    program = """
from reverie import reverb
from reverie.errors import InvalidArgumentError
port = 0
for _ in range(5):
    server = reverb.Server([reverb.Table.queue("q", 3)], port)
    port = server.port
    try:
        reverb.Server([reverb.Table.queue("q", 3)], port)
    except InvalidArgumentError as error:
        print("a server of this process is on it already" in str(error))
    server.stop()
"""
    out, errors = run(program).communicate(timeout=PATIENCE_S)
    assert (out.split(), errors) == (["True"] * 5, "")


def test_a_port_of_another_program_is_refused(tmp_path: Any) -> None:
    program = """
import sys
from reverie import reverb
from reverie.errors import InvalidArgumentError
try:
    reverb.Server([reverb.Table.queue("q", 3)], int(sys.argv[1]))
except InvalidArgumentError as error:
    print(error)
"""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        out, errors = run(program, str(other.getsockname()[1])).communicate(timeout=PATIENCE_S)
    assert "Failed to BuildAndStart gRPC server" in out, errors


def test_it_listens_on_the_loopback_alone(server: ServerProcess) -> None:
    host = socket.gethostbyname(socket.gethostname())
    if host.startswith("127."):
        pytest.skip("this machine has no other address")
    with pytest.raises((ConnectionError, TimeoutError)):
        socket.create_connection((host, server.port), timeout=5)


def test_off_is_off() -> None:
    program = """
import socket
from reverie import reverb
server = reverb.Server([reverb.Table.queue("q", 3)])
try:
    socket.create_connection(("127.0.0.1", server.port), timeout=5)
except OSError:
    print("nobody")
"""
    out, errors = run(program, REVERIE_LISTEN="off").communicate(timeout=PATIENCE_S)
    assert (out, errors) == ("nobody\n", "")


def test_another_value_says_what_is_wanted() -> None:
    program = "from reverie import reverb; reverb.Server([reverb.Table.queue('q', 3)])"
    _, errors = run(program, REVERIE_LISTEN="0.0.0.0").communicate(timeout=PATIENCE_S)
    assert "REVERIE_LISTEN: found '0.0.0.0', wanted 'loopback'" in errors


EXITS = """
import os, sys
from reverie import reverb
server = reverb.Server([reverb.Table.queue("q", 3)])
%s
print("end", flush=True)
"""


@pytest.mark.parametrize(
    "how",
    [
        "pass",
        "server.stop()",
        "del server",
        "pid = os.fork()\nif pid: assert os.waitpid(pid, 0)[1] == 0",
        "pid = os.fork()\nif not pid: os._exit(0)\nos.waitpid(pid, 0)",
        "server.localhost_client().insert([1], {'q': 1.0})",
    ],
)
def test_a_listening_process_ends_by_itself_and_in_silence(how: str) -> None:
    child = run(EXITS % how)
    out, errors = child.communicate(timeout=PATIENCE_S)
    assert (child.returncode, set(out.split()), errors) == (0, {"end"}, "")


def test_a_forked_childs_copy_serves_nobody(tmp_path: Any) -> None:
    program = """
import os, sys, time
from reverie import reverb
server = reverb.Server([reverb.Table.queue("q", 3)])
print(server.port, flush=True)
pid = os.fork()
if pid == 0:
    server.stop()
    sys.stdin.read()
    os._exit(0)
server.stop()
print("stopped", flush=True)
os.waitpid(pid, 0)
"""
    child = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    assert child.stdout is not None
    port = int(child.stdout.readline())
    assert child.stdout.readline() == "stopped\n"
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(SERVICE + "ServerInfo")(b"", timeout=3)
    assert caught.value.code() in {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
    child.communicate(timeout=PATIENCE_S)
