"""Programs written for Reverb, each in a process of its own where Reverie serves `reverb`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# In this process "reverb" is Reverie, from the first import to the last.
RUNNER = """
import runpy, sys
import reverie
reverie.install_as_reverb(force=True)
import reverb
{breakage}
from tf_agents.system import multiprocessing
multiprocessing.enable_interactive_mode()  # else a file's own main() must have run
program, sys.argv = sys.argv[1], sys.argv[1:]
try:
    if program.endswith(".py"):
        runpy.run_path(program, run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
finally:
    loaded = [m for n, m in list(sys.modules.items()) if n.partition(".")[0] == "reverb"]
    assert loaded, "it never asked for reverb"
    foreign = [m.__name__ for m in loaded if not m.__name__.startswith("reverie.reverb")]
    assert not foreign, foreign
    print("Reverie served all of reverb", file=sys.stderr)
"""


def run(
    program: str, *arguments: str, folder: Path, breakage: str = "", timeout_s: float = 240
) -> tuple[int, str]:
    """Runs a module, or a file, as a program; its exit status and what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", RUNNER.format(breakage=breakage), program, *arguments],
        cwd=folder,
        # Without wrapt's C part: its proxies and this Python break saving of policies.
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "WRAPT_DISABLE_EXTENSIONS": "true"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
    )
    return done.returncode, done.stdout
