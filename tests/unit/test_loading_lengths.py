"""Loading items of other lengths than the manager's windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from reverie import ArraySpec, ReplayBufferManager, reverb
from reverie.errors import CheckpointMismatchError
from reverie.observers import EpisodeObserver, TrajectoryObserver

COUNTER = {"n": ArraySpec((), np.int64)}


def test_another_sequence_length_is_refused_at_load_naming_both(tmp_path: Path) -> None:
    """A later sample() would meet an item that fits no batch, whenever it drew one."""
    with ReplayBufferManager(COUNTER, 100, tmp_path, 2) as manager:
        _, observer = manager.create_replay_buffer()
        for n in range(5):
            observer({"n": n})
        manager.save()
    both = r"sequence_length=2.*sequence_length=3"
    with ReplayBufferManager(COUNTER, 100, tmp_path, 3) as manager:
        with pytest.raises(CheckpointMismatchError, match=both):
            manager.load_replay_buffer()
    with ReplayBufferManager(COUNTER, 100, tmp_path, 2) as manager:
        manager.load_replay_buffer()
        assert manager.num_frames() == 4


@pytest.fixture
def windows_and_episodes(tmp_path: Path) -> Path:
    """Windows of 2 steps, and in the same table one episode each of 3 and 4."""
    with ReplayBufferManager(COUNTER, 100, tmp_path, 2) as manager:
        buffer, observer = manager.create_replay_buffer()
        for n in range(3):
            observer({"n": n})
        episodes = EpisodeObserver(buffer.py_client, buffer.table_name, 10)
        for count in (3, 4):
            for n in range(count):
                episodes({"n": n}, last=n == count - 1)
        manager.save()
    return tmp_path


def test_items_of_all_lengths_of_a_managers_own_making_load(
    windows_and_episodes: Path,
) -> None:
    with ReplayBufferManager(COUNTER, 100, windows_and_episodes, 2) as manager:
        manager.load_replay_buffer()
        assert [len(item["n"]) for _, item in manager.iter_items()] == [2, 2, 3, 4]


@pytest.mark.parametrize(("length", "left"), [(2, [0, 1, 1, 2]), (3, [0, 1, 2])])
def test_the_items_that_fit_may_be_asked_for(
    length: int, left: list[int], windows_and_episodes: Path
) -> None:
    with ReplayBufferManager(
        COUNTER, 100, windows_and_episodes, length, on_misfit="leave_out"
    ) as manager:
        with pytest.warns(
            UserWarning, match=rf"of the 4 items .*={length}: they were left"
        ) as w:
            _, observer = manager.load_replay_buffer()
        assert w[0].filename == __file__
        assert manager.gather_all()["n"].ravel().tolist() == left
        for n in range(length):
            observer({"n": n})
        assert manager.sample(9)[0]["n"].shape == (9, length)
        manager.save()
        manager.load_replay_buffer()
        assert manager.num_frames() == len(left) // length + 1


def test_where_no_item_fits_there_is_nothing_to_leave(windows_and_episodes: Path) -> None:
    with ReplayBufferManager(
        COUNTER, 100, windows_and_episodes, 5, on_misfit="leave_out"
    ) as manager:
        with pytest.raises(CheckpointMismatchError, match=r"4 of the 4 items .* 2, 3, 4 steps"):
            manager.load_replay_buffer()


def test_windows_of_a_servers_table_are_held_to_their_length(tmp_path: Path) -> None:
    table = reverb.Table(
        "t",
        reverb.selectors.Uniform(),
        reverb.selectors.Fifo(),
        9,
        reverb.rate_limiters.MinSize(1),
    )
    checkpointer = reverb.checkpointers.DefaultCheckpointer(str(tmp_path))
    server = reverb.Server([table], checkpointer=checkpointer)
    observer = TrajectoryObserver(server.localhost_client(), "t", 2)
    for n in range(4):
        observer({"n": np.int64(n)})
    server.localhost_client().checkpoint()
    server.stop()
    with (
        ReplayBufferManager(COUNTER, 9, tmp_path, 3, table_name="t") as manager,
        pytest.raises(CheckpointMismatchError, match=r"3 of the 3 items.*have 2 steps.*=3"),
    ):
        manager.load_replay_buffer()
    with ReplayBufferManager(COUNTER, 9, tmp_path, 2, table_name="t") as manager:
        assert manager.load_replay_buffer()[0].num_frames() == 3
