"""The project's one door: `pip install nox && nox` sets up and runs every check.

`nox -l` lists the sessions, `nox -s tests-3.12 -- tests/unit -k writer` runs a
part of one. A session makes its own environment under `.nox`; a Python or a
compiler feature that this machine does not have is skipped with a line that
says so.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parent
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
BUILD_TOOLS = ("cmake==4.4.4", "ninja==1.13.2")
# Pinned: a formatter or type checker must not change its mind between two runs.
LINT_TOOLS = ("clang-format==23.1.5", "mypy==2.4.1", "ruff==0.17.6")
# No window for plots, no start-up notes of TensorFlow.
QUIET = {"MPLBACKEND": "Agg", "TF_CPP_MIN_LOG_LEVEL": "3"}

nox.needs_version = ">=2024.10.9"
nox.options.sessions = ["lint", "cpp", "demo", "tf_agents", "tests"]
nox.options.reuse_existing_virtualenvs = True
nox.options.stop_on_first_error = False
# Said aloud because nox turns it on where CI=true: a missing Python is a skip.
# A job that is there for one Python passes --error-on-missing-interpreters.
nox.options.error_on_missing_interpreters = False


def _put_pyenv_pythons_first() -> None:
    """Puts the Pythons that pyenv installed on PATH, before pyenv's own shims.

    A shim such as `python3.10` is always there, but refuses to run unless that
    version is selected, so a search of PATH takes it for an interpreter that is
    broken instead of the good one that lies beside it.
    """
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [
        str(path)
        for path in sorted(root.glob("versions/3.1[0-3].*/bin"))
        if re.fullmatch(r"3\.\d+\.\d+", path.parent.name)
    ]
    os.environ["PATH"] = os.pathsep.join([*found, os.environ.get("PATH", "")])


_put_pyenv_pythons_first()


@nox.session
def lint(session: nox.Session) -> None:
    """Style and types: ruff, mypy --strict, clang-format."""
    session.install(*LINT_TOOLS, "numpy", "optree")
    python = [
        path
        for path in ("src", "tests", "examples", "benchmarks", "noxfile.py")
        if (ROOT / path).exists()
    ]
    session.run("ruff", "check", *python)
    session.run("ruff", "format", "--check", *python)
    session.run("mypy", "--strict", "src")
    native = sorted(
        str(path.relative_to(ROOT))
        for folder in ("cpp", "bindings")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".h", ".cc"}
    )
    session.run("clang-format", "--dry-run", "-Werror", *native)


@nox.session
def cpp(session: nox.Session) -> None:
    """The C++ core without Python: its tests under ASan and UBSan, threads under TSan."""
    session.install(*BUILD_TOOLS)
    _build_and_test_core(session, "address,undefined", tests=".*")
    if _has_sanitizer("thread"):
        threaded = "^(threads|trajectory_threads|trajectory_writer|writer_streams)$"
        _build_and_test_core(session, "thread", tests=threaded)
    else:
        session.warn("No thread sanitizer here: the thread tests ran without it.")


def _build_and_test_core(session: nox.Session, sanitizers: str, *, tests: str) -> None:
    if not _has_sanitizer(sanitizers):
        session.warn(f"This compiler has no -fsanitize={sanitizers}: built without.")
        sanitizers = ""
    build = f"build/cpp-{sanitizers.replace(',', '-') or 'plain'}"
    # A debug build keeps assert(); Ninja finds no Visual Studio by itself, so Windows keeps
    # CMake's own choice of a generator.
    choices = ["-G", "Ninja", "-DCMAKE_CXX_FLAGS_DEBUG=-O1 -g"]
    session.run(
        *("cmake", "-S", ".", "-B", build, *([] if sys.platform == "win32" else choices)),
        *("-DCMAKE_BUILD_TYPE=Debug", "-DREVERIE_BUILD_TESTS=ON"),
        f"-DREVERIE_SANITIZE={sanitizers}",
    )
    session.run("cmake", "--build", build, "--config", "Debug", "--parallel")
    session.run(
        *("ctest", "--test-dir", build, "--build-config", "Debug"),
        *("--output-on-failure", "--no-tests=error", "--timeout", "300"),
        *("--tests-regex", tests),
    )


def _has_sanitizer(names: str) -> bool:
    """Whether the compiler builds, and the system runs, a program with these sanitizers."""
    compiler = shutil.which(os.environ.get("CXX", "c++"))
    if compiler is None or sys.platform == "win32":
        return False
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "probe.cc"), Path(folder, "probe")
        source.write_text("int main() { return 0; }\n")
        build = [compiler, f"-fsanitize={names}", str(source), "-o", str(program)]
        return all(
            subprocess.run(command, capture_output=True).returncode == 0
            for command in (build, [str(program)])
        )


@nox.session
def demo(session: nox.Session) -> None:
    """The demonstration and the examples, as a user runs them."""
    session.install(".[demo,reverb-files]", "pytest>=9")
    session.run("pytest", "tests/unit/test_cli.py", env=QUIET)
    _run_in_scratch(session, "reverie", "demo", "--quick")
    for example in _examples():
        if not example.name.startswith("tf_"):
            _run_in_scratch(session, "python", str(example))


@nox.session(python="3.11")
def tf_agents(session: nox.Session) -> None:
    """TF-Agents' own classes and real Reverb against ours; the examples that use them."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        session.skip("dm-reverb has wheels for Linux on x86-64 only.")
    # Not the `test` extra: TF-Agents pins a typing_extensions that mypy cannot use.
    session.install(
        *("tf-agents[reverb]==0.19.0", "numpy<2", "setuptools<81"),
        # TF-Agents' own tests, which come with it, want the old package `mock`.
        *(".[reverb-files]", "hypothesis", "mock", "pytest", "scipy"),
    )
    for example in _examples():
        if example.name.startswith("tf_"):
            _run_in_scratch(session, "python", str(example))
    session.run(
        *("pytest", "-W", "ignore::DeprecationWarning"),  # theirs, from the day they import
        *(session.posargs or ["tests/tf_agents"]),
        env=QUIET,
    )


