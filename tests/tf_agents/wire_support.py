"""Servers of Reverie in processes of their own, for dm-reverb's clients in this one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SERVICE = "/deepmind.reverb.ReverbService/"
PATIENCE_S = 120.0  # of a machine that does much else


def environment(**more: str) -> dict[str, str]:
    """As a user's, who listens where the packages for it are there."""
    # The package as this process has it, and the tests.
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
    env = {**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}
    env.pop("REVERIE_LISTEN", None)
    return env | more


class ServerProcess:
    """One that runs `tests.tf_agents.wire_server`."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.tf_agents.wire_server", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment(),
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.strip().isdigit(), self.process.communicate()
        self.port = int(line)
        self.address = f"localhost:{self.port}"

    def ask(self, expression: str) -> str:
        """What the expression is in the server's process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def size(self, table: str) -> int:
        """How many items the table has."""
        return int(self.ask(f"tables[{table!r}].core.size"))

    def reset(self) -> None:
        """Empties all tables."""
        self.ask("[table.core.clear() for table in tables.values()]")

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def end(self) -> tuple[int, str]:
        """Stops the server; the process's exit code and what it wrote to standard error."""
        if self.process.poll() is None:
            self.ask("server.stop()")
        _, errors = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, errors

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.communicate()


def within(seconds: float, call: Callable[[], Any]) -> Any:
    """What the call returns or raises, in a thread that is given up after so long."""
    result: list[Any] = []

    def run() -> None:
        try:
            result.append((call(), None))
        except Exception as error:
            result.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    assert result, f"still waits after {seconds} s"
    value, error = result[0]
    if error is not None:
        raise error
    return value
