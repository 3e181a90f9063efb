"""Checkpoints written long ago go on loading, and go on as they would have then."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.core_support import SPEC, loaded
from tests.golden.make_native_fixtures import (
    BUFFER,
    NATIVE,
    buffer_drawn,
    make_buffer,
    make_tables,
    tables_drawn,
)

from reverie import ReplayBufferManager
from reverie.checkpoint import open_source, verify

CHECKPOINT = "ckpt-00000001"


def expected(name: str) -> Any:
    return json.loads((NATIVE / name / "expected.json").read_text("utf-8"))


def test_the_tables_draw_what_they_would_have_drawn() -> None:
    made = loaded(NATIVE / "tables" / CHECKPOINT)
    assert tables_drawn(made) == expected("tables")
    assert tables_drawn(made) != expected("tables")  # the draws after those are others


def test_the_buffer_draws_what_it_would_have_drawn() -> None:
    assert buffer_drawn(loaded(NATIVE / "buffer" / CHECKPOINT)) == expected("buffer")


def test_a_manager_draws_what_the_buffer_would_have_drawn(tmp_path: Path) -> None:
    shutil.copytree(NATIVE / "buffer" / CHECKPOINT, tmp_path / CHECKPOINT)
    with ReplayBufferManager(SPEC, 20, str(tmp_path), sequence_length=2) as manager:
        buffer, _ = manager.load_replay_buffer()
        for positions, flags, keys in expected("buffer"):
            step, info = buffer.sample(4)
            assert step["position"].tolist() == positions
            assert step["flag"].tolist() == flags
            assert info.key.tolist() == keys


def test_a_buffer_needs_no_spec_of_the_reader() -> None:
    assert open_source(NATIVE / "buffer" / CHECKPOINT).nest(BUFFER).spec == SPEC


@pytest.mark.parametrize("name", ["tables", "buffer"])
def test_they_are_sound(name: str) -> None:
    report = verify(NATIVE / name / CHECKPOINT)
    assert set(report.num_items.values()) == ({17} if name == "tables" else {20})
    # Of the tables: an episode's, and a cut where the steps of deleted items are left out.
    assert report.num_ends == (2 if name == "tables" else 3)
    assert report.extra_files == ()


@pytest.mark.parametrize("make", [make_tables, make_buffer])
def test_the_same_life_gives_the_same_draws_and_another_one_others(
    make: Any, tmp_path: Path
) -> None:
    wanted = expected(make.__name__.removeprefix("make_"))
    assert make(tmp_path) == wanted
    assert make(tmp_path, seed=8) != wanted
