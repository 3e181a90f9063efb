"""Samples as entries of `SampleStreamResponse`s.

An item is one chunk of its own with a tensor for each column, or several where it is
large: just its cells, under keys that no other sample has.
"""

from __future__ import annotations

import functools
import math
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.reverb.engine.sampler import Run
from reverie.reverb.wire.chunks import content, tensor_header
from reverie.reverb.wire.messages import block, double, number, varint

MESSAGE_NBYTES = 1 << 20  # a message with so many is sent, whatever is still to come
_KEY_BITS = 63
_KEY_NBYTES = 10  # of such a number
_TAG_KEY = b"\x08"  # field 1, an integer


def entries(table: str, run: Run, rate_limited: bool) -> Iterator[bytes]:
    """The entries of a run of items, the last of each item with `end_of_sequence`.

    Args:
        table: its name.
        run: as `ItemStream.poll` gives it.
        rate_limited: whether the sampler was kept waiting.
    """
    facts, columns = run
    parts = _parts(tuple((column.dtype, column.shape[1:]) for column in columns))
    name = block(2, table.encode("utf-8", "surrogateescape"))
    limited = number(4, 1) if rate_limited else b""
    for i, (key, probability, size, priority, times) in enumerate(
        zip(*(fact.tolist() for fact in facts), strict=True)
    ):
        keys = [varint(secrets.randbits(_KEY_BITS) | 1 << _KEY_BITS) for _ in parts.groups]
        item = b"".join(
            (
                number(1, key),
                name,
                double(5, priority),
                number(6, times),
                parts.trajectory(keys),
            )
        )
        info = block(1, item) + double(2, probability) + number(3, size) + limited
        before = block(1, info)
        last = len(keys) - 1
        for g, chunk_key in enumerate(keys):
            chunk = block(2, parts.chunk(g, chunk_key, columns, i))
            yield block(1, before + chunk + (b"\x18\x01" if g == last else b""))
            before = b""


class _Parts:
    """What the messages of items of one make have in common.

    Args:
        specs: dtype and shape of each column of an item; a squeezed one has no axis.

    Attributes:
        groups: the columns that each chunk has.
    """

    def __init__(self, specs: Sequence[tuple[np.dtype[Any], tuple[int, ...]]]) -> None:
        self._headers: list[bytes] = []
        self.groups: list[list[int]] = []
        slices: list[tuple[int, bytes, bytes]] = []  # chunk, before and after its key
        longest: list[int] = []  # column of each chunk
        nbytes = 0
        for i, (dtype, shape) in enumerate(specs):
            # One without a time axis, or with an empty one, is one cell that is squeezed.
            squeezed = not shape or shape[0] == 0
            shape = (1, *shape) if squeezed else shape
            self._headers.append(tensor_header(dtype, shape))
            own = math.prod(shape) * dtype.itemsize
            if not self.groups or nbytes + own > MESSAGE_NBYTES:
                self.groups.append([])
                longest.append(0)
                nbytes = 0
            nbytes += own
            index = len(self.groups[-1])
            self.groups[-1].append(i)
            longest[-1] = max(longest[-1], shape[0])
            # Keys have one length, so all else stands before and after them for good.
            tail = number(3, shape[0]) + number(4, index)
            piece = varint(len(_TAG_KEY) + _KEY_NBYTES + len(tail)) + _TAG_KEY
            tail += number(2, int(squeezed))
            column = 1 + len(piece) + _KEY_NBYTES + len(tail)
            head = b"\x0a" + varint(column) + b"\x0a" + piece
            slices.append((len(self.groups) - 1, head, tail))
        total = sum(len(head) + _KEY_NBYTES + len(tail) for _, head, tail in slices)
        self._start = b"\x42" + varint(total)  # field 8
        self._slices = slices
        self._ranges = [number(3, rows - 1) for rows in longest]

    def trajectory(self, keys: Sequence[bytes]) -> bytes:
        """The field `flat_trajectory`, with these keys of the chunks."""
        parts = [self._start]
        for g, head, tail in self._slices:
            parts += (head, keys[g], tail)
        return b"".join(parts)

    def chunk(self, g: int, key: bytes, columns: Sequence[NDArray[Any]], item: int) -> bytes:
        """The `ChunkData` with one group of the columns of an item of a run."""
        packed: list[bytes] = []
        unpacked = 0
        for i in self.groups[g]:
            column = columns[i][item : item + 1]
            values = content(column)
            header = self._headers[i]
            tensor = b"%b\x22%b%b" % (header, varint(len(values)), values)
            packed += (b"\x0a", varint(len(tensor)), tensor)
            unpacked += column.nbytes
        return b"".join(
            (
                _TAG_KEY + key,
                block(2, _TAG_KEY + key + self._ranges[g]),
                block(5, b"".join(packed)),
                number(6, len(self.groups[g])),
                number(7, unpacked),
            )
        )


# Programs have a handful of makes of items; what makes one from a client's data is not many.
_parts = functools.lru_cache(maxsize=256)(_Parts)
