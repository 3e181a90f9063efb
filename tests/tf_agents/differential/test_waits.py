"""Inserts that a limiter holds up, and limits that go on after a restart, as Reverb's."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

reverb = pytest.importorskip("reverb", reason="needs dm-reverb")

from reverie import reverb as ours  # noqa: E402


def tables(rv: Any) -> list[Any]:
    fifo, limiters = rv.selectors.Fifo, rv.rate_limiters
    return [
        rv.Table("plain", fifo(), fifo(), 100, limiters.MinSize(1)),
        rv.Table("ratio", fifo(), fifo(), 10, limiters.SampleToInsertRatio(2.0, 2, 3.0)),
        rv.Table.queue("queue", 3),
    ]


def add(writer: Any, table: str, number: int) -> None:
    writer.append(np.int64(number))
    writer.create_item(table, 1.0, [writer.history[-1:]])


def flushed(rv: Any, writer: Any) -> bool:
    try:
        writer.flush(timeout_ms=300)
    except rv.DeadlineExceededError:
        return False
    return True


def numbers(client: Any, table: str, n: int) -> list[int]:
    samples = client.sample(table, n, emit_timesteps=False)
    return [int(sample.data[0][0]) for sample in samples]


def queueing(rv: Any) -> list[Any]:
    """Two writers that fill a queue; one has an item for another table behind."""
    server = rv.Server(tables(rv))
    client = rv.Client(f"localhost:{server.port}")
    one, two = client.trajectory_writer(10), client.trajectory_writer(10)
    for n in range(6):
        add(one, "queue", n)
    shown: list[Any] = [flushed(rv, one)]
    add(one, "plain", 6)
    shown.append(flushed(rv, one))
    for n in range(10, 13):
        add(two, "queue", n)
    shown.append(flushed(rv, two))
    for _ in range(9):
        shown += numbers(client, "queue", 1)
        time.sleep(0.05)  # Reverb lets in what was held up by and by
    shown += [flushed(rv, one), flushed(rv, two), *numbers(client, "plain", 1)]
    server.stop()
    return shown


def by_writer(shown: list[Any]) -> list[Any]:
    """Without the order between the two writers, which Reverb leaves to its threads."""
    queue = shown[3:-3]
    return [shown[:3], [n for n in queue if n < 10], [n for n in queue if n >= 10], shown[-3:]]


def test_what_is_held_up_goes_in_in_order() -> None:
    shown = queueing(ours)
    assert by_writer(shown) == by_writer(queueing(reverb))
    assert shown[3:-3] == [0, 1, 2, 3, 4, 5, 10, 11, 12]


def restarting(rv: Any, folder: Path) -> list[Any]:
    """How many items a limiter lets in after a restart, and what comes out."""
    keeper = rv.platform.checkpointers_lib.DefaultCheckpointer(str(folder))
    server = rv.Server(tables(rv), None, keeper)
    client = rv.Client(f"localhost:{server.port}")
    writer = client.trajectory_writer(10)
    for table in ("ratio", "queue"):
        for n in range(3):
            add(writer, table, n)
    shown: list[Any] = [flushed(rv, writer)]
    shown += numbers(client, "ratio", 2) + numbers(client, "queue", 2)
    client.checkpoint()
    writer.close()
    server.stop()
    server = rv.Server(tables(rv), None, keeper)
    client = rv.Client(f"localhost:{server.port}")
    for table in ("ratio", "queue"):
        writer = client.trajectory_writer(10)
        for n in range(10, 20):
            add(writer, table, n)
            if not flushed(rv, writer):
                break
        shown.append((table, n))
    shown += numbers(client, "ratio", 3) + numbers(client, "queue", 3)
    server.stop()
    return shown


def test_limiters_go_on_where_a_checkpoint_left_them(tmp_path: Path) -> None:
    assert restarting(ours, tmp_path / "ours") == restarting(reverb, tmp_path / "theirs")
