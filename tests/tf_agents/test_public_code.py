"""Public code written for Reverb, unmodified, on `install_as_reverb`.

Whole test files and a training program, as the wheels of TF-Agents and RLDS bring them, each
in a process of its own. Each runs on dm-reverb 0.14 as well.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.tf_agents.public_runs import run

pytest.importorskip("reverb", reason="needs dm-reverb")
pytest.importorskip("tf_agents", reason="needs TF-Agents")

# How many of its tests each file runs, without those that it skips everywhere.
TEST_FILES = {
    "rlds.transformations.pattern_test": 4,
    "tf_agents.experimental.distributed.reverb_variable_container_test": 17,
    "tf_agents.replay_buffers.reverb_replay_buffer_test": 30,
    "tf_agents.replay_buffers.reverb_utils_test": 23,
    "tf_agents.replay_buffers.rlds_to_reverb_test": 39,
    "tf_agents.train.actor_test": 4,
    "tf_agents.train.utils.replay_buffer_utils_test": 2,
    "tf_agents.train.utils.train_utils_test": 9,
    "tf_agents.utils.batched_observer_unbatching_test": 2,
}
# A few steps of it.
PROGRAM = "tf_agents.examples.dqn.dqn_train_eval"
PROGRAM_SETTINGS = (
    "--num_iterations=10",
    "--eval_interval=5",
    "--gin_bindings=train_eval.initial_collect_steps=100",
    "--gin_bindings=train_eval.eval_episodes=1",
    "--gin_bindings=train_eval.policy_save_interval=5",
)


def complaint(status: int, log: str, at_least: int) -> str:
    """What is wrong with a test file's run; empty where nothing is."""
    ran = re.findall(r"^Ran (\d+) tests? in", log, re.M)
    skipped = re.findall(r"^OK.*skipped=(\d+)", log, re.M)
    count = int(ran[-1]) - int(skipped[-1] if skipped else 0) if ran else 0
    if status != 0:
        return f"exit status {status}:\n{log[-10_000:]}"
    if "Reverie served all of reverb" not in log:
        return f"it ran on another reverb:\n{log[-2000:]}"
    if count < at_least:
        return f"{count} tests ran, not {at_least}:\n{log[-2000:]}"
    return ""


@pytest.mark.parametrize("module", TEST_FILES)
def test_a_public_test_file_passes_whole(module: str, tmp_path: Path) -> None:
    status, log = run(module, f"--test_tmpdir={tmp_path}", folder=tmp_path)
    assert not complaint(status, log, TEST_FILES[module])


def test_a_public_program_trains(tmp_path: Path) -> None:
    status, log = run(PROGRAM, f"--root_dir={tmp_path}", *PROGRAM_SETTINGS, folder=tmp_path)
    assert status == 0, log
    assert (tmp_path / "policies").is_dir()


VARIABLES_TEST = "tf_agents.experimental.distributed.reverb_variable_container_test"


@pytest.mark.parametrize(
    ("breakage", "noticed_by"),
    [
        ("reverb.Client.server_info = lambda *_: {}", "exit status 1"),
        ("reverb.TFClient.sample = None", "exit status 1"),
        ("reverie.runtime.install.uninstall_as_reverb(); import reverb", "exit status 1"),
    ],
    ids=["knows no tables", "cannot sample", "is another"],
)
def test_a_broken_reverb_is_noticed(breakage: str, noticed_by: str, tmp_path: Path) -> None:
    arguments = [f"--test_tmpdir={tmp_path}"]
    status, log = run(VARIABLES_TEST, *arguments, folder=tmp_path, breakage=breakage)
    assert noticed_by in complaint(status, log, TEST_FILES[VARIABLES_TEST])


def test_a_file_that_runs_too_few_tests_is_noticed() -> None:
    log = "Reverie served all of reverb\nRan 18 tests in 0.2s\n\nOK (skipped=3)\n"
    assert not complaint(0, log, 15)
    assert "15 tests ran, not 16" in complaint(0, log, 16)
    assert "another reverb" in complaint(0, log.partition("\n")[2], 15)
    assert "0 tests ran" in complaint(0, "Reverie served all of reverb\n", 1)
