"""The first figures: add, sample, dataset, save, load, memory, import.

    python -m benchmarks.first_figures [--quick] [--json FILE]

Each speed is paired, A B A B, with a yardstick in the same run: `limit`, a plain
C++ loop over the same bytes (`limit.cc`, compiled here by `c++`), `limit_huge`, the same
loop over records on pages of 2 MiB, and `numpy`, the same gather written by hand with
`take(out=)`. Absolute figures drift with the machine; the ratios drift less. What is not
installed is said to be missing.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import reverie

ArraySpec = reverie.ArraySpec
BATCH = 256

SCENARIOS: dict[str, Any] = {
    # 97 bytes: a locomotion task's transition, the next observation in the next step.
    "low-dim": {
        "observation": ArraySpec((17,), np.float32),
        "action": ArraySpec((6,), np.float32),
        "reward": ArraySpec((), np.float32),
        "done": ArraySpec((), np.bool_),
    },
    # 236 bytes: Smart Control's step.
    "seed": reverie.Trajectory(
        ArraySpec((), np.int32),
        ArraySpec((53,), np.float32),
        ArraySpec((2,), np.float32),
        (),
        ArraySpec((), np.int32),
        ArraySpec((), np.float32),
        ArraySpec((), np.float32),
    ),
    # 28 kB: a stack of four frames.
    "image": {"frame": ArraySpec((84, 84, 4), np.uint8), "action": ArraySpec((), np.int32)},
}


def step_of(spec: Any, index: int) -> Any:
    """A step whose values differ from its neighbours'."""
    if isinstance(spec, dict):
        return {name: np.full(s.shape, index % 2, s.dtype) for name, s in spec.items()}
    return type(spec)(
        *(
            s if s == () else np.full(s.shape, 1 if s.dtype.kind == "i" else index, s.dtype)
            for s in spec
        )
    )


