"""CleanRL's public scripts on `reverie.sb3`: of each only the line that imports changes.

`CLEANRL_SRC` names a checkout of github.com/vwxyzjn/cleanrl. `nox -s cleanrl` has what its
scripts need.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

THEIRS = "from cleanrl_utils.buffers import ReplayBuffer"
OURS = "from reverie.sb3 import ReplayBuffer"
STEPS = 2_000
# What runs without MuJoCo; an episode of Pendulum is always cut off, after 200 steps.
SCRIPTS = {
    "dqn": "CartPole-v1",
    "c51": "CartPole-v1",
    "ddpg_continuous_action": "Pendulum-v1",
    "td3_continuous_action": "Pendulum-v1",
    "sac_continuous_action": "Pendulum-v1",
}
RUNNER = """
import json, runpy, sys
script, sys.argv = sys.argv[1], sys.argv[1:]
left = runpy.run_path(script, run_name="__main__")
replay = left["rb"].buffer
assert type(replay).__module__ == "reverie.replay_buffer", type(replay)
returns = [float(episode["reward"].sum(dtype=float)) for episode in replay.episodes()]
print("kept", json.dumps([len(replay), replay.info().broken_episodes, returns]))
"""


def changed(source: str) -> str:
    """The script with the one line that is ours."""
    assert source.count(THEIRS) == 1, f"found {source.count(THEIRS)} lines {THEIRS!r}"
    return source.replace(THEIRS, OURS)


def complaint(code: int, log: str, steps: int) -> str:
    """What is wrong with a run; empty where it learned, and all its steps are kept."""
    kept = re.findall(r"^kept (.*)$", log, re.M)
    if code or len(kept) != 1:
        return f"it ended with {code}:\n{log[-5000:]}"
    count, broken, returns = json.loads(kept[0])
    if (count, broken) != (steps, 0):
        return f"{count} of {steps} steps were kept, {broken} episodes broken"
    if "SPS: " not in log:
        return "it learned nothing: no batch was sampled"
    # The environment's own sums, as the script prints them.
    told = [float(found) for found in re.findall(r"episodic_return=\[?\s*(-?[\d.]+)", log)]
    if not told or not np.allclose(returns[: len(told)], told, rtol=1e-3):
        return f"episodes earned {told}, in the buffer {returns}"
    return ""


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs_with_one_line_changed(name: str, tmp_path: Path) -> None:
    root = os.environ.get("CLEANRL_SRC")
    if not root:
        pytest.skip("CLEANRL_SRC is not set: a checkout of github.com/vwxyzjn/cleanrl")
    for module in ("torch", "gymnasium", "tyro", "tensorboard"):
        pytest.importorskip(module, reason=f"needs {module}: nox -s cleanrl")
    script = tmp_path / f"{name}.py"
    script.write_text(changed(Path(root, "cleanrl", script.name).read_text("utf-8")), "utf-8")
    options = ["--env-id", SCRIPTS[name], "--total-timesteps", str(STEPS), "--no-cuda"]
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, str(script), *options, "--learning-starts", "1000"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert not complaint(done.returncode, done.stdout, STEPS)


def test_what_goes_wrong_in_a_run_is_noticed() -> None:
    good = "SPS: 12\nglobal_step=3, episodic_return=[9.5]\nkept [4, 0, [9.5, 1.0]]\n"
    assert not complaint(0, good, 4)
    assert "ended with 1" in complaint(1, good, 4)
    assert "ended with 0" in complaint(0, "SPS: 12\n", 4)
    assert "4 of 5" in complaint(0, good, 5)
    assert "1 episodes broken" in complaint(0, good.replace("[4, 0", "[4, 1"), 4)
    assert "learned nothing" in complaint(0, good.replace("SPS", ""), 4)
    assert "in the buffer [7.5, 1.0]" in complaint(0, good.replace("[9.5, 1", "[7.5, 1"), 4)
    with pytest.raises(AssertionError, match="found 0 lines"):
        changed("from elsewhere import ReplayBuffer")
