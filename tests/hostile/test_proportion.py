"""What a forged checkpoint takes is in proportion to it: memory, and work."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.golden.reverb_support import FILES, FIXTURES, copy
from tests.hostile.forged_files import (
    MB,
    SEGMENT,
    long_windows,
    manager,
    many_records,
    one_record,
    saved,
    with_holes,
)

import reverie
from reverie import _core, reverb
from reverie.checkpoint import open_source, verify
from reverie.checkpoint.disk.limits import REFERENCES
from reverie.checkpoint.format.manifest import frame
from reverie.checkpoint.reverb_files.stored import read_stored
from reverie.errors import CheckpointError, CheckpointLimitError, InvalidArgumentError

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
_LOAD = """
import json, resource, sys
import reverie
from reverie.checkpoint import verify
from reverie.checkpoint.reverb_files import stored
from reverie.errors import CheckpointError
from reverie.proto import schema
schema.message_class("ChunkData")

def memory(name):
    text = open("/proc/self/status").read()
    return int(text.split(name + ":")[1].split()[0]) * 1024

act, folder, room = sys.argv[1:]
if room != "any":
    resource.setrlimit(resource.RLIMIT_AS, (memory("VmSize") + int(room),) * 2)
open("/proc/self/clear_refs", "w").write("5")
before, found = memory("VmRSS"), ""
try:
    {"open": reverie.open, "verify": verify}[act](folder)
except CheckpointError as error:
    found = type(error).__name__
