"""The small files: what one row of each is, and how a refusal names a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reverie.checkpoint.disk.crc_file import Part
from reverie.checkpoint.disk.npy import Descr, encode_header
from reverie.checkpoint.disk.scratch import BLOCK, blocks, scratch
from reverie.errors import CheckpointCorruptError


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
class Columns:
    """Rows that were read, field by field: what the core takes, and no row twice.

    Attributes:
        fields: by name, all of one length.
    """

    fields: Mapping[str, NDArray[Any]]

    @staticmethod
    def empty(role: str, count: int) -> Columns:
        """So many rows of a file of this role, of any content."""
        dtype = ROWS[role].dtype
        return Columns({name: scratch(count, dtype[name]) for name in dtype.names or ()})

    def __len__(self) -> int:
        """Number of rows."""
        return len(next(iter(self.fields.values())))

    def __getitem__(self, name: str) -> NDArray[Any]:
        """One field of all rows."""
        return self.fields[name]

    def part(self, low: int, high: int) -> Columns:
        """The rows low..high-1; copies nothing."""
        return Columns({name: field[low:high] for name, field in self.fields.items()})


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
        block = scratch(min(len(self), BLOCK), rows.dtype)
        for low, high in blocks(len(self)):
            part = block[: high - low]
            for name, field in zip(rows.names, self.fields, strict=True):
                part[name] = field[low:high]
            yield part.view(np.uint8).data


def role_of(file: str) -> str:
    """The role of a file, the beginning of its name: `segment`, `items`, `part`, ..."""
    return file.partition("-")[0].removesuffix(".npy")


Wrong = tuple[NDArray[np.bool_], NDArray[Any], str, str]
"""Which of some rows are wrong, the values that show it, how one is told ("key {}"), and what
was expected."""


def refuse(count: int, where: str, checks: Callable[[int, int], Iterable[Wrong]]) -> None:
    """Refuses the first row that is wrong by the first check that finds one.

    Args:
        count: rows in all.
        where: their file, for messages.
        checks: the checks of the rows from one number up to another, always the same ones;
            asked block by block, so that no mask is as long as the file.

    Raises:
        CheckpointCorruptError: naming file, row and value.
    """
    refuse_in(where, ((range(a, b), checks(a, b)) for a, b in blocks(count)))


def refuse_in(
    where: str, parts: Iterable[tuple[Sequence[int] | NDArray[Any], Iterable[Wrong]]]
) -> None:
    """As `refuse`; for each block the numbers of its rows, and the checks of them."""
    found: dict[int, tuple[int, str, str]] = {}  # by the number of the check
    for rows, checks in parts:
        for number, (wrong, values, told, wanted) in enumerate(checks):
            if number not in found and wrong.any():
                at = int(np.argmax(wrong))
                found[number] = int(rows[at]), told.format(values[at]), wanted
    if found:
        raise bad_row(where, *found[min(found)])


def bad_file(where: str, found: str, wanted: str) -> CheckpointCorruptError:
    """The error for a file as a whole, such as one of too many rows."""
    return CheckpointCorruptError(f"{where!r} has {found}, expected {wanted}.")


def bad_row(where: str, row: int, found: str, wanted: str) -> CheckpointCorruptError:
    """The error for one row of a file."""
    return CheckpointCorruptError(f"{where!r}, row {row}: {found}, expected {wanted}.")
