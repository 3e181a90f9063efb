"""Ctrl-C, forks and exits while threads are in a buffer: an end by name, never a hang."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("alone")

INTERRUPTED = """
import signal, sys, threading
import numpy as np
import reverie

signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent may have ignored it
threading.Thread(target=threading.Event().wait, daemon=True).start()
manager = reverie.ReplayBufferManager(reverie.ArraySpec((), np.float32), 10, "never made")
manager.create_replay_buffer()
print("ready", flush=True)
try:
    manager.sample(1)
except KeyboardInterrupt:
    print("interrupted", manager.num_frames(), flush=True)
    raise
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to whole consoles only")
def test_ctrl_c_ends_a_blocked_sample_within_a_second(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.3)
            assert process.poll() is None
            sent = time.monotonic()
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == "interrupted 0\n"
            assert time.monotonic() - sent < 1
            assert "KeyboardInterrupt" in process.communicate(timeout=10)[1]
            assert process.returncode in (-signal.SIGINT, 130)
        finally:
            process.kill()


FORKED = """
import os, sys, threading, time
import numpy as np
import reverie
from reverie.errors import ForkedProcessError

# Steps so large that the thread below spends its time in the core, holding its mutexes.
SPEC = reverie.ArraySpec((100_000,), np.int64)
step = np.ones(100_000, np.int64)
manager = reverie.ReplayBufferManager(SPEC, 5, "never made")
buffer, observer = manager.create_replay_buffer()
observer(step), observer(step)
stop = threading.Event()

def add():
    while not stop.is_set():
        observer(step)

def child():
    calls = [
        lambda: manager.sample(1),
        lambda: manager.sample(1, timeout=0),
        lambda: observer(step),
        lambda: observer.reset(False),
        lambda: observer.flush(),
        manager.num_frames, manager.info, manager.gather_all, manager.clear, manager.save,
        lambda: list(manager.iter_items()),
        lambda: manager.update_priorities([1], [1.0]),
        buffer.item_info, buffer.num_frames, buffer.get_table_info, buffer.py_client.checkpoint,
    ]
    for number, call in enumerate(calls):
        try:
            call()
        except ForkedProcessError as error:
            assert "spawn" in str(error), error
        else:
            raise SystemExit(f"call {number} went through")
    assert "Forked" in repr(manager)
    repr(buffer), repr(observer)
    observer.close()
    manager.close()
    with reverie.ReplayBufferManager(SPEC, 5, "never made", 1) as fresh:
        fresh.get_replay_buffer_and_observer()[1](step)
        assert fresh.sample(2)[0].shape == (2, 1, 100_000)

thread = threading.Thread(target=add, daemon=True)
thread.start()
problem = ""
for attempt in range(10):
    pid = os.fork()
    if pid == 0:
        child()
        sys.exit(0)  # through all destructors
    deadline = time.monotonic() + 20
    done = 0
    while not done and not problem:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done and status:
            problem = f"child {attempt} ended with status {status}"
        elif time.monotonic() > deadline:
            os.kill(pid, 9)
            problem = f"child {attempt} is stuck"
        time.sleep(0.005)
stop.set()
thread.join()
assert manager.sample(1, timeout=0)[0].shape == (1, 2, 100_000)
print(problem or "fine", flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_is_refused_by_name_and_never_hangs(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert (run.stdout, run.returncode) == ("fine\n", 0), run.stderr


LEFT_RUNNING = """
import threading, time
import numpy as np
import reverie

manager = reverie.ReplayBufferManager(reverie.ArraySpec((), np.float32), 10, "never made")
_, observer = manager.create_replay_buffer()

def again_and_again(work):
    while True:
        work()

def start(work):
    threading.Thread(target=again_and_again, args=(work,), daemon=True).start()

start(lambda: manager.sample(256))
time.sleep(0.2)
if {adding}:
    start(lambda: observer(np.float32(1)))
    time.sleep(0.2)
"""


@pytest.mark.parametrize("adding", [False, True], ids=["waiting", "busy"])
def test_daemon_threads_in_the_buffer_do_not_abort_the_exit(
    tmp_path: Path, adding: bool
) -> None:
    program = LEFT_RUNNING.format(adding=adding)
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, timeout=60
    )
    assert run.returncode == 0, run.stderr
