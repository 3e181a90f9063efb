"""What the settings of a table say of it."""

from __future__ import annotations

from typing import Any

import pytest

from reverie import limiters, removers, samplers
from reverie.tables.settings import TableSettings


@pytest.mark.parametrize(
    ("settings", "may"),
    [
        ({}, True),
        ({"limiter": limiters.MinSize(7), "remover": removers.MinHeap()}, True),
        ({"max_times_sampled": 1000}, False),
        ({"limiter": limiters.SampleToInsertRatio(100.0, 1, 1e6)}, False),
        ({"sampler": samplers.Prioritized(1.0)}, False),
        ({"sampler": samplers.MaxHeap()}, False),
        ({"sampler": samplers.Fifo()}, False),
        ({"sampler": samplers.Lifo()}, False),
    ],
    ids=str,
)
def test_samples_may_be_chosen_long_before_they_are_read_where_nothing_counts_them(
    settings: dict[str, Any], may: bool
) -> None:
    assert TableSettings(name="t", max_size=10, **settings).may_run_ahead is may