def _examples() -> list[Path]:
    return sorted((ROOT / "examples").glob("*.py"))


def _run_in_scratch(session: nox.Session, *command: str) -> None:
    with session.chdir(session.create_tmp()):
        session.run(*command, env=QUIET)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The package, installed as a user installs it, and its tests."""
    # Frameworks whose specs are read, as far as they are small; the large one once.
    frameworks = ["dm_env"] + ["jax"] * (session.python == PYTHONS[-1])
    session.install(".[test,gymnasium]", *frameworks)
    # The threads are hammered for as long as it takes to believe them, on one Python.
    stress = "30" if session.python == PYTHONS[-1] else "3"
    session.run(
        *("pytest", *(session.posargs or ["tests"]), "--ignore=tests/tf_agents"),
        env={"REVERIE_STRESS_SECONDS": stress},
    )


@nox.session
def asan(session: nox.Session) -> None:
    """The Python unit tests over a core built with ASan and UBSan (Linux with GCC only)."""
    compiler = shutil.which("gcc")
    if sys.platform != "linux" or compiler is None:
        session.skip("Needs Linux and GCC.")
    session.install(
        "-C",
        "cmake.define.REVERIE_SANITIZE=address,undefined",
        "-C",
        # CMake remembers the sanitizers, so an ordinary build must not meet this folder.
        "build-dir=build/asan-{wheel_tag}",
        ".[test]",
    )
    libraries = [
        subprocess.check_output([compiler, f"-print-file-name={name}"], text=True).strip()
        for name in ("libasan.so", "libubsan.so", "libstdc++.so.6")
    ]
    session.run(
        *("python", "-m", "pytest", "-p", "no:cacheprovider"),
        *(session.posargs or ["tests/unit"]),
        env={
            "LD_PRELOAD": " ".join(libraries),
            # CPython frees little at exit, so leaks are looked for in the C++ tests.
            "ASAN_OPTIONS": "detect_leaks=0",
            "UBSAN_OPTIONS": "print_stacktrace=1",
            # Python's own allocator would hide an overflow from ASan.
            "PYTHONMALLOC": "malloc",
        },
    )
