"""Items that Reverie's own observers write into a server's tables are saved like any other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reverie
from reverie import reverb
from reverie.checkpoint import verify
from reverie.checkpoint.format import items, plan
from reverie.checkpoint.format.rows import RowFile

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
    nbytes = sum(path.stat().st_size for path in folder.glob("segment-*"))
    assert 500 * 20 <= nbytes < 500 * 20 + 4096


def test_the_comparison_sees_a_step_that_is_off_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shifted(state: Any, index: int) -> Iterator[RowFile]:
        for file in items.files_of(state, index):
            if file.role == "items":
                key, chunk, offset, *others = file.fields
                file = RowFile(
                    file.role, file.name, [key, chunk, offset - (offset > 0), *others]
                )
            yield file

    monkeypatch.setattr(plan, "files_of", shifted)
    first = served(tmp_path)
    fill(first, 12)
    first.localhost_client().checkpoint()
    assert contents(served(tmp_path), "mixed", 5) != contents(first, "mixed", 5)


def test_rows_stay_rows(tmp_path: Path) -> None:
    """What is loaded takes no more chunks, and no more bytes, than what was saved."""
    first = served(tmp_path)
    fill(first, 200)
    folder = Path(first.localhost_client().checkpoint())
    report = verify(folder)
    second = served(tmp_path)
    again = Path(second.localhost_client().checkpoint())
    assert verify(again).num_records == report.num_records
    assert verify(again).num_chunks <= report.num_chunks
    assert verify(again).nbytes <= report.nbytes
