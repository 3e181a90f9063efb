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


USE = """
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import assert_type

import reverie
from reverie import samplers, views, weights

spec = {"observation": reverie.ArraySpec((4,), np.float32), "reward": np.zeros(())}
with reverie.ReplayBuffer(spec, 100, sampler=samplers.Prioritized(0.6), seed=0) as buffer:
    assert_type(buffer, reverie.ReplayBuffer)
    assert_type(len(buffer), int)
    assert_type(buffer.add([0.0], 0, 1.0, [0.0], False, False), int)
    assert_type(buffer.add_episode({"observation": np.zeros((3, 4))}), int)
    batch = buffer.sample(8, view=views.Transitions(n_step=3, gamma=0.9), beta=0.4)
    assert_type(batch, reverie.Batch)
    assert_type(batch.key, NDArray[np.uint64])
    assert_type(batch.probability, NDArray[np.float64])
    assert_type(batch.weight, NDArray[np.float32])
    assert_type(batch.info.table_size, NDArray[np.int64])
    assert_type(buffer.update_priorities(batch.key, np.ones(8)), int)
    assert_type(buffer.save(path="folder"), Path | None)
    assert_type(buffer.info(), reverie.BufferInfo)
    data, info = batch
    assert_type(data, Any)
    assert_type(weights.LinearSchedule(0.4, 1.0, 10)(3), float)
    assert_type(views.Sequences(80, burn_in=40).length, int)
assert_type(reverie.open("folder").steps(), reverie.Batch)
"""


def test_what_users_get_back_has_its_types(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    assert complaints(USE, tmp_path) == ""
    wrong = USE.replace("assert_type(batch.weight, NDArray[np.float32])", "batch.weights")
    assert '"Batch" has no attribute "weights"' in complaints(wrong, tmp_path)
