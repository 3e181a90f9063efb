"""Several threads, a callback or a fork in the middle of saving, loading and creating."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reverie import ArraySpec, ReplayBufferManager
from reverie.errors import (
    CheckpointWriteError,
    ClosedError,
    InvalidArgumentError,
    StepMismatchError,
)

SPEC = ArraySpec((), np.int64)


def make(folder: Path, spec: Any = SPEC, **changes: Any) -> ReplayBufferManager:
    return ReplayBufferManager(spec, 100_000, folder, **changes)


def together(number: int, work: Callable[[int], None]) -> None:
    """Runs `work(i)` in `number` threads that start at once; raises what one raised."""
    barrier = threading.Barrier(number)
    raised: list[BaseException] = []

    def run(index: int) -> None:
        barrier.wait()
        try:
            work(index)
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    if raised:
        raise raised[0]


def test_the_newest_checkpoint_holds_all_that_was_there_when_its_save_began(
    tmp_path: Path,
) -> None:
    with make(tmp_path, max_to_keep=1) as manager, make(tmp_path) as reader:
        _, observer = manager.create_replay_buffer()
        for _ in range(5):
            begun: list[int] = []

            def save(_: int, begun: list[int] = begun) -> None:
                for _ in range(5):
                    observer(1)
                    frames = manager.num_frames()
                    manager.save()
                    begun.append(frames)

            together(4, save)
            reader.load_replay_buffer()
            assert reader.num_frames() >= max(begun)


def test_every_failed_background_save_reaches_a_caller(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = make(tmp_path)
    manager.create_replay_buffer()[1](1)
    failures: list[int] = []

    def fail(*_: Any, **__: Any) -> Path:
        failures.append(1)
        raise CheckpointWriteError("no")

    monkeypatch.setattr("reverie.checkpoint.save.write_checkpoint", fail)
    seen: list[int] = []

    def save(_: int) -> None:
        try:
            manager.save(wait=False)
        except CheckpointWriteError:
            seen.append(1)

    together(4, save)
    try:
        manager.close()
    except CheckpointWriteError:
        seen.append(1)
    assert len(seen) == len(failures) > 0


def test_threads_that_ask_at_once_get_the_same_pair(tmp_path: Path) -> None:
    for _ in range(20):
        manager = make(tmp_path)
        pairs: list[Any] = []
        together(4, lambda _, m=manager, p=pairs: p.append(m.get_replay_buffer_and_observer()))
        assert len({id(pair[0]) for pair in pairs}) == 1
        pairs[0][1](1)  # and it is open
        manager.close()


def test_observers_of_one_buffer_never_mix_their_steps(tmp_path: Path) -> None:
    with make(tmp_path) as manager:
        _, first = manager.create_replay_buffer()
        second = manager.new_observer()
        for n in range(3):
            first(n)
            second(10 + n)
        windows = manager.gather_all().tolist()
    assert sorted(windows) == [[0, 1], [1, 2], [10, 11], [11, 12]]
    with pytest.raises(ClosedError):
        second(1)


def test_a_close_during_a_load_leaves_nothing_open(tmp_path: Path) -> None:
    with make(tmp_path) as first:
        first.create_replay_buffer()[1](1)
        first.save()
    manager = make(tmp_path)
    with pytest.raises(ClosedError):
        manager.load_replay_buffer(progress=lambda *_: manager.close())
    with pytest.raises(ClosedError):
        manager.num_frames()


def test_a_save_from_the_progress_of_a_save_is_refused(tmp_path: Path) -> None:
    with make(tmp_path) as manager:
        manager.create_replay_buffer()[1](1)
        with pytest.raises(InvalidArgumentError, match="progress of another save"):
            manager.save(progress=lambda *_: manager.save())
        manager.save(wait=False, progress=lambda *_: manager.save())
        with pytest.raises(InvalidArgumentError, match="progress of another save"):
            manager.save()  # waits for the one in the background


@pytest.mark.parametrize("spec", [{"k\udc80": SPEC}, {"k" * 20_000: SPEC}])
def test_a_path_that_no_checkpoint_could_hold_is_refused_at_once(
    tmp_path: Path, spec: Any
) -> None:
    with pytest.raises(InvalidArgumentError, match="cannot be saved"):
        make(tmp_path, spec)


def test_a_table_name_that_no_checkpoint_could_hold_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="cannot be saved"):
        make(tmp_path, table_name="t\udc80")


@pytest.mark.parametrize("code", ["q", "l", "i", "Q", "L", "I"])
def test_both_of_numpys_names_for_an_integer_are_one(tmp_path: Path, code: str) -> None:
    dtype = np.dtype(code)
    with make(tmp_path, ArraySpec((2,), f"{dtype.kind}{dtype.itemsize}")) as manager:
        _, observer = manager.create_replay_buffer()
        observer(np.array([1, 2], code))
        observer([3, 4])
        assert manager.gather_all().tolist() == [[[1, 2], [3, 4]]]
        out = np.zeros((4, 2, 2), code)
        assert manager.sample(4, out=out)[0] is out
        assert out[0].tolist() == [[1, 2], [3, 4]]


def test_an_integer_beyond_a_float_is_an_error(tmp_path: Path) -> None:
    with make(tmp_path, ArraySpec((), np.float16)) as manager:
        _, observer = manager.create_replay_buffer()
        with pytest.raises(StepMismatchError, match="70000"):
            observer(70_000)
        observer(np.inf)  # an infinity that was meant is one


FORKED = """
import os, sys, threading
import numpy as np
import reverie

manager = reverie.ReplayBufferManager(reverie.ArraySpec((), np.int64), 10, sys.argv[1])
manager.create_replay_buffer()[1](1)
go_on = threading.Event()
manager.save(wait=False, progress=lambda *_: go_on.wait())
child = os.fork()
if child == 0:
    manager.close()
    os._exit(0)
_, status = os.waitpid(child, 0)
go_on.set()
manager.close()
sys.exit(status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_forked_during_a_save_can_close_its_copy(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED, str(tmp_path)]
    assert subprocess.run(command, timeout=60).returncode == 0
    with make(tmp_path) as manager:
        manager.load_replay_buffer()
