"""Reverb's and TF-Agents' own tests, from checkouts of theirs, on `install_as_reverb`.

`REVERB_SRC` and `AGENTS_SRC` name the checkouts: github.com/google-deepmind/reverb and
github.com/tensorflow/agents. `nox -s own_tests` has what they need. Each file runs in a
process of its own, whole; what may fail in it stands in `KNOWN`, with the reason.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

import pytest
from tests.tf_agents.public_runs import run

CHECKOUTS = {"REVERB_SRC": "google-deepmind/reverb", "AGENTS_SRC": "tensorflow/agents"}
# The folder of each in which tests are looked for.
FOLDERS = {"REVERB_SRC": "reverb", "AGENTS_SRC": "tf_agents"}
# File: its tests that fail on Reverie, and why.
KNOWN: dict[str, dict[str, str]] = {
    "reverb/timestep_dataset_test.py": {
        "test_distribution_strategy": (
            "alone it passes: reading a dataset makes TensorFlow settle its devices, and the "
            "tests before it read some"
        ),
    },
}
# File: why it cannot run at all, on dm-reverb neither.
CANNOT_RUN: dict[str, str] = {
    f"tf_agents/experimental/{name}": "it tests an example that TF-Agents' wheel leaves out"
    for name in ("distributed/examples/eval_job_test.py", "examples/ppo/train_eval_lib_test.py")
}
_NOTHING_FOUND = "no checkout"


def own_files() -> list[tuple[str, str]]:
    """Each variable with each of its files of tests that have to do with Reverb."""
    found = []
    for variable, folder in FOLDERS.items():
        root = os.environ.get(variable)
        files = sorted(Path(root, folder).rglob("*_test.py")) if root else []
        ours = [file for file in files if "reverb" in file.read_text("utf-8")]
        names = [file.relative_to(str(root)).as_posix() for file in ours] or [_NOTHING_FOUND]
        found += [(variable, name) for name in names]
    return found


def failures(log: str) -> set[str]:
    """The tests that failed, by the log of a run of unittest."""
    return set(re.findall(r"^(?:FAIL|ERROR): (\w+)", log, re.M))


def complaint(log: str, known: Collection[str]) -> str:
    """What is wrong with a file's run; empty where nothing is."""
    ran = re.findall(r"^Ran (\d+) tests? in", log, re.M)
    if not ran or int(ran[-1]) == 0:
        return f"no tests ran:\n{log[-5000:]}"
    if "Reverie served all of reverb" not in log:
        return f"it ran on another reverb:\n{log[-2000:]}"
    failed = failures(log)
    if failed - {*known}:
        return f"{sorted(failed - {*known})} failed:\n{log[-20_000:]}"
    if {*known} - failed:
        return f"{sorted({*known} - failed)} did not fail: take them out of the list."
    return ""


@pytest.mark.parametrize(("variable", "name"), own_files())
def test_their_own_tests_pass(variable: str, name: str, tmp_path: Path) -> None:
    root = os.environ.get(variable)
    if not root:
        pytest.skip(f"{variable} is not set: a checkout of github.com/{CHECKOUTS[variable]}")
    pytest.importorskip("tf_agents", reason="needs TF-Agents: nox -s own_tests")
    assert name != _NOTHING_FOUND, f"{variable}={root!r} holds no tests of {FOLDERS[variable]}"
    if name in CANNOT_RUN:
        pytest.skip(CANNOT_RUN[name])
    file = str(Path(root, name).resolve())
    _, log = run(file, f"--test_tmpdir={tmp_path}", folder=tmp_path, timeout_s=900)
    assert not complaint(log, KNOWN.get(name, {}))


def test_a_failure_that_is_not_on_the_list_is_noticed_and_one_that_is_gone() -> None:
    good = "Ran 3 tests in 0.2s\n\nOK\nReverie served all of reverb\n"
    bad = f"FAIL: test_x (__main__.T.test_x)\nERROR: test_y0 (0) (__main__.T)\n{good}"
    assert not complaint(good, ())
    assert not complaint(bad, {"test_x", "test_y0"})
    assert "['test_y0'] failed" in complaint(bad, {"test_x"})
    assert "['test_z'] did not fail" in complaint(bad, {"test_x", "test_y0", "test_z"})
    assert "another reverb" in complaint("Ran 3 tests in 0.2s\n", ())
    assert "no tests ran" in complaint("Reverie served all of reverb\n", ())
    assert "no tests ran" in complaint(
        "Ran 0 tests in 0.2s\nReverie served all of reverb\n", ()
    )
