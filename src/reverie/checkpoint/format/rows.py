"""The small files: what one row of each is, and how a refusal names a row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.checkpoint.disk.crc_file import Part
from reverie.checkpoint.disk.npy import Descr, encode_header
from reverie.errors import CheckpointCorruptError

_BLOCK = 1 << 14  # rows that stay in the cache while they are put together


@dataclass(frozen=True, slots=True)
class Rows:
    """What the rows of a file are.

    Attributes:
        dtype: packed and little endian.
        descr: the same in a file's header.
    """

    dtype: np.dtype[Any]
    descr: Descr

    @staticmethod
    def of(**fields: str) -> Rows:
        """Rows of these scalar fields, in this order."""
        return Rows(
            np.dtype(list(fields.items())),
            tuple((name, dtype, ()) for name, dtype in fields.items()),
        )

    @property
    def names(self) -> Sequence[Any]:
        """Of the fields; of rows without any the index of all."""
        return self.dtype.names or (...,)

    def header(self, count: int) -> bytes:
        """The header of a file of so many rows."""
        return encode_header(self.descr, count)


_KEY = Rows(np.dtype("<u8"), "<u8")

ROWS = {
    "chunks": Rows.of(
        id="<u8",
        segment="<u4",
        offset="<u8",
        count="<u8",
        crc32="<u4",
        next="<u8",
        ends="<u4",
    ),
    "ends": Rows.of(step="<u4", how="|u1"),
    "items": Rows.of(
        key="<u8", chunk="<u8", offset="<u4", length="<u4", priority="<f8", times_sampled="<i4"
    ),
    "free": _KEY,
    "touched": _KEY,
    "holes": Rows(np.dtype("|u1"), "|u1"),
    "trajectories": Rows.of(item="<u8", episode="<u8", columns="<u4"),
    "columns": Rows.of(field="<u4", pieces="<u4", squeeze="|u1"),
    "pieces": Rows.of(chunk="<u8", offset="<u4", length="<u4"),
}
"""By the role of the file, the beginning of its name."""


@dataclass(frozen=True, slots=True, eq=False)
class RowFile:
    """A small file on its way to the disk.

    Attributes:
        role: of the file.
        name: of the file.
        fields: one array for each field of a row, or the only one; rows are put together
            as they are written, a block at a time, so that none is held twice.
    """

    role: str
    name: str
    fields: Sequence[NDArray[Any]]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.fields[0])

    @property
    def nbytes(self) -> int:
        """Bytes of the file."""
        rows = ROWS[self.role]
        return len(rows.header(len(self))) + len(self) * rows.dtype.itemsize

    def parts(self) -> Iterator[Part]:
        """The bytes of the file; each part is good until the next is asked for."""
        rows = ROWS[self.role]
        yield rows.header(len(self))
        block = np.empty(min(len(self), _BLOCK), rows.dtype)
        for low in range(0, len(self), _BLOCK):
            part = block[: len(self) - low]
            for name, field in zip(rows.names, self.fields, strict=True):
                part[name] = field[low : low + _BLOCK]
            yield part.view(np.uint8).data


def role_of(file: str) -> str:
    """The role of a file, the beginning of its name: `segment`, `items`, `part`, ..."""
    return file.partition("-")[0].removesuffix(".npy")


def refuse(
    rows: NDArray[Any], where: str, checks: Iterable[tuple[NDArray[np.bool_], str, str]]
) -> None:
    """Refuses the first row that is wrong by the first check that finds one.

    Args:
        rows: structured.
        where: their file, for messages.
        checks: which rows are wrong, the field that shows it, what was expected.

    Raises:
        CheckpointCorruptError: naming file, row, field and value.
    """
    for wrong, name, wanted in checks:
        if wrong.any():
            row = int(np.argmax(wrong))
            raise bad_row(where, row, f"{name} {rows[name][row]}", wanted)


def bad_file(where: str, found: str, wanted: str) -> CheckpointCorruptError:
    """The error for a file as a whole, such as one of too many rows."""
    return CheckpointCorruptError(f"{where!r} has {found}, expected {wanted}.")


def bad_row(where: str, row: int, found: str, wanted: str) -> CheckpointCorruptError:
    """The error for one row of a file."""
    return CheckpointCorruptError(f"{where!r}, row {row}: {found}, expected {wanted}.")