print(json.dumps([found, memory("VmHWM") - before]))
"""


def loaded(act: str, folder: Path, room: int | str = "any") -> tuple[str, int]:
    """Which error a load ends in, and how much memory it took, in a process of its own.

    There it may have `room` more bytes than at the start.
    """
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, act, str(folder), str(room)],
        capture_output=True,
        check=True,
        timeout=300,
    )
    error, nbytes = json.loads(done.stdout)
    return error, nbytes


def allowed(folder: Path) -> int:
    return 2 * (sum(path.stat().st_blocks * 512 for path in folder.iterdir()) + 64 * MB)


@linux
@pytest.mark.parametrize("act", ["open", "verify"])
@pytest.mark.parametrize("name", [SEGMENT, "items-0.npy", "chunks.npy"])
def test_a_file_of_holes_takes_no_memory(tmp_path: Path, act: str, name: str) -> None:
    folder = with_holes(tmp_path, name, 1 << 30)
    error, nbytes = loaded(act, folder)
    assert error == "CheckpointLimitError"
    assert nbytes < allowed(folder)


@linux
@pytest.mark.parametrize("act", ["open", "verify"])
@pytest.mark.parametrize(
    "document",
    [
        lambda: b"[" + b"{}," * (4 * MB) + b"{}]",
        lambda: b"{" + b",".join(b'"%x":[]' % i for i in range(MB)) + b"}",
        lambda: b'["\\ud83d\\ude00' + b"a" * (60 * MB) + b'"]',
    ],
    ids=["objects", "keys", "text"],
)
def test_a_manifest_takes_memory_in_proportion(
    tmp_path: Path, act: str, document: Callable[[], bytes]
) -> None:
    folder = saved(tmp_path)
    (folder / "manifest.json").write_bytes(frame(document()))
    error, nbytes = loaded(act, folder)
    assert error == "CheckpointCorruptError"
    assert nbytes < allowed(folder)


@linux
@pytest.mark.parametrize("room", [2, 10, 40, 70])
def test_a_process_that_may_have_little_memory_is_told(tmp_path: Path, room: int) -> None:
    folder = with_holes(tmp_path, SEGMENT, 64 * MB)
    assert loaded("open", folder, room * MB)[0] == "CheckpointLimitError"
    assert loaded("open", folder, 1 << 30)[0] == ""


def test_a_file_of_few_holes_loads(tmp_path: Path) -> None:
    folder = with_holes(tmp_path, SEGMENT, 32 * MB)
    assert verify(folder).num_records == 32 * MB
    with pytest.raises(CheckpointLimitError, match="raise max_nbytes"):
        verify(folder, max_nbytes=31 * MB)


@linux
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("make", [one_record, many_records])
def test_what_zlib_makes_small_takes_memory_in_proportion(
    tmp_path: Path, make: Callable[[Path, str, int], None], name: str
) -> None:
    folder = copy("client_insert", tmp_path / "2026")
    make(folder, name, 200 * MB)
    error, nbytes = loaded("open", folder)
    assert error in ("CheckpointLimitError", "CheckpointCorruptError")
    assert nbytes < allowed(folder)


def test_who_trusts_a_checkpoint_says_how_much_it_may_take(tmp_path: Path) -> None:
    folder = copy("client_insert", tmp_path / "2026")
    one_record(folder, FILES[0], 20 * MB)
    with pytest.raises(CheckpointLimitError, match="pass max_nbytes"):
        read_stored(folder)
    with pytest.raises(CheckpointError, match=r"not a PriorityTableCheckpoint|explains"):
        read_stored(folder, max_nbytes=1 << 30)


def test_every_door_takes_a_limit(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    nbytes = verify(folder).nbytes
    manager_ = manager(tmp_path)
    checkpointers = reverb.checkpointers.DefaultCheckpointer

    def serve(limit: int) -> None:
        table = reverb.Table.queue("uniform_table", 10)
        checkpointer = checkpointers(str(tmp_path), max_nbytes=limit)
        reverb.Server([table], checkpointer=checkpointer).stop()

    for load in (
        lambda limit: manager_.load_replay_buffer(max_nbytes=limit),
        lambda limit: reverie.open(tmp_path, max_nbytes=limit).close(),
        serve,
    ):
        load(nbytes)
        with pytest.raises(CheckpointLimitError, match="raise max_nbytes"):
            load(nbytes - 1)
        for no_number in (-1, 0, 1.5, "1 GB", True):
            with pytest.raises(InvalidArgumentError, match="max_nbytes: found"):
                load(no_number)
    manager_.close()


def test_long_windows_are_refused_before_they_make_work(tmp_path: Path) -> None:
    folder = long_windows(tmp_path, 5000, 40_000, 5000)  # 200 million
    start = time.process_time()
    with pytest.raises(CheckpointLimitError, match="reach over chunks more often"):
        manager(tmp_path).load_replay_buffer()
    with pytest.raises(CheckpointLimitError, match="reach over chunks more often"):
        reverie.open(tmp_path)
    assert time.process_time() - start < 20
    assert open_source(folder).max_references == REFERENCES + verify(folder).nbytes


def test_long_windows_that_are_few_load(tmp_path: Path) -> None:
    long_windows(tmp_path, 5000, 300, 5000)
    with manager(tmp_path) as made:
        buffer, _ = made.load_replay_buffer(max_nbytes=1 << 30)
        assert buffer.num_frames() == 300


def table_of(store: _core.Store) -> _core.Table:
    return store.create_table(
        max_size=10,
        sampler=_core.UNIFORM,
        remover=_core.FIFO,
        min_size_to_sample=1,
        samples_per_insert=0.0,
        min_diff=-np.inf,
        max_diff=np.inf,
        seed=1,
    )


def test_long_windows_of_one_chunk_count_by_their_records() -> None:
    store = _core.Store()
    layout = _core.RecordLayout([(np.dtype(np.uint8), ())])
    store.restore_chunk(layout, 1, 10 * 4096)[:] = 0
    table = table_of(store)
    state = {
        "key": None,
        "chunk": np.ones(3, np.uint64),
        "offset": np.zeros(3, np.uint32),
        "length": np.array([1, 4096, 40_960], np.uint32),
        "priority": np.ones(3),
        "times_sampled": np.zeros(3, np.int32),
        "free_keys": np.zeros(0, np.uint64),
        "counters": {"inserts": 3, "samples": 0, "deletes": 0},
        "rng_state": np.ones(4, np.uint64),
    }
    with pytest.raises(_core.TooManyReferences):
        table.restore(state, 13)
    of_pieces = state | {
        "chunk": np.array([0, 1, 1], np.uint64),
        "length": np.array([0, 1, 1], np.uint32),
        "traj_item": np.zeros(1, np.uint64),
        "traj_episode": np.ones(1, np.uint64),
        "column_item": np.zeros(1, np.uint64),
        "column_field": np.zeros(1, np.uint32),
        "column_squeeze": np.zeros(1, np.uint8),
        "column_pieces": np.full(1, 2, np.uint32),
        "piece_chunk": np.ones(2, np.uint64),
        "piece_offset": np.zeros(2, np.uint32),
        "piece_length": np.array([40_960, 4095], np.uint32),
    }
    with pytest.raises(_core.TooManyReferences):
        table.restore(of_pieces, 1 + 1 + 9)
    assert table.restore(of_pieces, 1 + 1 + 10) == 12
    assert table_of(store).restore(state, 100) == 1 + 2 + 11


def test_the_golden_checkpoints_are_within_the_limits() -> None:
    for folder in FIXTURES.values():
        read_stored(folder)
