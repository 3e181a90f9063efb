"""A plain C++ loop over packed records on large pages: `benchmarks/limit.cc`, compiled here.

The floor under transitions of this form, the next state in the next record: whatever else a
buffer does for its users comes on top.
"""

from __future__ import annotations

import ctypes
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.first_figures import huge_records, limit_library
from benchmarks.peers.scenario import BATCH, ENVS, EPISODE, Row, Rows, steps

INSTALL = "install a C++ compiler"
PACKAGES = ()

RECORD = np.dtype(
    [
        ("next_observation", np.float32, 4),
        ("action", np.int64),
        ("reward", np.float32),
        ("terminated", np.bool_),
    ]
)
"""A state and what led to it, without padding."""


def rows(capacity: int) -> Rows:
    """See `scenario.ROWS`."""
    with tempfile.TemporaryDirectory() as folder:
        library = limit_library(Path(folder))
    if library is None:
        raise ImportError("no C++ compiler")
    loop = "it copies records, and is no buffer"
    return {
        "add": loop,
        "transitions": Row(_sampler(library, _records(library, capacity)), dict),
        "n-step": loop,
        "prioritized": loop,
        "updated": loop,
        "sequences": loop,
    }


def _records(library: ctypes.CDLL, capacity: int) -> np.ndarray[Any, Any]:
    """`[episodes, EPISODE + 1]`, one environment's after the other's."""
    episodes = -(-capacity // EPISODE)
    records = huge_records(library, RECORD, episodes * (EPISODE + 1))
    records = records.reshape(episodes, EPISODE + 1)
    env = np.arange(episodes) % ENVS
    for t, step in enumerate(steps()):
        records["next_observation"][:, t] = step.observation[env]
        for name in RECORD.names or ():
            records[name][:, t + 1] = getattr(step, name)[env]
    return records


def _sampler(library: ctypes.CDLL, records: np.ndarray[Any, Any]) -> Any:
    columns = [RECORD[name] for name in RECORD.names or ()]
    names = ("observation", *(RECORD.names or ()))
    outputs = [
        np.empty((BATCH, *column.shape), column.base) for column in (columns[0], *columns)
    ]
    nbytes = (ctypes.c_uint64 * len(columns))(*(column.itemsize for column in columns))
    pointers = (ctypes.c_void_p * len(outputs))(*(out.ctypes.data for out in outputs))
    u64, state = ctypes.c_uint64, ctypes.c_uint64(1)
    arguments = (
        ctypes.c_void_p(records.ctypes.data),
        u64(len(records)),
        u64(EPISODE),
        u64(RECORD.itemsize),
        nbytes,
        u64(len(columns)),
        u64(BATCH),
        ctypes.byref(state),
        pointers,
    )
    found = dict(zip(names, outputs, strict=True))

    def call() -> dict[str, Any]:
        library.limit_transitions(*arguments)
        assert records is not None  # they are kept for as long as this is
        return found

    return call
