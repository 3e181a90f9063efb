"""The project's one door: `pip install nox && nox` sets up and runs every check.

`nox -l` lists the sessions, `nox -s tests-3.12 -- tests/unit -k writer` runs a
part of one. A session makes its own environment under `.nox`; a Python or a
compiler feature that this machine does not have is skipped with a line that
says so. Sessions of one Python share a wheel, and all compilers share a ccache
where there is one.
"""

from __future__ import annotations

import json
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
# basedpyright is pyright, with a Node.js in its wheel: nothing is fetched when it runs.
TYPE_CHECKERS = ("basedpyright==1.40.2", "mypy==2.4.1")
LINT_TOOLS = (*TYPE_CHECKERS, "clang-format==23.1.5", "ruff==0.17.6")
# What users write; in tests/typed they say which types they get back.
USERS_CODE = ("examples", "tests/typed")
TYPED = ROOT / "tests" / "typed"
# With TensorFlow, whichever.
TF_TESTS = sorted(ROOT.glob("tests/unit/doors/test_tf*.py"))
# What depends on the version of Python; the newest one runs all the rest, too.
EVERYWHERE = ("tests/unit", "tests/project", "tests/conformance/test_embedded.py")
# On all cores; tests of threads and of time come one after the other.
PARALLEL = ("-n", "auto", "--dist", "loadgroup")
# What the examples that need PyTorch or JAX alone are called, at the end.
DOORS = ("_torch", "_jax")
# No window for plots, no start-up notes of TensorFlow.
QUIET = {"MPLBACKEND": "Agg", "TF_CPP_MIN_LOG_LEVEL": "3"}

nox.needs_version = ">=2024.10.9"
nox.options.sessions = [
    "lint",
    "cpp",
    "demo",
    "tf_agents",
    "tf",
    "peers",
    "own_tests",
    "doors",
    "cleanrl",
    "tests",
]
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
NEWEST = next((v for v in reversed(PYTHONS) if shutil.which(f"python{v}")), PYTHONS[-1])
if shutil.which("ccache"):
    os.environ.setdefault("CMAKE_CXX_COMPILER_LAUNCHER", "ccache")

_wheels: dict[str, Path] = {}  # of this run, by version of Python


def _install(session: nox.Session, extras: str, *more: str) -> None:
    """Installs the package as a user does, from a wheel that this run builds once a Python."""
    python = str(session.python or ".".join(platform.python_version_tuple()[:2]))
    if python not in _wheels:
        folder = ROOT / "build" / "wheels" / python
        shutil.rmtree(folder, ignore_errors=True)
        session.run("python", "-m", "pip", "wheel", "--no-deps", "-q", "-w", str(folder), ".")
        (_wheels[python],) = folder.glob("*.whl")
    # Pip takes another wheel of the same version for the one that is there.
    session.install("--no-deps", "--force-reinstall", str(_wheels[python]))
    session.install(f"{_wheels[python]}[{extras}]", *more)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and types: ruff, mypy --strict, clang-format; pyright over users' code."""
    session.install(*LINT_TOOLS, "numpy", "optree")
    python = [
        path
        for path in ("src", "tests", "examples", "benchmarks", "noxfile.py")
        if (ROOT / path).exists()
    ]
    session.run("ruff", "check", *python)
    session.run("ruff", "format", "--check", *python)
    session.run("mypy", "--strict", "src", "benchmarks", *USERS_CODE)
    native = sorted(
        str(path.relative_to(ROOT))
        for folder in ("cpp", "bindings")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".h", ".cc"}
    )
    session.run("clang-format", "--dry-run", "-Werror", *native)
    _pyright(session, "benchmarks", *USERS_CODE)


def _pyright(session: nox.Session, *folders: str) -> None:
    """Pyright over these, and the README's code; mypy sees that in tests/project."""
    work = Path(session.create_tmp())
    readme = (ROOT / "README.md").read_text("utf-8")
    for n, code in enumerate(re.findall(r"^```python\n(.*?)^```", readme, re.DOTALL | re.M)):
        (work / f"block_{n}.py").write_text(code, "utf-8")
    settings = {
        "include": ["block_*.py", *(str(ROOT / folder) for folder in folders)],
        "extraPaths": [str(ROOT / "src"), str(ROOT)],
        "typeCheckingMode": "standard",  # pyright's own; basedpyright's is another
        # What is not installed here is no fault of the code.
        "reportMissingImports": "none",
        "reportMissingModuleSource": "none",
    }
    (work / "pyrightconfig.json").write_text(json.dumps(settings), "utf-8")
    session.run("basedpyright", "--project", str(work))


@nox.session
def cpp(session: nox.Session) -> None:
    """The C++ core without Python: its tests under ASan and UBSan, threads under TSan."""
    session.install(*BUILD_TOOLS)
    sources = sorted((ROOT / "cpp" / "tests").glob("*_test.cc"))
    _build_and_test_core(session, "address,undefined", sources)
    if _has_sanitizer("thread"):
        threaded = [path for path in sources if "std::thread" in path.read_text("utf-8")]
        _build_and_test_core(session, "thread", threaded)
    else:
        session.warn("No thread sanitizer here: the thread tests ran without it.")


