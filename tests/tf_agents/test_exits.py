"""The end of scripts with TensorFlow that never call `stop()`, and waits beside datasets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tensorflow", reason="needs TensorFlow")

pytestmark = pytest.mark.xdist_group("alone")

BEGINNING = """
import sys, threading, time
import numpy as np
import tensorflow as tf
import reverie
from reverie import reverb

spec = {"x": reverie.ArraySpec((), np.int64)}
manager = reverie.ReplayBufferManager(spec, 9, sys.argv[1], 1)
_, observer = manager.create_replay_buffer()
signature = {"x": tf.TensorSpec((), tf.int64)}
server = reverb.Server([reverb.Table.queue("q", 4, signature=signature)])
client = server.localhost_client()
writer = client.trajectory_writer(1)

def fill(count):
    for i in range(count):
        observer({"x": i})
        writer.append({"x": np.int64(i)})
        writer.create_item("q", 1.0, {"x": writer.history["x"][-1]})
    writer.flush()

def of_table():
    return reverb.TrajectoryDataset.from_table_signature(
        f"localhost:{server.port}", "q", max_in_flight_samples_per_worker=1
    )

def read(iterator):
    while True:
        next(iterator)
"""
SCRIPTS = {
    "server": "",
    "daemons": """
fill(4)
def forever(call):
    while True:
        call()
for call in (
    lambda: manager.sample(4),
    lambda: list(client.sample("q", emit_timesteps=False)),
    lambda: client.insert({"x": np.int64(1)}, {"q": 1.0}),
):
    threading.Thread(target=forever, args=(call,), daemon=True).start()
time.sleep(0.3)
""",
    "manager's": "fill(4)\niterator = iter(manager.get_dataset(2))\nnext(iterator)",
    "manager's, waiting": "iterator = iter(manager.get_dataset(2))\n"
    "threading.Thread(target=read, args=(iterator,), daemon=True).start()\ntime.sleep(0.5)",
    "manager's, reading": "fill(4)\niterator = iter(manager.get_dataset(2))\n"
    "threading.Thread(target=read, args=(iterator,), daemon=True).start()\ntime.sleep(0.5)",
    "table's": "fill(4)\niterator = iter(of_table())\nnext(iterator)",
    "table's, waiting": "iterator = iter(of_table())\n"
    "threading.Thread(target=read, args=(iterator,), daemon=True).start()\ntime.sleep(0.5)",
}


def run(program: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_that_stops_nothing_ends_in_silence(tmp_path: Path, name: str) -> None:
    done = run(BEGINNING + SCRIPTS[name], tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_what_tensorflow_traced_goes_before_tensorflow_does(tmp_path: Path) -> None:
    # Modules that something still holds are emptied in reverse order: TensorFlow, then ours.
    first = "import sys\nfrom reverie.tf import generator\nsys.kept = generator\n"
    done = run(first + BEGINNING + SCRIPTS["manager's"], tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


SLOW = """
def work(sample):  # work of TensorFlow's own threads, which have no Python frame meanwhile
    a = tf.random.normal((900, 900))
    with tf.control_dependencies([tf.linalg.matmul(tf.linalg.matmul(a, a), a)]):
        return tf.identity(sample.data["x"])

reverie.set_patience(0.2)
fill(1)
iterator = iter(of_table().map(work).prefetch(99))
next(iterator)
fill(13)
print("done")
"""


def test_a_full_queue_waits_for_a_slow_pipeline(tmp_path: Path) -> None:
    done = run(BEGINNING + SLOW, tmp_path)
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr


LIMITED = """
reverie.set_patience(0.2)
limiter = reverie.limiters.SampleToInsertRatio(4.0, 1, 8.0)
manager = reverie.ReplayBufferManager(spec, 100, sys.argv[1], 1, limiter=limiter)
_, observer = manager.create_replay_buffer()
observer({"x": 0}, last=True)
iterator = iter(manager.get_dataset(2).map(lambda data, _: data["x"]).prefetch(4))
next(iterator)
threading.Thread(target=read, args=(iterator,), daemon=True).start()
for i in range(30):
    observer({"x": i}, last=True)
print("done")
"""


def test_ends_of_episodes_wait_for_a_prefetched_dataset(tmp_path: Path) -> None:
    done = run(BEGINNING + LIMITED, tmp_path)
    assert (done.stdout, done.returncode) == ("done\n", 0), done.stderr
