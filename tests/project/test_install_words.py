"""Commands that install an extra work for who has a clone alone, and name extras that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.project.test_docs import ROOT, files

from reverie.runtime.optional import install_command

HELPER = ROOT / "src" / "reverie" / "runtime" / "optional.py"
# The package is on no index: pip finds this name only where it is installed already.
BY_NAME = re.compile(r"pip install[^\n]*\breverie-replay")
IN_A_CLONE = re.compile(r"pip install [^\n]*'\.\[([\w,-]+)\]'")


def extras() -> set[str]:
    """The extras that pyproject.toml has; Python 3.10 has no parser for it."""
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    section = text.split("[project.optional-dependencies]\n")[1].split("\n[")[0]
    return set(re.findall(r"^([\w-]+) = \[", section, re.M))


def named(source: str) -> set[str]:
    """The extras that a module asks the helper for."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            at = {"require": 1, "install_command": 0}.get(node.func.id, len(node.args))
            found |= {str(arg.value) for arg in node.args[at:][:1] if type(arg) is ast.Constant}
    return found


def documents() -> list[Path]:
    return [path for path in files() if path.suffix in {".md", ".yml", ".toml"}]


def modules() -> list[Path]:
    return [path for top in ("src", "examples") for path in sorted((ROOT / top).rglob("*.py"))]


def test_nobody_is_told_to_install_by_a_name_that_no_index_has() -> None:
    found = {
        path.relative_to(ROOT).as_posix(): BY_NAME.findall(path.read_text("utf-8"))
        for path in [*documents(), *modules()]
        if path != HELPER
    }
    assert {path: commands for path, commands in found.items() if commands} == {}


def test_the_helper_says_both_ways() -> None:
    said = install_command("demo")
    assert "pip install 'reverie-replay[demo]'" in said
    assert "in a clone" in said
    assert IN_A_CLONE.findall(said) == ["demo"]


def test_every_extra_that_is_named_exists() -> None:
    asked = {name for path in modules() for name in named(path.read_text("utf-8"))}
    told = {
        name
        for path in [*documents(), *modules()]
        for names in IN_A_CLONE.findall(path.read_text("utf-8"))
        for name in names.split(",")
    }
    assert asked >= {"demo", "reverb", "reverb-files", "tf"}
    assert told - {"{extra}"} >= {"demo", "reverb-files", "tf-agents"}
    assert (asked | told) - {"{extra}"} - extras() == set()


def test_other_words_are_seen() -> None:
    assert BY_NAME.search("Run: pip install 'tf-agents' 'reverie-replay[tf]'")
    assert named('require("x", "no-such", "y"); install_command("nor-this")') == {
        *("no-such", "nor-this"),
    }
    assert "no-such" not in extras()
