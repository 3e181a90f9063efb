"""Columns of a record as a checkpoint names them, and which dtypes it may hold.

A dtype is written as NumPy's own string with the byte order spelled out
(`<f4`, `|b1`), or by name where NumPy has no string for it (`bfloat16`). In
the `.npy` files such a column stands as raw bytes (`|V2`), which every NumPy
opens; the manifest says what they mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.checkpoint.disk.npy import Field
from reverie.errors import InvalidArgumentError
from reverie.nests.specs import EXTENSION_DTYPES

MAX_RANK = 32
MAX_RECORD_NBYTES = (1 << 31) - 1  # NumPy's own limit for one element

_SIZES = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8), "c": (8, 16)}
ITEM_NBYTES: dict[str, int] = {
    f"{'|' if size == 1 else '<'}{kind}{size}": size
    for kind, sizes in _SIZES.items()
    for size in sizes
} | EXTENSION_DTYPES
"""Every dtype that a column may have, and its size in bytes."""


@dataclass(frozen=True, slots=True)
class Column:
    """One leaf of the data spec: its path such as `observation/position`, dtype and shape."""

    path: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of this column in one record."""
        return ITEM_NBYTES[self.dtype] * math.prod(self.shape)

    @property
    def field(self) -> Field:
        """The column as a field of the `.npy` files' structured dtype."""
        stored = (
            f"|V{EXTENSION_DTYPES[self.dtype]}"
            if self.dtype in EXTENSION_DTYPES
            else self.dtype
        )
        return self.path, stored, self.shape


def columns_of(record_dtype: np.dtype[Any]) -> tuple[Column, ...]:
    """The columns of a packed, little-endian, structured record dtype, in order.

    Raises:
        InvalidArgumentError: it is not structured or not packed, or a field's
            dtype cannot be stored; the message names the field.
    """
    if record_dtype.names is None or record_dtype.fields is None:
        raise InvalidArgumentError(f"record_dtype must be structured, found {record_dtype}.")
    columns: list[Column] = []
    end = 0
    for path in record_dtype.names:
        dtype, offset = record_dtype.fields[path][:2]
        base = dtype.base
        name = base.name if base.name in EXTENSION_DTYPES else base.str
        if name not in ITEM_NBYTES or base.hasobject:
            raise InvalidArgumentError(
                f"Column {path[:200]!r} has dtype {str(base)[:200]!r}; a checkpoint stores "
                f"{', '.join(sorted(ITEM_NBYTES))}, little endian."
            )
        if offset != end:
            raise InvalidArgumentError(
                f"Column {path[:200]!r} stands at byte {offset} of the record, expected {end}: "
                "records must be packed."
            )
        columns.append(Column(path, name, tuple(int(size) for size in dtype.shape)))
        end += dtype.itemsize
    if end != record_dtype.itemsize or not 0 < end <= MAX_RECORD_NBYTES:
        raise InvalidArgumentError(
            f"A record of {record_dtype.itemsize} bytes with {end} bytes of columns cannot be "
            f"stored: records are packed and have 1 to {MAX_RECORD_NBYTES} bytes."
        )
    return tuple(columns)


def record_nbytes(columns: tuple[Column, ...]) -> int:
    """Bytes of one record."""
    return sum(column.nbytes for column in columns)


def bad_bools(records: NDArray[np.uint8], columns: tuple[Column, ...]) -> str:
    """The path of the first bool column with a byte other than 0 and 1, or "".

    Such a byte is undefined behaviour for C++ code that reads it as `bool`.

    Args:
        records: bytes of records, shape (count, record_nbytes).
        columns: the columns of a record.
    """
    start = 0
    for column in columns:
        end = start + column.nbytes
        if column.dtype == "|b1" and np.any(records[:, start:end] > 1):
            return column.path
        start = end
    return ""


def with_clean_bools(
    records: NDArray[np.uint8], columns: tuple[Column, ...]
) -> NDArray[np.uint8]:
    """`records` itself, or a copy in which every true byte of a bool column is 1."""
    if not bad_bools(records, columns):
        return records
    clean: NDArray[np.uint8] = records.copy()
    start = 0
    for column in columns:
        end = start + column.nbytes
        if column.dtype == "|b1":
            clean[:, start:end] = clean[:, start:end] != 0
        start = end
    return clean
