"""What a user notices without looking inside: the first example, memory, fresh arrays."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reverie
from reverie import ArraySpec, ReplayBufferManager

LINUX = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="reads resident memory from /proc"
)


def example(text: str) -> str:
    """The indented code of a module's docstring."""
    lines = [line for line in text.splitlines() if line.startswith("    ") or not line.strip()]
    return textwrap.dedent("\n".join(lines))


def test_the_first_example_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(example(reverie.__doc__ or ""), found)
    assert found["data"]["obs"].shape == (256, 2, 4)
    assert [path.name for path in tmp_path.glob("checkpoints/ckpt*")] == ["ckpt-00000001"]


def test_the_check_of_the_example_sees_one_that_lost_its_indentation() -> None:
    flat = textwrap.dedent(example(reverie.__doc__ or "")).replace("        ", "    ")
    broken = "\n".join(line.strip() for line in flat.splitlines())
    with pytest.raises(SyntaxError):
        compile(broken, "docstring", "exec")
    assert not example("Text.\n\nimport numpy\n").strip()


# Arrays ---------------------------------------------------------------------------------


def test_what_is_handed_out_is_the_users_to_change(tmp_path: Path) -> None:
    spec = {"n": ArraySpec((), np.int64), "m": ArraySpec((2,), np.float32)}
    with ReplayBufferManager(spec, 10, tmp_path, seed=1) as manager:
        _, observer = manager.create_replay_buffer()
        for n in range(5):
            observer({"n": n, "m": [n, n]})
        before = manager.gather_all()["m"].copy()
        for data in (manager.sample(5)[0], manager.gather_all(), next(manager.iter_items())[1]):
            assert data["m"].flags.writeable
            assert data["m"].flags.c_contiguous
            assert data["m"].flags.owndata
            data["m"][:] = -1
        _, info = manager.sample(3)
        info.key[:] = 0
        assert np.array_equal(manager.gather_all()["m"], before)


def test_batches_outlive_the_manager(tmp_path: Path) -> None:
    with ReplayBufferManager(np.zeros(2), 10, tmp_path, 1) as manager:
        _, observer = manager.create_replay_buffer()
        observer(np.ones(2))
        data, info = manager.sample(100)
    del manager, observer
    assert data.sum() == 200
    assert info.table_size.sum() == 100


def test_ordinary_use_warns_of_nothing(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with ReplayBufferManager({"x": np.zeros(2, np.float32)}, 10, tmp_path) as manager:
            _, observer = manager.create_replay_buffer()
            for n in range(20):
                observer({"x": [n, np.nan]}, last=n % 5 == 4)
            manager.sample(4)
            manager.save()
            manager.load_replay_buffer()


# Memory ---------------------------------------------------------------------------------

MEMORY = """
import gc, json, sys
import numpy as np, reverie
from reverie import ArraySpec, ReplayBufferManager, Trajectory

folder, mode, num_steps, capacity = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

i, f = ArraySpec((), np.int32), ArraySpec((), np.float32)
spec = Trajectory(i, ArraySpec((53,), np.float32), ArraySpec((2,), np.float32), (), i, f, f)
observation, action = np.ones(53, np.float32), np.ones(2, np.float32)
mid, last = (
    Trajectory(np.int32(t), observation, action, (), np.int32(1), np.float32(0), np.float32(1))
    for t in (1, 2)
)
manager = ReplayBufferManager(spec, capacity, folder)
_, observer = manager.create_replay_buffer()
for _ in range(100):
    observer(mid)
manager.sample(10)
gc.disable()  # memory must go without it
leak = []
before = resident()
if mode == "observers":
    buffer, _ = manager.get_replay_buffer_and_observer()
    leak += [manager.new_observer() for _ in range(1000)]
    for one in leak:
        for _ in range(3):
            one(mid)
for n in range(num_steps):
    observer(last if n % 1000 == 999 else mid)
    if mode == "leak":
        leak.append(observation.tobytes())
    if mode == "cycles" and n % 20_000 == 19_999:
        manager.create_replay_buffer()
        _, observer = manager.get_replay_buffer_and_observer()
        if n < 100_000:
            before = resident()  # what the allocator keeps for the next cycle is no leak
info = manager.info()
if mode in ("close", "clear"):
    handles = manager.get_replay_buffer_and_observer()
    getattr(manager, mode)()
print(json.dumps([resident() - before, info.nbytes, info.items, info.record_nbytes]))
"""


def memory(folder: Path, mode: str, num_steps: int, capacity: int) -> tuple[int, int, int]:
    """Resident bytes that so many steps took, their record bytes, and the items."""
    command = [sys.executable, "-c", MEMORY, str(folder), mode, str(num_steps), str(capacity)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    grown, nbytes, items, record = eval(said)
    assert record == 236
    return grown, nbytes, items


def within(grown: int, nbytes: int, items: int, chunks: int = 0) -> bool:
    """Whether memory is at most 1.10 times the record bytes, 24 bytes an item, some chunks."""
    return grown <= 1.10 * nbytes + 24 * items + chunks * 2**20


@LINUX
def test_a_million_steps_take_their_bytes_and_a_tenth(tmp_path: Path) -> None:
    grown, nbytes, items = memory(tmp_path, "plain", 1_000_000, 2_000_000)
    assert (nbytes // 236 >= 1_000_000, items) == (True, 999_100)
    assert within(grown, nbytes, items)


@LINUX
def test_eviction_frees_memory(tmp_path: Path) -> None:
    grown, nbytes, items = memory(tmp_path, "plain", 300_000, 50_000)
    assert items == 50_000
    assert nbytes < 1.1 * 50_000 * 236
    assert within(grown, nbytes, items, chunks=2)  # the open one, and one given back late


@LINUX
def test_the_check_of_memory_sees_a_leak(tmp_path: Path) -> None:
    assert not within(*memory(tmp_path, "leak", 50_000, 100_000), chunks=2)


@LINUX
def test_a_thousand_open_observers_stay_small(tmp_path: Path) -> None:
    grown, _, _ = memory(tmp_path, "observers", 0, 100_000)
    assert grown < 12_000_000


@LINUX
def test_making_buffers_again_and_again_leaks_nothing(tmp_path: Path) -> None:
    grown, _, _ = memory(tmp_path, "cycles", 400_000, 100_000)
    assert grown < 6_000_000


@LINUX
@pytest.mark.parametrize("end", ["close", "clear"])
def test_memory_is_free_at_the_end_even_while_handles_are_held(
    end: str, tmp_path: Path
) -> None:
    grown, _, _ = memory(tmp_path, end, 200_000, 200_000)
    assert grown < 0.2 * 200_000 * 236
