"""What is large while a checkpoint is loaded goes back to the system with the array."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from tests.memory.fresh_process import STATM, resident

from reverie.checkpoint.disk.scratch import (
    BLOCK,
    SMALL_NBYTES,
    blocks,
    filled,
    repeated,
    scratch,
    totals,
)


@pytest.mark.parametrize("count", [0, 1, SMALL_NBYTES, SMALL_NBYTES + 1])
def test_it_is_an_ordinary_array(count: int) -> None:
    made = scratch((count, 2), np.uint16)
    made[:] = 7
    assert made.shape == (count, 2)
    assert made.dtype == np.uint16
    assert made.flags.c_contiguous
    assert made.flags.writeable
    assert (made == 7).all()


@pytest.mark.skipif(not STATM.exists(), reason="resident memory cannot be measured")
def test_the_memory_goes_with_the_last_view() -> None:
    before = resident()
    made = scratch(64 << 20, np.uint8)
    made[:] = 1
    view = made[5:]
    del made
    assert resident() - before > 60 << 20
    del view
    gc.collect()
    assert resident() - before < 4 << 20


def test_what_no_system_has_is_a_memory_error() -> None:
    with pytest.raises(MemoryError):
        scratch(1 << 61, np.uint8)


@pytest.mark.parametrize("count", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5])
def test_block_by_block_is_as_all_at_once(count: int) -> None:
    rows, number = np.arange(count), np.arange(count) % 4
    assert [i for low, high in blocks(count) for i in range(low, high)] == rows.tolist()
    assert np.array_equal(filled(count, np.int64, lambda a, b: rows[a:b]), rows)
    assert np.array_equal(totals(number.astype(np.uint32)), np.cumsum(number))
    assert np.array_equal(repeated(rows, number), np.repeat(rows, number))
