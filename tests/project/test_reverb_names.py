"""docs/reverb.md says what is served: every row is held against the package."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reverb.md"
ROW = re.compile(r"^\| `(reverb[\w.]*)` \| (yes|part|no) \| ?(.*?) ?\|$", re.MULTILINE)
ROWS = {name: (served, notes) for name, served, notes in ROW.findall(PAGE.read_text("utf-8"))}
HAS_TENSORFLOW = importlib.util.find_spec("tensorflow") is not None


def is_served(name: str) -> bool:
    """Whether `reverb.X.Y` is there, as a module's name or an attribute."""
    parts = name.split(".")[1:]
    found = importlib.import_module("reverie.reverb")
    for i, part in enumerate(parts):
        if not hasattr(found, part):
            try:
                found = importlib.import_module(".".join(["reverie.reverb", *parts[: i + 1]]))
            except ImportError:
                return False
        else:
            found = getattr(found, part)
    return True


def test_the_page_has_rows() -> None:
    assert len(ROWS) > 90
    assert len(ROW.findall(PAGE.read_text("utf-8"))) == len(ROWS)  # none twice


@pytest.mark.parametrize("name", ROWS)
def test_a_row_says_what_the_package_does(name: str) -> None:
    served, notes = ROWS[name]
    if "TensorFlow" in notes and served != "no" and not HAS_TENSORFLOW:
        pytest.skip("TensorFlow is not installed")
    assert is_served(name) == (served != "no")


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row[0] != "yes"])
def test_what_is_not_served_in_full_has_its_reason(name: str) -> None:
    assert len(ROWS[name][1]) > 30


def test_a_name_that_is_not_there_is_found_out() -> None:
    assert not is_served("reverb.Client.teleport")
    assert not is_served("reverb.telepathy")
