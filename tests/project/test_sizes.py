"""No module grows beyond what one can read at a sitting."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_LINES = 600
FOLDERS = ("src", "cpp", "bindings", "tests", "benchmarks", "examples")
# Path: the reason. An entry that is no longer needed fails the test below.
EXEMPT: dict[str, str] = {}


def too_long(text: str) -> bool:
    """Whether a module of this text should be split."""
    return len(text.splitlines()) > MAX_LINES


def _modules() -> list[str]:
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    found.append(ROOT / "noxfile.py")
    suffixes = {".py", ".pyi", ".h", ".cc"}
    return sorted(p.relative_to(ROOT).as_posix() for p in found if p.suffix in suffixes)


@pytest.mark.parametrize("path", _modules())
def test_modules_have_at_most_600_lines_unless_exempt(path: str) -> None:
    assert too_long((ROOT / path).read_text("utf-8")) == (path in EXEMPT)


def test_every_exempt_module_exists() -> None:
    assert set(EXEMPT) <= set(_modules())


def test_the_check_sees_line_601() -> None:
    assert [too_long("x\n" * lines) for lines in (600, 601)] == [False, True]
