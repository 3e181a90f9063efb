"""The interpreter's exit: later handlers still save, and nothing is said that is no news."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("alone")

HANDLER_FIRST = """
import atexit, sys, threading, time
atexit.register(lambda: print(manager.save().name, manager.sample(1)[0]["o"].shape))
import numpy as np, reverie
spec = {"o": reverie.ArraySpec((), np.float32)}
manager = reverie.ReplayBufferManager(spec, 10, sys.argv[1], 1)
_, observer = manager.create_replay_buffer()
observer({"o": 1.0}, last=True)
def forever(call):
    while True:
        call()
def start(call):
    threading.Thread(target=forever, args=(call,), daemon=True).start()
"""
THREADS = {
    "none": "",
    "idle": "start(lambda: time.sleep(60))",
    "adding": "start(lambda: observer({'o': 1.0}, last=True)); time.sleep(0.1)",
    "sampling": "start(lambda: manager.sample(8)); time.sleep(0.1)",
    "both": "start(lambda: manager.sample(8)); start(lambda: observer({'o': 1.0})); "
    "time.sleep(0.1)",
    "waiting": "manager.clear(); start(lambda: manager.sample(8)); time.sleep(0.1); "
    "observer({'o': 1.0})",
    "saving": "manager.save(wait=False)",
}
ENDS = {"end": "", "sys.exit": "sys.exit(0)", "error": "raise SystemExit"}


def run(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, str(folder)], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("threads", THREADS)
def test_a_handler_registered_before_the_import_saves(
    tmp_path: Path, threads: str, end: str
) -> None:
    done = run("\n".join([HANDLER_FIRST, THREADS[threads], ENDS[end]]), tmp_path)
    number = 2 if threads == "saving" else 1
    assert done.stdout == f"ckpt-{number:08} (1, 1)\n"
    assert (done.stderr, done.returncode) == ("", 0)


SERVING = """
import sys, threading, time
from reverie import reverb
server = reverb.Server([reverb.Table.queue("t", 1), reverb.Table.queue("u", 1)])
client = reverb.Client(f"localhost:{server.port}")
writer = client.trajectory_writer(1)
def forever(call):
    while True:
        call()
for call in (lambda: client.insert(1.0, {"t": 1.0}), lambda: list(client.sample("u", 1)),
             server.wait):
    threading.Thread(target=forever, args=(call,), daemon=True).start()
time.sleep(0.3)
"""


def test_daemon_threads_at_a_server_end_in_silence(tmp_path: Path) -> None:
    done = run(SERVING, tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
