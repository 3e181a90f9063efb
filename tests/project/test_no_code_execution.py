"""Nothing in the package can run code that it read from a file."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

MODULES = {"pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
CALLS = {"eval", "exec", "builtins.eval", "builtins.exec", "torch.load", "yaml.load"}
# They write through a C stream whose closing error is lost: a full disk looks like success.
UNSAFE_WRITES = {"np.save", "np.savez", "np.savez_compressed", "numpy.save", "numpy.savez"}


def violations(source: str) -> list[str]:
    """Imports, calls and arguments that load or run foreign code, or lose a write error."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom):
            found += [str(node.module)] * (str(node.module).split(".")[0] in MODULES)
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            found += [name] * (name in CALLS | UNSAFE_WRITES or name.endswith(".tofile"))
            found += [
                ast.unparse(keyword)
                for keyword in node.keywords
                if keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False"
            ]
    return found


@pytest.mark.parametrize(
    "path", sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "src").rglob("*.py"))
)
def test_no_module_runs_foreign_code(path: str) -> None:
    assert violations((ROOT / path).read_text("utf-8")) == []


@pytest.mark.parametrize(
    "planted",
    [
        "import pickle",
        "from pickle import loads",
        "def f(x):\n    return eval(x)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "np.save(path, array)",
        "array.tofile(file)",
        "torch.load(path)",
    ],
)
def test_the_check_sees_planted_violations(planted: str) -> None:
    assert violations(planted) != []


def test_safe_neighbours_are_no_violations() -> None:
    source = "model.eval()\nast.literal_eval(x)\nnp.load(p, allow_pickle=False)"
    assert violations(source) == []
