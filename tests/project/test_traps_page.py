"""The page of traps names tests that exist, and readers find it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "traps.md").read_text("utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)`")


def rows(page: str) -> list[list[str]]:
    """The cells of all tables, without their headings."""
    found = [line.strip("|").split(" | ") for line in page.splitlines() if line[:2] == "| "]
    return [[cell.strip() for cell in row] for row in found if row[-1].strip() != "test"]


def unwatched(page: str) -> list[str]:
    """Traps whose row has not four cells, the last one a test that exists."""
    found = []
    for row in rows(page):
        test = NAMED.fullmatch(row[-1])
        if len(row) != 4 or not all(row) or test is None or not (ROOT / test[1]).is_file():
            found.append(row[0])
    return found


def test_each_trap_has_a_test_that_exists() -> None:
    assert len(rows(PAGE)) > 30
    assert unwatched(PAGE) == []


@pytest.mark.parametrize(
    "row",
    [
        "| a trap | a library | what ours does | `tests/unit/test_gone.py` |",
        "| a trap | a library | what ours does | none yet |",
        "| a trap | a library | `tests/unit/test_weights.py` |",
        "| a trap |  | what ours does | `tests/unit/test_weights.py` |",
    ],
)
def test_a_trap_that_nothing_watches_is_seen(row: str) -> None:
    assert unwatched(f"{PAGE}\n{row}\n") == ["a trap"]


@pytest.mark.parametrize("page", ["README.md", "docs/replay-buffer.md"])
def test_readers_are_led_to_it(page: str) -> None:
    assert re.search(r"\]\((docs/)?traps\.md\)", (ROOT / page).read_text("utf-8"))
