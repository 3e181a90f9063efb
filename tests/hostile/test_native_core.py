"""Crafted native checkpoints that reach the core: an error, or tables that can be used."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from tests.core_support import CoreStore, loaded, settings, steps
from tests.hostile.damage_support import (
    Files,
    MemoryFileSystem,
    both,
    field,
    files_of,
    forge,
    patched,
    put,
    rewritten,
    split,
    u4,
    u8,
)
from tests.server_support import draws

from reverie.checkpoint.format.chunks import ChunkIndex
from reverie.checkpoint.format.items import TableArrays
from reverie.errors import CheckpointCorruptError, CheckpointError

MEMORY = Path("memory")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Two tables with windows and trajectories; one of a heap."""
    made = CoreStore([settings("u", "prioritized"), settings("h", "max_heap")], chunk_nbytes=90)
    writer = made.writer()
    steps(writer, 0, 25)
    made.fill(4)
    return files_of(made.save(tmp_path_factory.mktemp("good")))


def load(files: Files) -> CoreStore:
    return loaded(MEMORY, fs=MemoryFileSystem(files))


def use(made: CoreStore) -> None:
    """Samples, inserts, updates and deletes what came out of a forgery."""
    for one in made.tables:
        draws(one, 2)
        keys = one.core.items()["key"].copy()
        one.core.update_priorities(keys, np.ones(len(keys)))
        one.core.delete(keys[::2])
    writer = made.writer()
    steps(writer, 0, 5)
    made.core.snapshot()


def test_the_undamaged_files_load(good: Files) -> None:
    made = load(good)
    assert [one.core.size for one in made.tables] == [26, 26]
    use(made)


@pytest.mark.parametrize("counter", ["inserts", "samples", "deletes", "num_unique_samples"])
@pytest.mark.parametrize("value", [0, 7, 2**62, 2**63 - 1])
def test_counters_that_cannot_be_do_no_harm(good: Files, counter: str, value: int) -> None:
    edit = put("tables", 0, "counters", counter, value=str(value))
    try:
        made = load(forge(good, edit))
    except (CheckpointError, ValueError):
        return
    use(made)


@pytest.mark.parametrize("seed", range(4))
def test_random_forgeries_end_in_an_error_or_in_tables_that_can_be_used(
    good: Files, seed: int
) -> None:
    rng, number = random.Random(seed), 0
    small = sorted(name for name in good if name.endswith(".npy"))
    for _ in range(150):
        name = rng.choice(small)
        size = len(split(good[name])[1])
        value = rng.choice([u4(0), u4(1), u4(2**32 - 1), u8(2**63), rng.randbytes(4), b"\1"])
        at = rng.randrange(max(1, size - len(value)))
        try:
            made = load(forge(good, patched(name, at, value[:size])))
        except (CheckpointError, ValueError) as error:
            assert len(str(error)) < 1000  # noqa: PT017
        else:
            number += 1
            use(made)
    assert 0 < number < 150


CASES = {
    "piece past its chunk": (
        ChunkIndex,
        "check_pieces",
        field("pieces-0.npy", 0, "length", 99),
    ),
    "unknown chunk": (ChunkIndex, "check_pieces", field("pieces-0.npy", 0, "chunk", 999)),
    "field": (ChunkIndex, "check_pieces", field("columns-0.npy", 0, "field", 5)),
    "run past its chunks": (ChunkIndex, "check_runs", field("items-0.npy", 0, "length", 99)),
    "run of no chunk": (ChunkIndex, "check_runs", field("items-0.npy", 0, "chunk", 999)),
    "end outside": (ChunkIndex, "check_ends", field("ends.npy", 0, "step", 99)),
    "end too many": (ChunkIndex, "check_ends", field("chunks.npy", 0, "ends", 99)),
    "end of another chunk": (
        ChunkIndex,
        "check_ends",
        both(field("chunks.npy", 0, "ends", 0), field("chunks.npy", -1, "ends", 3)),
    ),
    "end of no kind": (ChunkIndex, "check_ends", field("ends.npy", 0, "how", 9)),
    "key": (TableArrays, "check", field("items-0.npy", 0, "key", 2 << 32)),
    "next slot": (
        TableArrays,
        "check",
        put("tables", 0, "counters", "next_slot", value="5000"),
    ),
    "trajectory twice": (
        TableArrays,
        "check",
        rewritten("trajectories-0.npy", lambda rows: rows[[0, 0, *range(2, len(rows))]]),
    ),
    "columns of another": (
        TableArrays,
        "check",
        both(
            field("trajectories-0.npy", 0, "columns", 0),
            field("trajectories-0.npy", 1, "columns", 6),
        ),
    ),
    "no columns": (TableArrays, "check", rewritten("columns-0.npy", lambda rows: rows[:-1])),
}


@pytest.mark.parametrize("name", CASES)
def test_without_our_checks_the_core_still_refuses_it(
    good: Files, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    where, check, edit = CASES[name]
    forged = forge(good, edit)
    with pytest.raises(CheckpointCorruptError):
        load(forged)
    monkeypatch.setattr(where, check, lambda *_: None)
    with pytest.raises((ValueError, CheckpointCorruptError)):
        load(forged)
