"""The whole demo, seen from the first process."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

from reverie.cli.demo.collect import collect
from reverie.cli.demo.report import draw_curve, print_table, shown, verdict
from reverie.cli.demo.results import Trained
from reverie.cli.demo.settings import Settings, need

_PACKAGES = ("sklearn", "matplotlib", "rich")
# The matrices are small: threads for them would only wait for each other.
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_EXPECTED = (0, 1, 130)


def run(settings: Settings) -> int:
    """Collects, trains in a new process, reports.

    Returns:
        The exit code: 0, or 1 where training failed or the agent is no better than
        the settings ask, or 130 where it was interrupted.

    Raises:
        MissingDependencyError: the `demo` extra is not installed.
        CheckpointError: the checkpoint could not be written.
        OSError: the folder cannot be written.
    """
    for package in _PACKAGES:
        if importlib.util.find_spec(package) is None:
            need(package)
    settings.folder.mkdir(parents=True, exist_ok=True)
    settings.results.unlink(missing_ok=True)

    print(f"1. Process {os.getpid()} collects experience with a random policy.")
    collected = collect(settings)
    print(f"Saved {shown(collected.checkpoint)} in {1e3 * collected.save_seconds:.1f} ms.\n")

    print("2. A new process opens it and trains an agent from sampled batches.")
    code = train_in_new_process(settings)
    if code != 0:
        return code
    trained = Trained.read(settings.results)

    print("\n3. What came of it:")
    print_table(settings, collected, trained)
    good, sentence = verdict(settings, collected, trained)
    print(f"{sentence}\nLearning curve: {shown(draw_curve(settings, collected, trained))}")
    return 0 if good else 1


def train_in_new_process(settings: Settings) -> int:
    """Runs `train` in a fresh Python, which shares nothing but the folder.

    Returns:
        0, 1 or 130; what went wrong has been said on stderr.
    """
    file = settings.write()
    sys.stdout.flush()  # or, in a redirected file, the other's lines come first
    command = [sys.executable, "-m", "reverie.cli.demo.train", str(file)]
    threads = dict.fromkeys(_ONE_THREAD, "1")
    code = subprocess.run(command, env={**threads, **os.environ}, check=False).returncode
    if code not in _EXPECTED:
        print(f"reverie: error: the training process ended with code {code}", file=sys.stderr)
        return 1
    return code
