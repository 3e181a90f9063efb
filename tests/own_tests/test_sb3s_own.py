"""SB3's own tests, from a checkout of the version that is installed, on Reverie's buffers.

`SB3_SRC` names the checkout of github.com/DLR-RM/stable-baselines3; `nox -s sb3` has what they
need. Each file runs in a process of its own, whole, with the plugin `sb3_on_reverie`; what may
fail in it stands in `KNOWN`, with the reason.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
# File: its tests that fail on Reverie, and why.
KNOWN: dict[str, dict[str, str]] = {
    "test_buffers.py": {
        "test_buffer_dtypes": (
            "it sets `full` on an empty buffer and samples what nobody added. That dtypes are "
            "SB3's is in tests/unit/doors/test_sb3_beside_sb3.py"
        ),
    },
    "test_n_step_replay.py": {
        "test_nstep_no_terminations": (
            "its last part ends an episode afterwards, by writing into `dones`, which is a copy"
        ),
    },
    "test_save_load.py": {},
    "test_dict_env.py": {},
    "test_vec_normalize.py": {},
    "test_her.py": {
        "test_her": "it asks for infos (copy_info_dict=True), which are not kept",
        "test_truncate_last_trajectory": "it reads `_current_ep_start`, SB3's own bookkeeping",
    },
}
_SUMMARY = re.compile(r"^(?:FAILED|ERROR) \S+\.py(?:::(\w+))?", re.M)


def complaint(log: str, known: Mapping[str, str]) -> str:
    """What is wrong with a file's run; empty where nothing is."""
    if not re.search(r"^(?:\d+ \w+, )*[1-9]\d* passed", log, re.M):
        return f"no tests passed:\n{log[-5000:]}"
    if "Reverie served all of SB3's buffers" not in log:
        return f"it ran on other buffers:\n{log[-2000:]}"
    failed = set(_SUMMARY.findall(log))
    if failed - known.keys():
        return f"{sorted(failed - known.keys())} failed:\n{log[-20_000:]}"
    if known.keys() - failed:
        return f"{sorted(known.keys() - failed)} did not fail: take them out of the list."
    return ""


def other_version(found: str, wanted: str) -> str:
    """What to say of a checkout that is not the installed version's; empty where it is."""
    if found.split(".")[:2] == wanted.split(".")[:2]:
        return ""
    return f"SB3_SRC holds version {found}, and {wanted} is installed: their tests differ."


@pytest.mark.parametrize("name", KNOWN)
def test_their_own_tests_pass(name: str, tmp_path: Path) -> None:
    root = os.environ.get("SB3_SRC")
    if not root:
        pytest.skip("SB3_SRC is not set: a checkout of github.com/DLR-RM/stable-baselines3")
    sb3 = pytest.importorskip("stable_baselines3", reason="needs SB3: nox -s sb3")
    found = Path(root, "stable_baselines3", "version.txt").read_text("utf-8").strip()
    assert not other_version(found, sb3.__version__)
    # Without the package that lies beside them, which would hide the installed one.
    shutil.copytree(Path(root, "tests"), tmp_path / "tests")
    shutil.copy(Path(root, "pyproject.toml"), tmp_path)
    paths = [str(HERE), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-rfE", "--tb=short"),
            *("-p", "sb3_on_reverie", "-p", "no:cacheprovider", f"tests/{name}"),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1800,
    )
    assert not complaint(done.stdout, KNOWN[name])


def test_a_failure_that_is_not_on_the_list_is_noticed_and_one_that_is_gone() -> None:
    good = "Reverie served all of SB3's buffers\n3 passed, 1 skipped in 0.2s\n"
    bad = (
        "Reverie served all of SB3's buffers\n"
        "FAILED tests/test_a.py::test_x[1-a] - assert 0\nERROR tests/test_a.py::test_y\n"
        "2 failed, 3 passed in 0.2s\n"
    )
    both = {"test_x": "", "test_y": ""}
    assert not complaint(good, {})
    assert not complaint(bad, both)
    assert "['test_y'] failed" in complaint(bad, {"test_x": ""})
    assert "['test_z'] did not fail" in complaint(bad, {**both, "test_z": ""})
    assert "other buffers" in complaint("3 passed in 0.2s\n", {})
    assert "no tests passed" in complaint(good.replace("3 passed, ", ""), {})
    assert "no tests passed" in complaint(good.replace("3 passed", "10 failed"), {})


def test_a_checkout_of_another_version_is_noticed() -> None:
    assert not other_version("2.9.0a4", "2.9.2")
    assert "version 2.8.0, and 2.9.2 is installed" in other_version("2.8.0", "2.9.2")
