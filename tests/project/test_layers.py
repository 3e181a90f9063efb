"""Who may import what: read from the sources with `ast`, and from a fresh process."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "reverie"

HARD_DEPENDENCIES = {"numpy", "optree"}
ANYTHING = {"*"}
# Where more than the hard dependencies may be named, and what.
OPTIONAL = {
    "adapters/": ANYTHING,
    "cli/": ANYTHING,
    "testing/": {"hypothesis", "pytest"},
    "reverb/cc/build.py": {"google"},
    "checkpoint/reverb_files/": {"cramjam", "google", "google_crc32c", "ml_dtypes"},
    "backends/reverb": {"reverb", "tensorflow", "tf_agents"},
    "backends/ray": {"ray"},
}

# Low to high: a module imports from its own layer and from those below it. A package
# inside a package has a place of its own where it needs one.
LAYERS = (
    {"_version", "errors"},
    {"_core", "checks", "nests", "process", "sample", "specs", "trajectory", "waiting"},
    {"table"},
    {"adapters"},
    {"checkpoint"},
    {"adapters/tf_reverb", "install", "reverb"},
    {"observer", "observers", "replay_buffer"},
    {"backends"},
    {"manager"},
    {"__init__"},
    {"cli", "testing"},
)


def imports(source: str, package: str) -> set[str]:
    """Dotted names of everything that a module of `package` imports, at any depth.

    An import for the type checker alone never happens, so it is no import.
    """
    found = set()
    for node in _executed(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            start = ".".join([*parents, node.module or ""]) if node.level else node.module
            found |= {f"{str(start).rstrip('.')}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in {
            "import_module",
            "__import__",
        }:
            found |= {str(arg.value) for arg in node.args if isinstance(arg, ast.Constant)}
    return found


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    for child in node.orelse if typing_only else ast.iter_child_nodes(node):
        yield from _executed(child)


def foreign_imports(where: str, source: str) -> list[str]:
    """Packages that the file at `where`, below src/reverie, may not name."""
    allowed = {"reverie", *HARD_DEPENDENCIES, *sys.stdlib_module_names}
    for prefix, more in OPTIONAL.items():
        if where.startswith(prefix):
            allowed |= more
    roots = {name.split(".")[0] for name in imports(source, _package(where))}
    return [] if "*" in allowed else sorted(roots - allowed)


def upward_imports(where: str, source: str) -> list[str]:
    """Modules of a higher layer that the file at `where` imports."""
    first, *rest = Path(where).with_suffix("").parts
    own = _layer(_placed([first, *rest]) or first)
    inside = [n.split(".") for n in imports(source, _package(where)) if n.startswith("reverie")]
    # `import reverie` and `from reverie import ReplayBuffer` need the whole package.
    parts = [_placed(names[1:]) or "__init__" for names in inside]
    return sorted({part for part in parts if _layer(part) > own})


def _placed(names: list[str]) -> str | None:
    """The longest beginning of a dotted name that has a place in LAYERS."""
    known = set().union(*LAYERS)
    beginnings = ["/".join(names[:n]) for n in (2, 1) if n <= len(names)]
    return next((name for name in beginnings if name in known), None)


def _layer(name: str) -> int:
    """Position in LAYERS; a new module must be given one."""
    positions = [i for i, names in enumerate(LAYERS) if name in names]
    assert positions, f"{name} has no place in LAYERS: say where it belongs"
    return positions[0]


def _package(where: str) -> str:
    return ".".join(["reverie", *Path(where).parent.parts])


def _modules() -> list[str]:
    return sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def loaded_by(code: str) -> set[str]:
    """Top-level packages that running `code` loads in a fresh interpreter."""
    program = (
        "import json, sys; before = set(sys.modules)\n"
        f"{code}\n"
        "print(json.dumps(sorted({n.split('.')[0] for n in set(sys.modules) - before})))"
    )
    run = [sys.executable, "-I", "-c", program]
    return set(json.loads(subprocess.run(run, check=True, capture_output=True).stdout))


@pytest.mark.parametrize("where", _modules())
def test_frameworks_are_named_only_where_they_belong(where: str) -> None:
    assert foreign_imports(where, (PACKAGE / where).read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("where", "source", "found"),
    [
        ("manager.py", "import tensorflow as tf", ["tensorflow"]),
        ("manager.py", "def f():\n    from torch import nn", ["torch"]),
        ("specs.py", "import importlib\nimportlib.import_module('jax.numpy')", ["jax"]),
        ("checkpoint/native.py", "from google.protobuf import message", ["google"]),
        ("checkpoint/reverb_files/schema.py", "import tensorflow", ["tensorflow"]),
        ("backends/embedded.py", "import reverb", ["reverb"]),
        ("backends/reverb.py", "import ray", ["ray"]),
        ("backends/reverb.py", "import reverb", []),
        ("adapters/tf_data.py", "import tensorflow", []),
        ("manager.py", "if TYPE_CHECKING:\n    import torch", []),
        ("manager.py", "if TYPE_CHECKING:\n    pass\nelse:\n    import torch", ["torch"]),
        ("manager.py", "import json\nimport numpy\nfrom . import errors", []),
    ],
)
def test_the_import_check_sees_planted_frameworks(
    where: str, source: str, found: list[str]
) -> None:
    assert foreign_imports(where, source) == found


@pytest.mark.parametrize("where", _modules())
def test_modules_import_only_from_their_layer_and_below(where: str) -> None:
    assert upward_imports(where, (PACKAGE / where).read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("where", "source", "found"),
    [
        ("specs.py", "from reverie.manager import ReplayBufferManager", ["manager"]),
        ("specs.py", "from . import manager", ["manager"]),
        ("checkpoint/native.py", "from ..backends import embedded", ["backends"]),
        ("replay_buffer.py", "from reverie.backends import embedded", ["backends"]),
        ("backends/embedded.py", "def f():\n    import reverie.cli", ["cli"]),
        ("adapters/torch.py", "from reverie import ReplayBuffer", ["__init__"]),
        ("adapters/torch.py", "from reverie.reverb import errors", ["reverb"]),
        ("adapters/tf_data.py", "import reverie.reverb.tf.x", ["adapters/tf_reverb"]),
        ("adapters/tf_reverb/x.py", "from reverie.reverb import errors", []),
        ("manager.py", "from reverie.testing import model", ["testing"]),
        ("manager.py", "from reverie import errors, specs", []),
        ("cli/main.py", "import reverie", []),
    ],
)
def test_the_layer_check_sees_planted_upward_imports(
    where: str, source: str, found: list[str]
) -> None:
    assert upward_imports(where, source) == found


def _not_light(loaded: set[str]) -> set[str]:
    # optree itself needs typing_extensions; a leading underscore is a module of the stdlib.
    light = {"reverie", "typing_extensions", *HARD_DEPENDENCIES, *sys.stdlib_module_names}
    return {name for name in loaded if name not in light and not name.startswith("_")}


def test_importing_reverie_loads_numpy_optree_and_nothing_else() -> None:
    assert _not_light(loaded_by("import reverie")) == set()


def test_the_fresh_process_check_sees_a_planted_package() -> None:
    assert "pytest" in _not_light(loaded_by("import pytest"))
