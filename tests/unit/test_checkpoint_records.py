"""Items that Reverie's own observers write into a server's tables are saved like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reverie
from reverie import reverb
from reverie.checkpoint import record_columns
from reverie.errors import InvalidArgumentError

STEP = {"a": np.zeros(3, np.float32), "b": np.int64(0), "c": np.zeros((2, 0), bool)}


def step(i: int) -> dict[str, Any]:
    return {"a": np.full(3, i, np.float32), "b": np.int64(-i), "c": STEP["c"]}


def served(path: Path, sampler: Any = None) -> reverb.Server:
    tables = [
        reverb.Table(
            name,
            sampler or reverb.selectors.Fifo(),
            reverb.selectors.Fifo(),
            1000,
            reverb.rate_limiters.MinSize(1),
            max_times_sampled=max_times,
        )
        for name, max_times in (("mixed", 1), ("other", 0))
    ]
    checkpointer = reverb.checkpointers.DefaultCheckpointer(str(path))
    return reverb.Server(tables, checkpointer=checkpointer)


def fill(server: reverb.Server, steps: int) -> None:
    """Windows, episodes of all lengths, and a trajectory between them."""
    client = server.localhost_client()
    windows = reverie.observers.TrajectorySequenceObserver(client, ["mixed", "other"], 3)
    episodes = reverie.observers.EpisodeObserver(client, "mixed", 400)
    writer = client.trajectory_writer(5)
    for i in range(steps):
        windows(step(i))
        episodes(step(1000 + i), last=i % 7 == 6 or i == 300)
        writer.append(step(2000 + i))
        if i % 5 == 4:
            history = writer.history
            trajectory = {"x": history["a"][-2:], "y": history["b"][-1]}
            writer.create_item("mixed", 1.0 + i, trajectory)
    writer.flush()


def contents(server: reverb.Server, table: str, n: int) -> list[Any]:
    client = server.localhost_client()
    return [
        (*sample.info, [(c.dtype, c.shape, c.tolist()) for c in sample.data])
        for sample in client.sample(table, n, emit_timesteps=False)
    ]


@pytest.mark.parametrize("steps", [12, 700])  # within a chunk, and over seams
def test_windows_episodes_and_trajectories_come_back_in_one_table(
    tmp_path: Path, steps: int
) -> None:
    first = served(tmp_path)
    fill(first, steps)
    first.localhost_client().checkpoint()
    again = served(tmp_path)
    n = first.localhost_client().server_info()["mixed"].current_size
    assert n > steps
    assert contents(again, "mixed", n) == contents(first, "mixed", n)
    assert contents(again, "other", 5) == contents(first, "other", 5)


def test_a_second_checkpoint_of_what_was_loaded_is_the_same(tmp_path: Path) -> None:
    first = served(tmp_path)
    fill(first, 50)
    first.localhost_client().checkpoint()
    second = served(tmp_path)
    fill(second, 20)
    second.localhost_client().checkpoint()
    third = served(tmp_path)
    n = second.localhost_client().server_info()["mixed"].current_size
    assert contents(third, "mixed", n) == contents(second, "mixed", n)


def test_steps_that_tables_share_are_stored_once(tmp_path: Path) -> None:
    server = served(tmp_path)
    observer = reverie.observers.TrajectorySequenceObserver(
        server.localhost_client(), ["mixed", "other"], 4
    )
    for i in range(500):
        observer(step(i))
    folder = Path(server.localhost_client().checkpoint())
    nbytes = sum(path.stat().st_size for path in folder.glob("cells-*"))
    assert 500 * 20 <= nbytes < 500 * 20 + 4096


def test_a_store_of_trajectories_alone_is_left_as_it_is(tmp_path: Path) -> None:
    server = served(tmp_path)
    client = server.localhost_client()
    client.insert([np.zeros(3)], {"other": 1.0})
    snapshot = server._server.store.snapshot()
    assert record_columns.as_cells(snapshot) is snapshot


def test_without_the_conversion_such_items_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = served(tmp_path)
    fill(server, 12)
    monkeypatch.setattr("reverie.checkpoint.server_tables.as_cells", lambda snapshot: snapshot)
    with pytest.raises(InvalidArgumentError, match="whole records"):
        server.localhost_client().checkpoint()
    assert list(tmp_path.glob("ckpt-*")) == []


def test_the_comparison_sees_a_step_that_is_off_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = record_columns._runs

    def shifted(*args: Any) -> Any:
        owner, chunk, offset, length = runs(*args)
        return owner, chunk, np.maximum(offset - 1, 0), length

    monkeypatch.setattr(record_columns, "_runs", shifted)
    first = served(tmp_path)
    fill(first, 12)
    first.localhost_client().checkpoint()
    assert contents(served(tmp_path), "mixed", 5) != contents(first, "mixed", 5)
