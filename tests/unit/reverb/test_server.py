"""Servers: their ports, their tables, their end, and who finds them."""

from __future__ import annotations

import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reverie.errors import EndlessWaitError, InvalidArgumentError
from reverie.reverb import errors, pybind, rate_limiters
from reverie.reverb import item_selectors as selectors
from reverie.reverb.engine import checkpoints, registry
from reverie.reverb.platform import checkpointers_lib
from reverie.reverb.platform.default import checkpointers
from reverie.reverb.server import Server, Table
from reverie.tables.limiters import Limiter
from reverie.tables.selectors import LifoSelector, PrioritizedSelector
from reverie.tables.settings import TableSettings
from reverie.tables.store import Store


def table(name: str = "t") -> Table:
    return Table(name, selectors.Uniform(), selectors.Fifo(), 10, rate_limiters.MinSize(1))


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server([table("a"), table("b")])
    yield made
    made.stop()


def test_a_server_is_found_under_each_local_address(server: Server) -> None:
    hosts = ["localhost", "127.0.0.1", "[::1]", "0.0.0.0", "LOCALHOST", socket.gethostname()]
    for host in hosts:
        found = registry.find(registry.port_of(f"{host}:{server.port}"))
        assert sorted(found.tables) == ["a", "b"]


@pytest.mark.parametrize(
    "address", ["10.0.0.3:8000", "example.com:80", "localhost", "8000", "", "[::1:80", "a:b"]
)
def test_any_other_address_is_refused_with_the_way_out(address: str) -> None:
    with pytest.raises(errors.UnreachableServerError, match="install dm-reverb") as caught:
        registry.port_of(address)
    assert repr(address) in str(caught.value)
    assert isinstance(caught.value, RuntimeError)


def test_an_address_that_is_no_text_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="server_address: found 8000"):
        registry.port_of(8000)  # type: ignore[arg-type]


def test_a_port_without_a_server_is_refused_with_the_ports_that_have_one(
    server: Server,
) -> None:
    with pytest.raises(errors.UnreachableServerError, match=rf"port 1; .*{server.port}"):
        registry.find(1)


def test_the_tables_of_a_server_share_one_store(server: Server) -> None:
    found = registry.find(server.port)
    assert found.table("a").store is found.table("b").store is found.store
    with pytest.raises(errors.UnknownTableError, match=r"nope.* not found.*'a', 'b'"):
        found.table("nope")


def test_no_tables_and_two_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="At least one table"):
        Server()
    with pytest.raises(ValueError, match="At least one table"):
        Server([])
    with pytest.raises(ValueError, match="same name: t"):
        Server([table(), table()])


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(TypeError, match="tables: found 3"):
        Server([3])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="tables: found 3"):
        pybind.Server([3], None)  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("port", "error"), [(-1, ValueError), (65536, ValueError), ("x", TypeError)]
)
def test_a_port_that_is_none_is_refused(port: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="port"):
        Server([table()], port=port)


def test_two_servers_on_one_port_are_refused_and_the_tables_stay_free(server: Server) -> None:
    own = table()
    with pytest.raises(ValueError, match=rf"port \({server.port}\): a server .* already"):
        Server([own], port=server.port)
    Server([own]).stop()


def test_a_port_is_free_again_after_stop(server: Server) -> None:
    port = server.port
    server.stop()
    again = Server([table()], port=port)
    assert (again.port, list(registry.find(port).tables)) == (port, ["t"])
    server.stop()
    assert registry.find(port).is_open, "stopping the first again left the second alone"
    again.stop()


def test_nothing_listens_on_the_port(server: Server) -> None:
    with socket.socket() as probe:
        probe.settimeout(5)
        assert probe.connect_ex(("127.0.0.1", server.port)) != 0


def test_without_sockets_a_port_is_found_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*args: object) -> None:
        raise PermissionError("sockets are forbidden")

    monkeypatch.setattr(socket, "socket", forbidden)
    first, second = Server([table()]), Server([table()])
    assert first.port != second.port
    first.stop()
    second.stop()


