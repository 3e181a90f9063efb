"""The header of a `.npy` file: our own writer. Reading compares with what it writes.

Why not NumPy's: `np.save` can return success on a full disk, because it writes
through a C stream whose closing error is ignored, and `np.load` accepts
trailing bytes, zero-sized items and object arrays. Only little-endian,
C-ordered arrays are written, with a pure ASCII header, so that
version 1.0 (2.0 where the header is long) says all there is to say.

The layout: magic, version (2 bytes), header length (2 or 4 bytes, little
endian), then a Python dictionary literal with the keys descr, fortran_order
and shape, padded with spaces up to a newline so that the data start at a
multiple of 64. For an array there is one such header, so that a reader who
knows what must be there parses none.
"""

from __future__ import annotations

import struct

MAGIC = b"\x93NUMPY"
ALIGNMENT = 64
MAX_HEADER_NBYTES = 1 << 22

# A field of a structured dtype: (name, dtype string, shape). A plain dtype is its string.
Field = tuple[str, str, tuple[int, ...]]
Descr = str | tuple[Field, ...]


def encode_header(descr: Descr, count: int, shape: tuple[int, ...] = ()) -> bytes:
    """The header of an array of `count` elements of this shape; same input, same bytes."""
    if isinstance(descr, str):
        described = ascii(descr)
    else:
        # `np.load` takes (name, dtype) for a scalar field and (name, dtype, shape) otherwise.
        fields = (
            f"({name!a}, {dtype!a}, {shape!a})" if shape else f"({name!a}, {dtype!a})"
            for name, dtype, shape in descr
        )
        described = f"[{', '.join(fields)}]"
    text = f"{{'descr': {described}, 'fortran_order': False, 'shape': {(count, *shape)!r}, }}"
    short = len(MAGIC) + 2 + 2 + len(text) + 1 + ALIGNMENT < 1 << 16
    prefix = MAGIC + (b"\x01\x00" if short else b"\x02\x00")
    length_nbytes = 2 if short else 4
    padding = -(len(prefix) + length_nbytes + len(text) + 1) % ALIGNMENT
    body = text.encode("ascii") + b" " * padding + b"\n"
    return prefix + struct.pack("<H" if short else "<I", len(body)) + body
