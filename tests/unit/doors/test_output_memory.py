"""The arrays of batches: where they begin, whose they are, and memory of the caller's."""

from __future__ import annotations

import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.door_support import SPEC, filled

from reverie import ReplayBufferManager, _core


def memory(nbytes: int, offset: int = 0) -> Any:
    raw = np.zeros(nbytes + 64 + offset, np.uint8)
    start = -raw.ctypes.data % 64 + offset
    return raw[start : start + nbytes]


@pytest.mark.parametrize("batch_size", [1, 7, 256, 400_000])  # small pieces, huge pages
def test_the_arrays_of_a_batch_begin_at_cache_lines(tmp_path: Path, batch_size: int) -> None:
    with filled() as buffer, ReplayBufferManager(SPEC, 100, tmp_path) as manager:
        _, observer = manager.create_replay_buffer()
        for n in range(3):
            observer({"observation": np.zeros(3), "action": n, "reward": 0.0})
        for data in (buffer.sample(batch_size).data, manager.sample(batch_size).data):
            for key in SPEC:
                array = data[key]
                assert array.ctypes.data % 64 == 0
                assert array.flags.c_contiguous
                assert array.flags.writeable


def test_arrays_own_their_memory_can_grow_and_are_traced() -> None:
    with filled() as buffer:
        buffer.sample(10)
        tracemalloc.start()
        try:
            array = buffer.sample(1_000).data["observation"]
            assert array.flags.owndata
            before = array.copy()
            seen = tracemalloc.take_snapshot().filter_traces(
                [tracemalloc.DomainFilter(True, np.lib.tracemalloc_domain)]
            )
            assert any(trace.size == array.nbytes for trace in seen.traces)
            for rows in (5_000, 1_000_000, 1_000):
                array.resize((rows, 3), refcheck=False)
                assert array.ctypes.data % 64 == 0
                assert np.array_equal(array[:1_000], before)
        finally:
            tracemalloc.stop()


def test_nobody_elses_arrays_are_of_our_memory() -> None:
    core: Any = np.core if np.__version__.startswith("1.") else np._core
    get_handler_name = core.multiarray.get_handler_name
    with filled() as buffer:
        ours = buffer.sample(4).data["observation"]
    assert get_handler_name(ours) == "reverie_aligned"
    assert get_handler_name(np.empty(3)) == "default_allocator"


def test_batches_are_cut_from_memory_that_was_entered() -> None:
    block = memory(100_000)
    output = _core.OutputMemory(block)
    with filled() as buffer:
        output.enter()
        try:
            data = buffer.sample(100).data
        finally:
            output.exit()
        outside = buffer.sample(100).data
    for key in SPEC:
        assert np.shares_memory(data[key], block)
        assert data[key].ctypes.data % 64 == 0
        assert not np.shares_memory(outside[key], block)
    assert output.used >= sum(data[key].nbytes for key in SPEC)
    assert np.array_equal(data["observation"][:, 0], 3 * data["action"])


def test_what_does_not_fit_has_its_own_memory_and_entering_begins_anew() -> None:
    block = memory(300)
    output = _core.OutputMemory(block)
    with filled() as buffer:
        for _ in range(2):
            output.enter()
            try:
                data = buffer.sample(20).data  # 240, 240, 160 and 80 bytes
            finally:
                output.exit()
            found = [np.shares_memory(data[k], block) for k in ("action", "observation")]
            assert sorted(found) == [False, True]
            assert np.array_equal(data["observation"][:, 0], 3 * data["action"])


def test_arrays_keep_the_memory_alive_and_other_threads_have_none() -> None:
    output = _core.OutputMemory(memory(100_000))
    elsewhere = []
    with filled() as buffer:
        output.enter()
        try:
            data = buffer.sample(10).data
            sampled = threading.Thread(target=lambda: elsewhere.append(buffer.sample(10)))
            sampled.start()
            sampled.join()
            with pytest.raises(ValueError, match="memory already"):
                _core.OutputMemory(memory(64)).enter()
        finally:
            output.exit()
    assert elsewhere[0].data["observation"].flags.owndata
    kept = data["observation"].copy()
    del output
    _ = [np.full(100_064, 7, np.uint8) for _ in range(20)]
    assert np.array_equal(data["observation"], kept)


def test_memory_that_cannot_be_cut_is_refused() -> None:
    readonly = memory(64)
    readonly.flags.writeable = False
    for bad in (memory(64, offset=8), np.zeros(64), readonly, [1], memory(128)[::2]):
        with pytest.raises(ValueError, match="memory must"):
            _core.OutputMemory(bad)
