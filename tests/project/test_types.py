"""What a type checker sees of the README's code and of users': mypy --strict here.

`nox -s lint` adds pyright, `nox -s doors` both with the frameworks there.
"""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from tests.project.test_docs import BLOCK, README, ROOT

import reverie
from reverie.replay_buffer import Settings

TYPED = ROOT / "tests" / "typed"


def complaints(*programs: Path, cache: Path) -> str:
    """What mypy --strict says of the programs; empty where it is content."""
    options = ["--strict", "--no-error-summary", "--config-file", str(ROOT / "pyproject.toml")]
    options += ["--cache-dir", str(cache)]
    run = [sys.executable, "-m", "mypy", *options, *map(str, programs)]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode in (0, 1), done.stderr
    # About them alone: the lint session looks at src, with one NumPy's stubs.
    names = tuple(f"{program.name}:" for program in programs)
    return "\n".join(line for line in done.stdout.splitlines() if any(n in line for n in names))


def written(code: str, folder: Path) -> Path:
    """A program of this text."""
    program = folder / "program.py"
    program.write_text(code, "utf-8")
    return program


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mypy")
    return tmp_path_factory.mktemp("mypy")


def test_the_readmes_code_is_typed(tmp_path: Path, cache: Path) -> None:
    # A block is a program of its own; as the body of a function each keeps its names.
    blocks = [match["code"].replace("\n", "\n    ") for match in BLOCK.finditer(README)]
    assert len(blocks) >= 3
    program = "\n".join(f"def block_{n}() -> None:\n    {b}" for n, b in enumerate(blocks))
    assert complaints(written(program, tmp_path), cache=cache) == ""


def test_what_users_get_back_has_its_types(cache: Path) -> None:
    programs = sorted(TYPED.glob("*.py"))
    assert len(programs) >= 5
    assert complaints(*programs, cache=cache) == ""


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        ("(batch.discount, NDArray[Any])", "(batch.discount, Any)", "Expression is of type"),
        ("(batch.action, Any)", "(batch.action, NDArray[Any])", "Expression is of type"),
        ("beta=0.4).weight,", "beta=0.4).weights,", '"Batch" has no attribute "weights"'),
        ("view=view, seed=0)", "view=view, sead=0)", 'Unexpected keyword argument "sead"'),
        ("(len(buffer), int)", "(len(buffer) + 'x', int)", "Unsupported operand types for +"),
    ],
)
def test_a_wrong_use_is_seen(
    right: str, wrong: str, complaint: str, tmp_path: Path, cache: Path
) -> None:
    code = (TYPED / "numpy_use.py").read_text("utf-8")
    assert right in code
    program = written(code.replace(right, wrong), tmp_path)
    assert complaint in complaints(program, cache=cache)


@pytest.mark.parametrize("name", ["manager_use", "numpy_use"])
def test_the_typed_code_runs(name: str, tmp_path: Path) -> None:
    pytest.importorskip("typing_extensions")
    importlib.import_module(f"tests.typed.{name}").main(tmp_path)


def test_for_env_knows_every_keyword_of_the_class() -> None:
    signature = inspect.signature(reverie.ReplayBuffer)
    wanted = {
        name: each.annotation
        for name, each in signature.parameters.items()
        if each.kind is each.KEYWORD_ONLY
    }
    found = inspect.get_annotations(Settings)
    assert {name: each.__forward_arg__ for name, each in found.items()} == wanted
