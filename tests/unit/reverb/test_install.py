"""`import reverb` served by Reverie: the same modules, never in another's place unasked."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import reverie
from reverie import reverb
from reverie.errors import ShadowedPackageError
from reverie.runtime import install

# Every import path of Reverb's public modules that needs no TensorFlow.
PATHS = [
    "client",
    "errors",
    "item_selectors",
    "platform",
    "platform.checkpointers_lib",
    "platform.default.checkpointers",
    "pybind",
    "rate_limiters",
    "replay_sample",
    "reverb_types",
    "server",
    "structured_writer",
    "trajectory_writer",
    "cc.schema_pb2",
    "cc.patterns_pb2",
    "cc.checkpointing.checkpoint_pb2",
    "server_executable.server_from_proto",
]


@pytest.fixture
def installed() -> Iterator[None]:
    reverie.install_as_reverb(force=True)
    yield
    install.uninstall_as_reverb()


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("path", PATHS)
def test_each_import_path_gives_the_very_module(path: str) -> None:
    own = importlib.import_module(f"reverie.reverb.{path}")
    assert importlib.import_module(f"reverb.{path}") is own
    assert own.__name__ == f"reverie.reverb.{path}"
    assert own.__spec__ is not None
    assert own.__spec__.name == own.__name__


@pytest.mark.usefixtures("installed")
def test_import_reverb_is_the_facade_with_reverbs_names() -> None:
    module = importlib.import_module("reverb")
    assert module is reverb
    for name in ("Table", "Server", "selectors", "rate_limiters", "checkpointers", "pybind"):
        assert getattr(module, name) is getattr(reverb, name)
    assert module.selectors.Fifo is module.item_selectors.Fifo


@pytest.mark.usefixtures("installed")
def test_a_module_that_reverb_does_not_have_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"reverb\.nonsense"):
        importlib.import_module("reverb.nonsense")
    assert not hasattr(reverb, "nonsense")


@pytest.mark.usefixtures("installed")
def test_installing_twice_changes_nothing() -> None:
    before = list(sys.meta_path)
    reverie.install_as_reverb()
    assert sys.meta_path == before


def run(program: str, *path: Path) -> str:
    lines = f"import sys; sys.path[:0] = {[str(folder) for folder in path]!r}\n{program}"
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def planted(tmp_path: Path) -> Path:
    (tmp_path / "reverb").mkdir()
    (tmp_path / "reverb" / "__init__.py").write_text("REAL = True\n")
    return tmp_path


INSTALL = """
import reverie
try:
    reverie.install_as_reverb()
except reverie.errors.ShadowedPackageError as error:
    print(error)
import reverb
print("real" if hasattr(reverb, "REAL") else reverb.__name__)
"""


def test_an_installed_reverb_is_not_shadowed(tmp_path: Path) -> None:
    error, name = run(INSTALL, planted(tmp_path)).splitlines()
    assert str(tmp_path) in error
    assert "force=True" in error
    assert name == "real"


def test_an_imported_reverb_is_not_shadowed(tmp_path: Path) -> None:
    error, name = run("import reverb" + INSTALL, planted(tmp_path)).splitlines()
    assert "imported already" in error
    assert name == "real"


def test_force_takes_the_name_and_uninstall_gives_it_back(tmp_path: Path) -> None:
    program = (
        "import reverb as real\nimport reverie, reverie.runtime.install\n"
        "reverie.install_as_reverb(force=True)\nimport reverb\nprint(reverb.__name__)\n"
        "reverie.runtime.install.uninstall_as_reverb()\nimport reverb\nprint(reverb is real)"
    )
    assert run(program, planted(tmp_path)).split() == ["reverie.reverb", "True"]


def test_a_mere_folder_named_reverb_is_nothing_to_shadow(tmp_path: Path) -> None:
    (tmp_path / "reverb").mkdir()
    hidden = "import importlib.metadata, importlib.util\n"
    spec = run(hidden + "print(importlib.util.find_spec('reverb').origin)", tmp_path).strip()
    if spec != "None":
        pytest.skip("a package named reverb is installed here")
    assert run(INSTALL, tmp_path).split() == ["reverie.reverb"]


def test_installing_imports_neither_the_facade_nor_a_framework(tmp_path: Path) -> None:
    program = (
        "import reverie; reverie.install_as_reverb(force=True)\n"
        "heavy = ('google.protobuf', 'tensorflow')\n"
        "print([n for n in ('reverie.reverb', *heavy) if n in sys.modules])\n"
        "import reverb; reverb.Table.queue('q', 3)\n"
        "print([n for n in heavy if n in sys.modules])"
    )
    assert run(program, tmp_path).split() == ["[]", "[]"]


def test_modules_below_are_there_after_the_import_of_reverb_alone(tmp_path: Path) -> None:
    program = (
        "import reverie; reverie.install_as_reverb(force=True)\nimport reverb\n"
        "print(reverb.platform.checkpointers_lib.DefaultCheckpointer(path='x').path)\n"
        "print(reverb.cc.schema_pb2.TableInfo(name='y').name)"
    )
    assert run(program, tmp_path).split() == ["x", "y"]


def test_the_error_is_of_our_own_and_a_runtime_error() -> None:
    assert issubclass(ShadowedPackageError, reverie.ReverieError)
    assert issubclass(ShadowedPackageError, RuntimeError)
