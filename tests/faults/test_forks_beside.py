"""A child forked while another thread of its parent loads or saves: it waits for nobody."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

FORKED = """
import os, signal, sys, tempfile, threading, time, warnings
import numpy as np
from reverie import ArraySpec, ReplayBufferManager
from reverie.errors import ForkedProcessError

warnings.simplefilter("ignore")
how = sys.argv[1]
folder = tempfile.mkdtemp()
def manager(): return ReplayBufferManager(ArraySpec((), np.int64), 100, folder, 1)
m = manager()
_, observer = m.create_replay_buffer()
observer(np.int64(1)); m.save()
if how == "first": m.close(); m = manager()
if how == "sabotage": m._lifecycle = threading.RLock()
inside, go_on = threading.Event(), threading.Event()
def progress(done, total): inside.set(); go_on.wait()
def work():
    if how in ("load", "first", "sabotage"): m.load_replay_buffer(progress=progress)
    elif how == "save": m.save(progress=progress)
    else: m.save(wait=False, progress=progress); m.load_replay_buffer()
thread = threading.Thread(target=work); thread.start(); inside.wait(); time.sleep(0.1)
calls = {
    "close": m.close, "get": m.get_replay_buffer_and_observer, "load": m.load_replay_buffer,
    "create": m.create_replay_buffer, "save": m.save, "behind": lambda: m.save(wait=False),
    "sample": lambda: m.sample(1), "num_frames": m.num_frames,
}
limit = 20
if how == "sabotage": calls, limit = {"close": m.close}, 1
said = []
for name, call in calls.items():
    pid = os.fork()
    if pid == 0:
        try:
            call()
            os._exit(0)
        except ForkedProcessError:
            os._exit(7)
        except BaseException as error:
            print(name, repr(error), flush=True)
            os._exit(1)
    end = time.monotonic() + limit
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            said.append(f"{name} {os.waitstatus_to_exitcode(status)}")
            break
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)
            said.append(f"{name} hangs")
            break
        time.sleep(0.005)
go_on.set(); thread.join(); m.close()
print(*said, sep=", ")
"""


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")


def said_by(how: str) -> str:
    """How each call ended in a child of its own: 0, 7 with ForkedProcessError, or hanging."""
    done = subprocess.run(
        [sys.executable, "-c", FORKED, how], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@forks
@pytest.mark.parametrize("how", ["load", "save", "behind"])
def test_a_child_forked_during_a_load_or_a_save_never_hangs(how: str) -> None:
    wanted = "get 7, load 7, create 7, save 7, behind 7, sample 7, num_frames 7"
    assert said_by(how) == f"close 0, {wanted}\n"


@forks
def test_a_child_forked_during_the_first_load_has_a_manager_that_works() -> None:
    said = said_by("first").splitlines()
    assert said[-1].startswith("close 0, get 0, load 0, create 0, ")
    assert "hangs" not in said[-1]


@forks
def test_the_check_sees_a_lock_that_outlives_the_fork() -> None:
    assert said_by("sabotage") == "close hangs\n"