def in_turns(
    functions: dict[str, Callable[[], object]], calls: int, rounds: int
) -> dict[str, list[float]]:
    """Microseconds a call of each, round by round; in each round every one has its turn."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(rounds + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            for _ in range(calls):
                function()
            if turn:  # the first one warms up
                times[name].append((time.perf_counter() - start) / calls * 1e6)
    return times


def paired(
    functions: dict[str, Callable[[], object]], calls: int, rounds: int
) -> dict[str, float]:
    """Median microseconds a call of each, measured in turns."""
    times = in_turns(functions, calls, rounds)
    return {name: statistics.median(values) for name, values in times.items()}


def machine() -> dict[str, Any]:
    """What the figures depend on, and nothing tells later."""
    huge_pages = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return {
        "cpus": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "reverie": reverie.__version__,
        "huge_pages": huge_pages.read_text().strip() if huge_pages.exists() else "unknown",
    }


def limit_library(folder: Path) -> ctypes.CDLL | None:
    """The yardstick, compiled; None, which it says, without a compiler."""
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        print("limit: missing, no C++ compiler found", file=sys.stderr)
        return None
    library = folder / "limit.so"
    source = Path(__file__).with_name("limit.cc")
    subprocess.run(
        [compiler, "-O3", "-shared", "-fPIC", "-o", str(library), str(source)], check=True
    )
    return ctypes.CDLL(str(library))


def usual_records(dtype: np.dtype[Any], count: int) -> np.ndarray[Any, Any]:
    """Records for the yardsticks, in memory as NumPy takes it.

    On Linux NumPy itself asks for pages of 2 MiB where an array is large, though not from its
    first byte on.
    """
    records = np.empty(count, dtype)
    records.view(np.uint8)[:] = 1  # untouched memory would be one page of zeros, in the cache
    return records


def huge_records(
    library: ctypes.CDLL, dtype: np.dtype[Any], count: int
) -> np.ndarray[Any, Any]:
    """The same on pages of 2 MiB, where there are such; they stay until the process ends."""
    nbytes = count * dtype.itemsize
    allocate = library.limit_records
    allocate.restype = ctypes.c_void_p
    address = allocate(ctypes.c_uint64(nbytes))
    if not address:
        raise MemoryError(f"no memory for {nbytes} bytes")
    memory: Any = (ctypes.c_uint8 * nbytes).from_address(address)
    records: np.ndarray[Any, Any] = np.frombuffer(memory, dtype)
    records.view(np.uint8)[:] = 1
    return records


def limit_sampler(library: ctypes.CDLL, records: np.ndarray[Any, Any], batch: int, steps: int) -> Callable[[], object]:  # fmt: skip  # noqa: E501
    """One call gathers a batch of windows from `records`, a packed structured array."""
    dtype = records.dtype
    assert dtype.names is not None
    assert dtype.fields is not None
    fields = [dtype.fields[name][0] for name in dtype.names]
    outputs = [np.empty((batch, steps, *field.shape), field.base) for field in fields]
    nbytes = (ctypes.c_uint64 * len(fields))(*(field.itemsize for field in fields))
    pointers = (ctypes.c_void_p * len(fields))(*(out.ctypes.data for out in outputs))
    state = ctypes.c_uint64(1)
    u64 = ctypes.c_uint64
    arguments = (
        ctypes.c_void_p(records.ctypes.data),
        u64(len(records)),
        u64(dtype.itemsize),
        nbytes,
        u64(len(fields)),
        u64(batch),
        u64(steps),
        ctypes.byref(state),
        pointers,
    )
    keep = (records, outputs)

    def call() -> object:
        library.limit_gather(*arguments)
        return keep

    return call


def numpy_sampler(
    records: np.ndarray[Any, Any], batch: int, steps: int
) -> Callable[[], object]:
    """The same by hand: one array per column, random starts, `take(out=)`."""
    names = records.dtype.names or ()
    columns = [np.ascontiguousarray(records[name]) for name in names]
    outputs = [np.empty((batch, steps, *c.shape[1:]), c.dtype) for c in columns]
    rng = np.random.default_rng(0)
    offsets = np.arange(steps)

    def call() -> object:
        index = rng.integers(0, len(records) - steps, batch)[:, None] + offsets
        for column, out in zip(columns, outputs, strict=True):
            np.take(column, index, axis=0, out=out, mode="clip")
        return outputs

    return call


def measure_scenario(name: str, steps: int, rounds: int, library: Any, folder: Path) -> dict[str, Any]:  # fmt: skip  # noqa: E501
    """add, sample, save and load of one scenario."""
    spec = SCENARIOS[name]
    manager = reverie.ReplayBufferManager(spec, steps, folder / name, seed=1)
    replay_buffer, observer = manager.create_replay_buffer()
    prepared = [step_of(spec, i) for i in range(64)]
    start = time.perf_counter()
    for i in range(steps + 1):
        observer(prepared[i % 64])
    result: dict[str, Any] = {
        "steps": steps,
        "add_us": (time.perf_counter() - start) / steps * 1e6,
    }
    info = manager.info()
    result["record_nbytes"] = info.record_nbytes

    # What a user calls, fresh arrays and all; the same with out=; the yardsticks.
    out = manager.sample(BATCH)[0]
    dtype = replay_buffer.nest.record_dtype
    records = usual_records(dtype, steps)
    functions: dict[str, Callable[[], object]] = {
        "sample_us": lambda: manager.sample(BATCH),
        "sample_out_us": lambda: manager.sample(BATCH, out=out),
        "numpy_us": numpy_sampler(records, BATCH, 2),
    }
    if library is not None:
        functions["limit_us"] = limit_sampler(library, records, BATCH, 2)
        huge = huge_records(library, dtype, steps)
        functions["limit_huge_us"] = limit_sampler(library, huge, BATCH, 2)
    result |= paired(functions, calls=20 if name == "image" else 500, rounds=rounds)
    del records, functions

    nbytes = info.nbytes
    start = time.perf_counter()
    manager.save()
    result["save_s"] = time.perf_counter() - start
    raw = b"\0" * (1 << 20)
    start = time.perf_counter()
    with open(folder / "raw", "wb") as file:
        for _ in range(max(1, nbytes >> 20)):
            file.write(raw)
        os.fsync(file.fileno())
    result["raw_write_s"] = time.perf_counter() - start
    os.remove(folder / "raw")
    manager.close()
    loader = reverie.ReplayBufferManager(spec, steps, folder / name)
    start = time.perf_counter()
    loader.load_replay_buffer()
    result["load_s"] = time.perf_counter() - start
    loader.close()
    shutil.rmtree(folder / name)
    return result


def measure_dataset(rounds: int, folder: Path) -> dict[str, Any] | None:
    """Eager `next` of `get_dataset` against a dataset of constant tensors."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        import tensorflow as tf
    except ImportError:
        print("get_dataset: missing, TensorFlow is not installed", file=sys.stderr)
        return None
    manager = reverie.ReplayBufferManager(SCENARIOS["seed"], 20_000, folder / "dataset")
    _, observer = manager.create_replay_buffer()
    step = step_of(SCENARIOS["seed"], 1)
    for _ in range(20_001):
        observer(step)
    ours = iter(manager.get_dataset(BATCH))
    constant = tf.nest.map_structure(tf.constant, next(ours))
    floor = iter(tf.data.Dataset.from_tensors(constant).repeat())
    result = paired(
        {"dataset_us": lambda: next(ours), "constants_us": lambda: next(floor)}, 500, rounds
    )
    manager.close()
    return dict(result)


