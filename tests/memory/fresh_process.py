"""Runs a scenario in a process of its own, and measures how its resident memory grows.

The process does the work, and says what is left where chance decides; meanwhile this one
asks the model, whose memory must not be measured, and answers with the bound. Background
tidying may then take a few seconds to get below it.

`python -m tests.memory.fresh_process [scenario ...]` prints all the numbers.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tests.memory.bounds import checkpoint_bound, checkpoint_nbytes, memory_bound
from tests.memory.reachable import Reach, Reachable

import reverie
from reverie import reverb

STATM = Path("/proc/self/statm")
SETTLE_S = 20.0
PLANTED_S = 3.0  # for what is never within its bound
_ROOT = Path(__file__).resolve().parents[2]
_WORK, _LOAD = "work", "load"


@dataclass(slots=True)
class Done:
    """What a scenario's work leaves behind.

    Attributes:
        hold: whatever must stay alive.
        save: saves a checkpoint and returns its folder; None: nothing is saved.
        told: for the model, what no model can know: JSON.
    """

    hold: Any
    save: Callable[[], Any] | None = None
    told: Any = None


Tell = Callable[[], Any]  # waits for `Done.told`


@dataclass(frozen=True, slots=True)
class Scenario:
    """Work for a process of its own, and beside it the model's.

    Attributes:
        work: does it; given a folder for checkpoints.
        model: what is left of it, by the model.
        load: loads the checkpoint from that folder; None: it is not loaded.
    """

    work: Callable[[Path], Done]
    model: Callable[[Tell], Reachable]
    load: Callable[[Path], Any] | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """Bytes that a scenario took, and what it could reach at the end.

    Attributes:
        reach: with its streams as the work leaves them.
        growth: of resident memory when the work is done.
        checkpoint: all files' bytes; None: it was not saved.
        growth_saved: of resident memory after the save.
        reach_loaded: the same items; no stream is open.
        growth_loaded: of a process that did nothing but load the checkpoint.
    """

    reach: Reach
    growth: int
    checkpoint: int | None = None
    growth_saved: int | None = None
    reach_loaded: Reach | None = None
    growth_loaded: int | None = None


def measure(module: str, name: str, folder: Path) -> Measured:
    """Runs the scenario `name` of a module of these tests, in up to two fresh processes."""
    scenario = _scenario(module, name)
    with _Child(module, name, folder, _WORK) as child:
        model = scenario.model(child.tell)
        reach = model.reach()
        found = child.measure(memory_bound(reach))
    if scenario.load is None:
        return Measured(reach, **found)
    model.close_all()
    loaded = model.reach()
    with _Child(module, name, folder, _LOAD) as child:
        again = child.measure(memory_bound(loaded))
    return Measured(reach, **found, reach_loaded=loaded, growth_loaded=again["growth"])


class _Child:
    """The process that does the work."""

    def __init__(self, module: str, name: str, folder: Path, mode: str) -> None:
        paths = [Path(reverie.__file__).parents[1], _ROOT]
        python = [sys.executable, "-W", "error", "-m", __spec__.name]
        self._process = subprocess.Popen(
            [*python, "--child", module, name, str(folder), mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
        )
        self._told: list[Any] = []

    def __enter__(self) -> _Child:
        return self

    def __exit__(self, *error: object) -> None:
        with self._process:
            if error[0] is not None:
                self._process.kill()

    def tell(self) -> Any:
        """What the work has told, when it is done."""
        if not self._told:
            self._told.append(self._read())
        return self._told[0]

    def measure(self, bound: int) -> Any:
        """What the process measures, given the bound that it should come below."""
        self.tell()
        assert self._process.stdin is not None
        print(bound, file=self._process.stdin, flush=True)
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"the process ended early: {self._process.wait()}")
        return json.loads(line)


def _scenario(module: str, name: str) -> Scenario:
    # Imported here: it imports this module.
    found = __import__(module, fromlist=["SCENARIOS"]).SCENARIOS[name]
    assert isinstance(found, Scenario)
    return found


def resident() -> int:
    """Bytes of resident memory of this process."""
    gc.collect()
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def settle(before: int, bound: int, seconds: float) -> int:
    """Growth of resident memory, when it is within the bound or the time is up."""
    end = time.monotonic() + seconds
    while (growth := resident() - before) > bound and time.monotonic() < end:
        time.sleep(0.05)
    return growth


def warm_up() -> None:
    """Imports all there is, and takes what the first of anything takes."""
    spec = {"n": reverie.ArraySpec((), np.int64)}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(2):
            manager = reverie.ReplayBufferManager(spec, 10, folder)
            # The second time there is a checkpoint.
            _, observer = (
                manager.load_replay_buffer()
                if any(Path(folder).glob("ckpt-*"))
                else manager.create_replay_buffer()
            )
            for n in range(5):
                observer({"n": n})
            manager.sample(4)
            manager.save()
            manager.close()
    with tempfile.TemporaryDirectory() as folder:
        selector = reverb.selectors.Fifo()
        table = reverb.Table("t", selector, selector, 10, reverb.rate_limiters.MinSize(1))
        at = reverb.checkpointers.DefaultCheckpointer(folder)
        server = reverb.Server([table], checkpointer=at)
        client = server.localhost_client()
        client.insert(np.zeros(2), {"t": 1.0})
        with client.trajectory_writer(2) as writer:
            writer.append({"a": np.zeros(2)})
            writer.create_item("t", 1.0, {"a": writer.history["a"][-1:]})
        client.checkpoint()
        server.stop()


def _child(module: str, name: str, folder: Path, mode: str) -> None:
    scenario = _scenario(module, name)
    warm_up()
    before = resident()
    if mode == _LOAD:
        assert scenario.load is not None
        done = Done(scenario.load(folder))
    else:
        done = scenario.work(folder)
    print(json.dumps(done.told), flush=True)
    bound = int(sys.stdin.readline())
    seconds = PLANTED_S if module.endswith(".planted") else SETTLE_S
    found: dict[str, Any] = {"growth": settle(before, bound, seconds)}
    if done.save is not None:
        found["checkpoint"] = checkpoint_nbytes(Path(done.save()))
        found["growth_saved"] = settle(before, bound, seconds)
    print(json.dumps(found), flush=True)


def rows(m: Measured) -> list[tuple[str, int, int]]:
    """What was measured, the bytes, and the bound."""
    bound = memory_bound(m.reach)
    found = [("memory", m.growth, bound)]
    if m.checkpoint is not None and m.growth_saved is not None:
        found.append(("memory after the save", m.growth_saved, bound))
        found.append(("checkpoint", m.checkpoint, checkpoint_bound(m.reach)))
    if m.growth_loaded is not None and m.reach_loaded is not None:
        bound = memory_bound(m.reach_loaded)
        found.append(("memory of who loads it", m.growth_loaded, bound))
    return found


def exceeded(m: Measured) -> list[str]:
    """What is above its bound, with the numbers."""
    return [
        f"{what}: {found:,} bytes, {found / bound:.2f} times the bound of {bound:,}"
        for what, found, bound in rows(m)
        if found > bound
    ]


def _print_all(names: list[str]) -> None:
    for module in ("tests.memory.scenarios_observers", "tests.memory.scenarios_writers"):
        scenarios = __import__(module, fromlist=["SCENARIOS"]).SCENARIOS
        for name in [name for name in scenarios if not names or name in names]:
            with tempfile.TemporaryDirectory() as folder:
                start = time.monotonic()
                measured = measure(module, name, Path(folder))
                seconds = time.monotonic() - start
            print(f"{name}: {seconds:.1f} s, {measured.reach}")
            for what, found, bound in rows(measured):
                verdict = "within" if found <= bound else "ABOVE"
                print(f"  {what:23}{found / 1e6:9.2f} of {bound / 1e6:8.2f} MB  {verdict}")


def main(arguments: list[str]) -> None:
    """What the process does, or what is done by hand."""
    if arguments[:1] == ["--child"]:
        module, name, folder, mode = arguments[1:]
        _child(module, name, Path(folder), mode)
    else:
        _print_all(arguments)


if __name__ == "__main__":
    # By its name, as the scenarios import it: a module that runs is another one.
    from tests.memory import fresh_process

    fresh_process.main(sys.argv[1:])
