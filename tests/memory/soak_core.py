"""A round of a program's whole life without a framework, for `soak`."""

from __future__ import annotations

import sys
import tempfile
import threading
from typing import Any

import numpy as np
from tests.memory import soak

import reverie
from reverie import observers, reverb

SPEC = {"o": reverie.ArraySpec((8,), np.float32), "r": reverie.ArraySpec((), np.float32)}
STEP = {"o": np.zeros(8, np.float32), "r": np.float32(1)}
_leaked: list[Any] = []


def managed(folder: str) -> None:
    """A manager with many streams, threads that add and sample, a save and a load."""
    manager = reverie.ReplayBufferManager(SPEC, 200, folder, 3)
    buffer, observer = manager.create_replay_buffer()
    for number in range(30):
        observer({"o": np.full(8, number, np.float32), "r": np.float32(1)}, last=number == 29)

    def add() -> None:
        stream = manager.new_observer()
        for number in range(40):
            stream(STEP, last=number % 10 == 9)

    def read() -> None:
        for _ in range(20):
            _, info = manager.sample(16)
            assert info.key.shape == (16,)

    threads = [threading.Thread(target=each) for each in (add, add, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    parallel = observers.ParallelObserver(buffer.py_client, buffer.table_name, 3, num_envs=16)
    many = {name: np.repeat(leaf[None], 16, 0) for name, leaf in STEP.items()}
    for number in range(6):
        parallel(many, last=np.full(16, number == 5))
    sum(1 for _ in buffer.iter_items())
    manager.save()
    manager.close()
    again = reverie.ReplayBufferManager(SPEC, 200, folder, 3)
    again.load_replay_buffer()
    again.sample(4)
    again.close()


def served() -> None:
    """A server, its writers, a reader in a thread and an iterator that is dropped."""
    table = reverb.Table.queue("q", 100)
    uniform = reverb.Table(
        "u",
        reverb.selectors.Uniform(),
        reverb.selectors.Fifo(),
        100,
        reverb.rate_limiters.MinSize(1),
    )
    server = reverb.Server([table, uniform])
    client = reverb.Client(f"localhost:{server.port}")
    taken = threading.Thread(target=lambda: list(client.sample("q", 20)))
    taken.start()
    with client.trajectory_writer(num_keep_alive_refs=4) as writer:
        for number in range(30):
            writer.append(STEP)
            if number >= 3:
                refs = {name: column[-3:] for name, column in writer.history.items()}
                writer.create_item("u", 1.0, refs)
                if number < 25:
                    writer.create_item("q", 1.0, refs)
    taken.join()
    next(iter(client.sample("u", 5)))
    client.insert(STEP, {"u": 2.0})
    server.stop()


def one_round() -> None:
    with tempfile.TemporaryDirectory() as folder:
        managed(folder)
    served()


def leaks(what: str) -> None:
    """Plants one leak of a kind."""
    if what == "nbytes":
        _leaked.append(b"\1" * 300_000)
    elif what == "files":
        _leaked.append(open("/dev/null"))
    elif what == "threads":
        never = threading.Event()
        threading.Thread(target=never.wait, daemon=True).start()
    elif what == "objects":
        _leaked.append([[] for _ in range(5)])


def main(arguments: list[str]) -> None:
    seconds, *planted = arguments

    def each() -> None:
        one_round()
        for what in planted:
            leaks(what)

    soak.run(each, float(seconds))


if __name__ == "__main__":
    main(sys.argv[1:])
