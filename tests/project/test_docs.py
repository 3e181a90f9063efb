"""What the documents say is so: code runs, links lead somewhere, names are described."""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import reverie

ROOT = Path(__file__).resolve().parents[2]
HIDDEN_KEPT = {".ci", ".github"}
# Joined, or this file would name them itself.
FOREIGN_PATHS = tuple(f"/{home}/" for home in ("home", "root", "work", "Users"))

BLOCK = re.compile(r"(?P<above>[^\n]*)\n```python\n(?P<code>.*?)\n```", re.DOTALL)
NOT_RUN = re.compile(r"<!-- not run: \S.* -->")
LINK = re.compile(r"\[[^\]]*\]\((?!https?:|mailto:)(?P<target>[^)\s]+)[^)]*\)")


def files(suffix: str = "") -> list[Path]:
    found = []
    for folder, folders, names in os.walk(ROOT):
        # Pruned, not filtered: an environment holds tens of thousands of files.
        folders[:] = [name for name in folders if name in HIDDEN_KEPT or not _left_out(name)]
        # A linked work tree of git has a file of that name.
        found += [
            Path(folder, name) for name in names if name.endswith(suffix) and name != ".git"
        ]
    return sorted(found)


def _left_out(folder: str) -> bool:
    return folder.startswith((".", "__pycache__")) or folder in {"build", "dist", "wheelhouse"}


# Python code.


def blocks_to_run(markdown: str) -> list[str]:
    """Python blocks but those under a line that says `<!-- not run: why -->`."""
    return [
        match["code"]
        for match in BLOCK.finditer(markdown)
        if not NOT_RUN.fullmatch(match["above"].strip())
    ]


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs a block as a script of its own, with warnings as errors."""
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


README = (ROOT / "README.md").read_text("utf-8")


def test_the_readme_has_code_to_run() -> None:
    assert blocks_to_run(README) != []


@pytest.mark.parametrize("code", blocks_to_run(README))
def test_the_readme_code_runs_as_it_stands(code: str, tmp_path: Path) -> None:
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "path", files(".md"), ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_python_in_documents_is_python(path: Path) -> None:
    for match in BLOCK.finditer(path.read_text("utf-8")):
        ast.parse(match["code"])


def test_a_block_that_fails_is_seen(tmp_path: Path) -> None:
    text = "x\n```python\nimport reverie\nreverie.no_such_name\n```\n"
    [code] = blocks_to_run(text)
    assert "no_such_name" in run(code, tmp_path).stderr


def test_a_block_is_left_out_only_with_a_reason() -> None:
    block = "\n```python\npass\n```\n"
    assert blocks_to_run("<!-- not run: needs a server -->" + block) == []
    assert blocks_to_run("<!-- not run: -->" + block) == ["pass"]


def test_the_readme_names_the_command_that_ci_runs() -> None:
    command = "pip install nox && nox"
    assert command in README
    assert (ROOT / ".ci" / "run").read_text("utf-8").splitlines()[-1] == command


# Docstrings.


def undocumented(module: Any) -> list[str]:
    """Public names of `module.__all__`, and members of its classes, without a docstring."""
    found = []
    for name in module.__all__:
        value = getattr(module, name)
        if not (inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value)):
            continue
        members = {name: value}
        if inspect.isclass(value):
            members |= {f"{name}.{n}": getattr(value, n) for n in _own_members(value)}
        found += [n for n, v in members.items() if not _described(n, v)]
    return found


def _described(name: str, value: Any) -> bool:
    doc = value.__doc__ if inspect.isclass(value) else inspect.getdoc(value)
    # Dataclasses and named tuples get their signature where a docstring is missing.
    return bool(doc) and not str(doc).startswith(f"{name}(")


def _own_members(cls: type) -> Iterator[str]:
    for name, member in vars(cls).items():
        described = inspect.isroutine(member) or isinstance(member, property | classmethod)
        if described and not name.startswith("_"):
            yield name


def test_every_public_name_has_a_docstring() -> None:
    assert undocumented(reverie) == []


def test_a_missing_docstring_is_seen() -> None:
    class Bare:
        """Described."""

        def method(self) -> None:
            pass

    @dataclass
    class Value:
        x: int

    class Module:
        __all__ = ("Bare", "Value")

    Module.Bare, Module.Value = Bare, Value  # type: ignore[attr-defined]
    assert undocumented(Module) == ["Bare.method", "Value"]


# Links, history, and what must not be said.


def anchors(markdown: str) -> set[str]:
    """The anchors that headings get on the usual web pages of a repository."""
    headings = re.findall(r"^#+ +(.*?) *#*$", markdown, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def broken_links(path: Path) -> list[str]:
    """Relative links of a document to files or headings that do not exist."""
    broken = []
    text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text("utf-8"), flags=re.DOTALL)
    for match in LINK.finditer(text):
        file, _, anchor = match["target"].partition("#")
        target = path.parent / file if file else path
        lost = (
            anchor
            and target.suffix == ".md"
            and anchor not in anchors(target.read_text("utf-8"))
        )
        if not target.exists() or lost:
            broken.append(match["target"])
    return broken


@pytest.mark.parametrize(
    "path", files(".md"), ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_relative_links_lead_somewhere(path: Path) -> None:
    assert broken_links(path) == []


def test_broken_links_are_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A b\n[x](page.md) [y](#a-b) [z](#c) [v](gone.md) [w](https://a.b)")
    assert broken_links(page) == ["#c", "gone.md"]


def has_section(changelog: str, version: str) -> bool:
    """Whether the changelog speaks of what is unreleased or of this version."""
    return (
        re.search(rf"^## \[?(Unreleased|{re.escape(version)})\b", changelog, re.M) is not None
    )


def test_the_changelog_has_an_entry_for_this_version() -> None:
    assert has_section((ROOT / "CHANGELOG.md").read_text("utf-8"), reverie.__version__)


def test_a_changelog_of_older_versions_only_is_seen() -> None:
    assert not has_section("# Changes\n\n## [0.0.1] - 2020-01-01\n", "0.1.0")
    assert has_section("# Changes\n\n## [Unreleased]\n", "0.1.0")


def foreign_paths(content: bytes) -> list[str]:
    """Paths of somebody's own machine in the text of a file."""
    return [path for path in FOREIGN_PATHS if path.encode() in content]


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    found = {str(path): foreign_paths(path.read_bytes()) for path in files()}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize("path", FOREIGN_PATHS)
def test_foreign_paths_are_seen(path: str) -> None:
    assert foreign_paths(f"see {path}/x".encode()) == [path]
