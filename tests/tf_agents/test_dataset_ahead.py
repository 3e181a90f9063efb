"""How far datasets run ahead of who reads, where their calls wait for the interpreter."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

tf = pytest.importorskip("tensorflow", reason="needs TensorFlow")
pytest.importorskip("tf_agents", reason="needs TF-Agents")

from tests.tf_agents.reverb_support import fill, serve, trajectories, uniform  # noqa: E402
from tests.tf_agents.support import episode, new_manager  # noqa: E402

from reverie import limiters, samplers  # noqa: E402
from reverie.reverb.tf import streams  # noqa: E402
from reverie.tables.settings import TableSettings  # noqa: E402
from reverie.tf import source  # noqa: E402

BATCH = 3
FEW, MANY = 15, 99  # batches, as `as_dataset` promises


def batches_ahead(folder: Path, num_steps: int | None = None, **settings: Any) -> int:
    """Batches that a dataset has sampled, most of all the time, and nobody has read."""
    _, buffer, _ = new_manager(folder, [episode(400)], 2, **settings)
    iterator = iter(buffer.as_dataset(BATCH, num_steps))
    most = 0
    for read in range(1, 100):
        next(iterator)
        if read % 20 == 0:
            before = -1
            while (samples := buffer.info().samples) != before:  # until it rests
                before = samples
                time.sleep(0.1)
            pieces = 1 if num_steps is None else 2 // num_steps
            most = max(most, samples * pieces // BATCH - read)
    return most


def test_a_dataset_alone_keeps_to_the_few(tmp_path: Path, prompt: None) -> None:
    assert 1 <= batches_ahead(tmp_path) <= FEW


@pytest.mark.parametrize("num_steps", [None, 1])
def test_dear_calls_bring_more_but_never_above_the_many(
    tmp_path: Path, dear: None, num_steps: int | None
) -> None:
    assert FEW < batches_ahead(tmp_path, num_steps) <= MANY


@pytest.mark.parametrize(
    "settings",
    [
        {"sampler": samplers.Prioritized(1.0)},
        {"sampler": samplers.MaxHeap()},
        {"sampler": samplers.Fifo()},
        {"limiter": limiters.SampleToInsertRatio(100.0, 1, 1e6)},
    ],
    ids=str,
)
def test_where_samples_count_dear_calls_bring_no_more(
    tmp_path: Path, dear: None, settings: dict[str, Any]
) -> None:
    assert batches_ahead(tmp_path, **settings) <= FEW


def test_that_check_would_see_a_table_that_is_read_ahead(
    tmp_path: Path, dear: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TableSettings, "may_run_ahead", True)
    assert batches_ahead(tmp_path, sampler=samplers.Prioritized(1.0)) > FEW


def test_eight_megabytes_are_the_most_of_a_call(
    tmp_path: Path, dear: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = 2 * 45
    monkeypatch.setattr(source, "_MAX_NBYTES_PER_CALL", 5 * BATCH * item)
    assert batches_ahead(tmp_path) <= 3 * 5 + 3


def items_ahead(most: int, **settings: Any) -> int:
    """Items of a served table that a dataset has sampled and not given yet, at the most."""
    _server, client, address = serve(uniform(**settings))
    fill(client, [2] * 9)
    iterator = iter(trajectories(address, most))
    ahead = 0
    for read in range(1, 40 * most + 4000):
        next(iterator)
        stats = client.server_info()["t"].rate_limiter_info.sample_stats
        ahead = max(ahead, stats.completed - read)
    return ahead


def test_a_served_tables_dataset_alone_keeps_to_what_it_was_told(prompt: None) -> None:
    assert items_ahead(5) == 4


@pytest.mark.parametrize(("most", "ahead"), [(5, 409 * 5), (300, 8 * 300)])
def test_dear_calls_bring_eight_times_as_many_of_a_served_table_or_two_thousand(
    dear: None, most: int, ahead: int
) -> None:
    assert items_ahead(most) == ahead - 1


def test_a_calls_bytes_have_a_limit_too(dear: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_MAX_NBYTES", 50 * 2 * 8)
    assert items_ahead(5) < 60


def test_dear_calls_bring_no_more_where_items_leave_once_sampled(dear: None) -> None:
    assert items_ahead(5, max_times_sampled=1000) == 4
