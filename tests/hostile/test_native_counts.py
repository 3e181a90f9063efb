"""Crafted native checkpoints whose files do not agree on how many rows are whose.

Their checksums are right (`forge`): only the counts are wrong, or what they lead to.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.checkpoint_support import contents, load, save, snapshot
from tests.hostile.damage_support import (
    Files,
    MemoryFileSystem,
    both,
    chunks,
    columns,
    files_of,
    forge,
    rewritten,
    trajectories,
    without_row,
)

from reverie.checkpoint import verify
from reverie.errors import CheckpointCorruptError

Edit = Callable[[dict, Files], None]
MEMORY = Path("memory")
# Rows of `chunks.npy`: the chunks 3, 5, 9 of records, two ends in 3 and one in 9; texts.
C3, C5, _, C9, _, C12, C13 = range(7)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return files_of(save(tmp_path_factory.mktemp("good")))


ENDS: dict[str, tuple[Edit, str]] = {
    "an end too many": (chunks(C5, "ends", 1), "chunks.npy' has 4 ends in all, expected 3"),
    "an end too few": (chunks(C9, "ends", 0), "chunks.npy' has 2 ends in all, expected 3"),
    "2**32 - 1 ends": (chunks(C13, "ends", 2**32 - 1), "4294967298 ends in all, expected 3"),
    "ends of no chunk": (
        rewritten("ends.npy", lambda rows: rows[[0, 0, 1, 2]]),
        "chunks.npy' has 3 ends in all, expected 4",
    ),
    "no rows of ends": (
        rewritten("ends.npy", lambda rows: rows[:0]),
        "chunks.npy' has 3 ends in all, expected 0",
    ),
    "end of a text": (
        both(chunks(C9, "ends", 0), chunks(C12, "ends", 1)),
        "chunks.npy', row 5: ends 1, expected 0",
    ),
    "end of the next chunk": (
        both(chunks(C3, "ends", 1), chunks(C9, "ends", 2)),
        "ends.npy', row 1: step 3, expected one inside its chunk",
    ),
    "ends of two chunks as of one": (
        both(chunks(C3, "ends", 3), chunks(C9, "ends", 0)),
        "row 2: step 0, expected rows in ascending order of a chunk's steps",
    ),
}

COLUMNS: dict[str, tuple[Edit, str]] = {
    "trajectory as a run": (
        both(
            without_row("trajectories-1.npy", 0),
            trajectories(0, "columns", 4),
        ),
        "items-1.npy', row 1: chunk 0, expected a chunk",
    ),
    "trajectory without columns": (
        both(trajectories(0, "columns", 0), trajectories(1, "columns", 4)),
        "trajectories-1.npy', row 0: columns 0, expected at least 1",
    ),
    "too many columns": (
        trajectories(1, "columns", 3),
        "trajectories-1.npy' has 5 columns in all, expected 4",
    ),
    "too few columns": (trajectories(0, "columns", 1), "3 columns in all, expected 4"),
    "2**32 - 1 columns": (
        trajectories(0, "columns", 2**32 - 1),
        "4294967297 columns in all, expected 4",
    ),
    "a column fewer": (
        both(without_row("columns-1.npy", 3), without_row("pieces-1.npy", 6)),
        "trajectories-1.npy' has 4 columns in all, expected 3",
    ),
    "too many pieces": (
        columns(0, "pieces", 3),
        "columns-1.npy' has 8 pieces in all, expected 7",
    ),
    "2**32 - 1 pieces": (columns(0, "pieces", 2**32 - 1), "in all"),
}

FORGED = {**ENDS, **COLUMNS}


def test_a_forgery_that_changes_nothing_loads(good: Files) -> None:
    fs = MemoryFileSystem(forge(good, lambda document, files: None))
    assert load(MEMORY, fs=fs) == contents(snapshot())


@pytest.mark.parametrize("name", FORGED)
def test_counts_that_do_not_agree_are_refused(good: Files, name: str) -> None:
    edit, message = FORGED[name]
    fs = MemoryFileSystem(forge(good, edit))
    for read in (load, verify):
        with pytest.raises(CheckpointCorruptError, match=message):
            read(MEMORY, fs=fs)
