"""Who may import what: read from the sources with `ast`, and from a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from tests.project.rooms import (
    FLOORS,
    arrows,
    circle,
    floor_of,
    imports,
    inner_arrows,
    package_of,
    room_of,
    rooms_imported,
    sources,
)

SOURCES = sources()
HARD_DEPENDENCIES = {"numpy", "optree"}
ANYTHING = {"*"}
# Where more than the hard dependencies may be named, and what.
OPTIONAL = {
    "cli/": ANYTHING,
    "testing/": {"hypothesis", "pytest"},
    "nests/specs.py": {"ml_dtypes"},
    "jax/": {"jax"},
    "sb3/": {"stable_baselines3", "torch"},
    "torch/": {"tensordict", "torch"},
    "torchrl/": {"tensordict", "torch", "torchrl"},
    "proto/": {"google"},
    "reverb/replay_sample.py": {"tensorflow"},
    "reverb/tf/": {"tensorflow"},
    "tf/": {"tensorflow"},
    "reverb/wire/": {"cramjam", "grpc"},
    "checkpoint/reverb_files/": {"cramjam", "google", "google_crc32c", "ml_dtypes"},
    "backends/reverb": {"reverb", "tensorflow", "tf_agents"},
    "backends/ray": {"ray"},
}


def foreign_imports(where: str, source: str) -> list[str]:
    """Packages that the file at `where`, below src/reverie, may not name."""
    allowed = {"reverie", *HARD_DEPENDENCIES, *sys.stdlib_module_names}
    for prefix, more in OPTIONAL.items():
        if where.startswith(prefix):
            allowed |= more
    roots = {name.split(".")[0] for name in imports(source, package_of(where))}
    return [] if "*" in allowed else sorted(roots - allowed)


def upward_imports(where: str, source: str) -> list[str]:
    """Rooms that the file at `where` imports and that are not on a lower floor."""
    own = floor_of(room_of(where))
    return sorted(room for room in rooms_imported(where, source) if floor_of(room) >= own)


def loaded_by(code: str) -> set[str]:
    """Top-level packages that running `code` loads in a fresh interpreter."""
    program = (
        "import json, sys; before = set(sys.modules)\n"
        f"{code}\n"
        "print(json.dumps(sorted({n.split('.')[0] for n in set(sys.modules) - before})))"
    )
    run = [sys.executable, "-I", "-c", program]
    return set(json.loads(subprocess.run(run, check=True, capture_output=True).stdout))


@pytest.mark.parametrize("where", SOURCES)
def test_frameworks_are_named_only_where_they_belong(where: str) -> None:
    assert foreign_imports(where, SOURCES[where]) == []


@pytest.mark.parametrize(
    ("where", "source", "found"),
    [
        ("manager.py", "import tensorflow as tf", ["tensorflow"]),
        ("manager.py", "def f():\n    from torch import nn", ["torch"]),
        ("nests/specs.py", "import importlib\nimportlib.import_module('jax.numpy')", ["jax"]),
        ("checkpoint/save.py", "from google.protobuf import message", ["google"]),
        ("checkpoint/reverb_files/source.py", "import tensorflow", ["tensorflow"]),
        ("reverb/client.py", "require('tensorflow', 'tf', 'Sampling')", ["tensorflow"]),
        ("reverb/engine/server.py", "def f():\n    import grpc", ["grpc"]),
        ("backends/embedded.py", "import reverb", ["reverb"]),
        ("backends/reverb.py", "import ray", ["ray"]),
        ("backends/reverb.py", "import reverb", []),
        ("tf/windows.py", "import tensorflow", []),
        ("tf/windows.py", "import keras", ["keras"]),
        ("torch/sending.py", "require('torch', 'torch', 'It')", []),
        ("torch/sending.py", "import jax", ["jax"]),
        ("manager.py", "if TYPE_CHECKING:\n    import torch", []),
        ("manager.py", "if TYPE_CHECKING:\n    pass\nelse:\n    import torch", ["torch"]),
        ("manager.py", "import json\nimport numpy\nfrom . import errors", []),
    ],
)
def test_the_import_check_sees_planted_frameworks(
    where: str, source: str, found: list[str]
) -> None:
    assert foreign_imports(where, source) == found


@pytest.mark.parametrize("where", SOURCES)
def test_modules_import_only_from_lower_floors(where: str) -> None:
    assert upward_imports(where, SOURCES[where]) == []


@pytest.mark.parametrize(
    ("where", "source", "found"),
    [
        ("nests/specs.py", "from reverie.manager import ReplayBufferManager", ["manager"]),
        ("nests/specs.py", "from .. import manager", ["manager"]),
        ("checkpoint/save.py", "from ..backends import embedded", ["backends"]),
        ("checkpoint/format/plan.py", "import reverie.reverb.engine.x", ["reverb"]),
        (
            "tables/store.py",
            "def f():\n    from reverie.checkpoint import load",
            ["checkpoint"],
        ),
        ("replay_buffer.py", "from reverie.backends import embedded", ["backends"]),
        ("backends/embedded.py", "def f():\n    import reverie.cli", ["cli"]),
        ("tf/views.py", "from reverie import ReplayBuffer", ["__init__"]),
        ("tf/views.py", "from reverie.reverb import errors", ["reverb"]),
        ("observers/base.py", "from reverie.reverb.engine import registry", ["reverb"]),
        ("reverb/client.py", "from reverie import observers", ["observers"]),
        ("manager.py", "from reverie.testing import model", ["testing"]),
        ("manager.py", "from reverie import errors, nests", []),
        ("reverb/tf/streams.py", "from reverie.reverb import errors", []),
        ("reverb/tf/streams.py", "if TYPE_CHECKING:\n    from reverie import manager", []),
        ("cli/main.py", "import reverie", []),
    ],
)
def test_the_check_of_floors_sees_planted_upward_imports(
    where: str, source: str, found: list[str]
) -> None:
    assert upward_imports(where, source) == found


def test_every_room_has_one_floor_and_every_floor_is_lived_on() -> None:
    rooms = [room for rooms in FLOORS for room in rooms]
    assert sorted(rooms) == sorted({room_of(where) for where in SOURCES} | {"_core"})


def test_a_room_without_a_floor_is_seen() -> None:
    with pytest.raises(AssertionError, match="attic has no place"):
        floor_of(room_of("attic/trunk.py"))


def test_no_folders_import_each_other_in_a_circle() -> None:
    assert circle(arrows(SOURCES)) == []
    assert circle(inner_arrows(SOURCES)) == []


def test_planted_circles_are_seen() -> None:
    planted = {
        "a/x.py": "from reverie.nests import b",
        "nests/y.py": "from reverie import runtime",
        "runtime/y.py": "from reverie import tables\nimport reverie.nests",
        "tables/y.py": "import json",
    }
    assert circle(arrows(planted)) == ["nests", "runtime"]
    del planted["runtime/y.py"]
    assert circle(arrows(planted)) == []
    inner = {
        "checkpoint/save.py": "from reverie.checkpoint.disk import files",
        "checkpoint/disk/files.py": "from reverie.checkpoint.folder import names",
        "checkpoint/folder/names.py": "from reverie.checkpoint.format import plan",
        "checkpoint/format/plan.py": "def f():\n    from reverie.checkpoint import disk",
    }
    names = ["checkpoint/disk", "checkpoint/folder", "checkpoint/format"]
    assert circle(inner_arrows(inner)) == names
    del inner["checkpoint/folder/names.py"]
    assert circle(inner_arrows(inner)) == []


def _not_light(loaded: set[str]) -> set[str]:
    # optree itself needs typing_extensions; a leading underscore is a module of the stdlib.
    light = {"reverie", "typing_extensions", *HARD_DEPENDENCIES, *sys.stdlib_module_names}
    return {name for name in loaded if name not in light and not name.startswith("_")}


def test_importing_reverie_loads_numpy_optree_and_nothing_else() -> None:
    assert _not_light(loaded_by("import reverie")) == set()


def test_the_fresh_process_check_sees_a_planted_package() -> None:
    assert "pytest" in _not_light(loaded_by("import pytest"))
