"""Memory and checkpoints stay near what items can reach, whatever a program does.

The resident memory of a process grows by at most 1.25 times the bytes of the distinct steps
that can be reached, 4 KiB for each open stream, 400 bytes for each closed one with a step
left, 24 or 48 bytes for each run of steps, 200 for each trajectory, and 4 MiB. A checkpoint
has at most 1.1 times those steps and 40 bytes an item, 200 a trajectory, and 64 KiB.
`bounds.py` has the arithmetic, `reachable.py` the model of what can be reached.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.memory import planted, scenarios_observers, scenarios_writers
from tests.memory.bounds import checkpoint_bound, memory_bound
from tests.memory.fresh_process import STATM, Measured, exceeded, measure
from tests.memory.reachable import Reach

measured = pytest.mark.skipif(
    not STATM.exists(), reason=f"{STATM} is not there: resident memory cannot be measured."
)


@measured
@pytest.mark.parametrize("name", scenarios_observers.SCENARIOS)
def test_observers_keep_the_bounds(name: str, tmp_path: Path) -> None:
    assert exceeded(measure(scenarios_observers.__name__, name, tmp_path)) == []


@measured
@pytest.mark.parametrize("name", scenarios_writers.SCENARIOS)
def test_writers_keep_the_bounds(name: str, tmp_path: Path) -> None:
    assert exceeded(measure(scenarios_writers.__name__, name, tmp_path)) == []


@measured
@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("sound", []),
        ("tidying", []),
        ("leaking", ["memory", "memory after the save"]),
        ("saving_too_much", ["checkpoint"]),
        ("loading_too_much", ["memory of who loads it"]),
    ],
)
def test_the_measurement_sees_what_is_planted(
    name: str, wanted: list[str], tmp_path: Path
) -> None:
    found = exceeded(measure(planted.__name__, name, tmp_path))
    assert [line.partition(":")[0] for line in found] == wanted


REACH = Reach(
    nbytes=1000, open_streams=2, closed_streams=3, rows=10, indexed_rows=4, trajectories=5
)


def test_the_bounds_are_the_sums_that_they_are_said_to_be() -> None:
    parts = 1250 + 2 * 4096 + 3 * 400 + 10 * 24 + 4 * 24 + 5 * 200
    assert memory_bound(REACH) == parts + 4 * 2**20
    assert checkpoint_bound(REACH) == 1.1 * (1000 + 10 * 40 + 5 * 200) + 64 * 2**10


@pytest.mark.parametrize(
    ("field", "what"),
    [
        ("growth", "memory"),
        ("growth_saved", "memory after the save"),
        ("checkpoint", "checkpoint"),
        ("growth_loaded", "memory of who loads it"),
    ],
)
def test_one_byte_above_a_bound_is_seen(field: str, what: str) -> None:
    memory, saved = memory_bound(REACH), checkpoint_bound(REACH)
    full = Measured(REACH, memory, saved, memory, REACH, memory)
    assert exceeded(full) == []
    (found,) = exceeded(replace(full, **{field: getattr(full, field) + 1}))
    assert found.startswith(f"{what}: ")
