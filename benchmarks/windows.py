"""Windows against the limit: `python -m benchmarks.windows [--sizes 1e6 3e7] [--json FILE]`.

Windows of 2 steps of 97 bytes (`one_table.SPEC`), uniformly drawn, into NumPy: ours by
`ReplayBufferManager.sample`, and `limit.cc`, the plain C++ loop over the same bytes, with
its records in ordinary memory (`limit`) and on pages of 2 MiB (`huge`). All run in one
process and take turns, round by round. Printed are the median microseconds a call, and the
median of each round's ratio, which drifts less with the machine. After that come an append
alone; and how long `save(wait=False)` and `clear()` take, with the longest call of two
other threads meanwhile, one of which samples while the other appends.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import reverie
from benchmarks.first_figures import (
    huge_records,
    in_turns,
    limit_library,
    limit_sampler,
    machine,
    usual_records,
)
from benchmarks.one_table import SPEC, STEP, filled
from reverie.nests.nest import Nest

STEPS = 2
BATCH = 256  # of the thread that samples
WARM_UP = 2  # times as many windows as there are
IDLE_S = 1.0
AFTER_S = 0.1  # what a clear gives back, and steps to sample again, come a little later
ROUNDS, CALLS = 31, 20_000  # CALLS windows a turn, in batches


class Beside:
    """Threads that make calls again and again; the longest call of each.

    A context manager: the threads run within it.
    """

    def __init__(self, calls: dict[str, Callable[[], object]]) -> None:
        self.longest_ms = dict.fromkeys(calls, 0.0)
        self.error: BaseException | None = None
        self._stop = threading.Event()
        self._begun = threading.Barrier(len(calls) + 1)
        self._threads = [
            threading.Thread(target=self._run, args=(name, call), name=name)
            for name, call in calls.items()
        ]

    def __enter__(self) -> Beside:
        for thread in self._threads:
            thread.start()
        self._begun.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self.error is not None:
            raise self.error

    def wait(self, event: threading.Event) -> None:
        """Waits for an event, or for an error of a thread."""
        while not event.wait(0.05) and self.error is None:
            pass

    def _run(self, name: str, call: Callable[[], object]) -> None:
        self._begun.wait()
        try:
            while not self._stop.is_set():
                start = time.perf_counter()
                try:
                    call()
                except reverie.errors.EndlessWaitError:
                    continue  # nothing is left, and nobody appends any more
                took = (time.perf_counter() - start) * 1e3
                self.longest_ms[name] = max(self.longest_ms[name], took)
        except Exception as error:  # raised where the threads are waited for
            self.error = error


def against_the_limit(
    manager: reverie.ReplayBufferManager,
    peers: dict[str, Any],
    library: ctypes.CDLL | None,
    batches: Sequence[int],
    rounds: int,
) -> dict[str, dict[str, float]]:
    """By batch: microseconds of each, and how many times those of the limits ours are."""
    found = {}
    warm = max(batches)
    everyone: list[Callable[[], object]] = [lambda: manager.sample(warm)]
    if library is not None:
        everyone += [limit_sampler(library, of, warm, STEPS) for of in peers.values()]
    # Every page is touched anew: a virtual machine may have put aside what long lay idle.
    for call in everyone:
        for _ in range(WARM_UP * manager.num_frames() // warm):
            call()
    for batch in batches:
        functions: dict[str, Callable[[], object]] = {}
        functions["ours"] = lambda batch=batch: manager.sample(batch)  # type: ignore[misc]
        if library is not None:
            for name, records in peers.items():
                functions[name] = limit_sampler(library, records, batch, STEPS)
        times = in_turns(functions, max(1, CALLS // batch), rounds)
        row = {f"{name}_us": statistics.median(values) for name, values in times.items()}
        for name in peers:
            pairs = zip(times["ours"], times[name], strict=True)
            row[f"ours_over_{name}"] = statistics.median(a / b for a, b in pairs)
        found[str(batch)] = row
    return found


def pauses(manager: reverie.ReplayBufferManager, observer: Any) -> dict[str, dict[str, float]]:
    """Milliseconds of a save in the background and of a clear, and of who calls meanwhile."""
    written = threading.Event()

    def progress(done: int, total: int) -> None:
        if done >= total:
            written.set()

    def save() -> None:
        manager.save(wait=False, progress=progress)

    def nothing() -> None:
        time.sleep(IDLE_S)

    operations = {"nothing": nothing, "save": save, "clear": manager.clear}
    calls: dict[str, Callable[[], object]] = {
        "sample": lambda: manager.sample(BATCH),
        "append": lambda: observer(STEP),
    }
    found = {}
    for name, operation in operations.items():
        with Beside(calls) as beside:
            start = time.perf_counter()
            operation()
            took = (time.perf_counter() - start) * 1e3
            if name == "save":
                beside.wait(written)
            time.sleep(AFTER_S)
        longest = {f"longest_{of}_ms": value for of, value in beside.longest_ms.items()}
        found[name] = {"call_ms": took, **longest}
    return found


def measured(
    folder: Path,
    library: ctypes.CDLL | None,
    items: int,
    batches: Sequence[int],
    rounds: int,
) -> dict[str, Any]:
    """All figures of one size."""
    manager = filled(folder, items)
    dtype = Nest(SPEC).record_dtype
    peers = {}
    if library is not None:
        peers["limit"] = usual_records(dtype, items + 1)
        peers["huge"] = huge_records(library, dtype, items + 1)
    found: dict[str, Any] = {
        "batches": against_the_limit(manager, peers, library, batches, rounds)
    }
    _, observer = manager.get_replay_buffer_and_observer()
    appends = in_turns({"append": lambda: observer(STEP)}, CALLS, rounds)["append"]
    found["append_us"] = statistics.median(appends)
    found["pauses"] = pauses(manager, observer)
    manager.close()
    return found


def print_table(rows: dict[str, dict[str, float]], corner: str) -> None:
    """Rows of figures under their names, which all rows have."""
    names = list(next(iter(rows.values())))
    widths = [max(10, len(name) + 2) for name in names]
    heads = "".join(f"{name:>{width}}" for name, width in zip(names, widths, strict=True))
    print(f"  {corner:<10}{heads}")
    for label, row in rows.items():
        cells = "".join(f"{row[n]:>{w}.4g}" for n, w in zip(names, widths, strict=True))
        print(f"  {label:<10}{cells}")


def main() -> None:
    """Measures each size, and prints the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=float, nargs="+", default=[1e6, 3e7])
    parser.add_argument("--batches", type=int, nargs="+", default=[256, 1024, 4096])
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    figures: dict[str, Any] = {"machine": machine(), "sizes": {}}
    for name, value in figures["machine"].items():
        print(f"{name}: {value}")
    with tempfile.TemporaryDirectory() as scratch:
        library = limit_library(Path(scratch))
        for size in arguments.sizes:
            items = int(size)
            found = measured(
                Path(scratch) / str(items), library, items, arguments.batches, arguments.rounds
            )
            figures["sizes"][str(items)] = found
            print(f"\n{items:,} items, an append {found['append_us']:.3f} us")
            print_table(found["batches"], "batch")
            print_table(found["pauses"], "during")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