def _build_and_test_core(session: nox.Session, sanitizers: str, sources: list[Path]) -> None:
    if not _has_sanitizer(sanitizers):
        session.warn(f"This compiler has no -fsanitize={sanitizers}: built without.")
        sanitizers = ""
    build = f"build/cpp-{sanitizers.replace(',', '-') or 'plain'}"
    cores = str(os.cpu_count() or 1)
    # A debug build keeps assert(); Ninja finds no Visual Studio by itself, so Windows keeps
    # CMake's own choice of a generator.
    choices = ["-G", "Ninja", "-DCMAKE_CXX_FLAGS_DEBUG=-O1 -g"]
    session.run(
        *("cmake", "-S", ".", "-B", build, *([] if sys.platform == "win32" else choices)),
        *("-DCMAKE_BUILD_TYPE=Debug", "-DREVERIE_BUILD_TESTS=ON"),
        f"-DREVERIE_SANITIZE={sanitizers}",
    )
    session.run(
        *("cmake", "--build", build, "--config", "Debug", "--parallel", cores),
        *("--target", *(path.stem for path in sources)),
    )
    names = "|".join(path.stem.removesuffix("_test") for path in sources)
    session.run(
        *("ctest", "--test-dir", build, "--build-config", "Debug", "--parallel", cores),
        *("--output-on-failure", "--no-tests=error", "--timeout", "300"),
        *("--tests-regex", f"^({names})$"),
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
    _install(session, "demo,reverb-files", "hypothesis", "pytest>=9")
    session.run("pytest", "tests/unit/test_cli.py", env=QUIET)
    _run_in_scratch(session, "reverie", "demo", "--quick")
    for example in _examples():
        if not (example.name.startswith(("tf_", "sb3_")) or example.stem.endswith(DOORS)):
            _run_in_scratch(session, "python", str(example))


@nox.session(python="3.11")
def tf_agents(session: nox.Session) -> None:
    """TF-Agents' own classes and real Reverb against ours; the examples that use them."""
    _install_tf_agents(session)
    for example in _examples():
        if example.name.startswith("tf_"):
            _run_in_scratch(session, "python", str(example))
    session.run(
        *("pytest", *PARALLEL, "-W", "ignore::DeprecationWarning"),  # theirs, at import
        *(session.posargs or ["tests/tf_agents", *map(str, TF_TESTS)]),
        env=QUIET,
    )


def _install_tf_agents(session: nox.Session) -> None:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        session.skip("dm-reverb has wheels for Linux on x86-64 only.")
    # First TF-Agents, then ours beside it, as its users do. What it pins must stay: pip lifts
    # typing-extensions for whoever asks, and TensorFlow 2.15 then traces no SAC.
    session.install("tf-agents[reverb]==0.19.0", "numpy<2", "setuptools<81")
    _install(session, "wire")
    session.run("python", "-m", "pip", "check")
    # Not the `test` extra: TF-Agents' typing-extensions is none that mypy can use. TF-Agents'
    # own tests, which come with it, want the old package `mock`.
    session.install("hypothesis", "mock", "pytest", "pytest-xdist", "scipy")


@nox.session(python="3.11")
def own_tests(session: nox.Session) -> None:
    """Reverb's and TF-Agents' own tests, from the checkouts REVERB_SRC= and AGENTS_SRC=."""
    given = [name for name in ("REVERB_SRC", "AGENTS_SRC") if os.environ.get(name)]
    if not given:
        session.skip(
            "REVERB_SRC= and AGENTS_SRC= are not set: checkouts of github.com/google-deepmind/"
            "reverb and github.com/tensorflow/agents, whose own tests run on Reverie."
        )
    _install_tf_agents(session)
    session.run(
        *("pytest", *PARALLEL, "-W", "ignore::DeprecationWarning"),
        *(session.posargs or ["tests/own_tests"]),
        env=QUIET,
    )


def _examples() -> list[Path]:
    return sorted((ROOT / "examples").glob("*.py"))


def _run_in_scratch(session: nox.Session, *command: str) -> None:
    with session.chdir(session.create_tmp()):
        session.run(*command, env=QUIET)


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The package as a user installs it: all tests on the newest Python, some on the others."""
    newest = session.python == NEWEST
    # Frameworks whose specs are read, as far as they are small; the large one once.
    # CMake for the test of what a build says that finds no compiler.
    _install(session, "test,gymnasium", "dm_env", *["jax", BUILD_TOOLS[0]] * newest)
    session.run(
        *("pytest", *PARALLEL, *(session.posargs or (["tests"] if newest else EVERYWHERE))),
        "--ignore=tests/tf_agents",
        # The threads are hammered for as long as it takes to believe them, on one Python.
        env={"REVERIE_STRESS_SECONDS": "30" if newest else "3"},
    )


@nox.session(python="3.11")
def doors(session: nox.Session) -> None:
    """The doors into PyTorch and JAX, what CleanRL calls, and the examples that train.

    TensorFlow, which pins much, has a session of its own.
    """
    # A fixed one, so that whoever has its small build, without CUDA, is spared the other.
    session.install("torch==2.13.0", "torchdata==0.11.*")
    _install(session, "test,torch,jax,gymnasium")
    session.run("pytest", *PARALLEL, *(session.posargs or ["tests/unit/doors"]))
    # In the lint session the frameworks' types are Any.
    session.install(*TYPE_CHECKERS)
    _pyright(session, *USERS_CODE)
    _mypy_as_users(session, *sorted({*TYPED.glob("*.py")} - {TYPED / "tf_use.py"}))
    for example in _examples():
        if example.stem.endswith(DOORS):
            _run_in_scratch(session, "python", str(example), "--quick")


def _mypy_as_users(session: nox.Session, *programs: Path) -> None:
    """As whoever has the frameworks there, without our settings."""
    strict = ("mypy", "--strict", "--config-file=", "--explicit-package-bases")
    session.run(*strict, *map(str, programs))


@nox.session(python="3.11")
def tf(session: nox.Session) -> None:
    """`reverie.tf` with the newest TensorFlow; the session tf_agents runs the same with 2.15.

    A version that is newer than those that `reverie.tf.framework` names fails here by the
    warning that users get: run all, then name it there.
    """
    # Without CUDA, where there is such a build.
    session.install("tensorflow-cpu" if sys.platform == "linux" else "tensorflow")
    # Not the `tf` extra, which asks for the package of the other name.
    _install(session, "test")
    session.run(
        *("pytest", *PARALLEL),
        *(session.posargs or [*map(str, TF_TESTS), "tests/unit/doors/test_typed_use.py"]),
        env=QUIET,
    )
    # TensorFlow's types are in a package of their own.
    session.install(*TYPE_CHECKERS, "types-tensorflow==2.18.*")
    _mypy_as_users(session, TYPED / "tf_use.py")


@nox.session(python="3.11")  # cpprb has no wheels for the newest
def peers(session: nox.Session) -> None:
    """The pages for who comes from elsewhere, run on both sides, and SB3's classes of ours."""
    session.install("torch==2.13.0", "cpprb==11.*", "flashbax==0.1.*", "stable-baselines3==2.*")
    _install(session, "test,torch,jax,gymnasium")
    found = {*ROOT.glob("tests/unit/*/test_from_*.py"), *ROOT.glob("tests/unit/doors/*sb3*.py")}
    tests = [str(path) for path in sorted(found)]
    session.run("pytest", *PARALLEL, *(session.posargs or tests), env={"OMP_NUM_THREADS": "1"})
    for example in _examples():
        if example.name.startswith("sb3_"):
            _run_in_scratch(session, "python", str(example), "--quick")


@nox.session(python="3.11")
def cleanrl(session: nox.Session) -> None:
    """CleanRL's scripts with one line changed, from the checkout CLEANRL_SRC=."""
    if not os.environ.get("CLEANRL_SRC"):
        session.skip(
            "CLEANRL_SRC= is not set: a checkout of github.com/vwxyzjn/cleanrl, whose scripts "
            "run on reverie.sb3."
        )
    # The Gymnasium that its scripts are written for.
    session.install("torch==2.13.0", "gymnasium==0.29.1", "tensorboard", "tyro")
    _install(session, "test,torch")
    session.run(
        *("pytest", *PARALLEL, *(session.posargs or ["tests/own_tests/test_cleanrl.py"])),
        env={"OMP_NUM_THREADS": "1"},
    )


@nox.session(python="3.11")
def sb3(session: nox.Session) -> None:
    """`reverie.sb3` beside Stable-Baselines3; SB3's own tests, from the checkout SB3_SRC=."""
    # PyTorch as in the doors. The newest SB3 of the tested ones, with what its tests import.
    session.install("torch==2.13.0", "stable-baselines3==2.9.*")
    _install(session, "test,sb3")
    if not os.environ.get("SB3_SRC"):
        session.warn(
            "SB3_SRC= is not set: a checkout of github.com/DLR-RM/stable-baselines3, whose own "
            "tests of buffers, of saving and of loading then run on Reverie."
        )
    ours = [str(path) for path in sorted(ROOT.glob("tests/unit/doors/*sb3*.py"))]
    session.run(
        *("pytest", *PARALLEL),
        *(session.posargs or [*ours, "tests/own_tests/test_sb3s_own.py"]),
        # Processes are as many as cores.
        env={"OMP_NUM_THREADS": "1"},
    )


@nox.session(python="3.11")
@nox.parametrize("version", ["0.13", "0.14"])
def torchrl(session: nox.Session, version: str) -> None:
    """`reverie.torchrl` with TorchRL.

    Not in the default run: the extension of its wheels loads with few versions of PyTorch.
    Where it does not, what compares with TorchRL's own priorities is skipped, and building it
    from source takes long.
    """
    session.install("torch==2.13.0", f"torchrl=={version}.*", "gymnasium[classic-control]")
    _install(session, "test,torchrl")
    ours = [str(path) for path in sorted(ROOT.glob("tests/unit/doors/*torchrl*.py"))]
    session.run("pytest", *PARALLEL, *(session.posargs or ours))


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
