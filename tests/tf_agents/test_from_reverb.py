"""The page for who comes from Reverb, its left side on dm-reverb itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.page_support import printed, programs
from tests.reverb_page_support import TEXT, run

pytest.importorskip("reverb", reason="needs dm-reverb: nox -s tf_agents")


def test_each_row_runs_on_reverb_and_gives_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"np": np}
    assert run("old", names) > 35
    names["server"].stop()


def test_reverbs_program_prints_the_same(tmp_path: Path) -> None:
    before, after = programs(TEXT)
    assert printed(before, tmp_path, warnings="ignore") == printed(after, tmp_path)
