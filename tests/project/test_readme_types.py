"""The README's code as a type checker sees it: mypy --strict here, pyright in `nox -s lint`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.project.test_docs import BLOCK, README, ROOT


def complaints(code: str, folder: Path) -> str:
    """What mypy --strict says of a program; empty where it is content."""
    program = folder / "program.py"
    program.write_text(code, "utf-8")
    options = ["--strict", "--no-error-summary", "--config-file", str(ROOT / "pyproject.toml")]
    options += ["--cache-dir", str(folder / "cache")]
    run = [sys.executable, "-m", "mypy", *options, str(program)]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode in (0, 1), done.stderr
    # About the program alone: the lint session looks at src, with one NumPy's stubs.
    return "\n".join(line for line in done.stdout.splitlines() if "program.py:" in line)


def test_the_readmes_code_is_typed(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    # A block is a program of its own; as the body of a function each keeps its names.
    blocks = [match["code"].replace("\n", "\n    ") for match in BLOCK.finditer(README)]
    assert len(blocks) >= 3
    program = "\n".join(f"def block_{n}() -> None:\n    {b}" for n, b in enumerate(blocks))
    assert complaints(program, tmp_path) == ""


def test_a_wrong_use_is_seen(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    code = "import reverie\n\nbuffer = reverie.open('x')\nbuffer.num_frames() + 'text'\n"
    assert 'Unsupported operand types for + ("int" and "str")' in complaints(code, tmp_path)
