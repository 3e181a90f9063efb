"""A build that lacks a compiler says where one is to be had; a second try looks again."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CMAKE = shutil.which(
    "cmake", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
)

pytestmark = [
    pytest.mark.skipif(CMAKE is None, reason="no CMake here: pip install cmake"),
    pytest.mark.skipif(sys.platform != "linux", reason="PATH hides a compiler on Linux alone"),
]


def configure(build: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Configures the core with a PATH of nothing but what `environment` has."""
    return subprocess.run(
        [
            *(str(CMAKE), "-S", str(ROOT), "-B", str(build), "-G", "Unix Makefiles"),
            "-DCMAKE_MAKE_PROGRAM=true",  # nothing is built
        ],
        env={"PATH": str(build), "LC_ALL": "C", **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("environment", [{}, {"CXX": "no-such-compiler"}], ids=str)
def test_where_no_compiler_is_the_build_names_a_package_on_each_system(
    environment: dict[str, str], tmp_path: Path
) -> None:
    done = configure(tmp_path / "build", **environment)
    assert done.returncode != 0
    for line in (
        *("Debian, Ubuntu   apt install g++", "Fedora, RHEL     dnf install gcc-c++"),
        *("Alpine           apk add g++", "Arch             pacman -S gcc"),
        *("macOS            xcode-select --install", "Windows          winget install "),
        "C++17 compiler, and none that works was found",
    ):
        assert line in done.stderr, done.stderr


def test_a_compiler_that_came_since_is_found(tmp_path: Path) -> None:
    if not shutil.which("c++"):
        pytest.skip("no compiler here")
    assert configure(tmp_path / "build").returncode != 0
    done = configure(tmp_path / "build", PATH=os.environ["PATH"])
    assert done.returncode == 0, done.stderr
