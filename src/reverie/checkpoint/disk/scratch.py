"""Arrays whose memory goes back to the system with them, and work block by block.

A C library's heap may keep what was freed: glibc takes blocks of up to 32 MB from it once
one as large was freed, and then a load leaves behind what it needed for a moment. So what
is large lives in pages of its own, and what is made of it on the way in small blocks.
"""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

SMALL_NBYTES = 1 << 18  # smaller arrays are the heap's: its gaps are soon used again
# Rows whose columns, of 8 bytes each, stay in the processor's cache, and are below 128 KiB,
# from where on glibc takes a block to be large.
BLOCK = 1 << 13


def scratch(shape: int | tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """A new array, writable, C-ordered, of any content, for much data and a short time.

    Raises:
        MemoryError: there is not so much.
    """
    shape, of = (shape,) if isinstance(shape, int) else shape, np.dtype(dtype)
    count = math.prod(shape)
    nbytes = count * of.itemsize
    if nbytes < SMALL_NBYTES:
        return np.empty(shape, of)
    try:
        if sys.platform == "win32":
            pages = mmap.mmap(-1, nbytes)
        else:  # by itself it would be shared with the children of this process
            pages = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError) as error:
        raise MemoryError(f"no memory for {nbytes} bytes") from error
    found: NDArray[Any] = np.frombuffer(pages, of, count).reshape(shape)
    return found


def blocks(count: int) -> Iterator[tuple[int, int]]:
    """The first row of each block of so many rows, and that behind its last."""
    for low in range(0, count, BLOCK):
        yield low, min(count, low + BLOCK)


def filled(
    count: int, dtype: DTypeLike, make: Callable[[int, int], NDArray[Any]]
) -> NDArray[Any]:
    """A scratch vector, made block by block: `make(low, high)` gives its rows low..high-1."""
    found = scratch(count, dtype)
    for low, high in blocks(count):
        found[low:high] = make(low, high)
    return found


def totals(counts: NDArray[Any]) -> NDArray[np.int64]:
    """The sums of all `counts` up to each, itself included."""
    found: NDArray[np.int64] = scratch(len(counts), np.int64)
    last = 0
    for low, high in blocks(len(counts)):
        part = found[low:high]
        np.cumsum(counts[low:high], dtype=np.int64, out=part)
        part += last
        last = int(part[-1])
    return found


def repeated(values: NDArray[Any], counts: NDArray[Any]) -> NDArray[Any]:
    """Each value as often as its count says."""
    found, at = scratch(int(counts.sum(dtype=np.uint64)), values.dtype), 0
    for low, high in blocks(len(values)):
        part = np.repeat(values[low:high], counts[low:high])
        found[at : at + len(part)] = part
        at += len(part)
    return found