def measure_memory(steps: int) -> dict[str, Any]:
    """Resident bytes after `steps` seed steps, in a fresh process."""
    code = f"""
import benchmarks.first_figures as f, reverie
def rss():
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * {os.sysconf("SC_PAGE_SIZE")}
m = reverie.ReplayBufferManager(f.SCENARIOS['seed'], {steps}, 'unused')
_, observer = m.create_replay_buffer()
step = f.step_of(f.SCENARIOS['seed'], 1)
observer(step)
before = rss()
for _ in range({steps}): observer(step)
print(rss() - before)
"""
    if not Path("/proc/self/statm").exists():
        print("memory: missing, there is no /proc here", file=sys.stderr)
        return {}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    nbytes = int(done.stdout)
    return {
        "steps": steps,
        "rss_nbytes": nbytes,
        "goal_nbytes": int(1.1 * 236 * steps + 24 * steps),
    }


def measure_import() -> dict[str, float]:
    """Milliseconds of `import reverie`, and of `import numpy` alone, in fresh processes."""

    def milliseconds(module: str) -> float:
        code = (
            "import time; start = time.perf_counter()\n"
            f"import {module}\n"
            "print(time.perf_counter() - start)"
        )
        runs = [
            subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            )
            for _ in range(7)
        ]
        return statistics.median(float(run.stdout) for run in runs) * 1e3

    return {
        "import_reverie_ms": milliseconds("reverie"),
        "import_numpy_ms": milliseconds("numpy"),
    }


def main() -> None:
    """Measures and prints everything."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, to see that it works"
    )
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    rounds = 3 if arguments.quick else 9
    sizes = {"low-dim": 1_000_000, "seed": 20_000, "image": 20_000}
    if arguments.quick:
        sizes = {"low-dim": 20_000, "seed": 20_000, "image": 500}
    figures: dict[str, Any] = {
        "machine": machine(),
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        library = limit_library(folder)
        for name, steps in sizes.items():
            figures[name] = measure_scenario(name, steps, rounds, library, folder)
        figures["dataset"] = measure_dataset(rounds, folder)
    figures["memory"] = measure_memory(20_000 if arguments.quick else 1_000_000)
    figures["import"] = measure_import()
    for section, values in figures.items():
        print(f"\n{section}")
        for name, value in (values or {"": "missing"}).items():
            print(
                f"  {name:<20}{value if not isinstance(value, float) else format(value, '.4g')}"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
