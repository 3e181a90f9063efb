"""Texts as variable cells: a lone text is its bytes, an array of them a small record.

An array of texts starts with a mark that no UTF-8 text has; then stand, little
endian, its number of axes (1 byte), its extents and the length of each text in
C order (8 bytes each), and the texts. A lone text that starts with the mark is
written as an array without axes.
"""

from __future__ import annotations

import math
import struct

import numpy as np
from numpy.typing import NDArray

MARK = b"\x00\xfe\xffreverie texts 1\x00"
_MAX_RANK = 31


def pack_texts(texts: NDArray[np.object_]) -> bytes:
    """An array of bytes objects as one cell."""
    if texts.ndim == 0:
        lone: bytes = texts.item()
        if not lone.startswith(MARK):
            return lone
    parts = [bytes(part) for part in texts.ravel()]
    header = struct.pack(f"<B{texts.ndim}Q", texts.ndim, *texts.shape)
    lengths = struct.pack(f"<{len(parts)}Q", *map(len, parts))
    return b"".join((MARK, header, lengths, *parts))


def unpack_texts(cell: bytes) -> NDArray[np.object_]:
    """The array of bytes objects that `pack_texts` packed.

    Raises:
        ValueError: it was not made by `pack_texts`.
    """
    if not cell.startswith(MARK):
        return np.array(cell, dtype=object)
    shape, lengths, at = _header(cell)
    texts = np.empty(len(lengths), dtype=object)
    for i, length in enumerate(lengths.tolist()):
        texts[i] = cell[at : at + length]
        at += length
    return texts.reshape(shape)


def check_text(cell: bytes) -> None:
    """Raises ValueError for a cell that `unpack_texts` could not unpack."""
    if cell.startswith(MARK):
        _header(cell)


def _header(cell: bytes) -> tuple[tuple[int, ...], NDArray[np.uint64], int]:
    """The shape, the lengths, and where the texts begin."""
    at = len(MARK) + 1
    ndim = cell[at - 1] if len(cell) >= at else _MAX_RANK + 1
    if ndim > _MAX_RANK or at + 8 * ndim > len(cell):
        raise ValueError(f"an array of texts of {len(cell)} bytes with {ndim} axes")
    shape = struct.unpack_from(f"<{ndim}Q", cell, at)
    at += 8 * ndim
    count = math.prod(shape)
    # An extent without texts costs nothing to claim, but NumPy has its limits, too.
    if at + 8 * count > len(cell) or math.prod(max(1, size) for size in shape) >= 1 << 40:
        raise ValueError(f"an array of {count} texts of shape {shape} in {len(cell)} bytes")
    lengths = np.frombuffer(cell, "<u8", count, at)
    at += 8 * count
    if math.fsum(lengths.tolist()) != len(cell) - at:
        raise ValueError(f"texts of other lengths than their {len(cell) - at} bytes")
    return shape, lengths.astype(np.uint64), at
