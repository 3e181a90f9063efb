"""Where in a checkpoint something was found, and how much of it may be held."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Protocol

from reverie import errors

_SHOWN = 200


def shown(text: object) -> str:
    """`repr` of foreign text, cut to 200 characters: safe to print and log."""
    full = repr(text)
    return full if len(full) <= _SHOWN else full[: _SHOWN - 3] + "..."


def shown_path(path: Path) -> str:
    """`repr` of a path, keeping its last 200 characters, where its name is."""
    full = repr(str(path))
    return full if len(full) <= _SHOWN else "..." + full[3 - _SHOWN :]


class Where(Protocol):
    """What knows where damaged bytes were found."""

    def corrupt(self, what: str) -> Exception:
        """The error that says so, to be raised."""


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """A record of a checkpoint file, for messages.

    Attributes:
        file: The path of the file.
        record: Number of the record, from 0.
        offset: Byte of the (inflated) file where the record starts.
    """

    file: Path
    record: int
    offset: int

    def corrupt(self, what: str) -> errors.CheckpointCorruptError:
        """A `CheckpointCorruptError` that says where, to be raised."""
        return errors.CheckpointCorruptError(f"{self}: {what}")

    def __str__(self) -> str:
        """Names the file, the record and its byte."""
        return f"{shown_path(self.file)}, record {self.record} at byte {self.offset}"


@dataclasses.dataclass(slots=True)
class Budget:
    """How many bytes one read may unpack in all.

    Attributes:
        limit: The limit, in bytes.
        used: Bytes taken so far.
        largest: Bytes that one record may have, which is held more than once.
    """

    limit: int
    used: int = 0
    largest: int = sys.maxsize

    def check_record(self, nbytes: int, place: Place) -> None:
        """Refuses a record that is too large, before it is read.

        Raises:
            CheckpointLimitError: It is.
        """
        if nbytes > self.largest:
            raise errors.CheckpointLimitError(
                f"{place}: its length is {nbytes}, and the limit for a record of files of this "
                f"size is {self.largest}. If the checkpoint can be trusted, pass max_nbytes."
            )

    def take(self, nbytes: int, what: str) -> None:
        """Takes `nbytes` before they are allocated.

        Raises:
            CheckpointLimitError: It would be more than the limit.
        """
        self.used += nbytes
        if self.used > self.limit:
            raise errors.CheckpointLimitError(
                f"{what}: reading on would take {self.used} bytes, and the limit is "
                f"{self.limit}. If the checkpoint can be trusted, raise max_nbytes."
            )
