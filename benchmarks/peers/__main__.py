"""Ours beside other libraries, in pairs, on one core.

    python -m benchmarks.peers [--peer NAME] [--capacity N] [--rounds N] [--calls N]
                               [--json FILE] [--markdown]

One file of this folder says how its library does each of `scenario.ROWS`, the fastest way that
its documentation has. What comes back is checked; then ours and theirs take turns in one
process, and the median microseconds of each are printed, and the median of the rounds' ratios.
Who is not installed is named, with the command that installs it.

Not all fit into one environment: run it in each, with the same `--json FILE`, in which the
figures of the others are kept. `--markdown` prints the table of `docs/peers.md`, of all that
stand in that file.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers import ours
from benchmarks.peers.pairs import TITLES, measured, table, told
from benchmarks.peers.scenario import ENVS


def pin() -> None:
    """One core, for this process and for the threads that frameworks will start."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    os.environ |= {
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    }


def main(
    arguments: Sequence[str] | None = None, peers: Mapping[str, Any] | None = None
) -> None:
    """Prints the figures.

    Args:
        arguments: None: the command line's.
        peers: by name; None: the modules of this folder.
    """
    if peers is None:
        peers = {name: importlib.import_module(f"benchmarks.peers.{name}") for name in TITLES}
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--peer", action="append", choices=list(peers), help="these alone")
    parser.add_argument("--capacity", type=int, default=1_000_000, help="not below 12,800")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--json", type=Path, help="a file that keeps the figures of all")
    parser.add_argument("--markdown", action="store_true", help="print the table alone")
    given = parser.parse_args(arguments)
    capacity = given.capacity // ENVS * ENVS
    aloud = sys.stderr if given.markdown else sys.stdout

    found: dict[str, Any] = {}
    if given.json is not None and given.json.exists():
        found = json.loads(given.json.read_text("utf-8"))
    our_rows = ours.rows(capacity)
    for name in given.peer or peers:
        peer = peers[name]
        try:
            found[name] = measured(peer, our_rows, capacity, given.rounds, given.calls)
        except ImportError as error:
            kept = " Its figures in the file are kept." if name in found else ""
            print(f"{name}: not installed ({error}): {peer.INSTALL}.{kept}\n", file=aloud)
            continue
        print(f"{told(name, found[name])}\n", file=aloud, flush=True)
        if given.json is not None:
            given.json.write_text(json.dumps(found, indent=1), "utf-8")
    if given.markdown:
        print(table(found))


if __name__ == "__main__":
    pin()
    main()
