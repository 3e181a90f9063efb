"""The page for who comes from Reverb: each row runs, and both sides give the same.

Left on Reverie's own Reverb; `tests/tf_agents/test_from_reverb.py` runs it on dm-reverb, too.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.page_support import printed, programs
from tests.reverb_page_support import PAGE, TEXT, run

from reverie import reverb


def test_each_row_runs_on_our_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("new", {"np": np}) > 20


def test_each_row_runs_on_our_reverb_and_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "reverb", reverb)
    names: dict[str, Any] = {"np": np}
    assert run("old", names) > 35
    names["server"].stop()


def test_the_programs_print_the_same(tmp_path: Path) -> None:
    before, after = programs(TEXT)
    ours = "import reverie\nreverie.install_as_reverb(force=True)\n" + before
    assert printed(after, tmp_path) == "[1 1 1 1 1 1 1] 1.0\n"
    assert printed(ours, tmp_path) == printed(after, tmp_path)


def test_the_page_has_a_row_for_each_kind_of_call() -> None:
    code = " ".join(row.old or "" for row in PAGE)
    for call in ("append", "create_item", "mutate_priorities", "checkpoint", "reset", "sample"):
        assert f".{call}(" in code
