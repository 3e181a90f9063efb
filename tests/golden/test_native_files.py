"""Checkpoints written long ago go on loading, and go on as they would have then."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.golden.make_native_fixtures import (
    NATIVE,
    SPEC,
    buffer_drawn,
    make_buffer,
    make_server,
    tables_drawn,
)
from tests.server_support import server, table

from reverie import ReplayBufferManager
from reverie.checkpoint import verify


def expected(name: str) -> Any:
    return json.loads((NATIVE / name / "expected.json").read_text("utf-8"))


def copy(name: str, root: Path) -> Path:
    shutil.copytree(NATIVE / name / "ckpt-00000001", root / "ckpt-00000001")
    return root


def test_the_servers_tables_draw_what_they_would_have_drawn(tmp_path: Path) -> None:
    names = list(expected("server"))
    made = server(copy("server", tmp_path), [table(name) for name in names])
    assert tables_drawn(made) == expected("server")
    assert tables_drawn(made) != expected("server")  # the draws after those are others


def test_the_replay_buffer_draws_what_it_would_have_drawn(tmp_path: Path) -> None:
    with ReplayBufferManager(
        SPEC, 20, str(copy("buffer", tmp_path)), sequence_length=2
    ) as manager:
        manager.load_replay_buffer()
        assert buffer_drawn(manager) == expected("buffer")


@pytest.mark.parametrize("name", ["server", "buffer"])
def test_they_are_sound(name: str) -> None:
    report = verify(NATIVE / name / "ckpt-00000001")
    assert set(report.num_items.values()) == ({17} if name == "server" else {20})
    assert report.extra_files == ()


@pytest.mark.parametrize("make", [make_server, make_buffer])
def test_another_life_gives_other_draws(make: Any, tmp_path: Path) -> None:
    assert make(tmp_path) != expected(make.__name__.removeprefix("make_"))
