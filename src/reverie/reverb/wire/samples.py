"""Samples as entries of `SampleStreamResponse`s.

An item is one chunk of its own with a tensor for each column, or several where it is
large: just its cells, under keys that no other sample has.
"""

from __future__ import annotations

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
_TAG_KEY = b"\x08"  # field 1, an integer


def entries(table: str, run: Run, rate_limited: bool) -> Iterator[bytes]:
    """The entries of a run of items, the last of each item with `end_of_sequence`.

    Args:
        table: its name.
        run: as `ItemStream.poll` gives it.
        rate_limited: whether the sampler was kept waiting.
    """
    facts, columns = run
    parts = _Parts(columns)
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
            chunk = block(2, parts.chunk(g, chunk_key, i))
            yield block(1, before + chunk + (b"\x18\x01" if g == last else b""))
            before = b""


class _Parts:
    """What the messages of all items of a run have in common.

    Attributes:
        groups: the columns that each chunk has.
    """

    def __init__(self, columns: Sequence[NDArray[Any]]) -> None:
        self._columns = columns
        # A column without a time axis, or with an empty one, is one cell that is squeezed.
        self._squeezed = [column.ndim == 1 or column.shape[1] == 0 for column in columns]
        shapes = [
            (1, *column.shape[1:]) if squeezed else column.shape[1:]
            for column, squeezed in zip(columns, self._squeezed, strict=True)
        ]
        self._rows = [shape[0] for shape in shapes]
        self._headers = [
            tensor_header(column.dtype, shape)
            for column, shape in zip(columns, shapes, strict=True)
        ]
        self.groups: list[list[int]] = []
        nbytes = 0
        for i, column in enumerate(columns):
            own = _nbytes(column)
            if not self.groups or nbytes + own > MESSAGE_NBYTES:
                self.groups.append([])
                nbytes = 0
            self.groups[-1].append(i)
            nbytes += own
        # Keys have one length, so all else stands before and between them for good.
        empty = b"\0" * 10
        self._slices = []
        for g, group in enumerate(self.groups):
            for index, i in enumerate(group):
                tail = number(3, self._rows[i]) + (number(4, index) if index else b"")
                length = varint(1 + len(empty) + len(tail))
                squeeze = b"\x10\x01" if self._squeezed[i] else b""
                column_nbytes = 1 + len(length) + 1 + len(empty) + len(tail) + len(squeeze)
                head = b"\x0a" + varint(column_nbytes) + b"\x0a" + length + _TAG_KEY
                self._slices.append((g, head, tail + squeeze))
        total = sum(len(head) + len(empty) + len(tail) for _, head, tail in self._slices)
        self._start = b"\x42" + varint(total)  # field 8
        self._ranges = [
            number(3, max(self._rows[i] for i in group) - 1) for group in self.groups
        ]

    def trajectory(self, keys: Sequence[bytes]) -> bytes:
        """The field `flat_trajectory`, with these keys of the chunks."""
        parts = [self._start]
        for g, head, tail in self._slices:
            parts += (head, keys[g], tail)
        return b"".join(parts)

    def chunk(self, g: int, key: bytes, item: int) -> bytes:
        """The `ChunkData` with one group of an item's columns."""
        packed: list[bytes] = []
        unpacked = 0
        for i in self.groups[g]:
            values = content(self._columns[i][item : item + 1])
            header = self._headers[i]
            tensor = b"%b\x22%b%b" % (header, varint(len(values)), values)
            packed += (b"\x0a", varint(len(tensor)), tensor)
            unpacked += self._columns[i].nbytes // len(self._columns[i])
        return b"".join(
            (
                _TAG_KEY + key,
                block(2, _TAG_KEY + key + self._ranges[g]),
                block(5, b"".join(packed)),
                number(6, len(self.groups[g])),
                number(7, unpacked),
            )
        )


def _nbytes(column: NDArray[Any]) -> int:
    """About how many bytes a column has in one item."""
    if column.dtype.kind == "O":
        return sum(map(len, np.ravel(column[0]).tolist()))
    return column.nbytes // len(column)
