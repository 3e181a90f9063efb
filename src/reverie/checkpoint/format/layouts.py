"""Layouts: what one element of a segment is, and which dtypes a checkpoint may hold.

A record is a layout of many columns, the leaves of a step; a cell, one value of one
column of a trajectory, is a layout of one. A cell of any size is a string of bytes.

A dtype is written as NumPy's own string with the byte order spelled out (`<f4`,
`|b1`), or by name where NumPy has no string for it (`bfloat16`). In the `.npy` files
such a column stands as raw bytes (`|V2`), which every NumPy opens; the manifest says
what they mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.checkpoint.disk.npy import MAX_HEADER_NBYTES, Descr, Field, encode_header
from reverie.checkpoint.disk.scratch import BLOCK
from reverie.errors import CheckpointMismatchError, InvalidArgumentError
from reverie.nests.specs import EXTENSION_DTYPES, dtype_named

BYTES = "bytes"
MAX_RANK = 31  # a file of cells has one axis more
MAX_RECORD_NBYTES = (1 << 31) - 1  # NumPy's own limit for one element
MAX_PATH_LENGTH = 10_000
MAX_COUNT = 1 << 53  # of elements of a file

_SIZES = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8), "c": (8, 16)}
ITEM_NBYTES: dict[str, int] = {
    f"{'|' if size == 1 else '<'}{kind}{size}": size
    for kind, sizes in _SIZES.items()
    for size in sizes
} | EXTENSION_DTYPES
"""Every dtype that a column may have, and its size in bytes."""

CoreColumns = Sequence[tuple[np.dtype[Any], Sequence[int]]]
"""Columns as the core names them: dtype and shape of each."""


@dataclass(frozen=True, slots=True)
class Column:
    """One leaf of a step: its path such as `observation/position`, dtype and shape.

    A cell of any size has the dtype `bytes` and the shape ().
    """

    path: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of this column in one record; 1 for `bytes`."""
        return ITEM_NBYTES.get(self.dtype, 1) * math.prod(self.shape)

    @property
    def descr(self) -> str:
        """Its dtype in the header of a `.npy` file."""
        if self.dtype == BYTES:
            return "|u1"
        if self.dtype in EXTENSION_DTYPES:
            return f"|V{EXTENSION_DTYPES[self.dtype]}"
        return self.dtype

    @property
    def field(self) -> Field:
        """The column as a field of a structured dtype."""
        return self.path, self.descr, self.shape


