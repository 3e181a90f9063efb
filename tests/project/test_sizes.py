"""No module grows beyond what one can read at a sitting, no folder beyond a glance."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_LINES = 450
MAX_MODULES = 16  # in one folder of src
FOLDERS = ("src", "cpp", "bindings", "tests", "benchmarks", "examples")
# Path: the reason. An entry that is no longer needed fails the test below.
EXEMPT: dict[str, str] = {
    "src/reverie/_core.pyi": "a compiled module has one stub",
}


def too_long(text: str) -> bool:
    """Whether a module of this text should be split."""
    return len(text.splitlines()) > MAX_LINES


def too_many(modules: list[str]) -> list[str]:
    """Folders that hold more modules than fit."""
    folders = Counter(str(Path(path).parent) for path in modules)
    return sorted(folder for folder, count in folders.items() if count > MAX_MODULES)


def _modules() -> list[str]:
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    found.append(ROOT / "noxfile.py")
    suffixes = {".py", ".pyi", ".h", ".cc"}
    return sorted(p.relative_to(ROOT).as_posix() for p in found if p.suffix in suffixes)


@pytest.mark.parametrize("path", _modules())
def test_modules_have_at_most_450_lines_unless_exempt(path: str) -> None:
    assert too_long((ROOT / path).read_text("utf-8")) == (path in EXEMPT)


def test_every_exempt_module_exists() -> None:
    assert set(EXEMPT) <= set(_modules())


def test_the_check_sees_line_451() -> None:
    assert [too_long("x\n" * lines) for lines in (450, 451)] == [False, True]


def test_no_folder_of_src_has_more_than_16_modules() -> None:
    assert too_many([path for path in _modules() if path.startswith("src/")]) == []


def test_the_check_sees_module_17() -> None:
    room = [f"src/reverie/room/{n}.py" for n in range(16)]
    assert too_many([*room, "src/reverie/other/x.py"]) == []
    assert too_many([*room, "src/reverie/room/one_more.py"]) == ["src/reverie/room"]
