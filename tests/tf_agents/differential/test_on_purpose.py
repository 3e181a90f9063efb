"""Where Reverie differs from dm-reverb on purpose: what both do, each with its reason.

"Where it differs on purpose" in docs/reverb.md has a line for each of these.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

reverb = pytest.importorskip("reverb", reason="needs dm-reverb")

from reverie import reverb as ours  # noqa: E402


class Steps:
    """A table, and a writer that has appended the numbers 0, 1, 2, ..."""

    def __init__(self, rv: Any, steps: int, keep: int = 8, folder: Path | None = None) -> None:
        self.rv = rv
        self.table = rv.Table(
            name="t",
            sampler=rv.selectors.Fifo(),
            remover=rv.selectors.Fifo(),
            max_size=100,
            rate_limiter=rv.rate_limiters.MinSize(1),
        )
        library = rv.platform.checkpointers_lib
        keeper = library.DefaultCheckpointer(str(folder)) if folder else None
        self.server = rv.Server([self.table], None, keeper)
        self.client = rv.Client(f"localhost:{self.server.port}")
        self.writer = self.client.trajectory_writer(keep)
        self.writer.configure((), num_keep_alive_refs=keep, max_chunk_length=keep)
        for n in range(steps):
            self.writer.append(np.int64(n))

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, *_: object) -> None:
        self.writer.close()
        self.server.stop()

    def picked(self, pick: Any) -> Any:
        """What an item of these steps comes back as."""
        self.client.reset("t")
        self.writer.create_item("t", 1.0, [self.writer.history[pick]])
        self.writer.flush()
        [sample] = self.client.sample("t", 1, emit_timesteps=False)
        return sample.data[0].tolist()


@pytest.mark.parametrize("pick", [slice(-7, None, 2), [1, 5], [-5, -5], [-1, -3]])
def test_an_item_holds_the_steps_that_were_picked(pick: Any) -> None:
    wanted = np.arange(8)[pick].tolist()
    with Steps(ours, 8) as mine, Steps(reverb, 8) as theirs:
        assert mine.picked(pick) == wanted
        if pick == [-1, -3]:
            with pytest.raises(ValueError, match="Cannot slice"):
                theirs.picked(pick)
        else:  # neighbours within the chunk
            assert theirs.picked(pick) != wanted


def test_a_slice_may_name_its_end() -> None:
    with Steps(ours, 4) as mine, Steps(reverb, 4) as theirs:
        assert mine.picked(slice(1, 4)) == [1, 2, 3]
        assert len(theirs.writer.history[1:4]) == 0


def test_the_index_after_the_last_step_is_an_error() -> None:
    with Steps(ours, 4) as mine, Steps(reverb, 4) as theirs:
        assert theirs.writer.history[4].numpy() == 0
        with pytest.raises(IndexError):
            mine.writer.history[4]


def test_an_empty_column_is_an_error() -> None:
    # Reverb's process ends here.
    with Steps(ours, 4) as mine, pytest.raises(ValueError, match="column 0"):
        mine.writer.create_item("t", 1.0, [mine.writer.history[4:]])


def test_an_abandoned_sample_has_fetched_no_more_than_it_gave() -> None:
    with Steps(ours, 1) as mine:
        mine.picked(-1)
        before = mine.table.info.rate_limiter_info.sample_stats.completed
        next(mine.client.sample("t", 10, emit_timesteps=False))
        assert mine.table.info.rate_limiter_info.sample_stats.completed == before + 1


def test_a_refused_step_stores_nothing() -> None:
    good, bad = {"a": np.int64(1), "b": np.int64(2)}, {"a": np.int64(1), "b": np.float32(2)}
    for rv, later in ((ours, 3), (reverb, RuntimeError)):
        with Steps(rv, 0) as steps:
            writer = steps.client.trajectory_writer(1)
            writer.append(good)
            column = writer.history["a"][-1:]
            with pytest.raises(ValueError, match="dtype"):
                writer.append(bad)
            if rv is reverb:
                with pytest.raises(later):
                    column.numpy()
            else:
                assert column.numpy().tolist() == [1]


def test_mutate_priorities_tells_how_many_keys_were_stale() -> None:
    with Steps(ours, 1) as mine, Steps(reverb, 1) as theirs:
        assert mine.client.mutate_priorities("t", {5: 1.0}, [6]) == 2
        assert theirs.client.mutate_priorities("t", {5: 1.0}, [6]) is None


def test_a_table_is_the_servers_own_after_a_checkpoint_was_loaded(tmp_path: Path) -> None:
    for rv, can in ((ours, True), (reverb, False)):
        with Steps(rv, 1, folder=tmp_path / rv.__name__) as steps:
            steps.picked(0)
            steps.client.checkpoint()
        with Steps(rv, 1, folder=tmp_path / rv.__name__) as steps:
            assert steps.client.server_info()["t"].current_size == 1
            assert steps.table.can_sample(1) == can


def test_what_may_go_in_is_in_when_create_item_returns() -> None:
    with Steps(ours, 1) as mine:
        mine.writer.create_item("t", 1.0, [mine.writer.history[-1:]])
        assert mine.table.info.current_size == 1
