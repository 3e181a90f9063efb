"""Whether a process stays as large as it is while things come and go, round after round.

A module calls `run` with a round of its own when it is started, as `soak` does in a fresh
process: `python -m tests.memory.soak_core 30` prints what a process has after each quarter of
30 s.
"""

from __future__ import annotations

import ctypes
import gc
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import reverie

_ROOT = Path(__file__).resolve().parents[2]
_SETTLE_S = 1.0
SECONDS = float(os.environ.get("REVERIE_STRESS_SECONDS") or 3)


@dataclass(frozen=True, slots=True)
class Held:
    """What a process has.

    Attributes:
        nbytes: of resident memory, when freed memory has been given back.
        files: open ones.
        threads: of the system's.
        objects: that Python's collector knows.
    """

    nbytes: int
    files: int
    threads: int
    objects: int


def held() -> Held:
    """What this process has now."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Held(
        nbytes=pages * os.sysconf("SC_PAGE_SIZE"),
        files=len(os.listdir("/proc/self/fd")),
        threads=len(os.listdir("/proc/self/task")),
        objects=len(gc.get_objects()),
    )


def soak(module: str, *arguments: str, seconds: float = SECONDS) -> tuple[list[Held], int]:
    """What a fresh process holds after each quarter of its rounds; and how many a quarter."""
    paths = [Path(reverie.__file__).parents[1], _ROOT]
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", module, str(seconds), *arguments],
        capture_output=True,
        text=True,
        timeout=60 + 10 * seconds,
        cwd=_ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
    )
    assert result.returncode == 0, result.stderr[-3000:]
    found = json.loads(result.stdout.splitlines()[-1])
    return [Held(**each) for each in found["held"]], found["rounds"]


def run(one_round: Callable[[], None], seconds: float, warm_up: int = 10) -> None:
    """The child's part: rounds in four quarters, for about so many seconds in all.

    Args:
        one_round: leaves nothing behind.
        seconds: of all rounds but the first.
        warm_up: rounds before anything is counted.
    """
    for _ in range(warm_up):
        one_round()
    start = time.monotonic()
    one_round()
    rounds = max(5, int(seconds / 4 / (time.monotonic() - start)))
    seen = [_settled(held())]
    for _ in range(4):
        for _ in range(rounds):
            one_round()
        seen.append(_settled(seen[0]))
    fields = Held.__slots__
    print(
        json.dumps(
            {"held": [{f: getattr(h, f) for f in fields} for h in seen], "rounds": rounds}
        )
    )


def growth(found: list[Held], rounds: int) -> dict[str, float]:
    """By a round, from the end of the first quarter to the end of the last.

    The least of the quarters' growths: what leaks does so in all of them, and memory that
    an allocator takes once in a while does not.
    """
    pairs = list(itertools.pairwise(found[1:]))
    return {
        name: min(getattr(b, name) - getattr(a, name) for a, b in pairs) / rounds
        for name in Held.__slots__
    }


def _settled(wanted: Held) -> Held:
    """What is held once threads and files are as few as wanted, or the time is up."""
    end = time.monotonic() + _SETTLE_S
    now = held()
    while time.monotonic() < end and (
        now.threads > wanted.threads or now.files > wanted.files or threading.active_count() > 1
    ):
        time.sleep(0.02)
        now = held()
    return now