@dataclass(frozen=True, slots=True)
class Layout:
    """What one element of a segment is.

    Attributes:
        columns: packed in this order, at least one.
        nest: the spec of a step of these columns, as `nests.codec` writes it; None
            where nobody named them.
        nbytes: of one element: a record, a cell, or 1 where cells have any size.
    """

    columns: tuple[Column, ...]
    nest: object = field(default=None, hash=False)
    nbytes: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "nbytes", sum(column.nbytes for column in self.columns))

    @property
    def paths(self) -> list[str]:
        """The columns' paths, in their order."""
        return [column.path for column in self.columns]

    @property
    def variable(self) -> bool:
        """Whether every cell has a length of its own."""
        return self.columns[0].dtype == BYTES

    @property
    def cell_shape(self) -> tuple[int, ...]:
        """Axes of a file beyond the first: those of a cell, where there is one column."""
        return self.columns[0].shape if len(self.columns) == 1 else ()

    def header(self, count: int) -> bytes:
        """The header of a segment of so many elements."""
        if len(self.columns) == 1:
            descr: Descr = self.columns[0].descr
        else:
            descr = tuple(column.field for column in self.columns)
        return encode_header(descr, count, self.cell_shape)

    def core_columns(self, where: str) -> list[tuple[np.dtype[Any], tuple[int, ...]]]:
        """The columns as the core names them; not of variable cells.

        Raises:
            CheckpointMismatchError: a dtype needs a package that is not loaded; names
                `where`.
        """
        return [(_dtype(column.dtype, where), column.shape) for column in self.columns]

    def bad_bools(self, elements: NDArray[np.uint8]) -> tuple[int, str] | None:
        """Where a bool has a byte other than 0 and 1: the element and the column's path.

        Such a byte is undefined behaviour for C++ code that reads it as `bool`.

        Args:
            elements: bytes, shape (count, nbytes).
        """
        rows = max(1, BLOCK // max(1, self.nbytes))
        for start, end, column in self._bools():
            for low in range(0, len(elements), rows):
                wrong = np.any(elements[low : low + rows, start:end] > 1, axis=1)
                if wrong.any():
                    return low + int(np.argmax(wrong)), column.path
        return None

    def with_clean_bools(self, elements: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """`elements` itself, or a copy in which every true byte of a bool is 1."""
        if self.bad_bools(elements) is None:
            return elements
        clean: NDArray[np.uint8] = elements.copy()
        for start, end, _ in self._bools():
            clean[:, start:end] = clean[:, start:end] != 0
        return clean

    def _bools(self) -> list[tuple[int, int, Column]]:
        ends = np.cumsum([column.nbytes for column in self.columns]).tolist()
        return [
            (end - column.nbytes, end, column)
            for end, column in zip(ends, self.columns, strict=True)
            if column.dtype == "|b1"
        ]


def layout_of(
    columns: CoreColumns | None, paths: Sequence[str] = (), nest: object = None
) -> Layout:
    """A layout, from what the core says of it.

    Args:
        columns: of a record or of a cell; None for a cell of any size.
        paths: the columns' names; "0", "1", ... where there are none.
        nest: see `Layout`.

    Raises:
        InvalidArgumentError: no checkpoint can hold it; says which column and why.
    """
    if columns is None:
        return Layout((Column("0", BYTES, ()),))
    found = []
    for number, (dtype, shape) in enumerate(columns):
        path = paths[number] if paths else str(number)
        name = dtype.name if dtype.name in EXTENSION_DTYPES else dtype.newbyteorder("<").str
        sizes = tuple(int(size) for size in shape)
        if name not in ITEM_NBYTES or dtype.hasobject or len(sizes) > MAX_RANK:
            raise InvalidArgumentError(
                f"Column {path!r:.200} of dtype {str(dtype)!r:.99} and shape {str(sizes)[:99]} "
                f"cannot be saved; a checkpoint holds {', '.join(sorted(ITEM_NBYTES))} of at "
                f"most {MAX_RANK} axes."
            )
        found.append(Column(path, name, sizes))
    layout = Layout(tuple(found), nest)
    problem = problem_of(layout)
    if problem:
        raise InvalidArgumentError(f"A layout cannot be saved: {problem}.")
    return layout


def problem_of(layout: Layout) -> str:
    """What makes a layout one that no segment can have; "" for nothing."""
    if layout.nbytes > MAX_RECORD_NBYTES:
        return f"{layout.nbytes} bytes an element, at most {MAX_RECORD_NBYTES}"
    if len({column.path for column in layout.columns}) != len(layout.columns):
        return "two columns have the same path"
    for column in layout.columns:
        if not 0 < len(column.path) <= MAX_PATH_LENGTH or not _encodes(column.path):
            return (
                f"the path {column.path!r:.200} is empty, longer than {MAX_PATH_LENGTH} "
                "characters, or has no encoding"
            )
    nbytes = len(layout.header(MAX_COUNT))
    if nbytes > MAX_HEADER_NBYTES:
        return f"{len(layout.columns)} columns make a header of {nbytes} bytes, too long"
    return ""


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _dtype(name: str, where: str) -> np.dtype[Any]:
    try:
        return dtype_named(name)
    except TypeError as error:
        raise CheckpointMismatchError(
            f"{where}: a column of dtype {name}, which needs the package ml_dtypes, perhaps "
            "a newer one. Run: pip install --upgrade ml_dtypes"
        ) from error