def test_a_table_serves_one_server_at_a_time() -> None:
    own = table()
    first = Server([own])
    for _ in range(2):  # and the first refusal leaves it where it is
        with pytest.raises(
            InvalidArgumentError, match=rf"port {first.port} serves it.*replace"
        ):
            Server([own])
    first.stop()
    Server([own]).stop()


def test_stop_is_idempotent_and_refuses_later_use(server: Server) -> None:
    found = registry.find(server.port)
    server.stop()
    server.stop()
    with pytest.raises(errors.UnreachableServerError, match="was stopped"):
        found.check_open()
    with pytest.raises(errors.UnreachableServerError, match="No server"):
        registry.find(server.port)


def test_stop_wakes_who_waits_for_items() -> None:
    own = table()
    server = Server([own])
    ended: list[object] = []

    def wait() -> None:
        try:
            while not own.internal_table.core.wait(1, 10.0):
                pass
        except Exception as error:
            ended.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    server.stop()
    thread.join(5)
    assert not thread.is_alive()
    assert "Closed" in type(ended[0]).__name__


def test_wait_ends_when_another_thread_stops_the_server(server: Server) -> None:
    threading.Timer(0.05, server.stop).start()
    server.wait()
    server.wait()


def test_a_wait_that_nobody_could_end_is_refused() -> None:
    program = (
        "from reverie.reverb import Server, Table\n"
        "server = Server([Table.queue('q', 3)])\n"
        "try:\n    server.wait()\n"
        "except Exception as error:\n    print(type(error).__name__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.startswith(EndlessWaitError.__name__), done.stderr
    assert "only thread" in done.stdout


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_wait_is_open_to_ctrl_c(server: Server) -> None:
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        server.wait()


def test_a_server_that_nothing_refers_to_is_stopped_without_the_garbage_collector() -> None:
    own = table()
    server = Server([own])
    port, engine = server.port, weakref.ref(registry.find(server.port))
    gc.disable()
    try:
        del server
        assert engine() is None
    finally:
        gc.enable()
    with pytest.raises(errors.UnreachableServerError):
        registry.find(port)
    assert own.info.current_size == 0


FORKED = """
import os, sys, threading, time
from reverie.errors import ForkedProcessError
from reverie.reverb import Server, Table
table = Table.queue("q", 10)
server = Server([table])
stop = threading.Event()

def ask():
    while not stop.is_set():
        table.info, table.can_sample(1), table.internal_table.core.wait(1, 0.001)

def child():
    engine = server._server
    for use in (engine.check_open, lambda: table.info, lambda: Server([table])):
        try:
            use()
        except ForkedProcessError:
            continue
        os._exit(3)
    Server([Table.queue("q", 10)], port=server.port).stop()
    server.stop()
    sys.exit(0)  # through all destructors

threads = [threading.Thread(target=ask) for _ in range(2)]
for thread in threads:
    thread.start()
problem = ""
for attempt in range(10):
    pid = os.fork()
    if pid == 0:
        child()
    end, done = time.monotonic() + 20, 0
    while not done and not problem:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done and status:
            problem = f"child {attempt} ended with status {status}"
        elif time.monotonic() > end:
            os.kill(pid, 9)
            problem = f"child {attempt} is stuck"
        time.sleep(0.002)
stop.set()
print(problem or f"fine, {table.info.current_size} items")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_may_not_use_the_server_and_may_make_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED],
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert (done.stdout, done.returncode) == ("fine, 0 items\n", 0), done.stderr


AT_EXIT = """
import threading, time
from reverie.reverb import Server, Table
from reverie.runtime.waiting import wait_until
table = Table.queue("q", 10)
server = Server([table])

def ask():
    core = table.internal_table.core
    wait_until(lambda slice_s: core.wait(1, slice_s), timeout=None, what=lambda: "for an item")

threading.Thread(target=ask, daemon=True).start()
time.sleep(0.1)
"""


def test_a_thread_that_waits_at_the_exit_does_no_harm() -> None:
    done = subprocess.run([sys.executable, "-c", AT_EXIT], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr


class Written:
    """Stands for the module that writes and reads checkpoints."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[Any, ...]] = []
        monkeypatch.setattr(checkpoints, "save", self.save)
        monkeypatch.setattr(checkpoints, "load", self.load)

    def save(self, store: Store, path: str) -> str:
        self.calls.append(("save", [settings.name for settings in store.settings], path))
        return path + "/1"

    def load(
        self,
        store: Any,
        tables: dict[str, pybind.Table],
        path: str,
        fallback: str | None,
        max_nbytes: int | None,
    ) -> bool:
        self.calls.append(("load", list(tables), path, fallback, max_nbytes))
        next(iter(tables.values())).configure(
            TableSettings(
                name="a",
                sampler=PrioritizedSelector(0.5),
                remover=LifoSelector(),
                max_size=77,
                max_times_sampled=3,
                limiter=Limiter(1.0, 2, -5.0, 5.0),
            )
        )
        return True


def test_a_server_starts_from_its_checkpointer_and_takes_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Written(monkeypatch)
    own = [table("a"), table("b")]
    checkpointer = checkpointers_lib.DefaultCheckpointer(
        tmp_path, fallback_checkpoint_path="old", max_nbytes=10**6
    )
    server = Server(own, checkpointer=checkpointer)
    assert registry.find(server.port).checkpoint() == f"{tmp_path}/1"
    assert written.calls == [
        ("load", ["a", "b"], str(tmp_path), os.path.abspath("old"), 10**6),
        ("save", ["a", "b"], str(tmp_path)),
    ]
    assert repr(own[0]) == (
        "Table(sampler=PrioritizedSelector(priority_exponent=0.5), remover=LifoSelector, "
        "max_size=77, max_times_sampled=3, name=a, rate_limiter=RateLimiter("
        "samples_per_insert=1, min_diff_=-5, max_diff=5, min_size_to_sample=2), "
        "signature=nullptr)"
    )
    assert own[0].internal_table.core.max_size == 77
    with pytest.raises(InvalidArgumentError, match="in use already"):
        written.load(None, {"a": own[0].internal_table}, "", None, None)
    server.stop()


def test_a_real_checkpoint_brings_items_counters_and_settings_back(tmp_path: Path) -> None:
    checkpointer = checkpointers_lib.DefaultCheckpointer(str(tmp_path))
    first = Server([table()], checkpointer=checkpointer)
    client = first.localhost_client()
    for step in range(3):
        client.insert([step], {"t": 1.0})
    saved = client.checkpoint()
    assert Path(saved).parent == tmp_path
    first.stop()
    own = table().replace(max_size=99)
    second = Server([own], checkpointer=checkpointer)
    info = own.info
    assert (info.max_size, info.current_size, info.num_episodes) == (10, 3, 3)
    assert info.rate_limiter_info.insert_stats.completed == 3
    second.stop()


def test_a_checkpoint_that_cannot_be_read_leaves_no_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Written(monkeypatch)
    monkeypatch.setattr(checkpoints, "load", lambda *args: 1 / 0)
    own, ports = table(), registry.served_ports()
    with pytest.raises(ZeroDivisionError):
        Server([own], checkpointer=checkpointers_lib.DefaultCheckpointer(str(tmp_path)))
    assert registry.served_ports() == ports
    Server([own]).stop()
    assert written.calls == []


def test_a_folder_that_is_not_there_yet_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = Written(monkeypatch)
    checkpointer = checkpointers_lib.DefaultCheckpointer(str(tmp_path / "later"))
    Server([table()], checkpointer=checkpointer).stop()
    assert written.calls == []


def test_the_default_checkpointer_makes_its_folder_when_it_is_first_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    written = Written(monkeypatch)
    server = Server([table()], checkpointer=checkpointers.default_checkpointer())
    assert list(tmp_path.iterdir()) == []
    path = registry.find(server.port).checkpoint()
    assert [str(folder) for folder in tmp_path.iterdir()] == [os.path.dirname(path)]
    assert [call[0] for call in written.calls] == ["save"]
    server.stop()


def test_without_a_checkpointer_checkpoint_says_so() -> None:
    server = pybind.Server([table().internal_table])
    with pytest.raises(RuntimeError, match="no checkpointer"):
        server.checkpoint()
    server.Stop()
