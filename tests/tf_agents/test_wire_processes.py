"""Servers and clients in processes that are killed, stopped and forked."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
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
    ROOT,
    SERVICE,
    ServerProcess,
    environment,
    within,
)

from reverie.reverb.wire.messages import serialized

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


def test_a_server_that_could_not_be_made_leaves_its_port() -> None:
    program = """
from reverie import reverb
from reverie.errors import InvalidArgumentError
port = reverb.Server([reverb.Table.queue("q", 3)]).port
twins = [reverb.Table.queue("q", 3), reverb.Table.queue("q", 3)]
try:
    reverb.Server(twins, port)
except InvalidArgumentError as error:
    print(error)
reverb.Server(twins[:1], port).stop()
"""
    out, errors = run(program).communicate(timeout=PATIENCE_S)
    assert (out, errors) == ("Multiple items in tables have the same name: q\n", "")


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


def test_it_listens_on_one_address_alone(server: ServerProcess) -> None:
    # Whoever listens on all addresses is found under this one as well.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", server.port), timeout=5)


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


def test_a_forked_childs_own_server_is_for_that_child_alone_and_says_so() -> None:
    how = """
pid = os.fork()
if pid:
    assert os.waitpid(pid, 0)[1] == 0
else:
    own = reverb.Server([reverb.Table.queue("q", 3)])
    own.localhost_client().insert([1], {"q": 1.0})
    own.stop()
"""
    child = run(EXITS % how)
    out, errors = child.communicate(timeout=PATIENCE_S)
    assert (child.returncode, out.split()) == (0, ["end", "end"])
    assert "forked from one that listens" in errors


def test_a_server_that_nobody_has_any_more_stops_in_spite_of_open_streams() -> None:
    program = """
import grpc, socket, time
from reverie import reverb
server = reverb.Server([reverb.Table.queue("q", 3)])
port = server.port
channel = grpc.insecure_channel(f"127.0.0.1:{port}")
stream = channel.stream_stream("/deepmind.reverb.ReverbService/InsertStream")
call = stream(iter(lambda: time.sleep(1000), 0))
time.sleep(0.5)
del server
try:
    next(call)
except grpc.RpcError as error:
    print(error.code() in {grpc.StatusCode.CANCELLED, grpc.StatusCode.UNAVAILABLE}, flush=True)
with socket.socket() as probe:
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    probe.bind(("127.0.0.1", port))
import os
os._exit(0)
"""
    out, errors = run(program).communicate(timeout=PATIENCE_S)
    assert (out, errors) == ("True\n", "")


def test_several_servers_of_a_process_serve_beside_each_other() -> None:
    program = """
import threading, grpc
from reverie import reverb
servers = [reverb.Server([reverb.Table.queue("q", 3)]) for _ in range(3)]
def ask(port):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/deepmind.reverb.ReverbService/ServerInfo")
        for _ in range(300):
            call(b"", timeout=60)
threads = [threading.Thread(target=ask, args=(server.port,)) for server in servers]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
for server in servers:
    server.stop()
print(sum("reverie" in thread.name for thread in threading.enumerate()))
"""
    out, errors = run(program).communicate(timeout=PATIENCE_S)
    assert (out, errors) == ("0\n", "")
