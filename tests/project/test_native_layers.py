"""The core knows no Python, no files and no clock; the bindings hold no files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PYTHON = r"\bPython\.h\b|\bPyObject\b|\bnanobind\b|\bnumpy\b|\bnpy_"
FILES = r"<fstream>|<cstdio>|<stdio\.h>|<filesystem>|<fcntl\.h>|\b[io]?fstream\b|\bfopen\b"
# A bounded wait (wait_for) is fine: it reads no time that could change a result.
CLOCKS = r"\bnow\s*\(|\bsystem_clock\b|\brandom_device\b|<ctime>|<time\.h>|\bs?rand\s*\("

# How long the GIL was kept decides who has it next, and no result.
TIMED = "bindings/no_gil.h"

RULES = {"cpp": (PYTHON, FILES, CLOCKS), "bindings": (FILES, CLOCKS)}


def without_comments(source: str) -> str:
    """The code alone: prose may well speak of Python."""
    return re.sub(r"//[^\n]*|/\*.*?\*/", "", source, flags=re.DOTALL)


def violations(folder: str, source: str) -> list[str]:
    """What C++ text of `folder` names and may not."""
    code = without_comments(source)
    return [match.group() for rule in RULES[folder] for match in re.finditer(rule, code)]


def _sources() -> list[str]:
    return sorted(
        path.relative_to(ROOT).as_posix()
        for folder in RULES
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".h", ".cc"} and "tests" not in path.relative_to(ROOT).parts
    )


def test_there_are_sources_to_read() -> None:
    assert {path.split("/")[0] for path in _sources()} == set(RULES)


@pytest.mark.parametrize("path", _sources())
def test_native_code_stays_in_its_layer(path: str) -> None:
    found = violations(path.split("/")[0], (ROOT / path).read_text("utf-8"))
    assert found == (["now("] if path == TIMED else [])


@pytest.mark.parametrize(
    ("folder", "planted"),
    [
        ("cpp", "#include <Python.h>"),
        ("cpp", "#include <nanobind/nanobind.h>"),
        ("cpp", "#include <numpy/arrayobject.h>"),
        ("cpp", "#include <fstream>"),
        ("cpp", "auto f = fopen(path, mode);"),
        ("cpp", "auto t = std::chrono::steady_clock::now();"),
        ("cpp", "std::random_device device;"),
        ("bindings", "std::ofstream out(path);"),
        ("bindings", "#include <filesystem>"),
    ],
)
def test_the_check_sees_planted_violations(folder: str, planted: str) -> None:
    assert violations(folder, planted) != []


def test_comments_and_bounded_waits_are_no_violations() -> None:
    source = "// as in numpy\n/* Python.h */ ready_.wait_for(lock, std::chrono::seconds(1));"
    assert violations("cpp", source) == []
