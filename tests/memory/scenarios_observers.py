"""What managers, and observers of a server's tables, are put through, beside the model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tests.memory.fresh_process import Done, Scenario, Tell
from tests.memory.reachable import Reachable

import reverie
from reverie import reverb
from reverie.observers import EpisodeObserver, ParallelObserver, TrajectoryObserver

TABLE = "uniform_table"  # the manager's
NUMBER = 8  # bytes of a step's number


def spec(nbytes: int) -> dict[str, reverie.ArraySpec]:
    """Steps of so many bytes, a number and a filling."""
    filling = reverie.ArraySpec((nbytes - NUMBER,), np.uint8)
    return {"n": reverie.ArraySpec((), np.int64), "x": filling}


def manager(
    folder: Path, nbytes: int, capacity: int, length: int, **changes: Any
) -> reverie.ReplayBufferManager:
    return reverie.ReplayBufferManager(spec(nbytes), capacity, folder, length, **changes)


def load(folder: Path, *settings: int, **changes: Any) -> Any:
    loaded = manager(folder, *settings, **changes)
    loaded.load_replay_buffer()
    return loaded


def served(
    folder: Path, *tables: tuple[str, int, Any], sampler: Any = None
) -> tuple[reverb.Server, reverb.Client]:
    """A server of tables (name, maximum size, remover), which starts from what is saved."""
    made = [
        reverb.Table(
            name, sampler or reverb.selectors.Uniform(), remover, size,
            reverb.rate_limiters.MinSize(1),
        )
        for name, size, remover in tables
    ]  # fmt: skip
    at = reverb.checkpointers.DefaultCheckpointer(str(folder))
    server = reverb.Server(made, checkpointer=at)
    return server, server.localhost_client()


class Batches:
    """Steps of several environments, in arrays that are used again and again."""

    def __init__(self, nbytes: int, envs: int) -> None:
        self._n = np.zeros(envs, np.int64)
        self._x = np.full((envs, nbytes - NUMBER), 7, np.uint8)
        self._last = {last: np.full(envs, last) for last in (False, True)}

    def feed(self, observer: ParallelObserver, steps: int, *, last: bool = False) -> None:
        """So many steps of each environment; `last`: the last one ends its episode."""
        for step in range(steps):
            self._n[:] = step
            end = self._last[last and step == steps - 1]
            observer({"n": self._n, "x": self._x}, last=end)


def window_model(
    table: tuple[int, str | None], nbytes: int, length: int, envs: int, steps: int,
    *, is_indexed: bool = False,
) -> Reachable:  # fmt: skip
    """Environments that step together, in one episode each, with an item of each window."""
    model = Reachable()
    model.table(TABLE, *table, is_indexed=is_indexed)
    for env in range(envs):
        model.stream(env, keep=length - 1)
    for step in range(steps):
        for env in range(envs):
            model.append(env, nbytes)
            if step >= length - 1:
                model.insert(TABLE, [(env, 0, step - length + 1, length)])
    return model


# One observer, one stream.


def _one_stream(
    folder: Path, nbytes: int, capacity: int, length: int, steps: int, **changes: Any
) -> Done:
    made = manager(folder, nbytes, capacity, length, **changes)
    _, observer = made.create_replay_buffer()
    x = np.full(nbytes - NUMBER, 7, np.uint8)
    for step in range(steps):
        observer({"n": step, "x": x}, last=False)
    return Done((made, observer), made.save)


def one_stream(
    nbytes: int, capacity: int, length: int, steps: int, *, is_indexed: bool = False,
    after: Callable[[Any], None] | None = None, **changes: Any,
) -> Scenario:  # fmt: skip
    def work(folder: Path) -> Done:
        done = _one_stream(folder, nbytes, capacity, length, steps, **changes)
        if after is not None:
            after(done.hold[0])
        return done

    def model(_: Tell) -> Reachable:
        return window_model((capacity, "fifo"), nbytes, length, 1, steps, is_indexed=is_indexed)

    return Scenario(work, model, partial(_load, (nbytes, capacity, length), changes))


def _load(settings: tuple[int, ...], changes: dict[str, Any], folder: Path) -> Any:
    return load(folder, *settings, **changes)


def unequal_priorities(made: reverie.ReplayBufferManager) -> None:
    keys = made.sample(20_000)[1].key
    made.update_priorities(keys, 0.5 + np.arange(len(keys)) % 11)


# One observer whose table lets chance decide what goes: what is left is told.


def survivors(nbytes: int, capacity: int, length: int, steps: int) -> Scenario:
    changes = {"remover": reverie.removers.Uniform(), "seed": 3}

    def work(folder: Path) -> Done:
        done = _one_stream(folder, nbytes, capacity, length, steps, **changes)
        buffer = done.hold[0].get_replay_buffer_and_observer()[0]
        done.told = [int(item["n"][0]) for _, item in buffer.iter_items()]
        return done

    def model(tell: Tell) -> Reachable:
        made = Reachable()
        made.table(TABLE, capacity, None)
        made.stream(0, keep=length - 1)
        for _ in range(steps):
            made.append(0, nbytes)
        for first in tell():
            made.insert(TABLE, [(0, 0, first, length)])
        assert len(made.items(TABLE)) == capacity
        return made

    return Scenario(work, model, partial(_load, (nbytes, capacity, length), changes))


# Many streams.


def environments(
    envs: int, nbytes: int, capacity: int, length: int, steps: int, *, clear: bool = False
) -> Scenario:
    def work(folder: Path) -> Done:
        made = manager(folder, nbytes, capacity, length)
        buffer, _ = made.create_replay_buffer()
        observer = ParallelObserver(buffer.py_client, TABLE, length, num_envs=envs)
        Batches(nbytes, envs).feed(observer, steps)
        if clear:
            made.clear()
        return Done((made, observer), made.save)

    def model(_: Tell) -> Reachable:
        if not clear:
            return window_model((capacity, "fifo"), nbytes, length, envs, steps)
        made = Reachable()
        for env in range(envs):
            made.stream(env, keep=length - 1)
        return made

    return Scenario(work, model, partial(_load, (nbytes, capacity, length), {}))


def observers(count: int, nbytes: int, capacity: int, steps: int) -> Scenario:
    """As `environments`, with an observer for each."""

    def work(folder: Path) -> Done:
        made = manager(folder, nbytes, capacity, 2)
        made.create_replay_buffer()
        each = [made.new_observer() for _ in range(count)]
        x = np.full(nbytes - NUMBER, 7, np.uint8)
        for step in range(steps):
            for observer in each:
                observer({"n": step, "x": x}, last=False)
        return Done((made, each), made.save)

    def model(_: Tell) -> Reachable:
        return window_model((capacity, "fifo"), nbytes, 2, count, steps)

    return Scenario(work, model, partial(_load, (nbytes, capacity, 2), {}))


def short_streams(singly: int, rounds: int, envs: int, capacity: int) -> Scenario:
    """Streams of two steps of 12 bytes that are closed at once.

    The first `singly` have an observer each; then all streams of `rounds` observers of
    `envs` environments. (It is as one whether an observer is new or opened again.)
    """

    def work(folder: Path) -> Done:
        made = manager(folder, 12, capacity, 2)
        buffer, _ = made.create_replay_buffer()
        x = np.zeros(4, np.uint8)
        for _ in range(singly):
            observer = made.new_observer()
            observer({"n": 0, "x": x}, last=False)
            observer({"n": 1, "x": x}, last=True)
            observer.close()
        together = ParallelObserver(buffer.py_client, TABLE, 2, num_envs=envs)
        steps = Batches(12, envs)
        for _ in range(rounds):
            together.open()
            steps.feed(together, 2, last=True)
            together.close()
        return Done(made, made.save)

    def model(_: Tell) -> Reachable:
        made = Reachable()
        made.table(TABLE, capacity)
        # Of a table that the oldest items leave, what came before the last is nothing.
        for stream in range(min(capacity, singly + rounds * envs)):
            made.stream(stream, keep=1)
            made.append(stream, 12)
            made.append(stream, 12)
            made.insert(TABLE, [(stream, 0, 0, 2)])
            made.close(stream)
        return made

    return Scenario(work, model, partial(_load, (12, capacity, 2), {}))


# A server's tables.


def best_episodes(episodes: int, length: int, nbytes: int, best: int) -> Scenario:
    """Of many episodes a heap keeps those of the highest priority."""

    def tables(folder: Path) -> Any:
        return served(folder, ("best", best, reverb.selectors.MinHeap()))

    def priority(episode: int) -> int:
        return episode * 7919 % 100_003  # any order, no two alike

    def work(folder: Path) -> Done:
        server, client = tables(folder)
        observer = EpisodeObserver(client, "best", length)
        x = np.full(nbytes - NUMBER, 7, np.uint8)
        for episode in range(episodes):
            observer.update_priority(priority(episode))
            for step in range(length):
                observer({"n": np.int64(step), "x": x}, last=step == length - 1)
        return Done((server, observer), client.checkpoint)

    def model(_: Tell) -> Reachable:
        made = Reachable()
        made.table("best", best, "min_heap")
        made.stream(0, keep=length)
        chosen = sorted(range(episodes), key=priority)[-best:]
        for episode in range(episodes):
            for step in range(length):
                assert made.append(0, nbytes) == episode * length + step
            made.end_episode(0)
            if episode in chosen:
                made.insert("best", [(0, 0, episode * length, length)], priority(episode))
        return made

    return Scenario(work, model, tables)


def deleted(steps: int, nbytes: int, left: int) -> Scenario:
    """One of so many items is left, the others are deleted by their keys."""

    def tables(folder: Path) -> Any:
        return served(folder, ("t", steps, reverb.selectors.Fifo()))

    def work(folder: Path) -> Done:
        server, client = tables(folder)
        observer = TrajectoryObserver(client, "t", 2)
        x = np.full(nbytes - NUMBER, 7, np.uint8)
        for step in range(steps):
            observer({"n": np.int64(step), "x": x}, last=False)
        table = server._server.tables["t"]
        keys = table.core.items()["key"] ^ np.uint64(table.key_mask)
        gone = keys[np.arange(len(keys)) % left != 0]
        for low in range(0, len(gone), 1000):  # lest Python's own integers are measured
            some = gone[low : low + 1000].tolist()
            assert client.mutate_priorities("t", deletes=some) == 0
        return Done((server, observer), client.checkpoint)

    def model(_: Tell) -> Reachable:
        made = Reachable()
        made.table("t", steps)
        made.stream(0, keep=1)
        for step in range(steps):
            made.append(0, nbytes)
            if step and (step - 1) % left == 0:
                made.insert("t", [(0, 0, step - 1, 2)])
        return made

    return Scenario(work, model, tables)


SCENARIOS = {
    "one_stream": one_stream(97, 300_000, 2, 340_000),
    "prioritized": one_stream(
        97, 150_000, 2, 180_000,
        is_indexed=True, after=unequal_priorities,
        sampler=reverie.samplers.Prioritized(alpha=0.6),
    ),
    "survivors": survivors(4096, 1000, 2, 30_000),
    "tiny_survivors": survivors(16, 5000, 2, 200_000),
    "environments_256": environments(256, 97, 4096, 2, 2000),
    "environments_4096": environments(4096, 97, 8192, 2, 60),
    "environments_10000": environments(10_000, 97, 10_000, 2, 44),
    "observers_3000": observers(3000, 97, 6000, 60),
    "long_windows": environments(64, 500, 20_000, 80, 1000),
    "images": environments(8, 28_672, 2000, 2, 400),
    "cleared": environments(64, 1024, 200_000, 2, 1600, clear=True),
    "cleared_of_tiny_items": environments(512, 16, 1_000_000, 2, 1500, clear=True),
    "short_streams": short_streams(20_000, 65, 2000, 150_000),
    "a_million_short_streams": short_streams(0, 400, 2500, 10_000),
    "best_episodes": best_episodes(10_000, 5, 500, 200),
    "deleted": deleted(60_000, 500, 60),
}  # fmt: skip
