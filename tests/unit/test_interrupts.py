"""Ctrl-C ends a long call of the core soon, and leaves what it worked on in order."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

# Each would take minutes. A handler raises in the midst of it, as that of Ctrl-C does.
_BEGIN = """
import signal, sys, time
import numpy as np
from reverie import _core

EMPTY = _core.RecordLayout([(np.dtype(np.uint8), (0,))])
BYTES = _core.RecordLayout([(np.dtype(np.uint8), ())])
ITEMS = 1 << 19

def table_of(store):
    return store.create_table(
        max_size=ITEMS, sampler=_core.UNIFORM, remover=_core.FIFO, min_size_to_sample=1,
        samples_per_insert=0.0, min_diff=-np.inf, max_diff=np.inf, seed=1)

def state(length, items=ITEMS):
    return {
        "key": None, "chunk": np.ones(items, np.uint64), "offset": np.zeros(items, np.uint32),
        "length": np.full(items, length, np.uint32), "priority": np.ones(items),
        "times_sampled": np.zeros(items, np.int32), "free_keys": np.zeros(0, np.uint64),
        "counters": {"inserts": items, "samples": 0, "deletes": 0},
        "rng_state": np.ones(4, np.uint64)}

def stream(store, chunks):
    ids = np.arange(1, chunks + 1, dtype=np.uint64)
    for one in ids.tolist():
        store.restore_chunk(BYTES, one, 1)[:] = one % 7
    store.link_chunks(ids[:-1], ids[1:])

def one_chunk(layout, length):
    store = _core.Store()
    store.restore_chunk(layout, 1, length)[:] = 0
    table = table_of(store)
    table.restore(state(length))
    store.seal_restore()
    return store, table

def interrupted(call, *args, **kwargs):
    print("begins", flush=True)
    began = time.monotonic()
    try:
        call(*args, **kwargs)
    except KeyboardInterrupt:
        print("interrupted", time.monotonic() - began, flush=True)
    else:
        sys.exit("it was not interrupted")

print("ready", flush=True)
"""
_CALLS = {
    "restore": """
store = _core.Store()
stream(store, 20_000)
table = table_of(store)
interrupted(table.restore, state(20_000))
assert table.size == 0
table.restore(state(3, 10))
store.seal_restore()
assert table.size == 10 and table.gather(BYTES, None, 3)[0][0].tolist() == [[1, 2, 3]] * 10
""",
    "snapshot": """
store, table = one_chunk(BYTES, 1 << 24)
snapshot = store.snapshot()
interrupted(lambda: snapshot.chunks)
interrupted(lambda: snapshot.data(0))
assert table.size == ITEMS
""",
    "gather": """
store, table = one_chunk(EMPTY, 1 << 24)
interrupted(table.gather, EMPTY, None, 1 << 24)
assert table.gather(EMPTY, table.items()["key"][:2], 1 << 24)[0][0].shape == (2, 1 << 24, 0)
""",
    "sample": """
store, table = one_chunk(EMPTY, 1 << 24)
interrupted(
    table.sample, EMPTY, batch_size=ITEMS, steps=1 << 24, piece=1 << 24, repeat_info=False,
    out=None)
assert table.info()["samples"] == ITEMS
""",
    "clear": """
store = _core.Store()
stream(store, 3_000)
table = table_of(store)
table.restore(state(3_000))
store.seal_restore()
interrupted(table.clear)
assert table.size == 0
until = time.monotonic() + 100
while store.info()["num_chunks"] and time.monotonic() < until:
    time.sleep(0.1)
assert store.info()["num_chunks"] == 0
""",
}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("name", _CALLS)
def test_ctrl_c_ends_a_long_call(name: str) -> None:
    code = _BEGIN + _CALLS[name] + '\nprint("done", flush=True)\n'
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        try:
            found = []
            for line in child.stdout:
                found.append(line.split()[0])
                if found[-1] == "begins":
                    time.sleep(0.2)
                    child.send_signal(signal.SIGINT)
                if found[-1] == "interrupted":
                    assert float(line.split()[1]) < 15  # of minutes; wanted is a second
            assert child.wait(100) == 0, child.stderr.read()
            assert found[-1] == "done"
        finally:
            child.kill()
